"""The flag --dry_run: one training step, of which nothing is kept."""

import time

import jax
import numpy as np

from deepconv import processes, resume, train
from deepconv.task import Task
from deepconv.weights import convert


def compute_step(task: Task, start: convert.Variables) -> None:
    """Reads a batch, compiles the training step and computes it once; writes no files, and prints the seconds taken.

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
    replaces = task.config.data.get("on_corrupt", "fail") == "replace"
    report = (lambda messages: print(*messages, sep="\n", flush=True)) if replaces else None
    batch = next(train.batches(task, data, 0, report))
    print("compiling ...", flush=True)
    begin = time.perf_counter()
    step = train.jit_step(task, computed).lower(state, batch).compile()
    compiled = time.perf_counter()
    metrics = jax.device_get(step(state, batch)[1])
    end = time.perf_counter()
    if not np.isfinite(metrics["train_loss"]):
        raise FloatingPointError(f"the loss of the first step is {metrics['train_loss']}")
    print(f"compiled in {compiled - begin:.1f} s; a step took {end - compiled:.2f} s, loss {metrics['train_loss']:.3f}")
    print("dry run: nothing was written", flush=True)
