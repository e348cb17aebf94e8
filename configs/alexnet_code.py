"""AlexNet on ImageNet as its authors ran it: run 145 of the code that they released in 2025.

    python -m deepconv.main --config=configs/alexnet_code.py

It differs from the text in the place of conv1's rectifier, a second normalisation after conv2, the first one's alpha
and its windows, which end at a tower's border, in the spread of the initial weights of conv3 to conv5, the rate of the
biases, in lowering conv1's rate before the others' and then freezing it, and in the size of the colours' shifts, which
end when conv1's rate is lowered.
DIFFERS: the authors' code shared a crop and its reflection among 32 images; here each has its own.
The run's errors in percent, top-1 and top-5, --evals=ten_crop: 40.66 and 18.21 on ILSVRC-2012's validation set.
"""

from alexnet import get_config as text
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The recipe of the text, less what the code did otherwise."""
    config = text()
    config.model.variant = "code"
    config.model.lrn_alpha = 1e-4 / 5
    config.model.lrn_in_towers = True
    config.data.lighting = "standard_deviation"
    config.data.lighting_until_epochs = 67.0
    # The release has the biases' last rates only: 0.02 in this run, 0.002 in some of its relatives.
    config.optimizer.bias = ConfigDict(dict(learning_rate=0.02, drop_at_epochs=()))
    conv1 = dict(drop_at_epochs=(25, 51, 67), freeze_at_epochs=72.0)
    config.optimizer.layers = ConfigDict(dict(conv1=conv1))
    return config
