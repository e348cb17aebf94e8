"""Images of several sizes in one padded batch: each has an extent, and beyond it there is nothing."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Dense(NamedTuple):
    """Asks a net for the scores of every view of images that are larger than those it is trained on.

    The images may have different sizes: each lies at the top left of its part of the batch, and the rest is as if it
    were not there.
    """

    extent: jax.Array  # int32 [B, 2]: height and width of each image
    view: int  # height and width of the images in training


def inside(x: jax.Array, extent: jax.Array | None, outside: float = 0.0) -> jax.Array:
    """x [B, H, W, C], and this value beyond the extent [B, 2] of each image."""
    if extent is None:
        return x
    rows, columns = (jnp.arange(x.shape[axis])[None] < extent[:, axis - 1, None] for axis in (1, 2))
    return jnp.where((rows[:, :, None] & columns[:, None])[..., None], x, outside)
