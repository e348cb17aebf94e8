"""How fast a recipe runs here: python -m deepconv.benchmark --config=configs/resnet_cifar.py --data_dir=DIR

Four measurements: start to first step, the input pipeline alone, the step alone, and both together as in training.
"""

import time

START = time.perf_counter()  # before the imports, which are part of what a user waits for

import itertools
import resource
import statistics
from collections.abc import Callable

import jax
from absl import app, flags
from rich.console import Console
from rich.table import Table

from deepconv import cli, runlog, train
from deepconv.data import pipeline
from deepconv.data import statistics as data_statistics

_STEPS = flags.DEFINE_integer("steps", 30, "Steps a measurement; the first five are not counted.", lower_bound=10)


def main(arguments: list[str]) -> int:
    """Measure and print."""
    try:
        config, _ = cli.load_config(arguments)
        task = train.prepare(config, cli.DATA_DIR.value, cli.WORKERS.value)
    except (ValueError, OSError) as error:
        return cli.refuse(str(error), code=2)
    images, labels = task.train_source.read()
    step_fn = train.jit_step(task, data_statistics.MEANS[config.data.mean](images))
    state = train.initial_state(task)()
    loader = train.batches(task, images, labels, 0)
    state, metrics = step_fn(state, next(loader))
    jax.block_until_ready(metrics)
    to_first_step = time.perf_counter() - START

    host = pipeline.train_batches(images, labels, batch_size=config.batch_size, seed=0, workers=task.workers)
    input_times = timed(lambda: next(host), 10 * _STEPS.value)

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
    show(config.batch_size, to_first_step, input_times, step_times, loop_times, waits[5:])
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
    app.run(main, flags_parser=cli.parse)
