"""The net with one tower of Krizhevsky 2014, "One weird trick": torchvision's alexnet, not the net of the 2012 paper.

    python -m deepconv.main --config=configs/alexnet_owt.py

Widths 64-192-384-256-256; without response normalisation and with dropout before the fully connected layers, like
torchvision's. DIFFERS: trained with softmax by the recipe of 2012; the paper of 2014 has 1000 logistic units.
"""

from alexnet import get_config as text
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the recipe of the 2012 paper with this net."""
    config = text()
    config.model.variant = "owt"
    config.model.lrn = False
    return config
