"""Equal blocks, one after the other: a loop, or one scan over their stacked parameters.

A scan keeps the variables of conv2_2, ..., conv2_9 stacked, as those of one layer conv2_2_to_9. That is the form in
which a net on a CPU holds them; checkpoints and files have every block by its own name on every platform.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from deepconv.ops import forms

Variables = dict[str, Any]
_STACK = re.compile(r"(\w+_)(\d+)_to_(\d+)")
_AXES = {"params": 0, "batch_stats": 0, "intermediates": 0}


def in_turn(net: nn.Module, blocks: Sequence[nn.Module], x: jax.Array) -> jax.Array:
    """Applies blocks of a net, each to what the one before gives. All but the first differ in nothing but their names.

    The names end in _1, _2, and so on. The first may change the shape of the map, or the number of its channels.
    Variables decide the form, if there are any.
    """
    first, *others = blocks
    x = first(x)
    name = f"{others[0].name}_to_{str(others[-1].name).rpartition('_')[2]}" if others else ""
    scans = forms.form("blocks") == "scan" if net.is_initializing() else net.has_variable("params", name)
    if len(others) < 2 or not scans:
        for block in others:
            x = block(x)
        return x
    stack = others[0].clone(parent=net, name=name)
    scan = nn.scan(_step, variable_axes={**_AXES}, split_rngs={"params": True}, length=len(others))
    return scan(stack, x, None)[0]


def _step(block: nn.Module, x: jax.Array, _: None) -> tuple[jax.Array, None]:
    return block(x), None


def init(model: nn.Module, key: jax.Array, images: jax.Array) -> Variables:
    """A model's variables at random, the same ones whatever form the blocks have."""
    with forms.using("blocks:scan"):
        variables = dict(model.init(key, images, train=False))
    return variables if forms.form("blocks") == "scan" else by_block(variables)


def by_block(tree: Any) -> Any:
    """A tree of variables in which every block has its own name, in place of stacks; blocks are copied to the host."""
    return jax.tree.map(_unstack, tree, is_leaf=_holds_layers)


def stacked(tree: Any, like: Any) -> Any:
    """The reverse of by_block, for a net whose tree is like this one; stacks are made on the host."""
    return jax.tree.map(_stack, like, tree, is_leaf=_holds_layers)


def names(layers: Iterable[str]) -> Sequence[str]:
    """The names of layers, with every block under its own, conv2_10 behind conv2_9."""
    return sorted((name for layer in layers for name in _blocks_of(layer)), key=_order)


def _order(name: str) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _blocks_of(layer: str) -> Sequence[str]:
    """The names of the blocks in a stack; of any other layer, its own alone."""
    if not (found := _STACK.fullmatch(layer)):
        return [layer]
    stem, first, last = found.groups()
    return [f"{stem}{number}" for number in range(int(first), int(last) + 1)]


def _holds_layers(tree: Any) -> bool:
    """Whether this is a dict of variables by layer, and not one of such dicts."""
    return isinstance(tree, dict) and not set(tree) & set(_AXES)


def _unstack(layers: Any) -> Any:
    if not isinstance(layers, dict):
        return layers
    found = {}
    for layer, variables in layers.items():
        if len(blocks := _blocks_of(layer)) == 1:
            found[layer] = variables
        else:  # on the host, since thousands of slices take a device half a minute
            rows = jax.tree.map(lambda x: x if isinstance(x, jax.core.Tracer) else np.array(x), variables)
            for place, name in enumerate(blocks):
                found[name] = jax.tree.map(lambda x: x[place], rows)  # noqa: B023
    return found


def _stack(like: Any, layers: Any) -> Any:
    if not isinstance(like, dict):
        return layers
    found = {}
    for layer in like:
        blocks = [layers[name] for name in _blocks_of(layer)]
        found[layer] = blocks[0] if len(blocks) == 1 else jax.tree.map(lambda *of_blocks: np.stack(of_blocks), *blocks)
    return found
