"""The net with one tower of Krizhevsky 2014, "One weird trick", which torchvision calls alexnet; not of the 2012 paper.

    python -m deepconv.main --config=configs/alexnet_owt.py

Widths 64-192-384-256-256, no response normalisation, dropout before the fully connected layers.
"""

from alexnet import get_config as text
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The recipe of the 2012 paper with the other net."""
    config = text()
    config.model.variant = "owt"
    config.model.lrn = False
    return config
