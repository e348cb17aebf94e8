"""ResNet-101 as R-CNN with a score and a box for each class, He et al. 2015, appendix C: Tables 13 and 14.

    python -m deepconv.main --config=configs/resnet101_rcnn.py --data_dir=DIR --init_from=RUN_OF_RESNET101
        --init_layers=all_but_head --proposals_from=RUN_OF_RESNET101_LOCALIZATION

It starts from the classification net, and is trained on the 200 best proposals of the localisation net for the class
of each training image, which it first writes to proposals.npy. Tests on proposals: python -m deepconv.localization
--refined_by; docs/localization.md.

The paper's top-5 localisation error in percent on the validation images: 10.6.
"""

from ml_collections import ConfigDict
from resnet101_localization import get_config as resnet101_localization


def get_config() -> ConfigDict:
    """Returns the recipe of resnet101_localization.py for R-CNN; the paper gives the batch only."""
    config = resnet101_localization()
    config.objective = "class_box_refinement"
    return config
