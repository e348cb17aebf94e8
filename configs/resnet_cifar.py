"""ResNets on CIFAR-10, He et al. 2015, section 4.2: Table 6 and Figures 1, 6, 7.

    python -m deepconv.main --config=configs/resnet_cifar.py --data_dir=DIR

Other rows and curves of the paper:
    --config.model.depth=32 (44, 56, 110)       Table 6
    --config.model.residual=False               the plain nets of Figs. 1 and 6
    --config.data.train_split='train[:45000]' --config.data.eval_split='train[45000:]'    the 45k/5k split
    --config.optimizer.warm_up_at_depth=0       110 layers without warm-up, footnote 5

The paper's test error in percent after 64k steps: 8.75 (20 layers), 7.51 (32), 7.17 (44), 6.97 (56) and, for 110, 6.43
(best of five runs; 6.61 +- 0.16). Plain nets, read from Fig. 6: 9.7 (20), 10.1 (32), 11.4 (44), 13.2 (56).
Not yet run here; results will be in experiments/README.md.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the recipe of section 4.2."""
    config = ConfigDict()
    config.seed = 0
    config.batch_size = 128
    config.total_steps = 64_000
    config.log_every_steps = 100
    config.eval_every_steps = 1_000  # the spacing of the points in Fig. 6
    config.checkpoint_every_steps = 1_000

    config.model = ConfigDict()
    config.model.name = "resnet_cifar"
    config.model.depth = 20  # 6n+2
    config.model.residual = True
    config.model.shortcut = "A"  # zero channels last; "a_both_sides" puts half of them first
    config.model.bn_group = 0  # images normalised together; 0: the full batch; 64: two GPUs normalising apart
    config.model.dtype = "float32"  # of activations; "bfloat16" is faster on accelerators

    config.data = ConfigDict()
    config.data.name = "cifar10"
    config.data.train_split = "train"
    config.data.eval_split = "test"
    config.data.image_size = 32
    config.data.mean = "pixel"
    config.data.std = "none"  # or "channel", or three numbers: the divisor after subtraction of the mean
    config.data.augment = "pad_crop_flip"

    config.optimizer = ConfigDict()
    config.optimizer.learning_rate = 0.1
    config.optimizer.drop_at_steps = (32_000, 48_000)
    config.optimizer.drop_factor = 0.1
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 1e-4
    config.optimizer.ema_decay = 0.0  # 0: none; with 0.999, tests use moving averages of the weights
    config.optimizer.warm_up_at_depth = 110  # "In this case, we find that the initial learning rate of 0.1 is slightly
    config.optimizer.warm_up_learning_rate = 0.01  # too large": only the residual net of 110 layers
    config.optimizer.warm_up_until_error = 80.0  # training error in percent
    return config
