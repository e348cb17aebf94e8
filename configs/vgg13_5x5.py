"""The shallow net (8 layers) of Simonyan & Zisserman 2015, section 4: each pair of 3x3 convolutions of B made one 5x5.

    python -m deepconv.main --config=configs/vgg13_5x5.py

Its top-1 error is 7 points above that of net B in the paper, on a centre crop.
"""

from ml_collections import ConfigDict
from vgg16 import get_config as vgg16


def get_config() -> ConfigDict:
    """The recipe of vgg16.py."""
    config = vgg16()
    config.model.configuration = "B-5x5"
    return config
