"""AlexNet on ImageNet as in the text of Krizhevsky et al. 2012: Tables 1 and 2.

    python -m deepconv.main --config=configs/alexnet.py

Related: alexnet_code.py (the net the authors ran), alexnet_owt.py (one tower, 2014), alexnet_cifar.py (CIFAR-10).
The ablations; each flag starts with --config.model:
    .half=True                   one GPU, half the kernels (3.2)
    .communication=False         towers joined only in the last layer (the authors' run 150)
    .lrn=False                   no response normalisation (3.3)
    .overlapping_pooling=False   2x2 windows at stride 2 (3.4)
    .conv6=True                  the net first trained on all of ImageNet (6)
    .without=conv3               one middle convolution removed (7): conv2, conv3, conv4 or conv5
    .dropout=0.0 (4.2)   .activation=tanh (3.1)   .grouped=False: one tower of full width
    .lrn_alpha=2e-5 .lrn_in_towers=True: normalisation as in the authors' code

The paper's errors in percent, top-1 and top-5, --evals=ten_crop: 40.7 and 18.2 on ILSVRC-2012's validation set.
`python -m deepconv.data.prepare imagenet2012` prepares ImageNet, `... prepare statistics` its mean image
(--config.data.mean=channel uses the published mean colour instead). `... prepare pack` makes the paper's fixed 256x256
images, which need no decoding: --config.data.name=imagenet2012-256-uint8
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the recipe of section 5."""
    config = ConfigDict()
    config.seed = 0
    config.batch_size = 128
    config.total_epochs = 91  # "roughly 90 cycles"; the epochs here and below are from the authors' log of run 145
    config.log_every_steps = 100
    config.eval_every_epochs = 1
    config.checkpoint_every_steps = 5_000

    config.model = ConfigDict()
    config.model.name = "alexnet"
    config.model.variant = "paper"
    config.model.activation = "relu"
    config.model.half = False
    config.model.grouped = True
    config.model.communication = True
    config.model.overlapping_pooling = True
    config.model.lrn = True
    config.model.lrn_k = 2.0
    config.model.lrn_alpha = 1e-4  # as in the text; the authors' code has 1e-4 / 5
    config.model.lrn_in_towers = False
    config.model.without = ""
    config.model.conv6 = False
    config.model.dropout = 0.5
    config.model.dtype = "float32"  # of activations; "bfloat16" is faster on accelerators

    config.data = ConfigDict()
    config.data.name = "imagenet2012"
    config.data.train_split = "train"
    config.data.eval_split = "validation"
    config.data.image_size = 224
    config.data.mean = "pixel"
    config.data.std = "none"  # or "channel", or three numbers: the divisor after subtraction of the mean
    config.data.train_scale = (256, 256)  # shorter side in pixels; crops are taken from the central square
    config.data.test_scale = 256
    config.data.central_square = True
    config.data.augment = "crop_flip"
    config.data.lighting = "eigenvalue"  # shifts colours along their principal components
    config.data.on_corrupt = "fail"  # or "replace": takes the next image that can be decoded

    config.optimizer = ConfigDict()
    config.optimizer.learning_rate = 0.01
    config.optimizer.drop_at_epochs = (25, 51, 79)  # "reduced three times", by hand
    config.optimizer.drop_factor = 0.1
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 5e-4
    config.optimizer.ema_decay = 0.0  # 0: none; with 0.999, tests use moving averages of the weights
    return config
