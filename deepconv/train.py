"""The training step and the training loop."""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import optax
import orbax.checkpoint as ocp
from jax.sharding import Mesh

from deepconv import distributed, optim, processes, resume, tester
from deepconv import state as state_lib
from deepconv.config import recipes
from deepconv.data import augment, pipeline
from deepconv.data.images import DataError, Images
from deepconv.data.statistics import Statistics
from deepconv.objective import Objective
from deepconv.ops import parts, towers
from deepconv.run import checkpoint, preemption, tracking
from deepconv.run import log as runlog
from deepconv.run.window import Window
from deepconv.state import TrainState
from deepconv.step_log import StepLog
from deepconv.task import Task
from deepconv.weights import convert

DeviceBatch = dict[str, jax.Array]  # data.images.Batch, split along the first axis


def train_step(
    state: TrainState,
    batch: DeviceBatch,
    *,
    model: nn.Module,
    tx: optax.GradientTransformationExtraArgs,
    objective: Objective,
    prepare: augment.Prepare,
    key: jax.Array,
    mesh: Mesh,
    accumulate: int = 1,
    ema_decay: float = 0,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Returns the state after a step of SGD, and the step's metrics; a pure function.

    The random numbers of step t come from fold_in(key, t). The batch is computed in `accumulate` parts in sequence.
    """
    augment_key, dropout_key, objective_key = jax.random.split(jax.random.fold_in(key, state.step), 3)
    batch = prepare(augment_key, state.step, batch)

    def loss_fn(params: Any, batch: DeviceBatch) -> tuple[jax.Array, tuple[jax.Array, Any]]:
        variables = {"params": params, "batch_stats": state.batch_stats}
        outputs, updated = towers.apply(model, variables, batch["image"], dropout_key, mesh)
        loss, error = objective(outputs, batch, objective_key)
        return loss, (error, updated.get("batch_stats", {}))

    def gradients(part: DeviceBatch) -> Any:
        return jax.value_and_grad(loss_fn, has_aux=True)(state.params, part)

    (loss, (error, batch_stats)), grads = parts.mean(gradients, batch, accumulate, mesh)
    updates, opt_state = tx.update(grads, state.opt_state, state.params, error=error)
    params = optax.apply_updates(state.params, updates)
    new_state = TrainState(state.step + 1, params, batch_stats, opt_state)
    ema = state_lib.update_ema(state.ema, new_state, ema_decay)
    return new_state.replace(ema=ema), {
        "train_loss": loss,
        f"train_{objective.error}": error,
        "learning_rate": optim.learning_rate(opt_state),
        "update_norm": optax.tree.norm(updates),  # not finite as soon as any parameter is not
    }


def jit_step(task: Task, computed: Statistics) -> jax.stages.Wrapped:
    """Returns the step compiled for the mesh; the new state reuses ("donates") the old state's memory."""
    step = functools.partial(
        train_step,
        model=task.model,
        tx=task.tx,
        objective=task.objective,
        prepare=augment.for_training(task.config.data, computed, task.lighting_steps),
        key=jax.random.fold_in(jax.random.key(task.config.seed), 1),
        mesh=task.mesh,
        accumulate=task.accumulate,
        ema_decay=task.config.optimizer.ema_decay,
    )
    state = resume.sharding(jax.eval_shape(resume.initial_state(task)), task.mesh)
    return jax.jit(
        step,
        in_shardings=(state, distributed.split(task.mesh)),
        out_shardings=(state, distributed.replicated(task.mesh)),
        donate_argnums=0,
        compiler_options=distributed.compiler_options(),
    )


def batches(
    task: Task, data: Images, first_step: int = 0, report: pipeline.Report | None = None
) -> Iterator[DeviceBatch]:
    """Yields batches on the devices, {"image": uint8 [B, H, W, 3], "label": int32 [B]}, from first_step on.

    Each is put there two steps before it is used. The step itself subtracts the mean.
    """
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
    yield from pipeline.ahead((distributed.put_batch(batch, task.mesh) for batch in host), 2)


def images_of_an_epoch(task: Task, computed: Statistics, step: jax.Array, workdir: Path) -> Iterator[jax.Array]:
    """Yields batches of training images, augmented as in training at this step."""
    prepare_batch = augment.for_training(task.config.data, computed, task.lighting_steps)
    key = jax.random.fold_in(jax.random.key(task.config.seed), 1)
    replicated, split = distributed.replicated(task.mesh), distributed.split(task.mesh)
    prepare = jax.jit(
        lambda number, images: prepare_batch(jax.random.fold_in(key, number), step, {"image": images})["image"],
        in_shardings=(replicated, split),
        out_shardings=split,
        compiler_options=distributed.compiler_options(),
    )
    data = task.train_source.open()
    for number, batch in enumerate(batches(task, data, 0, replacements(task, workdir))):
        yield prepare(number, batch["image"])


def replacements(task: Task, workdir: Path) -> pipeline.Report | None:
    """Returns a function that lists replaced images in corrupt.txt; None if no image may be replaced.

    Images that were replaced when the data was packed are listed at once.
    """
    report = runlog.corrupt_list(workdir / "corrupt.txt")
    report([*task.train_source.replaced])
    return report if _may_replace(task) else None


def printed_replacements(task: Task) -> pipeline.Report | None:
    """Returns a function that prints which images are replaced, for work without a run; None if none may be."""
    return (lambda messages: print(*messages, sep="\n", flush=True)) if _may_replace(task) else None


def _may_replace(task: Task) -> bool:
    return task.config.data.get("on_corrupt", "fail") == "replace"


def train(
    task: Task,
    workdir: Path,
    start: convert.Variables | None = None,
    keep_test: bool = False,
    trackers: Sequence[str] = (),
) -> tuple[TrainState, Statistics]:
    """Trains to the end, from the newest checkpoint or from step 0; returns the final state and the data's statistics.

    `start` holds initial weights of some layers. `trackers` are names of deepconv.run.trackers. With keep_test, the
    last test also writes the results of the protocol `center`. Raises FloatingPointError if the loss is not finite,
    Preempted (with the state saved) on a signal to stop, and, with the state saved unless there are several processes,
    DataError if an image cannot be read and BrokenPipeError if nobody reads the output any more.
    """
    config, total = task.config, task.total_steps
    data, eval_data = task.train_source.open(), task.eval_source.open()
    computed = resume.statistics_for(task, data)
    with checkpoint.opened(workdir / "checkpoints", total) as manager:
        computed = resume.keep_statistics(computed, workdir)
        state, unlogged = resume.begin(task, manager, start)
        step = first_step = int(state.step)
        if step < total:
            resume.record(task, workdir, step)
            resume.remove_leftovers(workdir)
        tests = tester.create(task, computed, eval_data, workdir)
        last = tester.last_test(workdir, step)
        step_fn = jit_step(task, computed)
        loader = batches(task, data, step, replacements(task, workdir))
        tracked = tracking.opened(workdir, recipes.flatten(config.to_dict()), task.objective.error, trackers)
        with runlog.progress("train", total, step) as show, tracked as board:
            log = StepLog(task, board, show, Window([*unlogged], timed_from=step), first_step)
            try:
                while True:
                    if tests.is_due(step, last):
                        keeper = manager if keep_test and step == total else None
                        last = tests.test(state, last, board, show, keeper)
                        log.window.clock += last.seconds
                    if step == total:
                        break
                    checkpoint.check(manager)
                    with preemption.waiting():
                        batch = next(loader)
                    if step == first_step:
                        show(step, "compiling ...", log=True)
                    state, metrics = step_fn(state, batch)
                    preemption.unsaved(True)
                    step += 1
                    log.add(step, metrics, last.error)
                    if step % config.checkpoint_every_steps == 0 or step == total:
                        _save(manager, state, log.window)
                if step > first_step or last.seconds:  # a start that only did the last test counts
                    board.filters(step, state_lib.averaged(state).params)
            except (preemption.Preempted, DataError, BrokenPipeError) as error:
                if isinstance(error, preemption.Preempted) or not processes.several():  # saving needs all of them
                    _save(manager, state, log.window)
                raise
    preemption.check()  # last: a failed save matters more than the signal
    return state, computed


def _save(manager: ocp.CheckpointManager, state: TrainState, window: Window) -> None:
    """Saves the state. Raises FloatingPointError before saving if it is not finite."""
    rows = window.fetch(int(state.step))
    if bad := state_lib.not_finite(state.batch_stats):  # the training loss does not depend on them
        raise FloatingPointError(f"BatchNorm's {bad} at step {int(state.step)}; the checkpoints before it are good")
    checkpoint.save(manager, state, rows)
