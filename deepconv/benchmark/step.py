"""Speed of training, with and without input."""

import resource
import time

import jax
from rich.console import Console
from rich.table import Table

from deepconv import resume, train
from deepconv import task as task_lib
from deepconv.benchmark.input import host_batches, most_ahead
from deepconv.benchmark.peaks import peak
from deepconv.benchmark.record import Figures
from deepconv.benchmark.timing import short, timed, typical
from deepconv.ops import counting
from deepconv.run.starts import environment

PASSES = 3  # forward, and two products of the same size backward: for the inputs and for the weights


def show_training(task: task_lib.Task, steps: int, start: float) -> Figures:
    """Measures and prints the time to the first step and the speed of input alone, of steps alone, and of training.

    start is the value of time.perf_counter() when the process began.
    """
    state, batch_size = resume.initial_state(task)(), task.config.batch_size
    before = time.perf_counter()
    data = task.train_source.open()
    loader = train.batches(task, data, 0, train.printed_replacements(task))
    batch = next(loader)
    first_batch_seconds = time.perf_counter() - before
    before = time.perf_counter()
    step_fn = train.jit_step(task, resume.statistics_for(task, data)).lower(state, batch).compile()
    compile_seconds = time.perf_counter() - before
    state, metrics = step_fn(state, batch)
    jax.block_until_ready(metrics)
    to_first_step = time.perf_counter() - start

    host, ahead = host_batches(task, data), most_ahead(task, data)
    for _ in range(ahead):  # at first, all threads or processes end their batches together
        next(host)
    input_times = timed(lambda: next(host), max(ahead, (10 if task.train_source.size else 1) * steps))

    waits, batch = [], next(loader)

    def step() -> None:
        nonlocal state, metrics
        previous = metrics
        state, metrics = step_fn(state, batch)
        jax.block_until_ready(previous)  # as in training: at most two steps ahead of the device

    def wait_and_step() -> None:
        nonlocal batch
        before = time.perf_counter()
        batch = next(loader)
        waits.append(time.perf_counter() - before)
        step()

    step_times = timed(step, steps)
    for _ in range(ahead):  # prepared during the steps above
        batch = next(loader)
    loop_times = timed(wait_and_step, max(ahead, steps))
    images_per_second = batch_size / typical(step_times)
    figures = {
        "batch_size": batch_size,
        "start_to_first_step_seconds": to_first_step,
        "first_batch_seconds": first_batch_seconds,
        "compile_seconds": compile_seconds,
        "input_images_per_second": batch_size * len(input_times) / sum(input_times),
        "step_images_per_second": images_per_second,
        "training_images_per_second": batch_size / typical(loop_times),
        "waiting_share": sum(waits[5:]) / sum(loop_times),
        "peak_memory_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        **shares(task, step_fn, images_per_second),
    }
    _show(figures)
    return figures


def shares(task: task_lib.Task, step_fn: jax.stages.Compiled, images_per_second: float) -> Figures:
    """Returns the step's floating-point operations and bytes in a second, and their shares of the devices' peaks.

    Operations are counted as multiply-adds of the net, forward and twice backward, two operations each. Bytes are those
    that XLA counts for the compiled program; they are left out where the devices' bandwidth is unknown, and for a batch
    in parts, whose loop XLA counts once.
    """
    size = task.config.data.image_size
    device_peak, devices = peak(task.config.model.dtype), task.mesh.size
    flops = 2 * PASSES * counting.count_multiply_adds(task.model, (size, size, 3)) * images_per_second
    sharing = 1 if jax.default_backend() == "cpu" else devices  # a CPU's devices share its cores
    figures = {
        "flops_per_second": flops,
        "peak_flops_per_second": sharing * device_peak.flops_per_second,
        "peak_source": device_peak.source,
        "flops_share": flops / (sharing * device_peak.flops_per_second),
    }
    if device_peak.bytes_per_second and task.accumulate == 1:
        moved = float((step_fn.cost_analysis() or {})["bytes accessed"])  # by each device, in a step
        bytes_per_second = moved * images_per_second / task.config.batch_size
        figures |= {
            "bytes_per_second": devices * bytes_per_second,
            "peak_bytes_per_second": devices * device_peak.bytes_per_second,
            "bytes_share": bytes_per_second / device_peak.bytes_per_second,
        }
    return figures


def _show(figures: Figures) -> None:
    env = environment()
    lines = [
        ("start to first step", f"{figures['start_to_first_step_seconds']:.1f} s"),
        ("opening the data, first batch", f"{figures['first_batch_seconds']:.1f} s"),
        ("compilation of the step", f"{figures['compile_seconds']:.1f} s"),
        ("input pipeline alone", f"{short(figures['input_images_per_second'])} images/s"),
        ("step alone", f"{short(figures['step_images_per_second'])} images/s"),
        ("training", f"{short(figures['training_images_per_second'])} images/s"),
        ("share of training spent waiting for data", f"{100 * figures['waiting_share']:.2f} %"),
        ("step's multiply-adds, two operations each", f"{short(figures['flops_per_second'] / 1e9)} GFLOP/s"),
        (f"share of {figures['peak_source']}", f"{100 * figures['flops_share']:.1f} %"),
    ]
    if "bytes_share" in figures:
        lines.append(("share of memory bandwidth", f"{100 * figures['bytes_share']:.1f} %"))
    lines.append(("peak memory of this process", f"{figures['peak_memory_bytes'] / 1e9:.2f} GB"))
    print(f"{env['devices']} x {env['device_kind']}, {env['cpus']} CPU cores, jax {env['versions']['jax']}")
    table = Table("measurement", "value")
    for name, value in lines:
        table.add_row(name, value)
    Console().print(table)
