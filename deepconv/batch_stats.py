"""Averages over the training set for BatchNorm, in place of the moving averages that training leaves."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from deepconv import preemption, runlog, sharding, train
from deepconv.data import augment, pipeline
from deepconv.data.statistics import Statistics
from deepconv.models.layers import BatchNorm
from deepconv.state import TrainState


def precise(task: train.Task, computed: Statistics, state: TrainState, file: Path) -> TrainState:
    """The state with means over one epoch of what BatchNorm measures in each batch; the file keeps them for later.

    The images are augmented, and normalised group by group, as in training; variances are those within groups. A last
    batch that is not full is left out. ResNet's authors computed the averages of the nets they released "on a
    sufficiently large training batch after the training procedure".
    """
    leaves, tree = jax.tree.flatten(state.batch_stats)
    if not file.exists():
        report = train.replacements(task, file.parent)
        averages = jax.tree.leaves(_averages(task, computed, state, report))
        temporary = file.with_name(file.name + ".tmp")
        with temporary.open("wb") as out:
            np.savez(out, *map(np.asarray, averages))
        temporary.replace(file)
    try:
        with np.load(file, allow_pickle=False) as arrays:
            stored = tree.unflatten([arrays[f"arr_{i}"] for i in range(len(leaves))])
    except Exception as error:  # zipfile's, zlib's and NumPy's own
        raise OSError(f"{file} is damaged: {error}; remove it, and the same command computes it again") from None
    return state.replace(batch_stats=jax.device_put(stored, sharding.replicated(task.mesh)))


def _averages(task: train.Task, computed: Statistics, state: TrainState, report: pipeline.Report | None) -> Any:
    prepare_images = augment.for_training(task.config.data, computed, task.lit_steps)
    key = jax.random.fold_in(jax.random.key(task.config.seed), 1)
    zeros = jax.tree.map(jnp.zeros_like, state.batch_stats)

    def add(means: Any, state: TrainState, count: jax.Array, batch: dict[str, jax.Array]) -> Any:
        images = prepare_images(jax.random.fold_in(key, count), state.step, batch["image"])
        variables = {"params": state.params, "batch_stats": zeros}
        _, updated = task.model.apply(variables, images, train=True, mutable=["batch_stats"])
        # away from zeros, a moving average takes this share of what was measured
        measured = jax.tree.map(lambda x: x / (1 - BatchNorm.momentum), updated["batch_stats"])
        return jax.tree.map(lambda mean, new: mean + (new - mean) / (count + 1), means, measured)

    whole, split = sharding.replicated(task.mesh), sharding.split(task.mesh)
    options = sharding.compiler_options()
    add = jax.jit(add, in_shardings=(whole, whole, whole, split), out_shardings=whole, compiler_options=options)
    means, total = zeros, max(1, task.train_source.examples // task.config.batch_size)
    loader = train.batches(task, task.train_source.open(), 0, report)
    with runlog.progress("precise batch stats", total) as show:
        for count in range(total):
            with preemption.waiting():
                batch = next(loader)
            means = add(means, state, jnp.asarray(count), batch)
            if count % 10 == 0:  # at most so many batches ahead of the device
                jax.block_until_ready(means)
            show(count + 1)
    return means
