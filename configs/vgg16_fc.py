"""VGG's net D with only its fully connected layers trained further: a member of the ILSVRC submission (Table 6).

    python -m deepconv.main --config=configs/vgg16_fc.py --init_from=RUN_OF_D_AT_384

For S from 256 to 512: --config.data.train_scale=256,512 --config.data.test_scale=384.
"""

from ml_collections import ConfigDict
from vgg16 import get_config as vgg16

CONVOLUTIONS = {1: 2, 2: 2, 3: 3, 4: 3, 5: 3}  # in each block


def get_config() -> ConfigDict:
    """Returns the recipe of vgg16.py with frozen convolutions, at the rate with which further training starts (3.1)."""
    config = freeze_convolutions(vgg16())
    config.optimizer.learning_rate = 0.001
    return config


def freeze_convolutions(config: ConfigDict) -> ConfigDict:
    """Returns the recipe, in which no convolution changes from the first step on."""
    layers = [f"conv{block}_{number}" for block, count in CONVOLUTIONS.items() for number in range(1, count + 1)]
    config.optimizer.layers = ConfigDict({layer: dict(freeze_at_steps=0) for layer in layers})
    return config
