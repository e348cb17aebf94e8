"""A trained net, and how images are prepared for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from deepconv import distributed, models
from deepconv.config import recipes
from deepconv.data import decode, statistics
from deepconv.data.statistics import Input
from deepconv.evaluation.protocols import Protocol
from deepconv.models import layers
from deepconv.ops import repeat
from deepconv.run import checkpoint
from deepconv.run.directory import read_json
from deepconv.state import TrainState, held_shapes

Step = tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]  # numbers of images, their labels, a batch


@dataclass(frozen=True)
class Net:
    """A network, and how images are prepared for it."""

    model: nn.Module
    input: Input
    size: int  # pixels of a side in training, and of a crop
    square: bool  # whether central squares are all that is seen of images
    batch_size: int  # crops at a time
    mesh: Mesh


def variables(state: TrainState) -> dict[str, Any]:
    """A state as Flax's apply takes it."""
    return {"params": state.params, "batch_stats": state.batch_stats}


def divisible(count: int, mesh: Mesh) -> int:
    """The largest number up to count, and at least one for each device, that the devices can share."""
    return max(1, count // mesh.size) * mesh.size


def rescaled(image: np.ndarray, net: Net, protocol: Protocol) -> np.ndarray:
    """The image, or its central square, at a test's scale; as it is where the test has none."""
    return image if protocol.scale is None else decode.rescale(image, protocol.scale, net.square)


@dataclass(frozen=True)
class Trained:
    """What a run's directory holds."""

    data: ConfigDict  # config.data
    net: Net
    state: TrainState
    classes: Sequence[str]


def load_run(run: Path) -> Trained:
    """The net of a run's newest checkpoint. Raises OSError, ValueError."""
    distributed.check_devices()
    config = ConfigDict(recipes.read_run(run))
    found = checkpoint.read(run / "checkpoints")
    files = ["classes.json", *["statistics.npz"] * statistics.needed(config.data, training=False)]
    if missing := [name for name in files if not (run / name).exists()]:
        raise FileNotFoundError(
            f"{run} has no {missing[0]}. A run of deepconv.main leaves it there when training begins; weights that "
            "were imported need --library or --input, which say what images they take"
        )
    classes = read_json(run / "classes.json", list, remedy="the command that made the run writes it again")
    (last,) = {*layers.LAST_LAYERS} & {*found["params"]}
    if not all(isinstance(name, str) for name in classes) or len(classes) != len(found["params"][last]["bias"]):
        scores = len(found["params"][last]["bias"])
        raise OSError(f"{run / 'classes.json'} is damaged: it has to hold the names of the net's {scores} classes")
    data, mesh = config.data, distributed.make_mesh()
    # recipes for data sets with one size do not say these; photographs are made so small
    data = ConfigDict({"test_scale": data.image_size, "central_square": True} | data.to_dict())
    averages = statistics.load(run / "statistics.npz", "") if len(files) > 1 else statistics.NOT_NEEDED
    given = statistics.input_of(data, averages)
    model = models.create(config.model, len(classes))
    trees = {kind: found.get(kind, {}) for kind in ("params", "batch_stats")}
    trees = repeat.stacked(trees, {"batch_stats": {}} | held_shapes(model, data.image_size))
    net = Net(model, given, data.image_size, data.central_square, config.batch_size, mesh)
    state = TrainState(found["step"], trees["params"], trees["batch_stats"], ())
    return Trained(data, net, jax.device_put(state, distributed.replicated(mesh)), classes)
