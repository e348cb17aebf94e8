"""Maximum and average over windows."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from deepconv.ops.extent import inside
from deepconv.ops.padding import CEIL, Padding, pads, windows


def max_pool(
    x: jax.Array, size: int, stride: int, padding: Padding = CEIL, extent: jax.Array | None = None
) -> jax.Array:
    """Largest value of each window, x [B, H, W, C]; where several are largest, they share the gradient.

    Slices and maximum, rows first: the gradient of XLA's window reduction takes 3 to 4 times as long on a CPU and, on
    a GPU, has no deterministic form.
    """
    x = inside(x, extent, -jnp.inf)
    x = jnp.pad(x, ((0, 0), *pads(x, size, stride, padding), (0, 0)), constant_values=-jnp.inf)
    for axis in (1, 2):
        outputs = windows(x.shape[axis], size, stride, 0)
        ends = [start + stride * (outputs - 1) + 1 for start in range(size)]
        x = functools.reduce(
            jnp.maximum, [lax.slice_in_dim(x, start, end, stride, axis) for start, end in enumerate(ends)]
        )
    return inside(x, windows(extent, size, stride, padding))


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
