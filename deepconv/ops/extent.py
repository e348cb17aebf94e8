"""Whole images of several sizes in one padded batch.

Each image lies at the top left of its part of the batch, and the rest counts as if it were not there. Inside `padded`,
the operations of this package and the layers built on them take care of that on every map of a net, and a net gives
the scores of every view of the images: models need not know. A map is known by its height and width, since all maps
of equal size that come from one batch hold the same parts of the images.
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
    """What part of a map belongs to images."""

    extent: jax.Array  # int32 [B, 2]: height and width that each image fills
    view: int  # height and width of the map of one view, an image of the size in training


Extents = dict[tuple[int, ...], Extent]  # by height and width of a map
_extents: contextvars.ContextVar[Extents | None] = contextvars.ContextVar("extents", default=None)


@contextlib.contextmanager
def padded(x: jax.Array, extent: jax.Array, view: int) -> Iterator[Extents]:
    """A net is applied to x [B, H, W, 3], whose images fill their extent; gives the extents of all maps, scores too."""
    extents: Extents = {x.shape[1:3]: Extent(extent, view)}
    token = _extents.set(extents)
    try:
        yield extents
    finally:
        _extents.reset(token)


def current(x: jax.Array) -> Extent | None:
    """The extent of a map [B, H, W, C]; None where every image fills all of it, which is so outside `padded`."""
    extents = _extents.get()
    return None if extents is None else extents[x.shape[1:3]]


def inside(x: jax.Array, outside: float = 0.0) -> jax.Array:
    """x [B, H, W, C], and this value beyond the extent of each image."""
    if (of_map := current(x)) is None:
        return x
    rows, columns = (jnp.arange(x.shape[axis])[None] < of_map.extent[:, axis - 1, None] for axis in (1, 2))
    return jnp.where((rows[:, :, None] & columns[:, None])[..., None], x, outside)


def note(x: jax.Array, y: jax.Array, size: int, stride: int, padding: Padding) -> jax.Array:
    """y, the map that windows over x give, after writing down its extent."""
    extents = _extents.get()
    if extents is not None and y.shape[1:3] not in extents:
        of_map = extents[x.shape[1:3]]
        extent = windows(of_map.extent, size, stride, padding)
        extents[y.shape[1:3]] = Extent(extent, windows(of_map.view, size, stride, padding))
    return y
