"""The box of one shape on the built-in pictures, by a narrow net: about 10 minutes on two CPU cores.

    python -m deepconv.main --config=configs/shapes_localization.py

The net is VGG's shallow one, one convolution a block, with an eighth of its widths; not an experiment of the paper.
The class is given, and one box is predicted for all classes (SCR). Measured: 1.05 % localisation error, with
the weaker initial weights of fc6 that release 0.2.0 had.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns a recipe for 10,000 training pictures of ten kinds of shapes."""
    config = ConfigDict()
    config.seed = 0
    config.batch_size = 32
    config.total_epochs = 3
    config.log_every_steps = 50
    config.eval_every_epochs = 1
    config.checkpoint_every_steps = 500
    config.objective = "single_class_regression"

    config.model = ConfigDict()
    config.model.name = "vgg"
    config.model.configuration = "B-5x5"
    config.model.initialization = "glorot"
    config.model.dropout = 0.0
    config.model.narrow = 8
    config.model.dtype = "float32"

    config.data = ConfigDict()
    config.data.name = "shapes"
    config.data.train_split = "train"
    config.data.eval_split = "test"
    config.data.image_size = 128
    config.data.mean = "channel"
    config.data.std = "channel"
    config.data.augment = "crop_flip"

    config.optimizer = ConfigDict()
    config.optimizer.learning_rate = 0.03
    config.optimizer.drop_at_epochs = (2.25, 2.75)
    config.optimizer.drop_factor = 0.1
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 5e-4
    config.optimizer.ema_decay = 0.0  # 0: none; with 0.999, tests use moving averages of the weights
    return config
