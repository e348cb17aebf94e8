"""Max pooling and average pooling."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from deepconv.ops import forms
from deepconv.ops.extent import current_extent, mask_padding, record_extent
from deepconv.ops.padding import CEIL, Padding, pads, windows


def max_pool(x: jax.Array, size: int, stride: int, padding: Padding = CEIL) -> jax.Array:
    """Returns the largest value of each window of x [B, H, W, C].

    The form decides whether several equal largest values share the gradient or the first of them gets all of it.
    """
    y = mask_padding(x, -jnp.inf)
    y = jnp.pad(y, ((0, 0), *pads(x, size, stride, padding), (0, 0)), constant_values=-jnp.inf)
    y = _FORMS[forms.form("max_pool")](y, size, stride)
    return mask_padding(record_extent(x, y, size, stride, padding))


def _largest(x: jax.Array, size: int, stride: int) -> jax.Array:
    """Applies XLA's form, in which the first of several largest values gets all of the gradient."""
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, size, size, 1), (1, stride, stride, 1), "VALID")


def _largest_of_slices(x: jax.Array, size: int, stride: int) -> jax.Array:
    """Takes the maximum of slices, rows first. On a CPU, the gradient of XLA's form takes 3 to 4 times as long."""
    for axis in (1, 2):
        outputs = windows(x.shape[axis], size, stride, 0)
        ends = [start + stride * (outputs - 1) + 1 for start in range(size)]
        x = functools.reduce(
            jnp.maximum, [lax.slice_in_dim(x, start, end, stride, axis) for start, end in enumerate(ends)]
        )
    return x


def _largest_by_index(x: jax.Array, size: int, stride: int) -> jax.Array:
    """Keeps one byte per window for the gradient, in place of the map. Of equal largest values, the first gets it."""
    height, width = (stride * (windows(side, size, stride, 0) - 1) + size for side in x.shape[1:3])
    return _with_index(x[:, :height, :width], size, stride)  # the part that windows cover


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _with_index(x: jax.Array, size: int, stride: int) -> jax.Array:
    return _largest_of_slices(x, size, stride)


def _forward(x: jax.Array, size: int, stride: int) -> tuple[jax.Array, jax.Array]:
    batch, height, width, channels = x.shape
    ends = [(batch, height - size + row + 1, width - size + column + 1, channels) for row, column in _places(size)]
    starts = [(0, row, column, 0) for row, column in _places(size)]
    slices = [lax.slice(x, start, end, (1, stride, stride, 1)) for start, end in zip(starts, ends, strict=True)]
    largest, index = slices[0], jnp.zeros(slices[0].shape, jnp.uint8)
    for place, values in enumerate(slices[1:], 1):
        index = jnp.where(values > largest, jnp.uint8(place), index)
        largest = jnp.maximum(largest, values)
    return largest, index


def _backward(size: int, stride: int, index: jax.Array, dy: jax.Array) -> tuple[jax.Array]:
    zero = jnp.zeros((), dy.dtype)
    spread = [
        lax.pad(
            jnp.where(index == place, dy, zero),
            zero,
            ((0, 0, 0), (row, size - row - 1, stride - 1), (column, size - column - 1, stride - 1), (0, 0, 0)),
        )
        for place, (row, column) in enumerate(_places(size))
    ]
    return (functools.reduce(jnp.add, spread),)


def _places(size: int) -> list[tuple[int, int]]:
    """Returns the rows and columns of a window, row by row."""
    return [divmod(place, size) for place in range(size**2)]


_with_index.defvjp(_forward, _backward)
_FORMS = {"plain": _largest, "slices": _largest_of_slices, "index": _largest_by_index}


def mean_of_views(x: jax.Array) -> jax.Array:
    """Returns the mean over the map, [B, 1, 1, C]; in a dense test, one mean per window of a view's size."""
    if (map_extent := current_extent(x)) is None:
        return x.mean((1, 2), keepdims=True)
    return record_extent(x, average_pool(x, map_extent.view, 1, 0), map_extent.view, 1, 0)


def average_pool(x: jax.Array, size: int, stride: int, padding: Padding = CEIL) -> jax.Array:
    """Returns the mean over each window of x [B, H, W, C], without its padding."""
    window = functools.partial(
        lax.reduce_window,
        init_value=0.0,
        computation=lax.add,
        window_dimensions=(1, size, size, 1),
        window_strides=(1, stride, stride, 1),
        padding=((0, 0), *pads(x, size, stride, padding), (0, 0)),
    )
    return window(x) / window(jnp.ones((1, *x.shape[1:3], 1), x.dtype))
