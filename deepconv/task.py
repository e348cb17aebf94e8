"""Resolution of a config's names: data, model, optimiser, mesh, tests."""

import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from deepconv import distributed, models, optim
from deepconv import state as state_lib
from deepconv.config import durations, fields
from deepconv.config.mistakes import collecting, raise_all
from deepconv.data import augment, pipeline, sources, statistics
from deepconv.data.decode import Geometry
from deepconv.data.sources.source import Source, data_root
from deepconv.data.statistics import Statistics, ToCompute
from deepconv.evaluation import protocols
from deepconv.evaluation.net import Net
from deepconv.models.alexnet import AlexNet

DATA_CHOICES = {"augment": augment.AUGMENTATIONS, "lighting": augment.LIGHTINGS, "on_corrupt": ("fail", "replace")}


@dataclass(frozen=True)
class Task:
    """A config with its names resolved: everything a run needs except images."""

    config: ConfigDict
    train_source: Source
    eval_source: Source
    geometry: Geometry  # for training images
    statistics: Statistics | ToCompute
    model: nn.Module
    tx: optax.GradientTransformationExtraArgs
    total_steps: int  # 0 to test the given weights without training
    lighting_steps: int  # the number of first steps with colour shifts
    mesh: Mesh
    accumulate: int  # parts of a batch that a step computes in sequence
    workers: int  # loader processes; batches do not depend on their number
    protocols: Mapping[str, tuple[protocols.Protocol, ...]]  # name -> tests that it averages; includes "center"


def prepare(
    config: ConfigDict,
    data_dir: str | None,
    workers: int = 0,
    evals: Sequence[str] = ("center",),
    untrained: bool = False,
    given: Statistics | None = None,
    model_parallel: int = 1,
    accumulate: int = 1,
    find: Callable[..., Source] = sources.find,
) -> Task:
    """Resolves and checks a config without reading images. Raises ValueError with a line for each mistake.

    evals are the names of test protocols. Untrained nets need a training set only for its mean and classes, and no
    training set if the mean is known: numbers in the config, or ImageNet's published mean. Given statistics replace the
    training set's. model_parallel devices share a net, and a step computes its batch in `accumulate` parts. find(name,
    split, data_dir=, image_size=, scale=) returns a data set.
    """
    mistakes: list[str] = []
    collect = functools.partial(collecting, mistakes)
    with collect():
        mesh = distributed.make_mesh(model_parallel)
    fields.check_fields(config)
    data = config.data
    mistakes += _unknown_names(data)
    with collect():
        statistics.check(data)
    with collect():
        train_source, eval_source = _find_sources(data, functools.partial(find, data_dir=data_dir), evals, untrained)
    raise_all(mistakes)

    steps = functools.partial(durations.steps, examples=train_source.examples, batch_size=config.batch_size)
    if train_source is not eval_source:
        with collect():
            fields.check_together(config, train_source.examples, mesh.shape["data"])
    with collect():
        geometry = pipeline.geometry(data, train_source.size)
    with collect():
        averages = given or _statistics(data, train_source, data_dir, training=not untrained)
    with collect():
        model = models.create(config.model, len(train_source.classes))
        shapes = _shapes(model, data.image_size)
        mistakes += _wrong_layers(config, model, shapes["params"])
        mistakes += _wrong_division(config, model, "batch_stats" in shapes, mesh, accumulate)
        tests = _tests(evals, data, eval_source.size, model, "batch_stats" in shapes, mistakes)
    raise_all(mistakes)
    _check_memory(config, shapes, geometry.size)
    return Task(
        config=config,
        train_source=train_source,
        eval_source=eval_source,
        geometry=geometry,
        statistics=averages,
        model=model,
        tx=optim.create(config.optimizer, steps, optim.warms_up(config)),
        total_steps=0 if untrained else steps(config, "total"),
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
    mistakes: list[str],
) -> dict[str, tuple[protocols.Protocol, ...]]:
    """Returns the tests that each name averages, and those of "center"; adds a line to mistakes for each wrong name."""
    tests = {}
    for name in ("center", *evals):
        with collecting(mistakes):
            tests[name] = protocols.parts(name, data, size, model, batch_norm)
    return tests


def _unknown_names(data: ConfigDict) -> list[str]:
    """Returns a line for each name in config.data that is not one of its choices."""
    return [
        f"config.data.{field}={data[field]!r} is unknown; choose one of {', '.join(values)}"
        for field, values in DATA_CHOICES.items()
        if data.get(field, values[0]) not in values
    ]


def _wrong_layers(config: ConfigDict, model: nn.Module, layers: Mapping[str, Any]) -> list[str]:
    """Returns a line for each wrong name in config.optimizer.layers: an unknown layer, or one in a stack of blocks."""
    if not (named := set(config.optimizer.get("layers", {}))):
        return []
    if unknown := sorted(named - set(layers)):
        return [f"config.optimizer.layers names {unknown[0]}; the layers are {', '.join(layers)}"]
    held = state_lib.held_shapes(model, config.data.image_size)["params"]
    return [
        f"config.optimizer.layers names {layer}, one of several blocks that are computed as one scan; "
        "--forms=blocks:plain computes each separately"
        for layer in sorted(named - set(held))
    ]


def _wrong_division(
    config: ConfigDict, model: nn.Module, batch_norm: bool, mesh: Mesh, accumulate: int
) -> Iterator[str]:
    """Yields a line if the net cannot be divided among devices, and one if a batch cannot be computed in parts."""
    name, (devices, sharing) = config.model.name, mesh.devices.shape
    towers = model.towers() if isinstance(model, AlexNet) else 1
    if sharing not in (1, towers):
        yield f"--model_parallel={sharing} is for AlexNet's two towers; this net, {name}, has {towers}; take {towers}"
    elif model.classes % sharing:  # pyrefly: ignore[missing-attribute], every net has it
        yield f"--model_parallel={sharing} cannot divide the {model.classes} outputs of the last layer; leave it out"
    batch_size, group = config.batch_size, config.model.get("bn_group", 0)
    if accumulate == 1:
        return
    if batch_size % (accumulate * devices * max(1, group)):
        groups = f", each of whole groups of config.model.bn_group={group}" if group else ""
        yield (
            f"--accumulate={accumulate} cannot divide config.batch_size={batch_size} into equal parts on {devices} "
            f"devices{groups}; take a divisor of {batch_size // (devices * max(1, group))}"
        )
    elif batch_norm and not group:
        yield (
            f"--accumulate={accumulate}: BatchNorm over a full batch (config.model.bn_group=0) cannot be computed in "
            f"parts; set config.model.bn_group to the images that are normalised together, such as "
            f"{batch_size // (accumulate * devices)}"
        )


def _find_sources(
    data: ConfigDict, find: Callable[..., Source], evals: Sequence[str], untrained: bool
) -> tuple[Source, Source]:
    """Returns the training set and the test set; the test set stands in for a training set that is not needed."""
    scale = pipeline.check_scale(data)
    find = functools.partial(find, image_size=data.image_size, scale=scale)
    eval_source = find(data.name, data.eval_split)
    mean_known = not statistics.needed(data, training=False) or _has_published(data, eval_source)
    tests_only = untrained and mean_known and not any(name.endswith("_precise_batch_stats") for name in evals)
    return eval_source if tests_only else find(data.name, data.train_split), eval_source


def _check_memory(config: ConfigDict, shapes: Any, side: int) -> None:
    """Raises ValueError if a step certainly needs more memory than this machine has.

    It counts this process's rows of a batch in bytes and, on a CPU, these rows in float32, parameters and momentum;
    side is the side of the host's images in pixels.
    """
    cpu, size = jax.default_backend() == "cpu", config.data.image_size
    images = config.batch_size / jax.process_count() * 3 * (side**2 + 4 * size**2 * cpu)
    needed = images + 8 * cpu * sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
    available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > available:
        raise ValueError(
            f"config.batch_size={config.batch_size} images of config.data.image_size={size} pixels and the net need "
            f"more than {needed / 1e9:.3g} GB of memory, and this machine has {available / 1e9:.3g}; take "
            f"fewer or smaller images"
        )


def _shapes(model: nn.Module, size: int) -> Any:
    try:
        return state_lib.shapes_of(model, size)
    except (ArithmeticError, TypeError, ValueError) as error:
        raise ValueError(f"config.model cannot take images of config.data.image_size={size} pixels: {error}") from error


def _has_published(data: ConfigDict, source: Source) -> bool:
    return source.is_imagenet and data.mean != "pixel" and data.get("std", "none") != "channel"


def _statistics(data: ConfigDict, source: Source, data_dir: str | None, training: bool) -> Statistics | ToCompute:
    """Returns published statistics if they are enough, else those stored beside the data, if needed. Raises OSError."""
    if not statistics.needed(data, training):
        return statistics.NOT_NEEDED
    if source.folder is None:
        return ToCompute()
    if _has_published(data, source):
        return statistics.PUBLISHED
    size = source.size[0] if source.size else data.train_scale[0]
    file = statistics.path(source.folder, source.split, size)
    if not file.exists():
        has_published_mean = source.is_imagenet and data.get("std", "none") != "channel"
        published = "; or take the published mean colour: --config.data.mean=channel" if has_published_mean else ""
        raise FileNotFoundError(
            f"{file} is missing; compute it in one pass over the images: python -m deepconv.data.prepare statistics "
            f"{source.name} --data_dir={data_root(data_dir)} --split='{source.split}' --size={size}{published}"
        )
    return statistics.load(file, source.fingerprint)


def net_for(task: Task, computed: Statistics) -> Net:
    """Returns the net of a task, as tests use it."""
    data = task.config.data
    net_input = statistics.input_of(data, computed)
    square, batch_size = data.get("central_square", False), task.config.batch_size
    return Net(task.model, net_input, data.image_size, square, batch_size, distributed.all_for_data(task.mesh))
