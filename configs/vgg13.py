"""VGG with 13 layers on ImageNet: net B of Simonyan & Zisserman 2015.

    python -m deepconv.main --config=configs/vgg13.py

The paper's errors in percent, top-1 and top-5, --evals=dense_q256: 28.7 and 9.9.
"""

from ml_collections import ConfigDict
from vgg16 import get_config as vgg16


def get_config() -> ConfigDict:
    """Returns the recipe of vgg16.py for net B."""
    config = vgg16()
    config.model.configuration = "B"
    return config
