"""The shallow net (8 layers) of Simonyan & Zisserman 2015, section 4: one 5x5 for each pair of B's 3x3 convolutions.

    python -m deepconv.main --config=configs/vgg13_5x5.py

The paper's top-1 error on a central crop: 7 points above that of net B.
"""

from ml_collections import ConfigDict
from vgg16 import get_config as vgg16


def get_config() -> ConfigDict:
    """Returns the recipe of vgg16.py for the shallow net."""
    config = vgg16()
    config.model.configuration = "B-5x5"
    return config
