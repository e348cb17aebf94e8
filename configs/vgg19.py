"""VGG with 19 layers on ImageNet: net E of Simonyan & Zisserman 2015.

    python -m deepconv.main --config=configs/vgg19.py

The paper's errors in percent, top-1 and top-5, --evals=dense_q256: 27.3 and 9.0.
"""

from ml_collections import ConfigDict
from vgg16 import get_config as vgg16


def get_config() -> ConfigDict:
    """Returns the recipe of vgg16.py for net E."""
    config = vgg16()
    config.model.configuration = "E"
    return config
