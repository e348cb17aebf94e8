"""Standard deviations of a net's layer responses, as in Fig. 7 of He et al. 2015."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from deepconv.data import augment
from deepconv.data.sources.source import Source
from deepconv.evaluation import features, protocols
from deepconv.evaluation.net import Net, Trained, variables
from deepconv.models.layers import BatchNorm
from deepconv.ops import repeat
from deepconv.run.files import write_json
from deepconv.run.starts import environment
from deepconv.state import TrainState


def write(trained: Trained, source: Source, file: Path) -> None:
    """Writes the standard deviations of the responses to the images of a source."""
    (center,) = protocols.parts("center", trained.data, source.size, trained.net.model, batch_norm=True)
    forward = functools.partial(moments, net=trained.net)
    table, _ = features.fill(trained.net, trained.state, source.open(), source.examples, center, forward, "responses")
    mean, mean_square = np.moveaxis(table["output"].astype(np.float64).mean(0).reshape(-1, 2), 1, 0)
    names = [*in_order(trained.state.batch_stats, lambda layer: layer["mean"][..., None])]
    content = {"layers": names, "std": np.sqrt(mean_square - mean**2).tolist()}
    content |= {"examples": source.examples, "step": int(trained.state.step)}
    write_json(file, content | environment())
    print(f"{file} holds the standard deviations of {len(names)} layers' responses to {source.examples} images")


def moments(state: TrainState, batch: Mapping[str, jax.Array], net: Net) -> jax.Array:
    """Returns the mean and mean square of each layer's responses to each image, float32 [B, layers, 2]."""
    images = augment.normalize(batch["image"][:, 0], net.input)
    _, found = net.model.apply(
        variables(state),
        images,
        train=False,
        capture_intermediates=lambda module, method: isinstance(module, BatchNorm) and method == "__call__",
        mutable=["intermediates"],
    )

    def layer_moments(layer: Mapping[str, Any]) -> jax.Array:
        x = layer["__call__"][0].astype(jnp.float32)
        return jnp.stack([x.mean((-3, -2, -1)), jnp.square(x).mean((-3, -2, -1))], -1)

    return jnp.stack([*in_order(found["intermediates"], layer_moments).values()], 1)


def in_order(tree: Mapping[str, Any], function: Callable[[Any], jax.Array]) -> dict[str, jax.Array]:
    """Applies a function to each BatchNorm's subtree in a net for CIFAR-10, from the first to the last."""
    found, layers = {"conv1": function(tree["bn1"])}, repeat.by_block(dict(tree))
    for layer in repeat.names(set(layers) - {"bn1", "conv1", "fc"}):
        found |= {f"{layer}.conv{number}": function(layers[layer][f"bn{number}"]) for number in (1, 2)}
    return found
