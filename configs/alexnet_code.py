"""AlexNet on ImageNet as the authors ran it: run 145 of the code they released in 2025.

    python -m deepconv.main --config=configs/alexnet_code.py

Differences from the text: the place of conv1's rectifier; a second normalisation after conv2; alpha of the first
normalisation, whose windows end at a tower's border; the spread of the initial weights of conv3 to conv5; the biases'
rate; conv1, whose last drop comes before that of the other layers and which is then frozen; the size of the colour
shifts, which end at conv1's last drop.
DIFFERS: the authors' code shared a crop and its reflection among 32 images; here each has its own.
Errors of run 145 in percent, top-1 and top-5, --evals=ten_crop: 40.66 and 18.21 on ILSVRC-2012's validation set.
"""

from alexnet import get_config as text
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the recipe of the text with the changes of the authors' code."""
    config = text()
    config.model.variant = "code"
    config.model.lrn_alpha = 1e-4 / 5
    config.model.lrn_in_towers = True
    config.data.lighting = "standard_deviation"
    config.data.lighting_until_epochs = 67.0
    # The release has only the biases' last rates: 0.02 in this run, 0.002 in run 145-2010 and some others.
    config.optimizer.bias = ConfigDict(dict(learning_rate=0.02, drop_at_epochs=()))
    conv1 = dict(drop_at_epochs=(25, 51, 67), freeze_at_epochs=72.0)
    config.optimizer.layers = ConfigDict(dict(conv1=conv1))
    return config
