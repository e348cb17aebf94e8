"""Non-maximum suppression and box voting, for one image with a fixed number of boxes; `jax.vmap` gives batches."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from deepconv.boxes import geometry


def nms(boxes: jax.Array, scores: jax.Array, threshold: float, outputs: int) -> jax.Array:
    """Returns the indices of the best boxes that no better one overlaps, int32 [outputs], best first.

    A box goes if its IoU with a better box that stays is above the threshold; of equal scores, the first is better.
    boxes [N, 4]; scores [N], -inf for padding. The indices end with N where fewer boxes are left.
    """
    return nms_per_class(boxes, scores, jnp.zeros(scores.shape, jnp.int32), threshold, outputs)


@functools.partial(jax.jit, static_argnames="outputs")
def nms_per_class(boxes: jax.Array, scores: jax.Array, classes: jax.Array, threshold: float, outputs: int) -> jax.Array:
    """Applies `nms` to each class alone; the best of all classes come first. classes int [N], -1 for padding."""

    def keep_best(place: int, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        kept, alive = state  # alive: the score, or -inf
        best = alive.argmax()
        overlaps = geometry.iou(boxes[best][None], boxes)[0] > threshold
        gone = (overlaps & (classes == classes[best])).at[best].set(True)
        kept = kept.at[place].set(jnp.where(alive[best] > -jnp.inf, best, scores.size).astype(jnp.int32))
        return kept, jnp.where(gone, -jnp.inf, alive)

    alive = jnp.where(classes >= 0, scores, -jnp.inf)
    return lax.fori_loop(0, outputs, keep_best, (jnp.zeros(outputs, jnp.int32), alive))[0]


@jax.jit
def take(
    index: jax.Array, boxes: jax.Array, scores: jax.Array, classes: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the boxes, scores and classes at indices of `nms`; padding where they are N."""
    boxes = boxes.at[index].get(mode="fill", fill_value=0.0)
    scores = scores.at[index].get(mode="fill", fill_value=-jnp.inf)
    return boxes, scores, classes.at[index].get(mode="fill", fill_value=-1)


@jax.jit
def vote(
    kept_boxes: jax.Array,
    kept_classes: jax.Array,
    boxes: jax.Array,
    scores: jax.Array,
    classes: jax.Array,
    minimum_iou: float = 0.5,
) -> jax.Array:
    """Returns each kept box [K, 4] as the mean of all boxes [N, 4] of its class around it, weighted by their scores.

    boxes, scores and classes are those before suppression; scores are probabilities, -inf for padding. As in Gidaris
    & Komodakis's code (post_process_candidate_detections.m), whose scores are an SVM's: probabilities as weights are
    our reading.
    """
    near = (geometry.iou(kept_boxes, boxes) >= minimum_iou) & (kept_classes[:, None] == classes[None])
    weights = jnp.where(near & (scores > -jnp.inf)[None], scores[None], 0.0)
    total = weights.sum(-1, keepdims=True)
    mean = jnp.einsum("kn,nc->kc", weights, boxes, precision="highest") / jnp.where(total > 0, total, 1.0)
    return jnp.where(total > 0, mean, kept_boxes)
