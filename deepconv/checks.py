"""Checks of a config together with its net, its data and its devices."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from deepconv import state as state_lib
from deepconv.config.fields import FREEZE
from deepconv.data import augment
from deepconv.models.alexnet import AlexNet

DATA_CHOICES = {"augment": augment.AUGMENTATIONS, "lighting": augment.LIGHTINGS, "on_corrupt": ("fail", "replace")}


def unknown_names(data: ConfigDict) -> list[str]:
    """Returns a line for each name in config.data that is not one of its choices."""
    return [
        f"config.data.{field}={data[field]!r} is unknown; choose one of {', '.join(values)}"
        for field, values in DATA_CHOICES.items()
        if data.get(field, values[0]) not in values
    ]


def check_boxes(config: ConfigDict, needed: bool) -> None:
    """Raises ValueError for an augmentation that does not move boxes, if they are needed."""
    if needed and config.data.augment == "pad_crop_flip":
        raise ValueError(
            f"config.data.augment=pad_crop_flip does not move boxes, which config.objective={config.objective} needs; "
            "choose crop_flip or none"
        )


def wrong_layers(config: ConfigDict, model: nn.Module, layers: Mapping[str, Any]) -> list[str]:
    """Returns a line for each mistake in config.optimizer.layers.

    That is an unknown layer, one in a stack of blocks, or a rate or decay of BatchNorm.
    """
    if not (named := set(config.optimizer.get("layers", {}))):
        return []
    if unknown := sorted(named - set(layers)):
        return [f"config.optimizer.layers names {unknown[0]}; the layers are {', '.join(layers)}"]
    held = state_lib.held_shapes(model, config.data.image_size)["params"]
    batch_norms = [layer for layer in sorted(named & set(held)) if "scale" in held[layer]]
    wrong = [
        f"config.optimizer.layers.{layer}.{field} is for layers with a kernel; BatchNorm can only be frozen"
        for layer in batch_norms
        for field in sorted({*config.optimizer.layers[layer]} - FREEZE.keys())
    ]
    return wrong + [
        f"config.optimizer.layers names {layer}, one of several blocks that are computed as one scan; "
        "--forms=blocks:plain computes each separately"
        for layer in sorted(named - set(held))
    ]


def wrong_division(
    config: ConfigDict, model: nn.Module, batch_norm: bool, mesh: Mesh, accumulate: int
) -> Iterator[str]:
    """Yields a line if the net cannot be divided among devices, and one if a batch cannot be computed in parts."""
    name, (devices, sharing) = config.model.name, mesh.devices.shape
    towers = model.towers() if isinstance(model, AlexNet) else 1
    if sharing not in (1, towers):
        yield f"--model_parallel={sharing} is for AlexNet's two towers; this net, {name}, has {towers}; take {towers}"
    elif model.classes % sharing:  # pyrefly: ignore[missing-attribute], every net has it
        yield f"--model_parallel={sharing} cannot divide the {model.classes} outputs of the last layer; leave it out"
    batch_size, group = config.batch_size, config.model.get("bn_group", 0)
    if accumulate == 1:
        return
    if batch_size % (accumulate * devices * max(1, group)):
        groups = f", each of whole groups of config.model.bn_group={group}" if group else ""
        parts, rest = divmod(batch_size, devices * max(1, group))
        remedy = "take another batch or other devices" if rest or parts == 1 else f"take a divisor of {parts}"
        yield (
            f"--accumulate={accumulate} cannot divide config.batch_size={batch_size} into equal parts on {devices} "
            f"devices{groups}; {remedy}"
        )
    elif batch_norm and not group and not config.model.get("bn_fixed", False):
        yield (
            f"--accumulate={accumulate}: BatchNorm over a full batch (config.model.bn_group=0) cannot be computed in "
            f"parts; set config.model.bn_group to the images that are normalised together, such as "
            f"{batch_size // (accumulate * devices)}"
        )


def check_memory(config: ConfigDict, shapes: Any, side: int) -> None:
    """Raises ValueError if a step certainly needs more memory than this machine has.

    It counts this process's rows of a batch in bytes and, on a CPU, these rows in float32, parameters and momentum;
    side is the side of the host's images in pixels.
    """
    cpu, size = jax.default_backend() == "cpu", config.data.image_size
    images = config.batch_size / jax.process_count() * 3 * (side**2 + 4 * size**2 * cpu)
    needed = images + 8 * cpu * sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
    available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > available:
        raise ValueError(
            f"config.batch_size={config.batch_size} images of config.data.image_size={size} pixels and the net need "
            f"more than {needed / 1e9:.3g} GB of memory, and this machine has {available / 1e9:.3g}; take "
            f"fewer or smaller images"
        )
