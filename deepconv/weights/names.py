"""Names of layers in deepconv, torchvision and timm."""

import math
from collections.abc import Mapping

import flax.linen as nn
import numpy as np

from deepconv.models.alexnet import AlexNet
from deepconv.models.resnet import CifarResNet, ResNet
from deepconv.models.vgg import CONFIGURATIONS, VGG

OWT_NAMES = {"conv1": "features.0", "conv2": "features.3", "conv3": "features.6", "conv4": "features.8"}
OWT_NAMES |= {"conv5": "features.10", "fc6": "classifier.1", "fc7": "classifier.4", "fc8": "classifier.6"}
TIMM_VGG_NAMES = {"pre_logits.fc1": "classifier.0", "pre_logits.fc2": "classifier.3", "head.fc": "classifier.6"}
BLOCK_NAMES = {"projection": "downsample.0", "projection_bn": "downsample.1"}
LEAF_NAMES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def layer_name(model: nn.Module, layer: str) -> str:
    """Returns torchvision's name for a layer, or the layer's own name if torchvision has no such net or layer."""
    if isinstance(model, ResNet | CifarResNet) and "_" in layer:
        part, block = layer.removeprefix("conv").split("_")
        return f"layer{int(part) - 1}.{int(block) - 1}"
    if isinstance(model, VGG):
        return _vgg_names(model.configuration)[layer]
    if isinstance(model, AlexNet) and model.variant == "owt":
        return OWT_NAMES.get(layer, layer)
    return layer


def _vgg_names(configuration: str) -> dict[str, str]:
    names, place = {"fc6": "classifier.0", "fc7": "classifier.3", "fc8": "classifier.6"}, 0
    for block, line in enumerate(CONFIGURATIONS[configuration], 1):
        for layer, text in enumerate(line.split(), 1):
            if text == "LRN":
                place += 1
            else:
                names[f"conv{block}_{layer}"] = f"features.{place}"
                place += 2  # a rectifier follows
        place += 1  # pooling
    return names


def torchvision_name(name: str, model: nn.Module) -> str:
    """Converts a tensor's name in timm's VGG or in another project's CIFAR-10 ResNet to torchvision's name."""
    module, _, leaf = name.removeprefix("module.").rpartition(".")  # torch's DataParallel adds the prefix
    if isinstance(model, VGG):
        module = TIMM_VGG_NAMES.get(module, module)
    if isinstance(model, CifarResNet) and module == "linear":
        module = "fc"
    return f"{module}.{leaf}"


def as_timm_vgg(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Converts a VGG to timm's layout: its names, and convolutions as fc6 and fc7."""
    names = {torchvision: timm for timm, torchvision in TIMM_VGG_NAMES.items()}
    widths = {"classifier.0": max(len(tensor) for name, tensor in tensors.items() if name.startswith("features."))}
    widths["classifier.3"] = len(tensors["classifier.0.bias"])  # channels of the map or layer before
    renamed = {}
    for name, tensor in tensors.items():
        module, _, leaf = name.rpartition(".")
        if names.get(module, "").startswith("pre_logits") and leaf == "weight":
            side = math.isqrt(tensor.shape[1] // widths[module])
            tensor = tensor.reshape(len(tensor), widths[module], side, side)
        renamed[f"{names.get(module, module)}.{leaf}"] = tensor
    return renamed
