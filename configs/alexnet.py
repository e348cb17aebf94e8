"""AlexNet on ImageNet as the text of Krizhevsky et al. 2012 has it: Tables 1 and 2.

    python -m deepconv.main --config=configs/alexnet.py

Siblings: alexnet_code.py (what the authors ran), alexnet_owt.py (one tower, 2014), alexnet_cifar.py (CIFAR-10).
The ablations, by --config.model and:
    .half=True                   one GPU, half the kernels (3.2)
    .communication=False         towers that meet in the last layer only (the authors' run 150)
    .lrn=False                   no response normalisation (3.3)
    .overlapping_pooling=False   2x2 windows at stride 2 (3.4)
    .conv6=True                  the net that was trained on all of ImageNet first (6)
    .without=conv3               one of the middle convolutions left out (7): conv2, conv3, conv4, conv5
    .dropout=0.0 (4.2)   .activation=tanh (3.1)   .grouped=False: one tower of full width
    .lrn_alpha=2e-5 .lrn_in_towers=True: as the authors' code normalises

The paper's errors in percent, top-1 and top-5, --evals=ten_crop: 40.7 and 18.2 on ILSVRC-2012's validation set.
ImageNet is prepared by `python -m deepconv.data.prepare imagenet2012`, the mean image by `... prepare statistics`
(or take the published mean colour: --config.data.mean=channel). The
paper's fixed 256x256 images, which need no decoding, are made by `... prepare pack`:
    --config.data.name=imagenet2012-256-uint8
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The recipe of section 5."""
    config = ConfigDict()
    config.seed = 0
    config.batch_size = 128
    config.total_epochs = 91  # "roughly 90 cycles"; this and the drops are those of the authors' log of run 145
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
    config.model.lrn_alpha = 1e-4  # the formula's; the code has 1e-4 / 5
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
    config.data.std = "none"  # or "channel", or three numbers: what images less their mean are divided by
    config.data.train_scale = (256, 256)  # shorter side; its central square is cut out, and crops are taken of it
    config.data.test_scale = 256
    config.data.central_square = True
    config.data.augment = "crop_flip"
    config.data.lighting = "eigenvalue"  # colours shifted along their principal components
    config.data.on_corrupt = "fail"  # or "replace": the next image that can be decoded

    config.optimizer = ConfigDict()
    config.optimizer.learning_rate = 0.01
    config.optimizer.drop_at_epochs = (25, 51, 79)  # "reduced three times", by hand
    config.optimizer.drop_factor = 0.1
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 5e-4
    return config
