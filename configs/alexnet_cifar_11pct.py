"""cuda-convnet's net for CIFAR-10 with response normalisation: the 11 % of Krizhevsky et al. 2012, section 3.3.

    python -m deepconv.main --config=configs/alexnet_cifar_11pct.py --data_dir=DIR --evals=ten_crop

The paper's test error in percent: 11. The authors trained on the first 40,000 images for about 350 epochs, on all for
about 150, and at a tenth and a hundredth of the rate for 10 each. Here these are two runs:
    ... --config.data.train_split='train[:40000]' --config.total_epochs=350 --config.optimizer.drop_at_epochs='()'
    ... --config.total_epochs=170 --config.optimizer.drop_at_epochs=150,160 --init_from=RUN_OF_THE_FIRST
DIFFERS: the second run starts with an empty momentum buffer. Without these flags, the recipe trains for as long, but
always on all images. Related: alexnet_cifar_13pct.py differs in more than normalisation; --config.model.lrn=False
isolates it.
"""

from alexnet_cifar import get_config as alexnet_cifar
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns cuda-convnet's layers-conv-local-11pct.cfg and layer-params-conv-local-11pct.cfg, by its methodology."""
    config = alexnet_cifar()
    config.total_epochs = 520
    config.model.variant = "11pct"
    config.model.lrn = True
    config.data.image_size = 24
    config.data.augment = "crop_flip"
    config.optimizer.drop_at_epochs = (500, 510)
    config.optimizer.bias.drop_at_epochs = ()  # as in the authors' file of the last stage
    decays = dict(local3=0.004, local4=0.004, fc10=0.01)  # the convolutions have none
    config.optimizer.layers = ConfigDict({layer: dict(weight_decay=decay) for layer, decay in decays.items()})
    return config
