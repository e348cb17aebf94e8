"""Timing of calls."""

import itertools
import statistics
import time
from collections.abc import Callable, Sequence

WINDOWS = 5


def timed(function: Callable[[], object], times: int) -> list[float]:
    """Returns the seconds of each call, without the first five calls."""
    marks = [time.perf_counter()]
    for _ in itertools.repeat(None, times):
        function()
        marks.append(time.perf_counter())
    return [after - before for before, after in itertools.pairwise(marks)][5:]


def typical(seconds: Sequence[float]) -> float:
    """Returns the median over five windows of the mean seconds of a call.

    A call that queues work may take longer or shorter than the work: only sums over several calls mean something.
    """
    bounds = [len(seconds) * window // WINDOWS for window in range(WINDOWS + 1)]
    return statistics.median(statistics.mean(seconds[first:last]) for first, last in itertools.pairwise(bounds))


def short(value: float) -> str:
    """Formats a number with four digits, or all of its integer part."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
