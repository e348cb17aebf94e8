"""The training step and the training loop."""

import functools
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
from jax.sharding import Mesh

from deepconv import distributed, objective, optim, processes, resume
from deepconv import state as state_lib
from deepconv.config import durations
from deepconv.data import augment, pipeline
from deepconv.data.images import DataError, Images
from deepconv.data.statistics import Statistics
from deepconv.evaluation import probabilities
from deepconv.evaluation import run as evaluate
from deepconv.evaluation.net import Net
from deepconv.evaluation.protocols import Protocol
from deepconv.evaluation.table import new_table
from deepconv.ops import parts, towers
from deepconv.run import checkpoint, preemption
from deepconv.run import log as runlog
from deepconv.run.directory import record_start
from deepconv.state import TrainState
from deepconv.task import Task, net_for
from deepconv.weights import convert

DeviceBatch = dict[str, jax.Array]  # {"image", "label"}, split along the first axis
Metrics = Mapping[str, jax.Array | float]  # of one step; on the device until they are logged or saved


def train_step(
    state: TrainState,
    batch: DeviceBatch,
    *,
    model: nn.Module,
    tx: optax.GradientTransformationExtraArgs,
    prepare_images: augment.Prepare,
    key: jax.Array,
    mesh: Mesh,
    accumulate: int = 1,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Returns the state after a step of SGD, and the step's metrics; a pure function.

    The random numbers of step t come from fold_in(key, t). The batch is computed in `accumulate` parts in sequence.
    """
    augment_key, dropout_key = jax.random.split(jax.random.fold_in(key, state.step))
    images = prepare_images(augment_key, state.step, batch["image"])

    def loss_fn(params: Any, images: jax.Array, labels: jax.Array) -> tuple[jax.Array, tuple[jax.Array, Any]]:
        variables = {"params": params, "batch_stats": state.batch_stats}
        logits, updated = towers.apply(model, variables, images, dropout_key, mesh)
        aux = objective.top1_error(logits, labels), updated.get("batch_stats", {})
        return objective.cross_entropy(logits, labels), aux

    def gradients(part: tuple[jax.Array, jax.Array]) -> Any:
        return jax.value_and_grad(loss_fn, has_aux=True)(state.params, *part)

    (loss, (top1_error, batch_stats)), grads = parts.mean(gradients, (images, batch["label"]), accumulate, mesh)
    updates, opt_state = tx.update(grads, state.opt_state, state.params, top1_error=top1_error)
    params = optax.apply_updates(state.params, updates)
    new_state = TrainState(state.step + 1, params, batch_stats, opt_state)
    return new_state, {
        "train_loss": loss,
        "train_top1_error": top1_error,
        "learning_rate": optim.learning_rate(opt_state),
        "update_norm": optax.tree.norm(updates),  # not finite as soon as any parameter is not
    }


def jit_step(task: Task, computed: Statistics) -> jax.stages.Wrapped:
    """Returns the step compiled for the mesh; the new state reuses ("donates") the old state's memory."""
    step = functools.partial(
        train_step,
        model=task.model,
        tx=task.tx,
        prepare_images=augment.for_training(task.config.data, computed, task.lighting_steps),
        key=jax.random.fold_in(jax.random.key(task.config.seed), 1),
        mesh=task.mesh,
        accumulate=task.accumulate,
    )
    state = resume.sharding(jax.eval_shape(resume.initial_state(task)), task.mesh)
    return jax.jit(
        step,
        in_shardings=(state, distributed.split(task.mesh)),
        out_shardings=(state, distributed.replicated(task.mesh)),
        donate_argnums=0,
        compiler_options=distributed.compiler_options(),
    )


def batches(task: Task, data: Images, first_step: int, report: pipeline.Report | None = None) -> Iterator[DeviceBatch]:
    """Yields batches on the devices, each put there two steps before it is used."""
    host = pipeline.train_batches(
        data,
        task.train_source.examples,
        batch_size=task.config.batch_size,
        seed=task.config.seed,
        geometry=task.geometry,
        first_step=first_step,
        workers=task.workers,
        report=report,
        rows=distributed.own_rows(task.mesh, task.config.batch_size),
    )
    ahead = deque()
    for batch in host:
        ahead.append(distributed.put_batch(batch, task.mesh))
        if len(ahead) > 2:
            yield ahead.popleft()


def images_of_an_epoch(task: Task, computed: Statistics, step: jax.Array, workdir: Path) -> Iterator[jax.Array]:
    """Yields batches of training images, augmented as in training at this step."""
    prepare_images = augment.for_training(task.config.data, computed, task.lighting_steps)
    key = jax.random.fold_in(jax.random.key(task.config.seed), 1)
    replicated, split = distributed.replicated(task.mesh), distributed.split(task.mesh)
    prepare = jax.jit(
        lambda number, images: prepare_images(jax.random.fold_in(key, number), step, images),
        in_shardings=(replicated, split),
        out_shardings=split,
        compiler_options=distributed.compiler_options(),
    )
    data = task.train_source.open()
    for number, batch in enumerate(batches(task, data, 0, replacements(task, workdir))):
        yield prepare(number, batch["image"])


def replacements(task: Task, workdir: Path) -> pipeline.Report | None:
    """Returns a function that lists replaced images in corrupt.txt; None if no image may be replaced."""
    replace = task.config.data.get("on_corrupt", "fail") == "replace"
    return runlog.corrupt_list(workdir / "corrupt.txt") if replace else None


@dataclass
class Window:
    """The metrics and timing of steps not yet logged."""

    metrics: list[Metrics]
    timed_from: int  # the step at which the clock was read
    clock: float = field(default_factory=time.perf_counter)  # seconds


def train(
    task: Task, workdir: Path, start: convert.Variables | None = None, keep_test: bool = False
) -> tuple[TrainState, Statistics]:
    """Trains to the end, from the newest checkpoint or from step 0; returns the final state and the data's statistics.

    `start` holds initial weights of some layers. With keep_test, the last test also writes the results of the protocol
    `center`. Raises FloatingPointError if the loss is not finite, Preempted (with the state saved) on a signal to stop,
    and DataError if an image cannot be read (with the state saved, unless there are several processes).
    """
    config, total = task.config, task.total_steps
    data, eval_data = task.train_source.open(), task.eval_source.open()
    computed = resume.statistics_for(task, data)
    with checkpoint.opened(workdir / "checkpoints", total) as manager:
        resume.save_statistics(computed, workdir)
        state, unlogged = resume.begin(task, manager, start)
        step = first_step = int(state.step)
        window = Window([*unlogged], timed_from=step)
        if step < total:
            _print_changes(record_start(workdir, step, task.mesh.shape["model"], task.accumulate))
        net, (center,) = net_for(task, computed), task.protocols["center"]
        test = functools.partial(_test, task, workdir, net, center, evaluate.jit(net, center), eval_data)
        evaluated = processes.agree(lambda: step in _tested_steps(workdir))
        step_fn = jit_step(task, computed)
        loader = batches(task, data, step, replacements(task, workdir))
        try:
            with runlog.progress("train", total, step) as show, runlog.tensorboard(workdir) as board:
                while True:
                    tested = step == first_step and evaluated  # a resumed run may lack this test
                    if _is_due(task, step) and not tested:
                        evaluation_start = time.perf_counter()
                        if keep := keep_test and step == total:
                            checkpoint.wait(manager)  # first, since a run with a finished test is not trained again
                        test(state, board, keep)
                        window.clock += time.perf_counter() - evaluation_start
                    if step == total:
                        break
                    checkpoint.check(manager)
                    with preemption.waiting():
                        batch = next(loader)
                    state, step_metrics = step_fn(state, batch)  # the first one compiles
                    preemption.unsaved(True)
                    step += 1
                    window.metrics.append(step_metrics)
                    jax.block_until_ready(window.metrics[-2:-1])  # at most two steps ahead of the device
                    if step == first_step + 1:  # compilation is over: time training from here on
                        jax.block_until_ready(step_metrics)
                        window.clock, window.timed_from = time.perf_counter(), step
                    text = None
                    if log := step % config.log_every_steps == 0 or step == total:
                        record = _position(task, step) | _summary(window, step, config.batch_size)
                        _log(workdir, board, record)
                        text, window = _line(record), Window([], timed_from=step)
                    show(step, text, log)
                    if step % config.checkpoint_every_steps == 0 or step == total:
                        _save(manager, state, window)
        except (preemption.Preempted, DataError) as error:
            if isinstance(error, preemption.Preempted) or not processes.several():  # saving needs all of them
                _save(manager, state, window)
            raise
    preemption.check()  # last: a failed save matters more than the signal
    return state, computed


def _print_changes(changes: Sequence[str]) -> None:
    for change in changes:
        print(f"changed since the last start, which may change the last bits of results: {change}", flush=True)


def _tested_steps(workdir: Path) -> set[float]:
    """Returns the steps at which the net was tested, as metrics.jsonl records them."""
    return {record["step"] for record in runlog.read_metrics(workdir) if "test_top1_error" in record}


def _is_due(task: Task, step: int) -> bool:
    """Returns whether the net is tested after this step."""
    examples, batch_size = task.train_source.examples, task.config.batch_size
    due = durations.is_due(task.config, "eval_every", examples, batch_size, step)
    return step > 0 and (due or step == task.total_steps)


def _test(
    task: Task,
    workdir: Path,
    net: Net,
    protocol: Protocol,
    predict: evaluate.Predict,
    data: Images,
    state: TrainState,
    board: Callable[[runlog.Record], None],
    keep: bool,
) -> None:
    """Tests the net and logs its error; with `keep`, also writes the results of the test."""
    size, step = (task.eval_source.examples, len(task.eval_source.classes)), int(state.step)
    table = evaluate.open_table(protocol, workdir, *size) if keep else new_table(*size)
    (shapes,) = evaluate.probabilities(net, [evaluate.Test(protocol, predict, state, table)], data)
    error = probabilities.top_k_error(table["output"], table["label"], 1)
    _log(workdir, board, {**_position(task, step), "test_top1_error": error})
    if keep and processes.primary():  # last, since a later start does not log a test that has results
        evaluate.save(protocol, table, shapes, step, workdir)


def _position(task: Task, step: int) -> runlog.Record:
    return {"step": step, "epoch": step / (task.train_source.examples / task.config.batch_size)}


def _summary(window: Window, step: int, batch_size: int) -> runlog.Record:
    """Returns means over a window that ends at this step, the last learning rate, and the speed if known."""
    rows = _fetch(window.metrics, step)
    record = {name: float(np.mean([row[name] for row in rows])) for name in ("train_loss", "train_top1_error")}
    record["learning_rate"] = rows[-1]["learning_rate"]
    if step > window.timed_from:
        seconds = time.perf_counter() - window.clock
        record["images_per_second"] = (step - window.timed_from) * batch_size / seconds
    return record


def _save(manager: ocp.CheckpointManager, state: TrainState, window: Window) -> None:
    """Saves the state. Raises FloatingPointError before saving if it is not finite."""
    rows = _fetch(window.metrics, int(state.step))
    if bad := state_lib.not_finite(state.batch_stats):  # the training loss does not depend on them
        raise FloatingPointError(f"BatchNorm's {bad} at step {int(state.step)}; the checkpoints before it are good")
    checkpoint.save(manager, state, rows)


def _fetch(window: Sequence[Metrics], last_step: int) -> list[checkpoint.StepMetrics]:
    """Copies the metrics of a window of steps to the host. Raises FloatingPointError if any is not finite."""
    rows = [{name: float(value) for name, value in row.items()} for row in jax.device_get(window)]
    bad = [last_step - len(rows) + 1 + i for i, row in enumerate(rows) if not np.isfinite(list(row.values())).all()]
    if bad:
        raise FloatingPointError(
            f"the loss or the update is not finite at step {bad[0]} (checked up to step {last_step}); "
            "the checkpoints before it are good. A lower config.optimizer.learning_rate or a warm-up may help"
        )
    return rows


def _line(record: runlog.Record) -> str:
    speed = f"  {record['images_per_second']:.0f} images/s" if "images_per_second" in record else ""
    return (
        f"epoch {record['epoch']:.1f}  loss {record['train_loss']:.3f}  error {record['train_top1_error']:.1f} %{speed}"
    )


def _log(workdir: Path, board: Callable[[runlog.Record], None], record: runlog.Record) -> None:
    runlog.append_metrics(workdir, record)
    board(record)
