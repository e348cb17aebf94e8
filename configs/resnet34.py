"""ResNet with 34 layers on ImageNet, He et al. 2015: Tables 2, 3, 4 and Fig. 4.

    python -m deepconv.main --config=configs/resnet34.py --config.model.shortcut=A (B, C)
    python -m deepconv.main --config=configs/resnet34.py --config.model.residual=False

The paper's top-1 errors in percent, --evals=ten_crop: 25.03 (A), 24.52 (B), 24.19 (C), 28.54 (plain).
"""

from ml_collections import ConfigDict
from resnet50 import get_config as resnet50


def get_config() -> ConfigDict:
    """Returns the recipe of resnet50.py with 34 layers."""
    config = resnet50()
    config.model.depth = 34
    config.model.shortcut = "A"  # as in Table 2
    return config
