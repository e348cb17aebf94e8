"""Speed of training, with and without input."""

import time

import jax

from deepconv import resume, train
from deepconv import task as task_lib
from deepconv.benchmark.input import host_batches
from deepconv.benchmark.timing import show, timed


def show_training(task: task_lib.Task, steps: int, start: float) -> int:
    """Measures start to first step, the input pipeline alone, the step alone, and training with both.

    start is the value of time.perf_counter() when the process began.
    """
    data = task.train_source.open()
    step_fn = train.jit_step(task, resume.statistics_for(task, data))
    state = resume.initial_state(task)()
    loader = train.batches(task, data, 0)
    state, metrics = step_fn(state, next(loader))
    jax.block_until_ready(metrics)
    to_first_step = time.perf_counter() - start

    host = host_batches(task, data)
    input_times = timed(lambda: next(host), (10 if task.train_source.size else 1) * steps)

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

    step_times = timed(step, steps)
    loop_times = timed(wait_and_step, steps)
    show(task.config.batch_size, to_first_step, input_times, step_times, loop_times, waits[5:])
    return 0
