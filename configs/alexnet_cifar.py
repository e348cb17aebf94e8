"""cuda-convnet's nets on CIFAR-10: Fig. 1 of Krizhevsky et al. 2012, ReLU and tanh.

    python -m deepconv.main --config=configs/alexnet_cifar.py --data_dir=DIR
    python -m deepconv.main --config=configs/alexnet_cifar.py --data_dir=DIR --config.model.activation=tanh

The paper describes Fig. 1 as four layers without regularisation, with the learning rate at which each nonlinearity
trains fastest, but gives no net, batch or rates. This recipe is the net with four hidden layers that cuda-convnet calls
13pct, with its batch and its rates, on full images and without its weight decay. In the paper, the training error
reaches 25 % after 6 epochs with ReLU and after 36 with tanh.

Another reading of Fig. 1 is the net with three convolutions, --config.model.variant=18pct --config.model.lrn=True.
The 13 % and 11 % of section 3.3 come from this net and from --config.model.variant=11pct --config.model.lrn=True. The
two differ in more than normalisation; 11pct with lrn=False isolates it. Both were trained on random crops of 24
pixels and with weight decay on the last layers: alexnet_cifar_13pct.py and alexnet_cifar_11pct.py.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns our reading of Fig. 1."""
    config = ConfigDict()
    config.seed = 0
    config.batch_size = 128
    config.total_epochs = 40  # the figure's x axis
    config.log_every_steps = 100
    config.eval_every_epochs = 1
    config.checkpoint_every_steps = 1_000

    config.model = ConfigDict()
    config.model.name = "alexnet_cifar"
    config.model.variant = "13pct"
    config.model.activation = "relu"
    config.model.lrn = False
    config.model.dtype = "float32"

    config.data = ConfigDict()
    config.data.name = "cifar10"
    config.data.train_split = "train"
    config.data.eval_split = "test"
    config.data.image_size = 32
    config.data.mean = "pixel"
    config.data.std = "none"  # or "channel", or three numbers: the divisor after subtraction of the mean
    config.data.augment = "none"

    config.optimizer = ConfigDict()
    config.optimizer.learning_rate = 0.001
    config.optimizer.drop_at_epochs = ()
    config.optimizer.drop_factor = 0.1
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 0.0
    config.optimizer.ema_decay = 0.0  # 0: none; with 0.999, tests use moving averages of the weights
    config.optimizer.bias = ConfigDict(dict(learning_rate=0.002))
    return config
