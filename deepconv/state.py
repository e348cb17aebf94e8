"""What a run is at one moment: four trees of arrays."""

from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax


class TrainState(flax.struct.PyTreeNode):
    """Arrays only; model and optimiser are bound to the step from outside."""

    step: jax.Array  # int32, steps taken
    params: Any
    batch_stats: Any  # running mean and variance of BatchNorm; empty without it
    opt_state: Any


def create(
    key: jax.Array, image_shape: tuple[int, int, int], model: nn.Module, tx: optax.GradientTransformation
) -> TrainState:
    """The state at step 0; image_shape is (H, W, 3)."""
    variables = model.init(key, jnp.zeros((1, *image_shape)), train=False)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables.get("batch_stats", {}),
        opt_state=tx.init(variables["params"]),
    )


def count_parameters(params: Any) -> int:
    """Learned numbers, BatchNorm's scales and shifts included."""
    return sum(x.size for x in jax.tree.leaves(params))
