"""Interleaved timings, and how they are shown."""

import itertools
import resource
import statistics
import time
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from deepconv.run.directory import environment


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
    here = environment()
    print(f"{here['devices']} x {here['device_kind']}, {here['cpus']} CPU cores, jax {here['versions']['jax']}")
    table = Table("measurement", "value")
    table.add_row("start to first step", f"{first:.1f} s")
    table.add_row("input pipeline alone, mean", f"{batch_size * len(inputs) / sum(inputs):,.0f} images/s")
    table.add_row("step alone, median", f"{batch_size / statistics.median(steps):,.0f} images/s")
    table.add_row("training, median", f"{batch_size / statistics.median(loops):,.0f} images/s")
    table.add_row("of it waiting for data", f"{100 * sum(waits) / sum(loops):.2f} %")
    table.add_row("peak memory of this process", f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")
    Console().print(table)
