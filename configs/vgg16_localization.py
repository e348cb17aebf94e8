"""VGG's net D with a box for each class in place of scores, Simonyan & Zisserman 2015, appendix A: Table 8.

    python -m deepconv.main --config=configs/vgg16_localization.py --data_dir=DIR --init_from=RUN_OF_D_AT_384
        --init_layers=all_but_head
    python -m deepconv.main --config=configs/vgg16_localization.py --data_dir=DIR --init_from=RUN_OF_D_AT_256
        --init_layers=all_but_head --config.data.train_scale=256,256 --config.data.test_scale=256

--config.objective=single_class_regression predicts one box for all classes (SCR). vgg16_localization_fc.py trains only
the fully connected layers. Boxes of ILSVRC lie beside the photographs: docs/localization.md.

The paper's localisation error in percent with the true class, S = 384, on the central crop of the validation images:
    vgg16_localization          33.1 (PCR, all layers)
    vgg16_localization_fc       34.3 (PCR), 36.4 (SCR)
"""

from ml_collections import ConfigDict
from vgg16 import get_config as vgg16


def get_config() -> ConfigDict:
    """Returns the recipe of vgg16.py for boxes at S = 384."""
    config = vgg16()
    config.objective = "per_class_regression"  # PCR; or "single_class_regression", SCR
    # The paper gives the first rate; the length and the drops, after 2/3 and 5/6 of it, are our reading.
    config.total_steps = 60_000
    config.optimizer.learning_rate = 1e-3
    config.optimizer.drop_at_steps = (40_000, 50_000)
    config.data.train_scale = (384, 384)
    config.data.test_scale = 384
    return config
