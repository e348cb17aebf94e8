"""How fast a recipe runs here: python -m deepconv.benchmark --config=configs/resnet_cifar.py --data_dir=DIR

Four measurements: start to first step, the input pipeline alone, the step alone, and both together as in training.

    python -m deepconv.benchmark --input --config=configs/resnet50.py --data_dir=DIR

measures the input pipeline only, beside what it could reach at best and, where torch is installed, beside torch's
DataLoader with Pillow doing the same work; the three take turns.

    python -m deepconv.benchmark --dense=256 --config=configs/resnet50.py --smoke --config.data.image_size=224

measures dense tests of images of many shapes with that shorter side, beside central crops, as parts of their pixels.
"""

import time

from deepconv import preemption

START = time.perf_counter()  # before the imports, which are part of what a user waits for
if __name__ == "__main__":
    preemption.install()

import functools
import io
import itertools
import random
import resource
import statistics
import warnings
from collections.abc import Callable, Iterator

import jax
import numpy as np
from absl import flags
from PIL import Image
from rich.console import Console
from rich.table import Table

from deepconv import cli, evaluate, protocols, runlog, sharding, train
from deepconv.data import decode, pipeline, sources

_INPUT = flags.DEFINE_bool("input", False, "Measure the input pipeline only, beside others.")
_DENSE = flags.DEFINE_integer("dense", None, "Measure dense tests at this scale only, beside central crops.")
_STEPS = flags.DEFINE_integer("steps", 30, "Steps a measurement; the first five are not counted.", lower_bound=10)


def main(arguments: list[str]) -> int:
    """Measure and print."""
    try:
        config, _ = cli.load_config(arguments)
        evals = [f"dense_q{_DENSE.value}"] if _DENSE.value else ["center"]  # raises where the net has no dense form
        task = train.prepare(config, cli.DATA_DIR.value, cli.WORKERS.value, evals)
    except (ValueError, OSError) as error:
        return cli.refuse(str(error), code=2)
    try:
        if _INPUT.value:
            return show_input(task)
        return show_dense(task) if _DENSE.value else show_training(task)
    except OSError as error:  # such as an image that cannot be decoded
        return cli.refuse(str(error))


def show_training(task: train.Task) -> int:
    """Start to first step, the input pipeline alone, the step alone, and both together."""
    data = task.train_source.open()
    step_fn = train.jit_step(task, train.statistics_for(task, data))
    state = train.initial_state(task)()
    loader = train.batches(task, data, 0)
    state, metrics = step_fn(state, next(loader))
    jax.block_until_ready(metrics)
    to_first_step = time.perf_counter() - START

    host = host_batches(task, data)
    input_times = timed(lambda: next(host), (10 if isinstance(data, sources.Arrays) else 1) * _STEPS.value)

    waits, batch = [], next(loader)

    def step() -> None:
        nonlocal state
        state, metrics = step_fn(state, batch)
        jax.block_until_ready(metrics)

    def wait_and_step() -> None:
        nonlocal batch
        before = time.perf_counter()
        batch = next(loader)
        waits.append(time.perf_counter() - before)
        step()

    step_times = timed(step, _STEPS.value)
    loop_times = timed(wait_and_step, _STEPS.value)
    show(task.config.batch_size, to_first_step, input_times, step_times, loop_times, waits[5:])
    return 0


def host_batches(task: train.Task, data: sources.Arrays | sources.Records) -> Iterator[pipeline.Batch]:
    """The input pipeline of training, without the transfer to the devices."""
    settings = dict(batch_size=task.config.batch_size, seed=0, geometry=task.geometry, workers=task.workers)
    return pipeline.train_batches(data, task.train_source.examples, **settings)


class ByPillow:
    """The work of the pipeline as a data set for torch: Pillow decodes, the whole image is rescaled, then cut."""

    def __init__(self, records: sources.Records, examples: int, geometry: decode.Geometry) -> None:
        self.records, self.examples, self.geometry = records, examples, geometry

    def __len__(self) -> int:
        return self.examples

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        record, size = self.records([index])[0], self.geometry.size
        image = Image.open(io.BytesIO(record.data)).convert("RGB")
        scale = random.randint(*self.geometry.scale) / min(image.size)
        width, height = round(scale * image.width), round(scale * image.height)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        top, left = random.randint(0, height - size), random.randint(0, width - size)
        return np.array(image.crop((left, top, left + size, top + size))), record.label


def show_input(task: train.Task) -> int:
    """Images a second of the pipeline and of others, in turns; medians."""
    data, geometry, batch_size = task.train_source.open(), task.geometry, task.config.batch_size
    examples, encoded = task.train_source.examples, geometry is not None
    threads = task.workers or pipeline.THREADS
    mine = host_batches(task, data)
    in_memory = not encoded and isinstance(data.images, np.ndarray)
    helpers = f"{task.workers} processes" if task.workers else "one thread" if in_memory else f"{threads} threads"
    ours = f"deepconv, {helpers}"
    ways: dict[str, Callable[[], object]] = {ours: lambda: next(mine)}
    if encoded:
        sample = [record.data for record in data(range(min(examples, batch_size)))]
        rng = np.random.default_rng(0)
        ways["decode + rescale, one core"] = lambda: [
            decode.view(decode.decode(image), geometry, rng)
            for image in itertools.islice(itertools.cycle(sample), batch_size)
        ]
        try:
            from torch.utils.data import DataLoader, RandomSampler
        except ImportError:
            print("torch is not installed (pip install -e '.[parity]'), so there is no comparison with its DataLoader")
        else:
            images = ByPillow(data, examples, geometry)
            endless = RandomSampler(images, replacement=True, num_samples=2**40)
            options = dict(batch_size=batch_size, num_workers=threads, multiprocessing_context="spawn")
            with warnings.catch_warnings(action="ignore"):  # it thinks that a worker a core is enough
                theirs = iter(DataLoader(images, sampler=endless, **options))
            ways[f"torch DataLoader + Pillow, {threads} processes"] = lambda: next(theirs)
    rates = {name: [] for name in ways}
    for _ in range(5):
        for name, take in ways.items():
            for _ in range(4 * threads):  # what was fetched ahead, and the others' fetching
                take()
            seconds = timed(take, _STEPS.value)
            rates[name].append(batch_size * len(seconds) / sum(seconds))
    theirs = None  # its processes end, while there is still an interpreter
    here = runlog.environment()
    print(f"{task.train_source.name} {task.train_source.split}, batches of {batch_size}, {here['cpus']} CPU cores")
    table = Table("", "images/s", "deepconv has ... times that")
    best = statistics.median(rates[ours])
    for name, values in rates.items():
        table.add_row(name, f"{statistics.median(values):,.0f}", f"{best / statistics.median(values):.2f}")
    Console().print(table)
    return 0


def show_dense(task: train.Task) -> int:
    """Seconds for the pixels of a central crop, in crops and in whole images of some shapes, in turns; medians."""
    size, scale, rng = task.config.data.image_size, _DENSE.value, np.random.default_rng(0)
    net = train.net_for(task, train.statistics_for(task, task.train_source.open()))
    state = train.initial_state(task)()
    crops = evaluate.jit(net, protocols.Protocol("center", "center", None, posteriors=False, precise=False))
    dense = evaluate.jit(net, protocols.Protocol("dense", "dense", scale, posteriors=False, precise=False))
    batch = sharding.put_batch({"image": rng.integers(0, 256, (net.batch_size, 1, size, size, 3), np.uint8)}, net.mesh)
    ways, parts = {"central crops": lambda: crops(state, batch)}, {"central crops": net.batch_size}
    for ratio in (1, 1.01, 4 / 3, 1.5, 1.78):
        shape = scale, round(scale * ratio)
        images = [(0, 0, rng.integers(0, 256, (*shape, 3), np.uint8))] * evaluate.room(net, evaluate.bucket(*shape))
        _, _, whole = evaluate.together(images, evaluate.bucket(*shape), len(images))
        name = f"{len(images)} x [{shape[0]}, {shape[1]}]"
        ways[name] = functools.partial(dense, state, sharding.put_batch(whole, net.mesh))
        parts[name] = 2 * len(images) * shape[0] * shape[1] / size**2  # the images and their mirror images
    seconds = {name: [] for name in ways}
    for turn, (name, way) in itertools.product(range(_STEPS.value // 5 + 1), ways.items()):
        start = time.perf_counter()
        jax.block_until_ready(way())
        if turn:  # the first compiles
            seconds[name].append((time.perf_counter() - start) / parts[name])
    best = statistics.median(seconds["central crops"])
    table = Table("", "ms for the pixels of a crop", "times central crops")
    for name, values in seconds.items():
        table.add_row(name, f"{1000 * statistics.median(values):.1f}", f"{statistics.median(values) / best:.2f}")
    Console().print(table)
    return 0


def timed(function: Callable[[], object], times: int) -> list[float]:
    """Seconds of each call but the first five."""
    marks = [time.perf_counter()]
    for _ in itertools.repeat(None, times):
        function()
        marks.append(time.perf_counter())
    return [after - before for before, after in itertools.pairwise(marks)][5:]


def show(
    batch_size: int, first: float, inputs: list[float], steps: list[float], loops: list[float], waits: list[float]
) -> None:
    """A table for the terminal, after the machine's description."""
    here = runlog.environment()
    print(f"{here['devices']} x {here['device_kind']}, {here['cpus']} CPU cores, jax {here['versions']['jax']}")
    table = Table("measurement", "value")
    table.add_row("start to first step", f"{first:.1f} s")
    table.add_row("input pipeline alone, mean", f"{batch_size * len(inputs) / sum(inputs):,.0f} images/s")
    table.add_row("step alone, median", f"{batch_size / statistics.median(steps):,.0f} images/s")
    table.add_row("training, median", f"{batch_size / statistics.median(loops):,.0f} images/s")
    table.add_row("of it waiting for data", f"{100 * sum(waits) / sum(loops):.2f} %")
    table.add_row("peak memory of this process", f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")
    Console().print(table)


if __name__ == "__main__":
    cli.run(main)
