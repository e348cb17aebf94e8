"""Averages over the training set for BatchNorm, in place of the moving averages of training."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from deepconv import distributed, processes
from deepconv.evaluation.net import Net
from deepconv.models.layers import BatchNorm
from deepconv.ops import repeat
from deepconv.run import log as runlog
from deepconv.run import preemption
from deepconv.run.files import replacing
from deepconv.state import TrainState, not_finite


def precise(net: Net, state: TrainState, batches: Iterator[jax.Array], count: int, file: Path) -> TrainState:
    """Returns the state with BatchNorm's mean and variance averaged over `count` batches; they are cached in `file`.

    The images are those of one epoch, augmented and normalised group by group as in training. Variances are computed
    within groups. An incomplete last batch is left out. ResNet's authors computed the averages of the nets they
    released "on a sufficiently large training batch after the training procedure".
    """
    leaves, tree = jax.tree.flatten(repeat.by_block(state.batch_stats))
    if not processes.agree(file.exists):
        means = _averages(net, state, batches, count)
        if bad := not_finite(means):
            raise FloatingPointError(f"BatchNorm's {bad}, averaged over the training set")
        averages = jax.tree.leaves(repeat.by_block(means))
        processes.agree(lambda: _save(file, averages))
    try:
        with np.load(file, allow_pickle=False) as arrays:
            stored = tree.unflatten([arrays[f"arr_{i}"] for i in range(len(leaves))])
    except Exception as error:  # zipfile, zlib and NumPy each raise their own
        raise OSError(f"{file} is damaged: {error}; remove it and repeat the command to compute it again") from None
    averages = repeat.stacked(stored, state.batch_stats)
    return state.replace(batch_stats=jax.device_put(averages, distributed.replicated(net.mesh)))


def _save(file: Path, averages: Sequence[jax.Array]) -> None:
    with replacing(file) as temporary, temporary.open("wb") as out:
        np.savez(out, *map(np.asarray, averages))


def _averages(net: Net, state: TrainState, batches: Iterator[jax.Array], count: int) -> Any:
    zeros = jax.tree.map(jnp.zeros_like, state.batch_stats)

    def add(means: Any, params: Any, number: jax.Array, images: jax.Array) -> Any:
        variables = {"params": params, "batch_stats": zeros}
        _, updated = net.model.apply(variables, images, train=True, mutable=["batch_stats"])
        # from zero, one update gives (1 - momentum) times the batch's values
        measured = jax.tree.map(lambda x: x / (1 - BatchNorm.momentum), updated["batch_stats"])
        return jax.tree.map(lambda mean, new: mean + (new - mean) / (number + 1), means, measured)

    replicated, split = distributed.replicated(net.mesh), distributed.split(net.mesh)
    options = distributed.compiler_options()
    add = jax.jit(add, in_shardings=(replicated,) * 3 + (split,), out_shardings=replicated, compiler_options=options)
    means = zeros
    with runlog.progress("precise batch stats", count) as show:
        for number in range(count):
            with preemption.waiting():
                images = next(batches)
            means = add(means, state.params, jnp.asarray(number), images)
            if number % 10 == 0:  # stay at most ten batches ahead of the device
                jax.block_until_ready(means)
            show(number + 1)
    return means
