"""The box of one shape on the built-in pictures, by region proposals for each class: about 10 minutes on two CPU cores.

    python -m deepconv.main --config=configs/shapes_proposals.py

The net is that of He et al. 2015, 4.2, with n = 2 (14 layers); not an experiment of the paper. The class is given.
Measured on two processors: 0.35 and 0.70 % localisation error.
"""

from ml_collections import ConfigDict
from quickstart import get_config as quickstart


def get_config() -> ConfigDict:
    """Returns the recipe of quickstart.py for region proposals."""
    config = quickstart()
    config.objective = "class_region_proposal"
    config.total_epochs = 3
    config.model.depth = 14
    config.data.image_size = 32
    config.data.augment = "crop_flip"
    config.optimizer.drop_at_epochs = (2, 2.6)
    return config
