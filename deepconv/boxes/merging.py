"""OverFeat's greedy merging of the boxes that a localisation net gives at all places and scales."""

import jax
import jax.numpy as jnp
from jax import lax

from deepconv.boxes import geometry

# threshold, boxes, scores; distance of the nearest pair, and its two indices
State = tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]


@jax.jit
def merge(boxes: jax.Array, scores: jax.Array, threshold: float = 0.5) -> tuple[jax.Array, jax.Array]:
    """Merges boxes [N, 4] of one class in one image; returns them and their scores with padding where boxes went.

    The two boxes of the least distance are replaced by the mean of their coordinates, at the place of the first, until
    the least distance exceeds the threshold. Scores [N], -inf for padding, add up.

    Sermanet et al. 2014, 4.3. DIFFERS: the distance is 1 - IoU. Theirs is "the sum of the distance between centers and
    the intersection area", which is least for disjoint boxes; they do not give the threshold. Of several pairs with
    the least distance, the first is merged. The mean of a merged box and another one is that of the two.
    """
    state = lax.while_loop(_is_below, _join, (jnp.float32(threshold), boxes, scores, *_nearest(boxes, scores)))
    return state[1], state[2]


def _nearest(boxes: jax.Array, scores: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the least distance, inf if less than two boxes are left, and the indices of its pair in their order."""
    present = scores > -jnp.inf
    pairs = jnp.triu(present[:, None] & present[None], 1)
    distances = jnp.where(pairs, 1 - geometry.iou(boxes, boxes), jnp.inf).ravel()
    pair = distances.argmin()
    first, second = jnp.divmod(pair, scores.size)
    return distances[pair], first, second


def _is_below(state: State) -> jax.Array:
    threshold, _, _, distance, _, _ = state
    return distance <= threshold


def _join(state: State) -> State:
    threshold, boxes, scores, _, first, second = state
    boxes = boxes.at[first].set((boxes[first] + boxes[second]) / 2)
    scores = scores.at[first].add(scores[second]).at[second].set(-jnp.inf)
    return threshold, boxes, scores, *_nearest(boxes, scores)
