"""Equal blocks in sequence, as a loop or as one scan over their stacked parameters.

A scan stacks the variables of conv2_2, ..., conv2_9 as one layer, conv2_2_to_9. A net on a CPU holds them in this form;
checkpoints and files store every block under its own name on every platform.
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


def apply_blocks(net: nn.Module, blocks: Sequence[nn.Module], x: jax.Array) -> jax.Array:
    """Applies blocks of a net in sequence. All but the first must be equal except for their names.

    The names end in _1, _2, and so on. The first block may change the map's size and channels. Existing
    variables decide the form.
    """
    first, *rest = blocks
    x = first(x)
    name = f"{rest[0].name}_to_{str(rest[-1].name).rpartition('_')[2]}" if rest else ""
    scans = forms.form("blocks") == "scan" if net.is_initializing() else net.has_variable("params", name)
    if len(rest) < 2 or not scans:
        for block in rest:
            x = block(x)
        return x
    stack = rest[0].clone(parent=net, name=name)
    scan = nn.scan(_step, variable_axes={**_AXES}, split_rngs={"params": True}, length=len(rest))
    return scan(stack, x, None)[0]


def _step(block: nn.Module, x: jax.Array, _: None) -> tuple[jax.Array, None]:
    return block(x), None


def init(model: nn.Module, key: jax.Array, images: jax.Array) -> Variables:
    """Initialises a model's variables; their values do not depend on the form of the blocks."""
    with forms.using("blocks:scan"):
        variables = dict(model.init(key, images, train=False))
    return variables if forms.form("blocks") == "scan" else by_block(variables)


def by_block(tree: Any) -> Any:
    """Returns a tree of variables, or of their shapes, with stacks split into blocks under their own names.

    A dict of the tree maps layers to their variables, or Flax's names of collections, such as "params", to such dicts.
    Stacked arrays are copied to the host, except while they are traced.
    """
    return jax.tree.map(_unstack, tree, is_leaf=_holds_layers)


def stacked(tree: Any, like: Any) -> Any:
    """Reverses by_block, with the stacks that `like` has; they are built on the host."""
    return jax.tree.map(_stack, like, tree, is_leaf=_holds_layers)


def names(layers: Iterable[str]) -> Sequence[str]:
    """Returns the names of layers, including every block of a stack, with conv2_10 after conv2_9."""
    return sorted((name for layer in layers for name in _blocks_of(layer)), key=_order)


def _order(name: str) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _blocks_of(layer: str) -> Sequence[str]:
    """Returns the names of the blocks in a stack; for any other layer, its own name."""
    if not (found := _STACK.fullmatch(layer)):
        return [layer]
    stem, first, last = found.groups()
    return [f"{stem}{number}" for number in range(int(first), int(last) + 1)]


def _holds_layers(tree: Any) -> bool:
    """Returns whether this is a dict of variables by layer, not a dict of such dicts."""
    return isinstance(tree, dict) and not set(tree) & set(_AXES)


def _unstack(layers: Any) -> Any:
    if not isinstance(layers, dict):
        return layers
    found = {}
    for layer, variables in layers.items():
        if len(blocks := _blocks_of(layer)) == 1:
            found[layer] = variables
        else:
            rows = jax.tree.map(_rows, variables)
            for place, name in enumerate(blocks):
                found[name] = jax.tree.map(lambda _, row: row[place], variables, rows)  # noqa: B023
    return found


def _rows(x: Any) -> Any:
    """Splits an array along its first axis; on the host, since thousands of slices take half a minute on a device."""
    if isinstance(x, jax.ShapeDtypeStruct):
        return [jax.ShapeDtypeStruct(x.shape[1:], x.dtype, sharding=x.sharding)] * x.shape[0]
    return x if isinstance(x, jax.core.Tracer) else np.array(x)


def _stack(like: Any, layers: Any) -> Any:
    if not isinstance(like, dict):
        return layers
    found = {}
    for layer in like:
        blocks = [layers[name] for name in _blocks_of(layer)]
        found[layer] = blocks[0] if len(blocks) == 1 else jax.tree.map(lambda *leaves: np.stack(leaves), *blocks)
    return found
