"""Descriptions of a recipe: its net, layer by layer, and its schedule."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import flax.linen as nn
from ml_collections import ConfigDict
from rich.box import SIMPLE_HEAD
from rich.table import Column, Table

from deepconv import optim
from deepconv import state as state_lib
from deepconv.config import durations, fields
from deepconv.ops import counting, forms


@dataclass(frozen=True)
class Layer:
    """A layer of a net, or a block of layers, under its name in the papers."""

    name: str
    output_shape: tuple[int, ...]  # of its last convolution or matrix product, without the batch; () for BatchNorm
    parameters: int
    multiply_adds: int  # for one image


def layers(model: nn.Module, image_size: int) -> list[Layer]:
    """Returns the layers of a net that have parameters, in order."""
    params = state_lib.shapes_of(model, image_size)["params"]
    with forms.using("blocks:plain", "groups:plain"):
        products = counting.products(model, (image_size, image_size, 3))
    found, order = [], [product.layer for product in products]
    # BatchNorm bn1 has no products of its own, and follows conv1
    for name in sorted(params, key=lambda name: (order.index(name.replace("bn", "conv")), "bn" in name)):
        own = [product for product in products if product.layer == name]
        shape = own[-1].output_shape if own else ()
        multiply_adds = sum(product.multiply_adds for product in own)
        found.append(Layer(name, shape, counting.count_parameters(params[name]), multiply_adds))
    return found


def layer_table(found: Sequence[Layer]) -> Table:
    """Returns a table of layers with their sums."""
    numbers = (Column(name, justify="right") for name in ("output", "parameters", "multiply-adds"))
    grid = Table("layer", *numbers, box=SIMPLE_HEAD, pad_edge=False)
    for layer in found:
        sides = layer.output_shape[:-1] if set(layer.output_shape[:-1]) - {1} else ()
        shape = " x ".join(map(str, (*sides, *layer.output_shape[-1:])))
        grid.add_row(layer.name, shape, f"{layer.parameters:,}", f"{layer.multiply_adds:,}" if shape else "")
    grid.add_section()
    parameters, multiply_adds = sum(layer.parameters for layer in found), sum(layer.multiply_adds for layer in found)
    grid.add_row("sum", "", f"{parameters:,}", f"{multiply_adds:,}")
    return grid


def schedule(config: ConfigDict, examples: int) -> Iterator[str]:
    """Yields the length of training, the learning rates and the intervals of a recipe, a line each."""
    yield f"length: {length(config, examples)} of {examples:,} images"
    if optim.warms_up(config):
        optimizer = config.optimizer
        yield (
            f"config.optimizer: {optimizer.warm_up_learning_rate:g} until the training error is below "
            f"{optimizer.get('warm_up_until_error', 100.0):g} %"
        )
    shared: dict[str, list[str]] = {}  # {text: the nodes of which it is true}
    for name, node in fields.schedules(config.optimizer):
        shared.setdefault(", ".join(_own_schedule(config, node, examples)), []).append(name)
    for text, names in shared.items():
        yield f"{', '.join(names).replace(', config.optimizer.layers.', ', ')}: {text}"
    if decay := config.optimizer.ema_decay:
        yield f"moving averages of the weights are tested, decay {decay:g}"
    unit = durations.unit_of(config, "eval_every")
    every = f"{config[unit]:,} {unit.rpartition('_')[2]}" if config[unit] != 1 else unit.rpartition("_")[2].rstrip("s")
    yield f"test every {every}, checkpoint every {config.checkpoint_every_steps:,} steps"


def _own_schedule(config: ConfigDict, node: ConfigDict, examples: int) -> Iterator[str]:
    """Yields the learning rates that a node of the optimiser sets, and the step from which its layer is frozen."""
    in_steps = functools.partial(durations.steps, examples=examples, batch_size=config.batch_size)
    if node is config.optimizer or "learning_rate" in node or durations.is_given(node, "drop_at"):
        rate = node.get("learning_rate", config.optimizer.learning_rate)
        yield f"learning rate {rate:g}"
        drops = in_steps(node if durations.is_given(node, "drop_at") else config.optimizer, "drop_at")
        for number, step in enumerate(drops, 1):
            lower = rate * config.optimizer.drop_factor**number
            yield f"{lower:g} from step {step:,} (epoch {step * config.batch_size / examples:.4g})"
    if durations.is_given(node, "freeze_at"):
        yield f"frozen from step {in_steps(node, 'freeze_at'):,}"
    if "weight_decay" in node and node is not config.optimizer:
        yield f"weight decay {node.weight_decay:g}"


def length(config: ConfigDict, examples: int) -> str:
    """Returns the length of training in steps and epochs."""
    steps = durations.steps(config, "total", examples, config.batch_size)
    epochs = f"{steps * config.batch_size / examples:.4g}"
    return f"{steps:,} steps of {config.batch_size:,} images, {epochs} epoch{'s' * (epochs != '1')}"


def in_words(number: int) -> str:
    """Returns a number as in "25.6 million"."""
    for unit, name in ((10**9, "billion"), (10**6, "million")):
        if number >= unit:
            return f"{number / unit:.3g} {name}"
    return f"{number:,}"
