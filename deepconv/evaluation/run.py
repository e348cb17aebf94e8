"""Runs tests: a net and a data set -> class probabilities or boxes.

With several processes, each reads all images and computes its devices' rows of every batch. Process 0 keeps the table.
"""

import functools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from deepconv import distributed, processes
from deepconv.data import pipeline
from deepconv.data.images import Images
from deepconv.data.sources.annotated import AnnotatedImages
from deepconv.evaluation.batches import TestBatch, batches
from deepconv.evaluation.crops import crop_boxes, crop_probabilities
from deepconv.evaluation.dense import dense_probabilities
from deepconv.evaluation.net import Net
from deepconv.evaluation.probabilities import ClassProbabilities
from deepconv.evaluation.protocols import Protocol
from deepconv.evaluation.table import new_table
from deepconv.evaluation.true_class import TrueClassBoxes
from deepconv.run import log as runlog
from deepconv.run import preemption
from deepconv.run.evaluations import Procedure
from deepconv.state import TrainState

Measure = ClassProbabilities | TrueClassBoxes
Predict = Callable[[TrainState, dict[str, jax.Array]], jax.Array]


def as_computed(batch: TestBatch, output: np.ndarray) -> np.ndarray:
    """Returns the rows of a table that holds what the device computes."""
    return output


@dataclass(frozen=True)
class Test:
    """A test of a net that is not finished."""

    protocol: Protocol
    predict: Predict
    state: TrainState
    table: np.ndarray  # of its results
    rows: Callable[[TestBatch, np.ndarray], np.ndarray] = as_computed  # a batch and its outputs -> rows of the table


def measure(protocol: Protocol, net: Net, data: Images, classes: int) -> Measure:
    """Returns what a protocol measures."""
    if not protocol.boxes:
        return ClassProbabilities(classes)
    assert isinstance(data, AnnotatedImages)
    return TrueClassBoxes(protocol, net, data)


def jit(net: Net, protocol: Protocol) -> Predict:
    """Returns a compiled function that computes a batch's probabilities, or boxes of the true classes."""
    if protocol.boxes:
        forward = functools.partial(crop_boxes, net=net)
    elif protocol.kind == "dense":
        forward = functools.partial(dense_probabilities, net=net, posteriors=protocol.posteriors)
    else:
        forward = functools.partial(crop_probabilities, net=net, mirrored=protocol.kind != "center")
    return compiled(net, forward)


def compiled(net: Net, forward: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles a function of a state, or several, and of a batch, whose rows are divided among the net's devices."""
    replicated, split = distributed.replicated(net.mesh), distributed.split(net.mesh)
    options = distributed.compiler_options()
    return jax.jit(forward, in_shardings=(replicated, split), out_shardings=replicated, compiler_options=options)


def fill_tables(
    net: Net, tests: Sequence[Test], data: Images, show: Callable[[int], None] = lambda done: None
) -> list[int]:
    """Fills the rows of the tests' tables that are not done, in one pass over the images.

    Returns the number of shapes that were compiled for each test. `show` receives the number of rows that are done.
    """
    replicated = distributed.replicated(net.mesh)  # joins divided towers
    states = {id(test.state): test.state.replace(opt_state=()) for test in tests}  # tests may share one
    states = {key: jax.device_put(state, replicated) for key, state in states.items()}
    missing = [~test.table["done"] for test in tests]
    done = sum(int(test.table["done"].sum()) for test in tests)
    steps = batches(net, [test.protocol for test in tests], missing, data)
    shapes, clock = [set() for _ in tests], time.perf_counter()

    def outputs() -> Iterator[tuple[TestBatch, jax.Array]]:
        while True:
            with preemption.waiting():
                batch = next(steps, None)
            if batch is None:
                return
            test = tests[batch.test]
            shapes[batch.test].add(batch.arrays["image"].shape)
            arrays = distributed.put_whole_batch(batch.arrays, net.mesh)
            yield batch, test.predict(states[id(test.state)], arrays)

    for batch, output in pipeline.ahead(outputs(), 1):  # the host prepares one batch ahead of the device
        rows, test = batch.rows, tests[batch.test]
        table = test.table
        table["output"][rows] = test.rows(batch, np.asarray(output)[: len(rows)])
        table["label"][rows] = batch.labels
        before, clock = clock, time.perf_counter()
        table["seconds"][rows] = (clock - before) / len(rows)
        table["done"][rows] = True  # last: a row that is marked done is complete, whenever the process ends
        done += len(rows)
        show(done)
    for test in tests:
        if untested := int((~test.table["done"]).sum()):
            raise RuntimeError(f"{untested} of {len(test.table)} images were not tested")
    return [len(found) for found in shapes]


def run(
    net: Net,
    tests: Iterable[tuple[Protocol, TrainState]],
    data: Images,
    workdir: Path,
    *,
    examples: int,
    classes: int,
) -> None:
    """Runs tests in one pass and writes their results; stopped tests are resumed, finished ones are kept."""
    started, measures = [], []
    for protocol, state in tests:
        if processes.agree((workdir / f"eval.{protocol.name}.json").exists):
            if processes.primary():
                _partial(protocol, workdir).unlink(missing_ok=True)
        else:
            measures.append(measure(protocol, net, data, classes))
            table = open_table(protocol, measures[-1], workdir, examples)
            started.append(Test(protocol, jit(net, protocol), state, table, measures[-1].rows))
    if not started:
        return
    before = [int(test.table["done"].sum()) for test in started]
    title = started[0].protocol.name if len(started) == 1 else f"{len(started)} tests"
    with runlog.progress(title, len(started) * examples, sum(before)) as show:
        shapes = fill_tables(net, started, data, show)
    if not processes.primary():
        return
    for test, measured, done, compiled in zip(started, measures, before, shapes, strict=True):
        name = test.protocol.name
        print(f"{name}: {examples - done} images were tested; {compiled} shapes were compiled", flush=True)
        save(test, measured, compiled, workdir)


def open_table(protocol: Protocol, measured: Measure, workdir: Path, examples: int) -> np.ndarray:
    """Opens a test's table, with the rows that an earlier start has written; process 0 keeps it on disk."""
    table = new_table(examples, measured.width, file=_partial(protocol, workdir) if processes.primary() else None)
    table["done"] &= measured.is_complete(table["output"])  # after a crash, rows marked done may be incomplete
    table["done"] = np.array(processes.agree(lambda: table["done"].tolist()))
    return table


def save(test: Test, measured: Measure, shapes: int, workdir: Path) -> None:
    """Writes the results of a finished test, with its number of compiled shapes, and removes its table."""
    table, protocol = test.table, test.protocol
    seconds = float(table["seconds"].sum(dtype=np.float64))  # over all starts
    procedure = Procedure(
        scales=[protocol.scale],
        views=protocol.views,
        compiled_shapes=shapes,
        seconds=seconds,
        images_per_second=len(table) / seconds,
    )
    measured.write(workdir, protocol.name, table, int(test.state.step), procedure)
    _partial(protocol, workdir).unlink()


def _partial(protocol: Protocol, workdir: Path) -> Path:
    return workdir / f"probs.{protocol.name}.partial.npy"
