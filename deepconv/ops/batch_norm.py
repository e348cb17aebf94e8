"""The sums over a map that batch normalisation and its gradient need."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from deepconv.ops import forms

AXES = (1, 2, 3)  # of [G, B / G, H, W, C], over which a group's statistics are computed
Sums = tuple[jax.Array, jax.Array]  # float32 [G, 1, 1, 1, C]


def moments(x: jax.Array) -> Sums:
    """Returns the means of x [G, B / G, H, W, C] and of its squares, in float32 [G, 1, 1, 1, C]."""
    if forms.form("batch_norm") == "together":
        return _fused_moments(x)
    wide = x.astype(jnp.float32)
    return wide.mean(AXES, keepdims=True), jnp.square(wide).mean(AXES, keepdims=True)


def scale_and_shift(x: jax.Array, factor: jax.Array, shift: jax.Array) -> jax.Array:
    """Returns x [G, B / G, H, W, C] times factor plus shift, both float32 [G, 1, 1, 1, C], in the precision of x."""
    return (_scale_and_shift if forms.form("batch_norm") == "together" else _plain)(x, factor, shift)


def _plain(x: jax.Array, factor: jax.Array, shift: jax.Array) -> jax.Array:
    return (x * factor + shift).astype(x.dtype)


def _sums(terms: Sequence[jax.Array]) -> Sequence[jax.Array]:
    """Sums float32 arrays in one reduction; a GPU would run another kernel for each separate sum."""
    zeros = [jnp.zeros((), jnp.float32)] * len(terms)
    sums = lax.reduce(tuple(terms), tuple(zeros), _add, AXES)
    return [jnp.expand_dims(each, AXES) for each in sums]


def _add(a: Sequence[jax.Array], b: Sequence[jax.Array]) -> tuple[jax.Array, ...]:
    return tuple(x + y for x, y in zip(a, b, strict=True))


@jax.custom_vjp
def _fused_moments(x: jax.Array) -> Sums:
    wide, count = x.astype(jnp.float32), math.prod(x.shape[1:4])
    total, squares = _sums([wide, jnp.square(wide)])
    return total / count, squares / count


def _moments_forward(x: jax.Array) -> tuple[Sums, jax.Array]:
    return _fused_moments(x), x


def _moments_backward(x: jax.Array, gradients: Sums) -> tuple[jax.Array]:
    mean_term, square_term = (gradient / math.prod(x.shape[1:4]) for gradient in gradients)
    return ((mean_term + 2 * square_term * x.astype(jnp.float32)).astype(x.dtype),)


_fused_moments.defvjp(_moments_forward, _moments_backward)


@jax.custom_vjp
def _scale_and_shift(x: jax.Array, factor: jax.Array, shift: jax.Array) -> jax.Array:
    return _plain(x, factor, shift)


def _scale_forward(x: jax.Array, factor: jax.Array, shift: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _scale_and_shift(x, factor, shift), (x, factor)


def _scale_backward(saved: tuple[jax.Array, jax.Array], dy: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    (x, factor), wide = saved, dy.astype(jnp.float32)
    factor_gradient, shift_gradient = _sums([wide * x.astype(jnp.float32), wide])
    return (wide * factor).astype(x.dtype), factor_gradient, shift_gradient


_scale_and_shift.defvjp(_scale_forward, _scale_backward)
