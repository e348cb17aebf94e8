"""vgg16_localization.py with only the fully connected layers trained: two rows of VGG's Table 8.

    python -m deepconv.main --config=configs/vgg16_localization_fc.py --data_dir=DIR --init_from=RUN_OF_D_AT_384
        --init_layers=all_but_head

The convolutions keep their weights to the bit. The paper's error in percent: 34.3, and 36.4 with
--config.objective=single_class_regression.
"""

from ml_collections import ConfigDict
from vgg16_fc import freeze_convolutions
from vgg16_localization import get_config as vgg16_localization


def get_config() -> ConfigDict:
    """Returns the recipe of vgg16_localization.py with frozen convolutions."""
    return freeze_convolutions(vgg16_localization())
