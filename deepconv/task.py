"""Resolution of a config's names: data, model, optimiser, mesh, tests."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from deepconv import checks, distributed, models, objective, optim
from deepconv import state as state_lib
from deepconv.config import durations, fields
from deepconv.config.mistakes import collecting, raise_all
from deepconv.data import augment, pipeline, sources, statistics
from deepconv.data.decode import Geometry
from deepconv.data.sources.source import Source, data_root
from deepconv.data.statistics import Statistics
from deepconv.evaluation import protocols
from deepconv.evaluation.net import Net
from deepconv.objective import Objective


@dataclass(frozen=True)
class Task:
    """A config with its names resolved: everything a run needs except images."""

    config: ConfigDict
    train_source: Source
    eval_source: Source
    geometry: Geometry  # for training images
    statistics: Statistics | None  # None: they are computed from the training images
    objective: Objective
    model: nn.Module
    tx: optax.GradientTransformationExtraArgs
    total_steps: int  # 0 to test the given weights without training
    lighting_steps: int  # the number of first steps with colour shifts
    mesh: Mesh
    accumulate: int  # parts of a batch that a step computes in sequence
    workers: int  # loader processes; batches do not depend on their number
    protocols: Mapping[str, tuple[protocols.Protocol, ...]]  # name -> tests that it averages; includes "center"

    def position(self, step: int) -> dict[str, float]:
        """Returns the fields with which a record of metrics begins: the step, and the epoch after it."""
        return {"step": step, "epoch": step / (self.train_source.examples / self.config.batch_size)}


def prepare(
    config: ConfigDict,
    data_dir: str | Path | None = None,
    workers: int = 0,
    evals: Sequence[str] = ("center",),
    tests_only: bool = False,
    given: Statistics | None = None,
    model_parallel: int = 1,
    accumulate: int = 1,
    find: Callable[..., Source] | None = None,
    trained: bool = False,
) -> Task:
    """Resolves and checks a config without reading images. Raises ValueError with a line for each mistake.

    evals are the names of test protocols. Nets that are only tested need a training set only for its mean and classes,
    and none if the mean is known: numbers in the config, or ImageNet's published mean. Given statistics replace the
    training set's. model_parallel devices share a net, and a step computes its batch in `accumulate` parts. find(name,
    split, data_dir=, image_size=, scale=) returns a data set, by default one of deepconv.data.sources. With `trained`,
    no step is going to be taken, and the devices need not divide the batch.
    """
    data_dir = None if data_dir is None else str(data_dir)
    mistakes: list[str] = []
    collect = functools.partial(collecting, mistakes)
    with collect():
        mesh = distributed.make_mesh(model_parallel)
    fields.check_fields(config)
    data = config.data
    mistakes += checks.unknown_names(data)
    with collect():
        statistics.check(data)
    with collect():
        needs_boxes = objective.needs_boxes(config.get("objective", "classification"))
        checks.check_boxes(config, needs_boxes)
        find = find or (sources.find_annotated if needs_boxes else sources.find)
        precise = any(name.endswith("_precise_batch_stats") for name in evals)
        augments = precise or not tests_only
        train_source, eval_source = _find_sources(data, functools.partial(find, data_dir=data_dir), augments)
    raise_all(mistakes)

    if precise or not (tests_only or trained):  # batches are going to be divided
        with collect():
            fields.check_together(config, train_source.examples, mesh.shape["data"])
    with collect():
        geometry = pipeline.geometry(data, train_source.size)
    with collect():
        averages = given or _statistics(data, train_source, data_dir, augments, needs_boxes)
        if given and tests_only:
            statistics.input_of(data, given)  # raises if they have no mean image of this size
    with collect():
        aim = objective.create(config, len(train_source.classes))
        model = models.create(config.model, aim.outputs, aim.per_place)
        shapes = _shapes(model, data.image_size)
        mistakes += checks.wrong_layers(config, model, shapes["params"])
        mistakes += checks.wrong_division(config, model, "batch_stats" in shapes, mesh, accumulate)
        tests = _tests(evals, data, eval_source.size, model, "batch_stats" in shapes, needs_boxes, mistakes)
    raise_all(mistakes)
    checks.check_memory(config, shapes, geometry.size)
    steps = functools.partial(durations.steps, examples=train_source.examples, batch_size=config.batch_size)
    return Task(
        config=config,
        train_source=train_source,
        eval_source=eval_source,
        geometry=geometry,
        statistics=averages,
        objective=aim,
        model=model,
        tx=optim.create(config.optimizer, steps, optim.warms_up(config)),
        total_steps=0 if tests_only else steps(config, "total"),
        lighting_steps=steps(data, "lighting_until") if durations.is_given(data, "lighting_until") else augment.ALWAYS,
        mesh=mesh,
        accumulate=accumulate,
        workers=workers,
        protocols=tests,
    )


def _tests(
    evals: Sequence[str],
    data: ConfigDict,
    size: tuple[int, int] | None,
    model: nn.Module,
    batch_norm: bool,
    boxes: bool,
    mistakes: list[str],
) -> dict[str, tuple[protocols.Protocol, ...]]:
    """Returns the tests that each name averages, and those of "center"; adds a line to mistakes for each wrong name."""
    tests = {}
    for name in ("center", *evals):
        with collecting(mistakes):
            tests[name] = protocols.parts(name, data, size, model, batch_norm, boxes)
    return tests


def _find_sources(data: ConfigDict, find: Callable[..., Source], augments: bool) -> tuple[Source, Source]:
    """Returns the training set and the test set; the test set stands in for a training set that is not needed.

    With `augments`, training images are read as in training: to train, or for BatchNorm's exact averages.
    """
    scale = pipeline.check_scale(data)
    find = functools.partial(find, image_size=data.image_size, scale=scale)
    eval_source = find(data.name, data.eval_split)
    mean_known = not statistics.needed(data, training=False) or _has_published(data, eval_source)
    return find(data.name, data.train_split) if augments or not mean_known else eval_source, eval_source


def _shapes(model: nn.Module, size: int) -> Any:
    try:
        return state_lib.shapes_of(model, size)
    except (ArithmeticError, TypeError, ValueError) as error:
        raise ValueError(f"config.model cannot take images of config.data.image_size={size} pixels: {error}") from error


def _has_published(data: ConfigDict, source: Source) -> bool:
    return source.is_imagenet and data.mean != "pixel" and data.get("std", "none") != "channel"


def _statistics(
    data: ConfigDict, source: Source, data_dir: str | None, augments: bool, boxes: bool
) -> Statistics | None:
    """Returns published statistics if they are enough, else those stored beside the data, if needed. Raises OSError.

    None: they are computed from the images, which are in memory. Those of a source with boxes are of all training
    images, with and without boxes, as in the net it starts from.
    """
    if not statistics.needed(data, augments):
        return statistics.NOT_NEEDED
    if (folder := source.folder) is None:
        return None
    if _has_published(data, source):
        return statistics.PUBLISHED
    if boxes:
        source = sources.find(source.name, source.split, data_dir, data.image_size, pipeline.check_scale(data))
        folder = source.folder or folder
    if not source.size:
        pipeline.check_rescales(data)
    size = source.size[0] if source.size else data.train_scale[0]
    file = statistics.path(folder, source.split, size)
    if not file.exists():
        has_published_mean = source.is_imagenet and data.get("std", "none") != "channel"
        published = "; or take the published mean colour: --config.data.mean=channel" if has_published_mean else ""
        raise FileNotFoundError(
            f"{file} is missing; compute it in one pass over the images: python -m deepconv.data.prepare statistics "
            f"{source.name} --data_dir={data_root(data_dir)} --split='{source.split}' --size={size}{published}"
        )
    return statistics.load(file, source.fingerprint)


def batch_shapes(task: Task) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes of a training batch; with boxes, those for one object per image."""
    count, size = task.config.batch_size, task.geometry.size
    shapes = {"image": (count, size, size, 3), "label": (count,)}
    kinds = {"image": np.uint8, "label": np.int32}
    if not isinstance(task.objective, objective.Classification):
        shapes |= {"boxes": (count, 1, 4), "classes": (count, 1)}
        kinds |= {"boxes": np.float32, "classes": np.int32}
    return {name: jax.ShapeDtypeStruct(shape, kinds[name]) for name, shape in shapes.items()}


def net_for(task: Task, computed: Statistics) -> Net:
    """Returns the net of a task, as tests use it."""
    data = task.config.data
    net_input = statistics.input_of(data, computed)
    square, batch_size = data.get("central_square", False), task.config.batch_size
    mesh = distributed.all_for_data(task.mesh)
    return Net(task.model, task.objective, net_input, data.image_size, square, batch_size, mesh)
