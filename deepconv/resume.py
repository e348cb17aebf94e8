"""The state from which a run continues: its newest checkpoint or, without one, step 0."""

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import orbax.checkpoint as ocp
from jax.sharding import Mesh, NamedSharding

from deepconv import distributed, processes
from deepconv import state as state_lib
from deepconv.data import decode, pipeline, statistics
from deepconv.data.images import Images
from deepconv.data.statistics import Statistics
from deepconv.ops import forms, repeat, towers
from deepconv.run import checkpoint
from deepconv.run.starts import record_start
from deepconv.state import TrainState
from deepconv.task import Task
from deepconv.weights import convert


def statistics_for(task: Task, data: Images) -> Statistics:
    """Returns the task's statistics, or computes those of the training images."""
    if task.statistics is not None:
        return task.statistics
    squares = decode.central_square(task.geometry.scale[0])
    batches = pipeline.ordered_batches(data, task.train_source.examples, 1000, squares)
    return statistics.compute(batch["image"] for batch in batches)


def initial_state(task: Task) -> Callable[[], TrainState]:
    """Returns a jitted function without arguments that creates the state at step 0.

    XLA:CPU takes a second to optimise random numbers of each shape. At a lower level, it takes a fraction of this, and
    the bits are the same (docs/speed.md). XLA_FLAGS takes precedence.
    """
    size = task.config.data.image_size
    key = jax.random.fold_in(jax.random.key(task.config.seed), 0)

    ema = task.config.optimizer.ema_decay > 0
    create = functools.partial(state_lib.create, key, (size, size, 3), task.model, task.tx, ema=ema)
    level = "xla_backend_optimization_level"
    options = {level: 1} if forms.platform() == "cpu" and level not in os.environ.get("XLA_FLAGS", "") else {}
    return jax.jit(create, out_shardings=sharding(jax.eval_shape(create), task.mesh), compiler_options=options)


def sharding(state: TrainState, mesh: Mesh) -> TrainState:
    """Returns the sharding of each array of a state, or of its shapes."""
    if mesh.shape["model"] == 1:
        return jax.tree.map(lambda x: distributed.replicated(mesh), state)
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), towers.partition(state, mesh))


def start_from(state: TrainState, start: convert.Variables, mesh: Mesh) -> TrainState:
    """Replaces weights of the state at step 0 with those of `start`; prints the layers taken."""
    named = repeat.by_block(state)
    for layer in repeat.names(named.params):
        print(f"{layer}: {'taken' if layer in start['params'] else 'at random'}", flush=True)
    taken = named.replace(**{kind: getattr(named, kind) | layers for kind, layers in start.items()})
    taken = state_lib.start_ema(taken) if state.ema else taken
    # copied, since the first step gives up ("donates") the memory of its state
    return jax.device_put(repeat.stacked(taken, state), sharding(state, mesh), may_alias=False)


def keep_statistics(computed: Statistics, workdir: Path) -> Statistics:
    """Returns the image statistics with which the run began; at its start, saves these to use the net without data."""
    file = workdir / "statistics.npz"
    if computed is statistics.NOT_NEEDED:
        return computed
    if processes.agree(file.exists):
        return statistics.load(file, "", remedy="remove it, and start again")
    if processes.primary():
        statistics.save(file, computed, fingerprint="")
    return computed


def begin(
    task: Task, manager: ocp.CheckpointManager, start: convert.Variables | None
) -> tuple[TrainState, Sequence[checkpoint.StepMetrics]]:
    """Returns state and unlogged steps of the newest checkpoint; without one, step 0 with the weights of `start`."""
    init = initial_state(task)
    restored = checkpoint.restore(manager, _with_sharding(jax.eval_shape(init), task.mesh))
    if restored is not None:
        return restored
    return (start_from(init(), start, task.mesh) if start else init()), []


def record(task: Task, workdir: Path, step: int) -> None:
    """Records this start of training, and prints what differs from the one before."""
    for change in record_start(workdir, step, task.mesh.shape["model"], task.accumulate):
        print(f"changed since the last start, which may change the last bits of results: {change}", flush=True)


def remove_leftovers(workdir: Path) -> None:
    """Removes tests of a net that is trained further, since its last checkpoint was lost; its successor may differ.

    Removes files that killed processes left half-written, too.
    """
    if processes.primary():
        for file in sorted(workdir.glob("eval.*.json")):
            test = file.name.removeprefix("eval.").removesuffix(".json")
            print(
                f"{file.name} is removed: it tested a net whose checkpoint was lost; --evals={test} tests the new one"
            )
            file.unlink()
        results = *workdir.glob("probs.*.npy"), *workdir.glob("boxes.*.npy")  # of unfinished tests, too
        for file in (workdir / "precise_batch_stats.npz", *results, *workdir.glob("*.tmp")):
            file.unlink(missing_ok=True)


def leave_untrained(task: Task, workdir: Path, start: convert.Variables | None) -> tuple[TrainState, Statistics]:
    """Saves and returns the state of step 0, which later tests use without the source of its weights."""
    computed = statistics_for(task, task.train_source.open())
    with checkpoint.opened(workdir / "checkpoints", 0) as manager:
        computed = keep_statistics(computed, workdir)
        if not manager.all_steps():
            record_start(workdir, 0)
        state, _ = begin(task, manager, start)
        checkpoint.save(manager, state)
    return state, computed


def _with_sharding(shapes: TrainState, mesh: Mesh) -> TrainState:
    return jax.tree.map(
        lambda x, at: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at), shapes, sharding(shapes, mesh)
    )
