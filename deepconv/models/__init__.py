"""The networks of the papers, by name."""

import flax.linen as nn
from ml_collections import ConfigDict

from deepconv.models.alexnet import AlexNet
from deepconv.models.cuda_convnet import CudaConvnet
from deepconv.models.resnet import CifarResNet, ResNet
from deepconv.models.vgg import VGG

MODELS = {
    "alexnet": AlexNet,
    "alexnet_cifar": CudaConvnet,
    "vgg": VGG,
    "resnet": ResNet,
    "resnet_cifar": CifarResNet,
}


def create(config: ConfigDict, classes: int, per_place: bool = False) -> nn.Module:
    """Creates the network that config.model names, with outputs at each place of its last map if `per_place`.

    The network takes float32 [B, H, W, 3]: RGB pixels from 0 to 255 minus a mean, divided by a standard deviation, as
    config.data.mean and config.data.std say. Raises ValueError for an unknown name or field.
    """
    fields = {name: value for name, value in config.items() if name != "name"}
    if config.name not in MODELS:
        raise ValueError(f"config.model.name={config.name!r} is not a model; choose one of {', '.join(sorted(MODELS))}")
    model = MODELS[config.name]
    if unknown := sorted(set(fields) - set(model.__dataclass_fields__)):
        raise ValueError(f"config.model.{unknown[0]} is not a field of config.model.name={config.name}")
    if per_place:
        fields["per_place"] = True
    return model(classes=classes, **fields)
