"""Tests by a protocol: a net and a data set -> class probabilities.

With several processes, each reads all images and computes its devices' rows of every batch. Process 0 keeps the table.
"""

import functools
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from deepconv import distributed, processes
from deepconv.data.images import Images
from deepconv.evaluation.crops import crop_batches, crop_probabilities
from deepconv.evaluation.dense import dense_batches, dense_probabilities
from deepconv.evaluation.net import Net
from deepconv.evaluation.probabilities import write
from deepconv.evaluation.protocols import Protocol
from deepconv.evaluation.table import new_table
from deepconv.run import log as runlog
from deepconv.run import preemption
from deepconv.run.directory import Procedure
from deepconv.state import TrainState

Predict = Callable[[TrainState, dict[str, jax.Array]], jax.Array]


def jit(net: Net, protocol: Protocol) -> Predict:
    """Returns a compiled function that computes a protocol's probabilities for a batch."""
    if protocol.kind == "dense":
        forward = functools.partial(dense_probabilities, net=net, posteriors=protocol.posteriors)
    else:
        forward = functools.partial(crop_probabilities, net=net, mirrored=protocol.kind != "center")
    replicated, split = distributed.replicated(net.mesh), distributed.split(net.mesh)
    options = distributed.compiler_options()
    return jax.jit(forward, in_shardings=(replicated, split), out_shardings=replicated, compiler_options=options)


def probabilities(
    net: Net,
    protocol: Protocol,
    predict: Predict,
    state: TrainState,
    data: Images,
    table: np.ndarray,
    show: Callable[[int], None] = lambda done: None,
) -> int:
    """Fills the missing rows of a table with a jitted predict; returns the number of compiled shapes."""
    state = jax.device_put(state.replace(opt_state=()), distributed.replicated(net.mesh))  # joins divided towers
    missing = np.flatnonzero(~table["done"])
    done = len(table) - len(missing)
    steps = (dense_batches if protocol.kind == "dense" else crop_batches)(net, protocol, data, missing)
    shapes, running, clock = set(), deque(), time.perf_counter()

    def finish() -> None:
        nonlocal done, clock
        rows, labels, output = running.popleft()
        table["output"][rows], table["label"][rows] = np.asarray(output)[: len(rows)], labels
        before, clock = clock, time.perf_counter()
        table["seconds"][rows] = (clock - before) / len(rows)
        table["done"][rows] = True  # last: a row that is marked done is complete, whenever the process ends
        done += len(rows)
        show(done)

    while True:
        with preemption.waiting():
            step = next(steps, None)
        if step is None:
            break
        rows, labels, batch = step
        shapes.add(batch["image"].shape)
        running.append((rows, labels, predict(state, distributed.put_whole_batch(batch, net.mesh))))
        if len(running) > 1:  # the host prepares the next batch while the device computes
            finish()
    while running:
        finish()
    if not table["done"].all():
        raise RuntimeError(f"{(~table['done']).sum()} of {len(table)} images were not tested")
    return len(shapes)


def run(
    net: Net,
    protocol: Protocol,
    state: TrainState,
    data: Images,
    workdir: Path,
    *,
    examples: int,
    classes: int,
) -> None:
    """Runs a test and writes its results; a stopped test is resumed, a finished one is kept."""
    if processes.agree(lambda: (workdir / f"eval.{protocol.name}.json").exists()):
        if processes.primary():
            _partial(protocol, workdir).unlink(missing_ok=True)
        return
    table = open_table(protocol, workdir, examples, classes)
    before = int(table["done"].sum())
    with runlog.progress(protocol.name, examples, before) as show:
        shapes = probabilities(net, protocol, jit(net, protocol), state, data, table, show)
    if processes.primary():
        print(f"{protocol.name}: {examples - before} images were tested; {shapes} shapes were compiled", flush=True)
        save(protocol, table, shapes, int(state.step), workdir)


def open_table(protocol: Protocol, workdir: Path, examples: int, classes: int) -> np.ndarray:
    """Opens a test's table, with the rows that an earlier start has written; process 0 keeps it on disk."""
    table = new_table(examples, classes, file=_partial(protocol, workdir) if processes.primary() else None)
    table["done"] &= abs(table["output"].sum(1) - 1) < 1e-3  # after a crash, rows marked done may be incomplete
    table["done"] = np.array(processes.agree(lambda: table["done"].tolist()))
    return table


def save(protocol: Protocol, table: np.ndarray, shapes: int, step: int, workdir: Path) -> None:
    """Writes the results of a finished test, with its number of compiled shapes, and removes its table."""
    seconds = float(table["seconds"].sum(dtype=np.float64))  # over all starts
    procedure = Procedure(
        scales=[protocol.scale],
        views=protocol.views,
        compiled_shapes=shapes,
        seconds=seconds,
        images_per_second=len(table) / seconds,
    )
    write(workdir, protocol.name, table["output"], table["label"], step, procedure)
    _partial(protocol, workdir).unlink()


def _partial(protocol: Protocol, workdir: Path) -> Path:
    return workdir / f"probs.{protocol.name}.partial.npy"
