"""cuda-convnet's net for CIFAR-10 without response normalisation: the 13 % of Krizhevsky et al. 2012, section 3.3.

    python -m deepconv.main --config=configs/alexnet_cifar_13pct.py --data_dir=DIR --evals=ten_crop

The paper's test error in percent: 13. The schedule is that of alexnet_cifar_11pct.py.
"""

from alexnet_cifar_11pct import get_config as with_normalisation
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns cuda-convnet's layers-conv-local-13pct.cfg."""
    config = with_normalisation()
    config.model.variant = "13pct"
    config.model.lrn = False
    config.optimizer.layers.fc10.weight_decay = 0.004
    return config
