"""VGG with 16 layers, three of them 1x1 convolutions, on ImageNet: net C of Simonyan & Zisserman 2015.

    python -m deepconv.main --config=configs/vgg16_1x1.py

The paper's errors in percent, top-1 and top-5, --evals=dense_q256: 28.1 and 9.4.
"""

from ml_collections import ConfigDict
from vgg16 import get_config as vgg16


def get_config() -> ConfigDict:
    """Returns the recipe of vgg16.py for net C."""
    config = vgg16()
    config.model.configuration = "C"
    return config
