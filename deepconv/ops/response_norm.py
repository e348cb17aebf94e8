"""Local response normalisation (Krizhevsky et al. 2012, 3.3)."""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax

from deepconv.ops import forms
from deepconv.ops.towers import devices, with_neighbours


@dataclass(frozen=True)
class _Norm:
    axes: tuple[int, ...]
    size: int  # of a window along each axis, odd
    k: float
    alpha: float


def response_norm(x: jax.Array, axes: tuple[int, ...], size: int, k: float, alpha: float) -> jax.Array:
    """Returns x / (k + alpha * s)^0.75, s the sum of squares over windows of odd size along the axes; in float32.

    With axes=(-1,), it normalises over neighbouring channels (Krizhevsky et al. 2012, 3.3). Windows end at the border.
    """
    norm, form = _Norm(axes, size, k, alpha), forms.form("response_norm")
    return _plain(x, norm) if form == "plain" else _with_gradient_by_hand(x, norm, form == "by_hand")


def _plain(x: jax.Array, norm: _Norm) -> jax.Array:
    wide = x.astype(jnp.float32)
    return (wide / (norm.k + norm.alpha * _window_sum(wide * wide, norm)) ** 0.75).astype(x.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _with_gradient_by_hand(x: jax.Array, norm: _Norm, keeps_root: bool) -> jax.Array:
    """Saves x for the gradient and, with keeps_root, (k + alpha s)^-0.5, which saves computing it again."""
    return _forward(x, norm, keeps_root)[0]


def _forward(x: jax.Array, norm: _Norm, keeps_root: bool) -> tuple[jax.Array, tuple[jax.Array, jax.Array | None]]:
    wide, root = x.astype(jnp.float32), _root(x, norm)
    return (wide * root * jnp.sqrt(root)).astype(x.dtype), (x, root if keeps_root else None)


def _backward(
    norm: _Norm, keeps_root: bool, saved: tuple[jax.Array, jax.Array | None], dy: jax.Array
) -> tuple[jax.Array]:
    x, root = saved
    if root is None:
        root = _root(lax.optimization_barrier(x), norm)  # without the barrier, XLA would keep the first root
    wide, wide_dy = x.astype(jnp.float32), dy.astype(jnp.float32)
    factor = root * jnp.sqrt(root)  # (k + alpha s)^-0.75
    terms = wide_dy * wide * factor * root * root
    if not keeps_root:  # they are one more map that is written and read; it gets the precision of x, like every map
        terms = lax.optimization_barrier(terms.astype(x.dtype)).astype(jnp.float32)
    return ((wide_dy * factor - 1.5 * norm.alpha * wide * _window_sum(terms, norm)).astype(x.dtype),)


def _root(x: jax.Array, norm: _Norm) -> jax.Array:
    return lax.rsqrt(norm.k + norm.alpha * _window_sum(jnp.square(x.astype(jnp.float32)), norm))


def _window_sum(x: jax.Array, norm: _Norm) -> jax.Array:
    for axis in norm.axes:
        side = x.shape[axis]
        widths = [(0, 0)] * x.ndim
        widths[axis] = (norm.size // 2, norm.size // 2)
        padded = jnp.pad(x, widths)
        slices = (lax.slice_in_dim(padded, start, start + side, axis=axis) for start in range(norm.size))
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
