"""Trained nets and the preparation of their images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from deepconv import distributed, models, objective
from deepconv.config import recipes
from deepconv.data import augment, known, statistics
from deepconv.data.statistics import Input, Statistics
from deepconv.models import layers
from deepconv.objective import Objective
from deepconv.ops import repeat
from deepconv.run import checkpoint
from deepconv.run.files import expanded, read_json
from deepconv.state import TrainState, held_shapes


@dataclass(frozen=True)
class Net:
    """A model and the preparation of its images."""

    model: nn.Module
    objective: Objective  # what its outputs are
    input: Input
    size: int  # side of training images and of crops, in pixels
    square: bool  # only the central square of an image is tested
    batch_size: int  # crops in a batch
    mesh: Mesh  # all devices along "data"


def variables(state: TrainState) -> dict[str, Any]:
    """Returns the variables that Flax's apply takes."""
    return {"params": state.params, "batch_stats": state.batch_stats}


def divisible(count: int, mesh: Mesh) -> int:
    """Rounds a count down to a multiple of the devices along "data", at least one per device."""
    return max(1, count // mesh.shape["data"]) * mesh.shape["data"]


@dataclass(frozen=True)
class Trained:
    """A trained net with its classes, loaded from a run's directory or from a file of weights.

    Its net takes RGB images, uint8 [B, H, W, 3], and `net.input` says what it subtracts from their pixels.
    """

    data: ConfigDict  # config.data
    net: Net
    state: TrainState
    classes: Sequence[str]


def load_run(run: str | Path) -> Trained:
    """Loads the net of a run's newest checkpoint. Raises OSError, ValueError."""
    distributed.check_devices()
    run = expanded(run)
    config = ConfigDict(recipes.read_run(run))
    found = checkpoint.read(run / "checkpoints")
    files = ["classes.json", *["statistics.npz"] * statistics.needed(config.data, training=False)]
    if missing := [name for name in files if not (run / name).exists()]:
        raise FileNotFoundError(
            f"{run} has no {missing[0]}. deepconv.main writes it when training begins; for imported weights, import "
            "them again with --library or --input, which describe the images their net takes"
        )
    classes = read_json(run / "classes.json", list, remedy="repeat the command that made the run to write it again")
    (last,) = {*layers.LAST_LAYERS} & {*found["params"]}
    outputs = len(found["params"][last]["bias"])
    goal = objective.create(config, len(classes))
    if not all(isinstance(name, str) for name in classes) or outputs != goal.outputs:
        raise OSError(
            f"{run / 'classes.json'} is damaged: it must hold the names of the classes of the net's {outputs} outputs"
        )
    averages = statistics.load(run / "statistics.npz", "") if len(files) > 1 else statistics.NOT_NEEDED
    return assemble(config, found, averages, classes, found["step"])


def assemble(
    config: ConfigDict,
    weights: Mapping[str, Any],
    averages: Statistics,
    classes: Sequence[str],
    step: int | jax.Array = 0,
) -> Trained:
    """Returns the net of a config with its weights, {"params": ..., "batch_stats": ...}, on all devices.

    averages are the statistics of its training images.
    """
    goal = objective.create(config, len(classes))
    data, mesh = config.data, distributed.make_mesh()
    # recipes for images of one size lack these fields; that size is the mean image's or, without one, the data set's
    name = data.name.partition("/")[0]  # without TFDS's version
    size = known.DATA[name].size if name in known.DATA else None
    size = size if averages.pixel_mean is None else averages.pixel_mean.shape
    side = size[0] if size else data.image_size
    data = ConfigDict({"test_scale": side, "central_square": True} | data.to_dict())
    net_input = statistics.input_of(data, averages)
    model = models.create(config.model, goal.outputs, goal.per_place)
    trees = {kind: weights.get(kind, {}) for kind in ("params", "batch_stats")}
    trees = repeat.stacked(trees, {"batch_stats": {}} | held_shapes(model, data.image_size))
    net = Net(model, goal, net_input, data.image_size, data.central_square, config.batch_size, mesh)
    state = TrainState(jnp.asarray(step, jnp.int32), trees["params"], trees["batch_stats"], ())
    return Trained(data, net, jax.device_put(state, distributed.replicated(mesh)), classes)


def scores(trained: Trained, images: np.ndarray | jax.Array) -> jax.Array:
    """Returns a net's outputs, float32 [B, outputs], for images in RGB from 0 to 255, uint8 [B, S, S, 3].

    S is `trained.net.size`. The net subtracts its own mean and divides by its own standard deviation, those of
    `trained.net.input`, so images come as they are. The softmax of a classifier's scores gives probabilities.
    """
    size = trained.net.size
    images = images if isinstance(images, jax.Array) else np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (size, size, 3):
        raise ValueError(
            f"images are {images.dtype} {[*images.shape]}, but must be uint8 [B, {size}, {size}, 3], RGB from 0 to 255"
        )
    normalized = augment.normalize(jnp.asarray(images), trained.net.input)
    outputs = trained.net.model.apply(variables(trained.state), normalized, train=False)
    return jnp.asarray(outputs, jnp.float32)
