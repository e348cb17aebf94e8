"""VGG with 11 layers and response normalisation on ImageNet: net A-LRN of Simonyan & Zisserman 2015.

    python -m deepconv.main --config=configs/vgg11_lrn.py

The paper's errors in percent, top-1 and top-5, --evals=dense_q256: 29.7 and 10.5.
"""

from ml_collections import ConfigDict
from vgg16 import get_config as vgg16


def get_config() -> ConfigDict:
    """Returns the recipe of vgg16.py for net A-LRN."""
    config = vgg16()
    config.model.configuration = "A-LRN"
    config.model.initialization = "normal"  # as in net A
    return config
