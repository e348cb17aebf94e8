"""A model of training on many GPUs: the parts of a step, and the time of several runs on a cluster.

docs/scale.md explains it in words. The defaults of Assumptions are its only free numbers.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

GPUS_PER_NODE = 8
BACKWARD = 2 / 3  # share of a step's compute: two of the three products of each layer
FLOAT32_BYTES = 4
METRICS = 2  # numbers: the loss and the error, which are means over the batch
EFFICIENT = 0.5  # the least efficiency of a run on several GPUs


def _assumption(value: float, text: str, source: str) -> float:
    return field(default=value, metadata={"text": text, "source": source})


@dataclass(frozen=True)
class Assumptions:
    """The speed and price of the cluster; the metadata of each field gives its unit and source."""

    us_per_layer: float = _assumption(
        68,
        "fixed time of a step, µs per layer with weights",
        "derived: ResNet-50 on H100s, MLPerf 4.0: 7,162 images/s per GPU at 400 images per GPU, 4,908 at 50",
    )
    node_gb_per_s: float = _assumption(200, "all-reduce inside a node, GB/s per GPU", "assumed: NVLink")
    network_gb_per_s: float = _assumption(25, "all-reduce between nodes, GB/s per node", "assumed: 200 Gb/s per node")
    node_hop_us: float = _assumption(3, "a hop inside a node, µs", "assumed")
    network_hop_us: float = _assumption(10, "a hop between nodes, µs", "assumed")
    overlap: float = _assumption(
        0,
        "part of the backward pass that hides the all-reduce",
        "observed on CPUs: one all-reduce after the backward pass",
    )
    cores: float = _assumption(12, "CPU cores per GPU", "assumed")
    jpeg_per_core: float = _assumption(
        404, "JPEG decoded and rescaled, images/s per core", "measured: [speed.md](speed.md), 807 on two cores"
    )
    packed_per_core: float = _assumption(
        11_562, "packed images read, images/s per core", "measured: [speed.md](speed.md), 23,124 on two cores"
    )
    memory_per_core: float = _assumption(
        41_500,
        "CIFAR images read from memory, images/s per core",
        "measured: [speed.md](speed.md), 83,000 on two cores",
    )
    order_us: float = _assumption(
        9.7, "Grain's order of images, µs per image and node", "measured: two busy cores, one process per node"
    )
    price: float = _assumption(2, "price of a GPU hour, $", "assumed; `--price` sets yours")


@dataclass(frozen=True)
class Work:
    """The work of a run, counted from its config and its net."""

    batch: int  # images of a step
    steps: int
    seconds_per_image: float  # of one GPU, apart from the fixed time of a step
    layers: int  # with weights
    parameters: int
    statistics: int  # numbers in BatchNorm's running averages
    norms: int  # BatchNorm layers
    bn_group: int  # images normalised together
    images: Literal["jpeg", "packed", "memory"]
    checkpoint_every_steps: int

    @property
    def reduced_bytes(self) -> int:
        """The bytes that every step's all-reduces return: gradients, running averages and metrics."""
        return FLOAT32_BYTES * (self.parameters + self.statistics + METRICS)

    @property
    def checkpoint_bytes(self) -> int:
        """The bytes of a state: parameters, their momentum and the running averages."""
        return FLOAT32_BYTES * (2 * self.parameters + self.statistics)


@dataclass(frozen=True)
class Step:
    """The parts of a step, in seconds."""

    compute: float
    norms: float  # all-reduces of BatchNorm, between layers
    reduce: float  # the all-reduce of gradients
    hidden: float  # the part of it that overlaps with the backward pass
    input: float

    @property
    def exposed(self) -> float:
        """The part of the all-reduce that the backward pass does not hide."""
        return self.reduce - self.hidden

    @property
    def seconds(self) -> float:
        """The time of the step."""
        return max(self.compute + self.norms, self.input) + self.exposed

    @property
    def fed_seconds(self) -> float:
        """The time of the step if it never waits for input."""
        return self.compute + self.norms + self.exposed


def step(work: Work, gpus: int, given: Assumptions) -> Step:
    """Returns the parts of a step on this number of GPUs, a power of two that divides the batch."""
    compute = given.us_per_layer * 1e-6 * work.layers + work.batch / gpus * work.seconds_per_image
    sharing = max(1, work.bn_group * gpus // work.batch)  # GPUs that normalise together
    norms = 2 * work.norms * all_reduce(0, sharing, given)  # forward and backward
    reduce = all_reduce(work.reduced_bytes, gpus, given)
    hidden = min(reduce, given.overlap * BACKWARD * compute)
    per_core = {"jpeg": given.jpeg_per_core, "packed": given.packed_per_core, "memory": given.memory_per_core}
    nodes = math.ceil(gpus / GPUS_PER_NODE)
    images_per_second = min(gpus * given.cores * per_core[work.images], nodes / (given.order_us * 1e-6))
    return Step(compute, norms, reduce, hidden, work.batch / images_per_second)


def all_reduce(size_bytes: int, gpus: int, given: Assumptions) -> float:
    """Returns the seconds of an all-reduce: a ring in each node, then one ring over the nodes for each GPU's share."""

    def ring(members: int, gb_per_s: float, hop_us: float) -> float:
        return 2 * (members - 1) * (size_bytes / members / (gb_per_s * 1e9) + hop_us * 1e-6)

    nodes = max(1, gpus // GPUS_PER_NODE)
    within = ring(gpus // nodes, given.node_gb_per_s, given.node_hop_us)
    return within + ring(nodes, given.network_gb_per_s, given.network_hop_us)


def efficiency(work: Work, gpus: int, given: Assumptions) -> float:
    """Returns the speed on these GPUs, divided by `gpus` times the speed of one."""
    return step(work, 1, given).seconds / (gpus * step(work, gpus, given).seconds)


def most_gpus(work: Work, given: Assumptions) -> int:
    """Returns the largest power of two of GPUs that divides the batch and is efficient."""
    sizes = [2**power for power in range(work.batch.bit_length()) if work.batch % 2**power == 0]
    return max(size for size in sizes if efficiency(work, size, given) >= EFFICIENT)


@dataclass(frozen=True)
class Plan:
    """The time and cost of several runs."""

    hours: float
    gpu_hours: float


def plan(runs: Mapping[str, Work], needs: Mapping[str, Sequence[str]], gpus: int, given: Assumptions) -> Plan:
    """Returns the fastest plan on a cluster in which every run takes the same number of GPUs, or its most.

    needs: {run: the runs that must end before it starts}; names that are not in runs are ignored.
    """
    most = {name: most_gpus(work, given) for name, work in runs.items()}
    plans = []
    for power in range(gpus.bit_length()):
        sizes = {name: min(2**power, most[name]) for name in runs}
        hours = {name: work.steps * step(work, sizes[name], given).seconds / 3600 for name, work in runs.items()}
        plans.append(Plan(finish(hours, sizes, needs, gpus), sum(hours[name] * sizes[name] for name in runs)))
    return min(plans, key=lambda found: (found.hours, found.gpu_hours))


def finish(
    hours: Mapping[str, float], sizes: Mapping[str, int], needs: Mapping[str, Sequence[str]], gpus: int
) -> float:
    """Returns when the last run ends if each starts as soon as its GPUs are free, the longest chain of runs first."""
    waiting = sorted(hours, key=lambda name: -_remaining(name, hours, needs))
    running: dict[str, float] = {}  # {name: when it ends}
    now, free, ended = 0.0, gpus, set()
    while waiting or running:
        left = {*hours} - ended
        for name in [name for name in waiting if left.isdisjoint(needs.get(name, ()))]:
            if sizes[name] <= free:
                waiting.remove(name)
                running[name] = now + hours[name]
                free -= sizes[name]
        first = min(running, key=lambda name: running[name])
        now = running.pop(first)
        free += sizes[first]
        ended.add(first)
    return now


def _remaining(name: str, hours: Mapping[str, float], needs: Mapping[str, Sequence[str]]) -> float:
    """Returns the hours from a run's start to the end of the longest chain of runs that starts with it."""
    after = [_remaining(other, hours, needs) for other, needed in needs.items() if name in needed and other in hours]
    return hours[name] + max(after, default=0.0)
