"""AlexNet with a sixth convolution, fine-tuned from Fall 2011 on ILSVRC-2012: CNN* of Krizhevsky et al. 2012, Table 2.

    python -m deepconv.main --config=configs/alexnet_finetuned.py --data_dir=DIR --init_from=RUN_OF_ALEXNET_FALL2011
        --init_layers=conv1,conv2,conv3,conv4,conv5,conv6,fc6,fc7

The paper's errors in percent, top-1 and top-5, --evals=ten_crop: 39.0 and 16.6 on ILSVRC-2012's validation set.
DIFFERS: fc8 has its larger rate from the start; in the authors' log, it has it after the first 300 batches.
"""

from alexnet_code import get_config as code
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns run 146-2012-2011 of the authors' code."""
    config = code()
    config.total_epochs = 54
    config.model.conv6 = True
    config.data.lighting_until_epochs = 38.0
    config.optimizer.learning_rate = 0.001
    config.optimizer.drop_at_epochs = (22, 42)
    conv1 = dict(learning_rate=1e-4, drop_at_epochs=(5,), freeze_at_epochs=7.0)
    fc8 = dict(learning_rate=0.01, drop_at_epochs=(9, 22, 42))
    config.optimizer.layers = ConfigDict(dict(conv1=conv1, fc8=fc8))
    return config
