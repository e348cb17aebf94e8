"""The work of runs, counted from their configs and the shapes of their nets, and the speed of one GPU on each net."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from deepconv.config import durations
from deepconv.data.known import DATA
from experiments import counts
from experiments.entry import Run
from experiments.scale.model import Work

# Training speeds of one GPU in images/s, by recipe. Published: TensorFlow's benchmark in float16 on an NVIDIA A100 of
# 40 GB with synthetic images (lambdal/lambda-tensorflow-benchmark, logs/).
SPEEDS = {"alexnet": 16_487.0, "vgg16": 1_190.0, "resnet50": 2_075.0, "resnet152": 886.0}
# By model: the recipe whose speed other recipes take, divided by the ratio of multiply-adds.
SPEED_OF = {
    "alexnet": "alexnet",
    "alexnet_cifar": "alexnet",
    "vgg": "vgg16",
    "resnet": "resnet50",
    "resnet_cifar": "resnet50",
}


def count(run: Run, speeds: Mapping[str, float]) -> Work:
    """Counts the work of a run."""
    config, examples = run.load(), train_examples(run)
    anchor = run.config if run.config in speeds else SPEED_OF[config.model.name]
    net, anchor_net = counted(run), counted(Run(anchor))
    packed = config.data.get("central_square", False)  # images of one size, as in AlexNet's recipes
    return Work(
        batch=config.batch_size,
        steps=durations.steps(config, "total", examples, config.batch_size),
        seconds_per_image=net.multiply_adds / anchor_net.multiply_adds / speeds[anchor],
        layers=net.layers,
        parameters=net.parameters,
        statistics=net.statistics,
        norms=0 if config.model.get("bn_fixed") else net.norms,  # those whose statistics are exchanged
        bn_group=config.model.get("bn_group", 0) or config.batch_size,
        images="memory" if config.data.name == "cifar10" else "packed" if packed else "jpeg",
        checkpoint_every_steps=config.checkpoint_every_steps,
    )


@dataclasses.dataclass(frozen=True)
class Net:
    """The counts of a net."""

    multiply_adds: float  # in 1e9, for an image
    layers: int  # with weights
    parameters: int
    statistics: int  # numbers in BatchNorm's running averages
    norms: int  # BatchNorm layers


def counted(run: Run) -> Net:
    """Returns the counts of a run's net."""
    overrides = {
        name: value for name, value in run.overrides.items() if name.startswith(("model.", "data.name", "objective"))
    }
    return _counted(run.config, tuple(overrides.items()))


@functools.cache
def _counted(recipe: str, overrides: tuple[tuple[str, Any], ...]) -> Net:
    from deepconv.ops import counting

    run = Run(recipe, dict(overrides))
    shapes = counts.net(run)[1]
    norms = layers_with(shapes.get("batch_stats", {}), "mean")
    return Net(
        multiply_adds=counts.multiply_adds(run),
        layers=len(layers_with(shapes["params"], "kernel")),
        parameters=counting.count_parameters(shapes["params"]),
        statistics=counting.count_parameters(norms),
        norms=len(norms),
    )


def train_examples(run: Run) -> int:
    """Returns the number of training images of a run."""
    from deepconv.data.sources.source import parse_split

    data = run.load().data
    _, first, last = parse_split(data.train_split, {"train": DATA[data.name].train})
    return last - first


def layers_with(tree: Mapping[str, Any], leaf: str) -> list[Mapping[str, Any]]:
    """Returns the layers of a tree of variables that have this leaf."""
    if leaf in tree:
        return [tree]
    return [layer for part in tree.values() if isinstance(part, Mapping) for layer in layers_with(part, leaf)]
