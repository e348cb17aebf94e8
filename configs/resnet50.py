"""ResNet with 50 layers on ImageNet, He et al. 2015, section 4.1: Tables 2 to 5 and Fig. 4.

    python -m deepconv.main --config=configs/resnet50.py

Other rows and curves of the paper; `...` stands for --config.model:
    resnet18.py ...shortcut=A    resnet34.py ...shortcut=A (B, C)    resnet101.py    resnet152.py
    resnet18.py ...residual=False    resnet34.py ...residual=False      the plain nets of Table 2 and Fig. 4
Weights of torchvision's or timm's resnet50: --init_from=FILE --library=torchvision (sets strides, shortcuts, images)

The paper's errors in percent, top-1 and top-5, on the validation set:
    --evals=ten_crop                          22.85 and 6.71 (Table 3)
    --evals=dense_q224_256_384_480_640        20.74 and 5.25 (Table 4)
both with _precise_batch_stats behind it, if BatchNorm's averages are to be as the authors'.
ImageNet is prepared by `python -m deepconv.data.prepare imagenet2012`, the mean image by `... prepare statistics`
(or take the published mean colour: --config.data.mean=channel).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The recipe of section 3.4."""
    config = ConfigDict()
    config.seed = 0
    config.batch_size = 256
    config.total_steps = 600_000
    config.log_every_steps = 100
    config.eval_every_steps = 5_000  # the spacing of the points in Fig. 4
    config.checkpoint_every_steps = 5_000

    config.model = ConfigDict()
    config.model.name = "resnet"
    config.model.depth = 50
    config.model.residual = True
    config.model.shortcut = "B"
    config.model.stride_on = "1x1"
    config.model.pool1 = "ceil"
    config.model.bn_group = 32  # images normalised together: the authors' 8 GPUs had 32 each; 0 is the whole batch
    config.model.dtype = "float32"  # of activations; "bfloat16" is faster on accelerators

    config.data = ConfigDict()
    config.data.name = "imagenet2012"
    config.data.train_split = "train"
    config.data.eval_split = "validation"
    config.data.image_size = 224
    config.data.mean = "pixel"
    config.data.std = "none"  # or "channel", or three numbers: what images less their mean are divided by
    config.data.train_scale = (256, 480)  # the shorter side is drawn from here
    config.data.test_scale = 256
    config.data.central_square = False
    config.data.augment = "crop_flip"
    config.data.lighting = "eigenvalue"  # colours shifted along their principal components
    config.data.on_corrupt = "fail"  # or "replace": the next image that can be decoded

    config.optimizer = ConfigDict()
    config.optimizer.learning_rate = 0.1
    config.optimizer.drop_at_steps = (150_000, 300_000)  # "when the error plateaus"; these are the drops of Fig. 4
    config.optimizer.drop_factor = 0.1
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 1e-4
    return config
