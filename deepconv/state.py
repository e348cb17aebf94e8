"""What a run is at one moment: four trees of arrays."""

import math
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.extend.core import ClosedJaxpr, Jaxpr


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


def not_finite(tree: Any) -> str | None:
    """Names the first array that holds NaN or infinite values, and says how many; None where all are finite."""
    for path, array in jax.tree.leaves_with_path(tree):
        if bad := int(array.size - np.isfinite(np.asarray(array)).sum()):
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            return f"{name} holds {bad} of {array.size} values that are not finite (NaN or infinite)"
    return None


def count_parameters(params: Any) -> int:
    """Learned numbers, BatchNorm's scales and shifts included."""
    return sum(x.size for x in jax.tree.leaves(params))


def count_multiply_adds(model: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """Multiply-adds of convolutions and fully connected layers for one image, those with padding included."""

    def forward(images: jax.Array) -> jax.Array:
        return model.init_with_output(jax.random.key(0), images, train=False)[0]

    def count(jaxpr: Jaxpr) -> int:
        total = 0
        for equation in jaxpr.eqns:
            kind, times = equation.primitive.name, equation.params.get("length", 1)  # of a scan
            if kind == "conv_general_dilated":
                kernel, numbers = equation.invars[1].aval.shape, equation.params["dimension_numbers"]
                total += equation.outvars[0].aval.size * math.prod(kernel) // kernel[numbers.rhs_spec[0]]
            elif kind == "dot_general":
                left, (contracted, _) = equation.invars[0].aval.shape, equation.params["dimension_numbers"][0]
                total += equation.outvars[0].aval.size * math.prod(left[axis] for axis in contracted)
            else:
                parameters = jax.tree.leaves([*equation.params.values()], is_leaf=lambda x: isinstance(x, ClosedJaxpr))
                total += times * sum(count(part.jaxpr) for part in parameters if isinstance(part, ClosedJaxpr))
        return total

    return count(jax.make_jaxpr(forward)(jnp.zeros((1, *image_shape))).jaxpr)
