"""Features: the output of a layer for each image."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from deepconv.data import augment
from deepconv.data.images import Images
from deepconv.evaluation import run as evaluate
from deepconv.evaluation.net import Net, variables
from deepconv.evaluation.protocols import Protocol
from deepconv.evaluation.table import new_table
from deepconv.ops import rectifier, repeat
from deepconv.run import log as runlog
from deepconv.state import TrainState


def fill(
    net: Net,
    state: TrainState,
    data: Images,
    examples: int,
    center: Protocol,
    forward: Callable[..., jax.Array],
    title: str | None,
    file: Path | None = None,
) -> tuple[np.ndarray, tuple[int, ...]]:
    """Returns a table of the outputs of forward(state, batch) [B, ...], one row per image, and the shape of an output.

    The batches hold central crops, uint8 [B, 1, S, S, 3]. A progress line has the title, if there is one. The table is
    on disk if a file is given.
    """
    one = jax.ShapeDtypeStruct((1, 1, net.size, net.size, 3), np.uint8)
    _, *shape = jax.eval_shape(forward, state, {"image": one}).shape
    predict = evaluate.compiled(net, lambda state, batch: forward(state, batch).reshape(len(batch["image"]), -1))
    table = new_table(examples, int(np.prod(shape)), file)
    done = int(table["done"].sum())
    with runlog.progress(title, examples, done) if title else nullcontext(lambda done: None) as show:
        evaluate.fill_tables(net, [evaluate.Test(center, predict, state, table)], data, show)
    return table, tuple(side for side in shape if side > 1)


def output(state: TrainState, batch: dict[str, jax.Array], *, net: Net, layer: str, rectify: bool) -> jax.Array:
    """Returns the output of a layer, float32 [B, ...]; layers have the names of their parameters.

    The nonlinearity after the layer is left out; with `rectify`, negative values become zero. The output of a ResNet's
    block includes its last rectifier.
    """
    return layer_output(
        state, augment.normalize(batch["image"][:, 0], net.input), net=net, layer=layer, rectify=rectify
    )


def layer_output(state: TrainState, images: jax.Array, *, net: Net, layer: str, rectify: bool) -> jax.Array:
    """Returns the output of a layer, as `output` does, for normalised images [B, H, W, 3]."""
    captured = dict(capture_intermediates=lambda module, method: len(module.path) == 1 and method == "__call__")
    _, found = net.model.apply(variables(state), images, train=False, **captured, mutable=["intermediates"])
    (features,) = repeat.by_block(found["intermediates"])[layer]["__call__"]
    features = features.astype(jnp.float32)
    return rectifier.relu(features) if rectify else features
