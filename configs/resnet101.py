"""ResNet with 101 layers on ImageNet, He et al. 2015: Tables 3 and 4.

    python -m deepconv.main --config=configs/resnet101.py

The paper's errors in percent, top-1 and top-5, --evals=ten_crop: 21.75 and 6.05.
"""

from ml_collections import ConfigDict
from resnet50 import get_config as resnet50


def get_config() -> ConfigDict:
    """Returns the recipe of resnet50.py with 101 layers."""
    config = resnet50()
    config.model.depth = 101
    return config
