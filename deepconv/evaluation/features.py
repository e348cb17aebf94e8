"""What a layer of a net puts out for each image."""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from deepconv import distributed
from deepconv.data import augment
from deepconv.data.images import Images
from deepconv.evaluation import run as evaluate
from deepconv.evaluation.net import Net
from deepconv.evaluation.protocols import Protocol
from deepconv.evaluation.table import new_table
from deepconv.ops import repeat
from deepconv.run import log as runlog
from deepconv.state import TrainState


def fill(
    net: Net,
    state: TrainState,
    data: Images,
    examples: int,
    center: Protocol,
    see: Callable[..., jax.Array],
    title: str,
    file: Path | None = None,
) -> tuple[np.ndarray, tuple[int, ...]]:
    """A table as of evaluate, on disk if there is a file, of see(state, batch) [B, ...] and the shape of one output.

    It sees the central crops, uint8 [B, 1, S, S, 3].
    """
    one = jax.ShapeDtypeStruct((1, 1, net.size, net.size, 3), np.uint8)
    _, *shape = jax.eval_shape(see, state, {"image": one}).shape
    whole, split = distributed.replicated(net.mesh), distributed.split(net.mesh)
    options = distributed.compiler_options()
    flat = lambda state, batch: see(state, batch).reshape(len(batch["image"]), -1)  # noqa: E731
    predict = jax.jit(flat, in_shardings=(whole, split), out_shardings=whole, compiler_options=options)
    table = new_table(examples, int(np.prod(shape)), file)
    done = int(table["done"].sum())
    with runlog.progress(title, examples, done) as show:
        evaluate.probabilities(net, center, predict, state, data, table, show)
    return table, tuple(side for side in shape if side > 1)


def output(state: TrainState, batch: dict[str, jax.Array], *, net: Net, layer: str, rectify: bool) -> jax.Array:
    """Returns the output of a layer, named as among the parameters: float32 [B, ...].

    It is the output before the nonlinearity that follows the layer or, rectified, with zeros for negative values. The
    output of a ResNet's block includes its last rectifier.
    """
    images = augment.normalize(batch["image"][:, 0], net.input)
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    captured = dict(capture_intermediates=lambda module, method: len(module.path) == 1 and method == "__call__")
    _, found = net.model.apply(variables, images, train=False, **captured, mutable=["intermediates"])
    (given,) = repeat.by_block(found["intermediates"])[layer]["__call__"]
    given = given.astype(jnp.float32)
    return jax.nn.relu(given) if rectify else given
