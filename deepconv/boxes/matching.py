"""Which anchors of an image are trained as objects and which as background, and a random draw of both."""

import jax
import jax.numpy as jnp

from deepconv.boxes import geometry

MINIMUM_IOU = 0.7  # of an anchor that is an object; so is the best anchor of each box (Ren et al. 2015, 3.1.2)
MAXIMUM_IOU = 0.3  # of background, with all boxes


def match(
    anchors: jax.Array, boxes: jax.Array, present: jax.Array, objects: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns masks of the objects and of the background among anchors [B, N, 4], and the box that each is to find.

    The mask `present` [B, M] leaves out padding among the boxes [B, M, 4]; `objects` [B, M] are those to be found. An
    anchor with an IoU of 0.3 or more with any box that is present is not background. The returned boxes [B, N, 4] have
    a meaning only for anchors that are objects.
    """
    overlaps = jnp.where(present[:, None], geometry.iou(anchors, boxes), 0.0)  # [B, N, M]
    best = overlaps.max(1, keepdims=True)
    matches = (overlaps >= MINIMUM_IOU) | ((overlaps == best) & (best > 0))
    is_object = (matches & objects[:, None]).any(2)
    is_background = ~is_object & (overlaps.max(2) < MAXIMUM_IOU) & present.any(1)[:, None]
    target = jnp.where(objects[:, None], overlaps, -1.0).argmax(2)
    return is_object, is_background, jnp.take_along_axis(boxes, target[..., None], 1)


def draw(mask: jax.Array, numbers: jax.Array, counts: jax.Array) -> jax.Array:
    """Returns a mask of counts [B] elements of each row of mask [B, N]: those of the smallest numbers [B, N]."""
    ranks = jnp.where(mask, numbers, jnp.inf).argsort(1).argsort(1)
    return mask & (ranks < counts[:, None])
