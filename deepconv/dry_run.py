"""The flag --dry_run: training steps of which nothing is kept."""

import time
from datetime import timedelta

import jax
import numpy as np

from deepconv import processes, resume, train
from deepconv.task import Task
from deepconv.weights import convert

MOST = 20  # steps to time


def compute_steps(task: Task, start: convert.Variables) -> None:
    """Reads a batch, computes the training step, times it, and prints the time of all steps. Writes no files.

    If the training set has to write a file first, no step is computed. `start` holds initial weights of some layers.
    Raises FloatingPointError if the loss is not finite, and DataError if an image cannot be read.
    """
    if not task.total_steps:
        print("dry run: nothing was tested, nothing was written", flush=True)
        return
    if (file := task.train_source.writes) and not processes.agree(file.exists):
        print(f"{file} does not exist yet: a run computes it first, so no step was computed here")
        print("dry run: nothing was written", flush=True)
        return
    data = task.train_source.open()
    computed = resume.statistics_for(task, data)
    state = resume.initial_state(task)()
    if start:
        state = resume.start_from(state, start, task.mesh)
    batch = next(train.batches(task, data, 0, train.printed_replacements(task)))
    print("compiling ...", flush=True)
    begin = time.perf_counter()
    step = train.jit_step(task, computed).lower(state, batch).compile()
    compiled = time.perf_counter() - begin
    begin = time.perf_counter()
    state, metrics = step(state, batch)
    loss = jax.device_get(metrics)["train_loss"]
    first = time.perf_counter() - begin
    if not np.isfinite(loss):
        raise FloatingPointError(f"the loss of the first step is {loss}")
    print(f"compiled in {compiled:.1f} s; the loss of the first step is {loss:.3f}", flush=True)
    # The first step also fetches memory, so others are timed, for about a second.
    count = processes.agree(lambda: min(max(1, round(1 / first)), MOST))
    begin = time.perf_counter()
    for _ in range(count):
        state, metrics = step(state, batch)
    jax.block_until_ready(metrics)
    seconds = (time.perf_counter() - begin) / count
    total = timedelta(seconds=round(task.total_steps * seconds))
    print(f"a step takes {seconds:.3g} s; all {task.total_steps:,} steps take {total}, without input and tests")
    print("dry run: nothing was written", flush=True)
