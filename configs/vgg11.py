"""VGG with 11 layers on ImageNet: net A of Simonyan & Zisserman 2015, which the deeper nets start from.

    python -m deepconv.main --config=configs/vgg11.py

The paper's errors in percent, top-1 and top-5, --evals=dense_q256: 29.6 and 10.4.
"""

from ml_collections import ConfigDict
from vgg16 import get_config as vgg16


def get_config() -> ConfigDict:
    """Returns the recipe of vgg16.py for net A."""
    config = vgg16()
    config.model.configuration = "A"
    config.model.initialization = "normal"  # net A is "shallow enough to be trained with random initialisation"
    return config
