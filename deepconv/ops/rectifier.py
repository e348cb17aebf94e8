"""The rectifier, max(x, 0) (Krizhevsky et al. 2012, 3.1)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from deepconv.ops import forms


def relu(x: jax.Array) -> jax.Array:
    """Returns max(x, 0); the gradient at zero is zero."""
    return _with_mask_of_output(x) if forms.form("rectifier") == "from_output" else _plain(x)


def _plain(x: jax.Array) -> jax.Array:
    """Lets NaN through, unlike max(x, 0) where XLA:CPU fuses it with a mean over the map: that mean would be 0."""
    return jnp.where(x <= 0, jnp.zeros_like(x), x)


@jax.custom_vjp
def _with_mask_of_output(x: jax.Array) -> jax.Array:
    """Keeps the output for the gradient, since the next layer keeps it anyway. JAX's own gradient keeps the input."""
    return nn.relu(x)


def _forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    y = nn.relu(x)
    return y, lax.optimization_barrier(y)  # else XLA replaces max(x, 0) > 0 by x > 0, and keeps x


def _backward(y: jax.Array, dy: jax.Array) -> tuple[jax.Array]:
    return (jnp.where(y > 0, dy, 0),)


_with_mask_of_output.defvjp(_forward, _backward)
