"""Counts of a run's net without training, for columns of the papers' tables. Imports JAX on the first call."""

import functools
from typing import TYPE_CHECKING, Any

from deepconv.data.known import DATA
from experiments.entry import Run

if TYPE_CHECKING:
    import flax.linen as nn


def net(run: Run) -> "tuple[nn.Module, dict[str, Any]]":
    """Returns the model of a run and the shapes of its variables."""
    return _net(run.config, tuple(run.overrides.items()))


@functools.cache
def _net(recipe: str, overrides: tuple[tuple[str, Any], ...]) -> "tuple[nn.Module, dict[str, Any]]":
    from deepconv import models, objective
    from deepconv import state as state_lib

    config = Run(recipe, dict(overrides)).load()
    aim = objective.create(config, DATA[config.data.name].classes)
    model = models.create(config.model, aim.outputs, aim.per_place)
    return model, state_lib.shapes_of(model, config.data.image_size)


def parameters(run: Run) -> float:
    """Returns the number of parameters in millions, including biases and BatchNorm's scales and shifts."""
    from deepconv.ops import counting

    return counting.count_parameters(net(run)[1]["params"]) / 1e6


def multiply_adds(run: Run) -> float:
    """Returns the multiply-adds for one image in 1e9; the papers call them FLOPs."""
    from deepconv.ops import counting

    size = run.load().data.image_size
    return counting.count_multiply_adds(net(run)[0], (size, size, 3)) / 1e9
