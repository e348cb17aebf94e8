"""ResNet with 152 layers on ImageNet, He et al. 2015: Tables 3, 4 and 5.

    python -m deepconv.main --config=configs/resnet152.py

The paper's errors in percent, top-1 and top-5, --evals=ten_crop: 21.43 and 5.71.
"""

from ml_collections import ConfigDict
from resnet50 import get_config as resnet50


def get_config() -> ConfigDict:
    """Returns the recipe of resnet50.py with 152 layers."""
    config = resnet50()
    config.model.depth = 152
    return config
