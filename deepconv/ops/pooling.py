"""Maximum and average over windows."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from deepconv.ops import forms
from deepconv.ops.extent import current, inside, note
from deepconv.ops.padding import CEIL, Padding, pads, windows


def max_pool(x: jax.Array, size: int, stride: int, padding: Padding = CEIL) -> jax.Array:
    """Largest value of each window, x [B, H, W, C]; where several are largest, they share the gradient."""
    y = inside(x, -jnp.inf)
    y = jnp.pad(y, ((0, 0), *pads(x, size, stride, padding), (0, 0)), constant_values=-jnp.inf)
    y = (_largest if forms.form("max_pool") == "plain" else _largest_of_slices)(y, size, stride)
    return inside(note(x, y, size, stride, padding))


def _largest(x: jax.Array, size: int, stride: int) -> jax.Array:
    """XLA's own form, in which the first of several largest values has all of the gradient."""
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, size, size, 1), (1, stride, stride, 1), "VALID")


def _largest_of_slices(x: jax.Array, size: int, stride: int) -> jax.Array:
    """Slices and maximum, rows first. XLA's own takes 3 to 4 times as long for the gradient on a CPU."""
    for axis in (1, 2):
        outputs = windows(x.shape[axis], size, stride, 0)
        ends = [start + stride * (outputs - 1) + 1 for start in range(size)]
        x = functools.reduce(
            jnp.maximum, [lax.slice_in_dim(x, start, end, stride, axis) for start, end in enumerate(ends)]
        )
    return x


def mean_of_views(x: jax.Array) -> jax.Array:
    """Mean over the map, [B, 1, 1, C]; in a dense test, over every window of it that is as large as a view."""
    if (of_map := current(x)) is None:
        return x.mean((1, 2), keepdims=True)
    return note(x, average_pool(x, of_map.view, 1, 0), of_map.view, 1, 0)


def average_pool(x: jax.Array, size: int, stride: int, padding: Padding = CEIL) -> jax.Array:
    """Mean over those pixels of each window that lie in the image, x [B, H, W, C]."""
    window = functools.partial(
        lax.reduce_window,
        init_value=0.0,
        computation=lax.add,
        window_dimensions=(1, size, size, 1),
        window_strides=(1, stride, stride, 1),
        padding=((0, 0), *pads(x, size, stride, padding), (0, 0)),
    )
    return window(x) / window(jnp.ones((1, *x.shape[1:3], 1), x.dtype))
