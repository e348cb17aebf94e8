"""Timing of calls, and a table of results."""

import itertools
import resource
import statistics
import time
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from deepconv.run.directory import environment


def timed(function: Callable[[], object], times: int) -> list[float]:
    """Returns the seconds of each call, without the first five calls."""
    marks = [time.perf_counter()]
    for _ in itertools.repeat(None, times):
        function()
        marks.append(time.perf_counter())
    return [after - before for before, after in itertools.pairwise(marks)][5:]


def show(
    batch_size: int, first: float, inputs: list[float], steps: list[float], loops: list[float], waits: list[float]
) -> None:
    """Prints a description of the machine and a table of speeds."""
    env = environment()
    print(f"{env['devices']} x {env['device_kind']}, {env['cpus']} CPU cores, jax {env['versions']['jax']}")
    table = Table("measurement", "value")
    table.add_row("start to first step", f"{first:.1f} s")
    table.add_row("input pipeline alone, mean", f"{batch_size * len(inputs) / sum(inputs):,.0f} images/s")
    table.add_row("step alone, median", f"{batch_size / statistics.median(steps):,.0f} images/s")
    table.add_row("training, median", f"{batch_size / statistics.median(loops):,.0f} images/s")
    table.add_row("share of training spent waiting for data", f"{100 * sum(waits) / sum(loops):.2f} %")
    table.add_row("peak memory of this process", f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")
    Console().print(table)
