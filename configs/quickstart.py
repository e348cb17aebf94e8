"""A small residual net on the built-in data: about a minute on two CPU cores, nothing to download.

    python -m deepconv.main --config=configs/quickstart.py

The net of He et al. 2015, 4.2, with n = 1 (8 layers) and a short schedule; not an experiment of the paper.
A test error of 90 % is chance.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns a recipe for 10,000 training pictures of ten kinds of shapes."""
    config = ConfigDict()
    config.seed = 0
    config.batch_size = 32
    config.total_epochs = 8
    config.log_every_steps = 50
    config.eval_every_epochs = 1
    config.checkpoint_every_steps = 500

    config.model = ConfigDict()
    config.model.name = "resnet_cifar"
    config.model.depth = 8
    config.model.residual = True
    config.model.shortcut = "A"
    config.model.bn_group = 0
    config.model.dtype = "float32"

    config.data = ConfigDict()
    config.data.name = "shapes"
    config.data.train_split = "train"
    config.data.eval_split = "test"
    config.data.image_size = 24
    config.data.mean = "channel"
    config.data.std = "none"  # or "channel", or three numbers: the divisor after subtraction of the mean
    config.data.augment = "none"

    config.optimizer = ConfigDict()
    config.optimizer.learning_rate = 0.1
    config.optimizer.drop_at_epochs = (5, 7)
    config.optimizer.drop_factor = 0.1
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 1e-4
    config.optimizer.ema_decay = 0.0  # 0: none; with 0.999, tests use moving averages of the weights
    return config
