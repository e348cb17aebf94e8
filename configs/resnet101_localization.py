"""ResNet-101 as region proposal network for each class, He et al. 2015, appendix C: Tables 13 and 14.

    python -m deepconv.main --config=configs/resnet101_localization.py --data_dir=DIR --init_from=RUN_OF_RESNET101
        --init_layers=all_but_head

Boxes of ILSVRC lie beside the photographs: docs/localization.md. A batch of 256 needs 2.3 GB for the outputs, 45,000
at each of 49 places, and as much for their gradients.

The paper's localisation error in percent with the true class on the validation images: 13.3 on the central crop
(--evals=center), 11.7 on full images at several scales (python -m deepconv.localization).
"""

from ml_collections import ConfigDict
from resnet101 import get_config as resnet101


def get_config() -> ConfigDict:
    """Returns the recipe of resnet101.py for region proposals."""
    config = resnet101()
    config.objective = "class_region_proposal"
    config.model.bn_group = 0
    config.model.bn_fixed = True  # as in the paper's detection (appendix A); appendix C does not say
    # The paper gives the batch and the crops. The rates are those of its detection, the length is our reading.
    config.total_steps = 60_000
    config.optimizer.learning_rate = 1e-3
    config.optimizer.drop_at_steps = (40_000,)
    return config
