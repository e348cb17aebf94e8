"""Local response normalisation (Krizhevsky et al. 2012, 3.3)."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from deepconv.ops import forms
from deepconv.ops.towers import devices, with_neighbours


def response_norm(x: jax.Array, axes: tuple[int, ...], size: int, k: float, alpha: float) -> jax.Array:
    """Returns x / (k + alpha * s)^0.75, s the sum of squares over windows of odd size along the axes; in float32.

    With axes=(-1,), it normalises over neighbouring channels (Krizhevsky et al. 2012, 3.3). Windows end at the border.
    """
    normalize = _plain if forms.form("response_norm") == "plain" else _with_gradient_by_hand
    return normalize(x, axes, size, k, alpha)


def _plain(x: jax.Array, axes: tuple[int, ...], size: int, k: float, alpha: float) -> jax.Array:
    wide = x.astype(jnp.float32)
    return (wide / (k + alpha * _window_sum(wide * wide, axes, size)) ** 0.75).astype(x.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4))
def _with_gradient_by_hand(x: jax.Array, axes: tuple[int, ...], size: int, k: float, alpha: float) -> jax.Array:
    return _forward(x, axes, size, k, alpha)[0]


def _forward(
    x: jax.Array, axes: tuple[int, ...], size: int, k: float, alpha: float
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    wide = x.astype(jnp.float32)
    root = lax.rsqrt(k + alpha * _window_sum(wide * wide, axes, size))
    return (wide * root * jnp.sqrt(root)).astype(x.dtype), (x, root)


def _backward(
    axes: tuple[int, ...],
    size: int,
    k: float,
    alpha: float,
    saved: tuple[jax.Array, jax.Array],
    dy: jax.Array,
) -> tuple[jax.Array]:
    (x, root), dtype = saved, dy.dtype
    x, dy = x.astype(jnp.float32), dy.astype(jnp.float32)
    factor = root * jnp.sqrt(root)  # (k + alpha s)^-0.75
    shared = _window_sum(dy * x * factor * root * root, axes, size)
    return ((dy * factor - 1.5 * alpha * x * shared).astype(dtype),)


def _window_sum(x: jax.Array, axes: tuple[int, ...], size: int) -> jax.Array:
    for axis in axes:
        side = x.shape[axis]
        widths = [(0, 0)] * x.ndim
        widths[axis] = (size // 2, size // 2)
        padded = jnp.pad(x, widths)
        slices = (lax.slice_in_dim(padded, start, start + side, axis=axis) for start in range(size))
        x = functools.reduce(jnp.add, slices)
    return x


_with_gradient_by_hand.defvjp(_forward, _backward)


def channel_norm(x: jax.Array, size: int, k: float, alpha: float, towers: int = 1) -> jax.Array:
    """Applies local response normalisation over channels of x [B, H, W, C]; windows stay within each tower."""
    border = size // 2 if devices() > towers else 0  # channels of the next tower that a window reaches
    with jax.named_scope("lrn"):
        wide = with_neighbours(x, border) if border else x
    split = wide.reshape(*wide.shape[:-1], max(1, towers // devices()), -1)
    y = response_norm(split, (-1,), size, k, alpha).reshape(wide.shape)
    return y[..., border : border + x.shape[-1]]
