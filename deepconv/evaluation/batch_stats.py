"""Averages over the training set for BatchNorm, in place of the moving averages that training leaves."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from deepconv import distributed
from deepconv.evaluation.net import Net
from deepconv.models.layers import BatchNorm
from deepconv.ops import repeat
from deepconv.run import log as runlog
from deepconv.run import preemption
from deepconv.state import TrainState


def precise(net: Net, state: TrainState, batches: Iterator[jax.Array], count: int, file: Path) -> TrainState:
    """The state with means over so many batches of what BatchNorm measures in each; the file keeps them for later.

    The images are those of one epoch, augmented and normalised group by group as in training; variances are those
    within groups. A last batch that is not full is left out. ResNet's authors computed the averages of
    the nets they released "on a sufficiently large training batch after the training procedure".
    """
    leaves, tree = jax.tree.flatten(jax.eval_shape(repeat.by_block, state.batch_stats))
    if not file.exists():
        averages = jax.tree.leaves(repeat.by_block(_averages(net, state, batches, count)))
        temporary = file.with_name(file.name + ".tmp")
        with temporary.open("wb") as out:
            np.savez(out, *map(np.asarray, averages))
        temporary.replace(file)
    try:
        with np.load(file, allow_pickle=False) as arrays:
            stored = tree.unflatten([arrays[f"arr_{i}"] for i in range(len(leaves))])
    except Exception as error:  # zipfile's, zlib's and NumPy's own
        raise OSError(f"{file} is damaged: {error}; remove it, and the same command computes it again") from None
    held = repeat.stacked(stored, state.batch_stats)
    return state.replace(batch_stats=jax.device_put(held, distributed.replicated(net.mesh)))


def _averages(net: Net, state: TrainState, batches: Iterator[jax.Array], count: int) -> Any:
    zeros = jax.tree.map(jnp.zeros_like, state.batch_stats)

    def add(means: Any, params: Any, number: jax.Array, images: jax.Array) -> Any:
        variables = {"params": params, "batch_stats": zeros}
        _, updated = net.model.apply(variables, images, train=True, mutable=["batch_stats"])
        # away from zeros, a moving average takes this share of what was measured
        measured = jax.tree.map(lambda x: x / (1 - BatchNorm.momentum), updated["batch_stats"])
        return jax.tree.map(lambda mean, new: mean + (new - mean) / (number + 1), means, measured)

    whole, split = distributed.replicated(net.mesh), distributed.split(net.mesh)
    options = distributed.compiler_options()
    add = jax.jit(add, in_shardings=(whole, whole, whole, split), out_shardings=whole, compiler_options=options)
    means = zeros
    with runlog.progress("precise batch stats", count) as show:
        for number in range(count):
            with preemption.waiting():
                images = next(batches)
            means = add(means, state.params, jnp.asarray(number), images)
            if number % 10 == 0:  # at most so many batches ahead of the device
                jax.block_until_ready(means)
            show(number + 1)
    return means
