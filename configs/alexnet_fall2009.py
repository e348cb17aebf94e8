"""AlexNet with a sixth convolution on ImageNet's release of Fall 2009, 10,184 classes: a step to CNN* of Table 2.

    python -m deepconv.main --config=configs/alexnet_fall2009.py --data_dir=DIR --init_from=RUN_OF_ALEXNET_CODE
        --init_layers=conv1,conv2,conv3,conv4,conv5

DIR/imagenet_fall2009/{train,val}/<class>/ must hold the images: nearly all of the 8.9 million for training, unlike in
section 6 of the paper, where half of them are for tests. According to comments in the authors' code, they
started from the convolutions of a net trained on ILSVRC-2012, at a tenth of the rate of the new layers.
DIFFERS: the authors took that net after about 58 of its 91 epochs; here it is the finished net.
DIFFERS: conv6's biases have the rate of all others; in the authors' file, it is a tenth of it.
"""

from alexnet_code import get_config as code
from ml_collections import ConfigDict

OLD = ("conv1", "conv2", "conv3", "conv4", "conv5")


def get_config() -> ConfigDict:
    """Returns run 146-2009 of the authors' code."""
    config = code()
    del config.total_epochs  # an integer in alexnet_code.py; ConfigDict keeps a field's type
    config.total_epochs = 6.65
    config.model.conv6 = True
    config.data.name = "imagenet_fall2009"
    del config.data.lighting_until_epochs
    config.optimizer.drop_at_epochs = (2.16,)
    config.optimizer.layers = ConfigDict({layer: dict(learning_rate=0.001, drop_at_epochs=()) for layer in OLD})
    return config
