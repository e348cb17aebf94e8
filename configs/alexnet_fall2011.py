"""AlexNet with a sixth convolution on ImageNet's release of Fall 2011, 22 thousand classes: a step to CNN* of Table 2.

    python -m deepconv.main --config=configs/alexnet_fall2011.py --data_dir=DIR --init_from=RUN_OF_ALEXNET_FALL2009
        --init_layers=conv1,conv2,conv3,conv4,conv5,conv6

DIR/imagenet_fall2011/{train,val}/<class>/ must hold the images.
DIFFERS: the authors' net has one more linear layer, of 2048 units, between fc7 and the scores.
"""

from alexnet_fall2009 import OLD
from alexnet_fall2009 import get_config as fall2009
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns run 146-2011 of the authors' code."""
    config = fall2009()
    config.total_epochs = 8.11
    config.data.name = "imagenet_fall2011"
    config.optimizer.drop_at_epochs = (6.0,)
    rates = {layer: dict(learning_rate=0.001, drop_at_epochs=()) for layer in (*OLD, "conv6")}
    config.optimizer.layers = ConfigDict(rates)
    return config
