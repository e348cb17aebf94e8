"""Trained nets and the preparation of their images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from deepconv import distributed, models
from deepconv.config import recipes
from deepconv.data import statistics
from deepconv.data.statistics import Input
from deepconv.models import layers
from deepconv.ops import repeat
from deepconv.run import checkpoint
from deepconv.run.directory import read_json
from deepconv.state import TrainState, held_shapes


@dataclass(frozen=True)
class Net:
    """A model and the preparation of its images."""

    model: nn.Module
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
    """A trained net with its classes, loaded from a run's directory."""

    data: ConfigDict  # config.data
    net: Net
    state: TrainState
    classes: Sequence[str]


def load_run(run: Path) -> Trained:
    """Loads the net of a run's newest checkpoint. Raises OSError, ValueError."""
    distributed.check_devices()
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
    if not all(isinstance(name, str) for name in classes) or len(classes) != len(found["params"][last]["bias"]):
        scores = len(found["params"][last]["bias"])
        raise OSError(f"{run / 'classes.json'} is damaged: it must hold the names of the net's {scores} classes")
    data, mesh = config.data, distributed.make_mesh()
    # recipes for images of one size lack these fields; photographs are reduced to that size
    data = ConfigDict({"test_scale": data.image_size, "central_square": True} | data.to_dict())
    averages = statistics.load(run / "statistics.npz", "") if len(files) > 1 else statistics.NOT_NEEDED
    net_input = statistics.input_of(data, averages)
    model = models.create(config.model, len(classes))
    trees = {kind: found.get(kind, {}) for kind in ("params", "batch_stats")}
    trees = repeat.stacked(trees, {"batch_stats": {}} | held_shapes(model, data.image_size))
    net = Net(model, net_input, data.image_size, data.central_square, config.batch_size, mesh)
    state = TrainState(found["step"], trees["params"], trees["batch_stats"], ())
    return Trained(data, net, jax.device_put(state, distributed.replicated(mesh)), classes)
