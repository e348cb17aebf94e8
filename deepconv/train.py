"""Training: the loop and the step."""

import functools
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from deepconv import checkpoint, evaluate, metrics, models, optim, preemption, protocols, runlog, sharding, weights
from deepconv import config as config_lib
from deepconv import state as state_lib
from deepconv.data import augment, decode, pipeline, sources, statistics
from deepconv.data.decode import Geometry
from deepconv.data.statistics import Statistics
from deepconv.state import TrainState

DATA_CHOICES = {"augment": augment.AUGMENTATIONS, "lighting": augment.LIGHTINGS, "on_corrupt": ("fail", "replace")}


@dataclass(frozen=True)
class Task:
    """A config with its names resolved: everything a run needs but images."""

    config: ConfigDict
    train_source: sources.Source
    eval_source: sources.Source
    geometry: Geometry | None  # of training images; None where they have one size and are not decoded
    statistics: Statistics | None  # None: computed from the training images when they are opened
    model: nn.Module
    tx: optax.GradientTransformationExtraArgs
    total_steps: int  # 0: the weights are tested as they are given
    lit_steps: int | None  # as long as colours are shifted; None: always
    mesh: Mesh
    workers: int  # loader processes; batches are the same for any number
    protocols: Mapping[str, tuple[protocols.Protocol, ...]]  # by name: the tests whose mean each is; center is one


def prepare(
    config: ConfigDict,
    data_dir: str | None,
    workers: int = 0,
    evals: Sequence[str] = ("center",),
    untrained: bool = False,
    given: Statistics | None = None,
) -> Task:
    """Check a config as far as can be without reading data. Raises ValueError with a line for each mistake found.

    evals are the names of test protocols. Untrained nets need a training set for its mean and classes only, and none
    where the mean is known, as numbers in the config or ImageNet's, published. Statistics that are given are used in
    place of the training set's.
    """
    mistakes: list[str] = []
    noting = functools.partial(config_lib.noting, mistakes)
    with noting():
        sharding.check_devices()
        if jax.process_count() > 1:
            raise ValueError(
                f"{jax.process_count()} processes work together here; deepconv runs in one, with all its devices"
            )
    config_lib.check_fields(config)
    data, size = config.data, config.data.image_size
    for field, values in DATA_CHOICES.items():
        if data.get(field, values[0]) not in values:
            mistakes.append(f"config.data.{field}={data[field]!r} is unknown; choose one of {', '.join(values)}")
    with noting():
        statistics.check(data)
    with noting():
        find = functools.partial(sources.find, data_dir=data_dir, image_size=size, scale=pipeline.check_scale(data))
        eval_source = find(data.name, data.eval_split)
        known = not statistics.needed(data, training=False) or _has_published(data, eval_source)
        alone = untrained and known and not any(name.endswith("_precise_batch_stats") for name in evals)
        train_source = eval_source if alone else find(data.name, data.train_split)
    config_lib.raise_all(mistakes)

    steps = functools.partial(config_lib.steps, examples=train_source.examples, batch_size=config.batch_size)
    if not alone:
        with noting():
            config_lib.check_together(config, train_source.examples, jax.device_count())
    with noting():
        geometry = pipeline.geometry(data, train_source.size)
    with noting():
        stored = given or _stored_statistics(data, train_source, data_dir, training=not untrained)
    with noting():
        model = models.create(config.model, len(train_source.classes))
        shapes = _shapes(model, size)
        if unknown := sorted(set(config.optimizer.get("layers", {})) - set(shapes["params"])):
            mistakes.append(f"config.optimizer.layers names {unknown[0]}; the layers are {', '.join(shapes['params'])}")
        parts = {}
        for name in ("center", *evals):
            with noting():
                batch_norm = "batch_stats" in shapes
                parts[name] = protocols.parts(name, data, eval_source.size, model, batch_norm)
    config_lib.raise_all(mistakes)
    _check_memory(config, shapes, geometry.size if geometry else min(train_source.size))
    return Task(
        config=config,
        train_source=train_source,
        eval_source=eval_source,
        geometry=geometry,
        statistics=stored,
        model=model,
        tx=optim.create(config.optimizer, steps, optim.warms_up(config)),
        total_steps=0 if untrained else steps(config, "total"),
        lit_steps=steps(data, "lighting_until")
        if {"lighting_until_epochs", "lighting_until_steps"} & {*data}
        else None,
        mesh=sharding.make_mesh(),
        workers=workers,
        protocols=parts,
    )


def _check_memory(config: ConfigDict, shapes: Any, side: int) -> None:
    """Raises ValueError where what a step needs for certain is more than this machine has.

    It counts a batch in bytes and, on a CPU, the batch in float32, parameters and momentum; side is that of the host's
    images in pixels.
    """
    cpu, size = jax.default_backend() == "cpu", config.data.image_size
    images = config.batch_size * 3 * (side**2 + 4 * size**2 * cpu)
    needed = images + 8 * cpu * sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise ValueError(
            f"config.batch_size={config.batch_size} images of config.data.image_size={size} pixels and the net need "
            f"more than {needed / 1e9:.3g} GB of memory, and this machine has {there / 1e9:.3g}; take fewer or smaller"
        )


def _shapes(model: nn.Module, size: int) -> Any:
    try:
        return weights.shapes_of(model, size)
    except (ArithmeticError, TypeError, ValueError) as error:
        raise ValueError(f"config.model cannot take images of config.data.image_size={size} pixels: {error}") from error


def _has_published(data: ConfigDict, source: sources.Source) -> bool:
    return source.is_imagenet and data.mean != "pixel" and data.get("std", "none") != "channel"


def _stored_statistics(
    data: ConfigDict, source: sources.Source, data_dir: str | None, training: bool
) -> Statistics | None:
    """The published ones where ImageNet's colours are enough, else those beside the data. Raises OSError."""
    if not statistics.needed(data, training):
        return statistics.NOT_NEEDED
    if source.folder is None:
        return None
    if _has_published(data, source):
        return statistics.PUBLISHED
    size = source.size[0] if source.size else data.train_scale[0]
    file = statistics.path(source.folder, source.split, size)
    if not file.exists():
        helps = source.is_imagenet and data.get("std", "none") != "channel"
        published = "; or take the published mean colour: --config.data.mean=channel" if helps else ""
        raise FileNotFoundError(
            f"{file} is missing; make it by one pass over the images: python -m deepconv.data.prepare statistics "
            f"{source.name} --data_dir={sources.data_root(data_dir)} --split='{source.split}' --size={size}{published}"
        )
    return statistics.load(file, source.fingerprint)


def statistics_for(task: Task, data: sources.Arrays | sources.Records) -> Statistics:
    """Those of the task, or, where none are stored, of the training images."""
    if task.statistics:
        return task.statistics
    geometry = task.geometry and decode.central_square(task.geometry.scale[0])
    batches = pipeline.ordered_batches(data, task.train_source.examples, 1000, geometry)
    return statistics.compute(batch["image"] for batch in batches)


def train_step(
    state: TrainState,
    batch: dict[str, jax.Array],
    *,
    model: nn.Module,
    tx: optax.GradientTransformationExtraArgs,
    prepare_images: augment.Prepare,
    key: jax.Array,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One step of SGD; a pure function. The randomness of step t is fold_in(key, t)."""
    augment_key, dropout_key = jax.random.split(jax.random.fold_in(key, state.step))
    images = prepare_images(augment_key, state.step, batch["image"])

    def loss_fn(params: Any) -> tuple[jax.Array, tuple[jax.Array, Any]]:
        variables = {"params": params, "batch_stats": state.batch_stats}
        rngs = {"dropout": dropout_key}
        logits, updated = model.apply(variables, images, train=True, rngs=rngs, mutable=["batch_stats"])
        return metrics.cross_entropy(logits, batch["label"]), (logits, updated.get("batch_stats", {}))

    (loss, (logits, batch_stats)), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
    top1_error = metrics.top1_error(logits, batch["label"])
    updates, opt_state = tx.update(grads, state.opt_state, state.params, top1_error=top1_error)
    params = optax.apply_updates(state.params, updates)
    new_state = TrainState(state.step + 1, params, batch_stats, opt_state)
    return new_state, {
        "train_loss": loss,
        "train_top1_error": top1_error,
        "learning_rate": optim.learning_rate(opt_state),
        "update_norm": optax.tree.norm(updates),  # not finite as soon as any parameter is not
    }


def jit_step(task: Task, statistics: Statistics) -> Callable[..., tuple[TrainState, dict[str, jax.Array]]]:
    """The step compiled for the mesh. The old state's memory is given up ("donated") to the new one."""
    step = functools.partial(
        train_step,
        model=task.model,
        tx=task.tx,
        prepare_images=augment.for_training(task.config.data, statistics, task.lit_steps),
        key=jax.random.fold_in(jax.random.key(task.config.seed), 1),
    )
    whole, split = sharding.replicated(task.mesh), sharding.split(task.mesh)
    return jax.jit(
        step,
        in_shardings=(whole, split),
        out_shardings=whole,
        donate_argnums=0,
        compiler_options=sharding.compiler_options(),
    )


def initial_state(task: Task) -> Callable[[], TrainState]:
    """A jitted function without arguments; its eval_shape is the state's shapes."""
    size = task.config.data.image_size
    key = jax.random.fold_in(jax.random.key(task.config.seed), 0)

    create = functools.partial(state_lib.create, key, (size, size, 3), task.model, task.tx)
    return jax.jit(create, out_shardings=sharding.replicated(task.mesh))


def start_from(state: TrainState, start: weights.Variables, mesh: Mesh) -> TrainState:
    """The state at step 0 with some layers' weights in place of its own; says which."""
    for layer in state.params:
        print(f"{layer}: {'taken' if layer in start['params'] else 'at random'}", flush=True)
    taken = {kind: getattr(state, kind) | layers for kind, layers in start.items()}
    return jax.device_put(state.replace(**taken), sharding.replicated(mesh), may_alias=False)


def batches(
    task: Task, data: sources.Arrays | sources.Records, first_step: int, report: pipeline.Report | None = None
) -> Iterator[dict[str, jax.Array]]:
    """Batches on the devices, each put there two steps before it is used."""
    host = pipeline.train_batches(
        data,
        task.train_source.examples,
        batch_size=task.config.batch_size,
        seed=task.config.seed,
        geometry=task.geometry,
        first_step=first_step,
        workers=task.workers,
        report=report,
    )
    ahead = deque()
    for batch in host:
        ahead.append(sharding.put_batch(batch, task.mesh))
        if len(ahead) > 2:
            yield ahead.popleft()


def replacements(task: Task, workdir: Path) -> pipeline.Report | None:
    """Where images that are replaced are listed; None where none may be."""
    replace = task.config.data.get("on_corrupt", "fail") == "replace"
    return runlog.corrupt_list(workdir / "corrupt.txt") if replace else None


def net_for(task: Task, computed: Statistics) -> evaluate.Net:
    """What tests need to know of a task."""
    data = task.config.data
    given = statistics.input_of(data, computed)
    square, batch_size = data.get("central_square", False), task.config.batch_size
    return evaluate.Net(task.model, given, data.image_size, square, batch_size, task.mesh)


def save_statistics(computed: Statistics, workdir: Path) -> None:
    """Leave what the net's images are prepared with in its directory, so that it can be used without the data."""
    if computed is not statistics.NOT_NEEDED:
        statistics.save(workdir / "statistics.npz", computed, fingerprint="")


def begin(
    task: Task, manager: ocp.CheckpointManager, start: weights.Variables | None
) -> tuple[TrainState, list[checkpoint.StepMetrics]]:
    """The newest checkpoint's state and unlogged steps or, without one, those of step 0 with the weights of `start`."""
    init = initial_state(task)
    restored = checkpoint.restore(manager, _with_sharding(jax.eval_shape(init), task.mesh))
    if restored is not None:
        return restored
    return start_from(init(), start, task.mesh) if start else init(), []


def leave_untrained(task: Task, workdir: Path, start: weights.Variables | None) -> tuple[TrainState, Statistics]:
    """The state of step 0, saved, so that it is there when the weights that it was made from are not."""
    computed = statistics_for(task, task.train_source.open())
    manager = checkpoint.open_manager(workdir / "checkpoints", 0)
    save_statistics(computed, workdir)
    if not checkpoint.steps(workdir / "checkpoints"):
        runlog.record_start(workdir, 0)
    state, _ = begin(task, manager, start)
    checkpoint.save(manager, state)
    checkpoint.wait(manager)
    manager.close()
    return state, computed


def train(task: Task, workdir: Path, start: weights.Variables | None = None) -> tuple[TrainState, Statistics]:
    """Train from the newest checkpoint, or from the start, to the end; gives the final state and the data's statistics.

    `start` holds weights of layers to begin with; the other layers are random.
    Raises FloatingPointError where the loss is not finite, Preempted (with the state saved) when told to stop, and
    DataError (with the state saved) where an image cannot be read.
    """
    config, total = task.config, task.total_steps
    data, eval_data = task.train_source.open(), task.eval_source.open()
    computed = statistics_for(task, data)
    manager = checkpoint.open_manager(workdir / "checkpoints", total)
    save_statistics(computed, workdir)
    state, window = begin(task, manager, start)  # window: metrics of the steps not yet logged
    step = first_step = clock_step = int(state.step)
    if step < total:
        for change in runlog.record_start(workdir, step):
            print(f"changed since the last start, so the last bits of results may be others: {change}", flush=True)
    net, (center,) = net_for(task, computed), task.protocols["center"]
    predict = evaluate.jit(net, center)
    examples = task.train_source.examples
    is_due = functools.partial(config_lib.is_due, config, "eval_every", examples, config.batch_size)
    steps_per_epoch = examples / config.batch_size
    step_fn = jit_step(task, computed)
    loader = batches(task, data, step, replacements(task, workdir))
    evaluated = any(r["step"] == step and "test_top1_error" in r for r in runlog.read_metrics(workdir))
    clock = time.perf_counter()
    try:
        with runlog.progress("train", total, step) as show, runlog.tensorboard(workdir) as board:
            while True:
                due = step and (is_due(step) or step == total)
                if due and not (step == first_step and evaluated):  # a resume may owe the one of its checkpoint
                    evaluation_start = time.perf_counter()
                    table = evaluate.new_table(task.eval_source.examples, len(task.eval_source.classes))
                    evaluate.probabilities(net, center, predict, state, eval_data, table)
                    error = metrics.top_k_error(table["output"], table["label"], 1)
                    _log(workdir, board, {"step": step, "epoch": step / steps_per_epoch, "test_top1_error": error})
                    clock += time.perf_counter() - evaluation_start
                if step == total:
                    break
                with preemption.waiting():
                    batch = next(loader)
                state, step_metrics = step_fn(state, batch)  # the first one compiles
                preemption.unsaved(True)
                step += 1
                window.append(step_metrics)
                if len(window) > 1:
                    jax.block_until_ready(window[-2])  # at most two steps ahead of the device
                if step == first_step + 1:  # compiled: from here on, time is training time
                    jax.block_until_ready(step_metrics)
                    clock, clock_step = time.perf_counter(), step
                text = None
                if log := step % config.log_every_steps == 0 or step == total:
                    record = {"step": step, "epoch": step / steps_per_epoch, **_mean(_fetch(window, step))}
                    if step > clock_step:
                        seconds = time.perf_counter() - clock
                        record["images_per_second"] = (step - clock_step) * config.batch_size / seconds
                    _log(workdir, board, record)
                    text, window, clock, clock_step = _line(record), [], time.perf_counter(), step
                show(step, text, log)
                if step % config.checkpoint_every_steps == 0 or step == total:
                    window = _fetch(window, step)  # raises before a broken state can replace a whole one
                    _check_averages(state)
                    checkpoint.save(manager, state, window)
    except (preemption.Preempted, sources.DataError):
        window = _fetch(window, step)
        _check_averages(state)
        checkpoint.save(manager, state, window)
        raise
    finally:
        checkpoint.close(manager)
        preemption.unsaved(False)
    preemption.check()  # not before: what went wrong with a save matters more than the signal
    return state, computed


def _fetch(window: Sequence[Mapping[str, Any]], last_step: int) -> list[checkpoint.StepMetrics]:
    """The metrics of a window of steps on the host. Raises FloatingPointError."""
    rows = [{name: float(value) for name, value in row.items()} for row in jax.device_get(window)]
    bad = [last_step - len(rows) + 1 + i for i, row in enumerate(rows) if not np.isfinite(list(row.values())).all()]
    if bad:
        raise FloatingPointError(
            f"the loss or the update is not finite at step {bad[0]} (looked at up to step {last_step}); "
            "the checkpoints before it are whole. A lower config.optimizer.learning_rate or a warm-up may help"
        )
    return rows


def _check_averages(state: TrainState) -> None:
    """Raises FloatingPointError where BatchNorm's averages are not finite, which no training loss shows."""
    if bad := state_lib.not_finite(state.batch_stats):
        raise FloatingPointError(f"BatchNorm's {bad} at step {int(state.step)}; the checkpoints before it are whole")


def _mean(rows: Sequence[checkpoint.StepMetrics]) -> dict[str, float]:
    """Means over steps; the learning rate is the last."""
    means = {name: float(np.mean([row[name] for row in rows])) for name in ("train_loss", "train_top1_error")}
    return means | {"learning_rate": rows[-1]["learning_rate"]}


def _line(record: dict[str, Any]) -> str:
    speed = f"  {record['images_per_second']:.0f} images/s" if "images_per_second" in record else ""
    return (
        f"epoch {record['epoch']:.1f}  loss {record['train_loss']:.3f}  error {record['train_top1_error']:.1f} %{speed}"
    )


def _log(workdir: Path, board: Callable[[dict[str, Any]], None], record: dict[str, Any]) -> None:
    runlog.append_metrics(workdir, record)
    board(record)


def _with_sharding(shapes: Any, mesh: Mesh) -> Any:
    place = sharding.replicated(mesh)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), shapes)
