"""Full images of several sizes in one padded batch.

Each image is at the top left of its part of the batch, and the padding does not affect its scores. Within `padded`,
Conv, FullyConnected, max_pool and mean_of_views mask the padding of every map, and the net returns scores for every
view of an image; models need no code for this. Other operations over pixels do not support padded batches. The extents
of a map are found by its height and width: maps of equal size that come from one batch have equal extents.
"""

import contextlib
import contextvars
from collections.abc import Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from deepconv.ops.padding import Padding, windows


@dataclass(frozen=True)
class Extent:
    """The part of a map that each image fills."""

    sides: jax.Array  # int32 [B, 2], height and width
    view: int  # side of this map for an image of training size
    stride: int  # pixels of the image between neighbouring places of this map


Extents = dict[tuple[int, ...], Extent]  # by height and width of a map
_extents: contextvars.ContextVar[Extents | None] = contextvars.ContextVar("extents", default=None)


@contextlib.contextmanager
def padded(x: jax.Array, extent: jax.Array, view: int) -> Iterator[Extents]:
    """Makes a net mask x [B, H, W, 3] beyond its images' extents; yields the extents of all maps, scores included."""
    extents: Extents = {x.shape[1:3]: Extent(extent, view, 1)}
    token = _extents.set(extents)
    try:
        yield extents
    finally:
        _extents.reset(token)


def current_extent(x: jax.Array) -> Extent | None:
    """Returns the extent of a map [B, H, W, C]; None outside `padded`, where every image fills the map."""
    if (extents := _extents.get()) is None:
        return None
    if x.shape[1:3] not in extents:
        raise ValueError(f"a dense test does not know the extents of a map of {x.shape[1]}x{x.shape[2]} pixels")
    return extents[x.shape[1:3]]


def mask_padding(x: jax.Array, outside: float = 0.0) -> jax.Array:
    """Returns x [B, H, W, C] with the value `outside` beyond the extent of each image."""
    if (map_extent := current_extent(x)) is None:
        return x
    rows, columns = (jnp.arange(x.shape[axis])[None] < map_extent.sides[:, axis - 1, None] for axis in (1, 2))
    return jnp.where((rows[:, :, None] & columns[:, None])[..., None], x, outside)


def record_extent(x: jax.Array, y: jax.Array, size: int, stride: int, padding: Padding) -> jax.Array:
    """Records the extent of y, the output of windows over x, and returns y."""
    extents = _extents.get()
    if extents is not None and y.shape[1:3] not in extents:
        before = extents[x.shape[1:3]]
        sides = windows(before.sides, size, stride, padding)
        view = windows(before.view, size, stride, padding)
        extents[y.shape[1:3]] = Extent(sides, view, before.stride * stride)
    return y
