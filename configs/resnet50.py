"""ResNet with 50 layers on ImageNet, He et al. 2015, section 4.1: Tables 2 to 5 and Fig. 4.

    python -m deepconv.main --config=configs/resnet50.py

Other rows and curves of the paper; `...` stands for --config.model:
    resnet18.py ...shortcut=A    resnet34.py ...shortcut=A (B, C)    resnet101.py    resnet152.py
    resnet18.py ...residual=False    resnet34.py ...residual=False      the plain nets of Table 2 and Fig. 4
Weights of torchvision's or timm's resnet50: --init_from=FILE --library=torchvision (sets strides, shortcuts, images)

The paper's errors in percent, top-1 and top-5, on the validation set:
    --evals=ten_crop                          22.85 and 6.71 (Table 3)
    --evals=dense_q224_256_384_480_640        20.74 and 5.25 (Table 4)
Append _precise_batch_stats to either for BatchNorm's averages as in the authors' nets.
`python -m deepconv.data.prepare imagenet2012` prepares ImageNet, `... prepare statistics` its mean image
(--config.data.mean=channel uses the published mean colour instead).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the recipe of section 3.4."""
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
    config.model.bn_group = 32  # images normalised together: 32 on each of the authors' 8 GPUs; 0: the full batch
    config.model.dtype = "float32"  # of activations; "bfloat16" is faster on accelerators

    config.data = ConfigDict()
    config.data.name = "imagenet2012"
    config.data.train_split = "train"
    config.data.eval_split = "validation"
    config.data.image_size = 224
    config.data.mean = "pixel"
    config.data.std = "none"  # or "channel", or three numbers: the divisor after subtraction of the mean
    config.data.train_scale = (256, 480)  # range of the shorter side in pixels
    config.data.test_scale = 256
    config.data.central_square = False
    config.data.augment = "crop_flip"
    config.data.lighting = "eigenvalue"  # shifts colours along their principal components
    config.data.on_corrupt = "fail"  # or "replace": takes the next image that can be decoded

    config.optimizer = ConfigDict()
    config.optimizer.learning_rate = 0.1
    config.optimizer.drop_at_steps = (150_000, 300_000)  # "when the error plateaus"; these are the drops in Fig. 4
    config.optimizer.drop_factor = 0.1
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 1e-4
    config.optimizer.ema_decay = 0.0  # 0: none; with 0.999, tests use moving averages of the weights
    return config
