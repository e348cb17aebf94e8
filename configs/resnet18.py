"""ResNet with 18 layers on ImageNet, He et al. 2015: Table 2 and Fig. 4.

    python -m deepconv.main --config=configs/resnet18.py
    python -m deepconv.main --config=configs/resnet18.py --config.model.residual=False

The paper's top-1 error in percent, --evals=ten_crop: 27.88 (plain: 27.94).
"""

from ml_collections import ConfigDict
from resnet50 import get_config as resnet50


def get_config() -> ConfigDict:
    """Returns the recipe of resnet50.py with 18 layers."""
    config = resnet50()
    config.model.depth = 18
    config.model.shortcut = "A"  # as in Table 2
    return config
