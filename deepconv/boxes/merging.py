"""OverFeat's greedy merging of the boxes that a localisation net gives at all places and scales."""

import jax
import jax.numpy as jnp
from jax import lax

from deepconv.boxes import geometry

# threshold, boxes [N, 4], scores [N], distances [N, N] above the diagonal, inf elsewhere and for padding; the least
# distance and the two indices of its pair
State = tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]


@jax.jit
def merge(boxes: jax.Array, scores: jax.Array, threshold: float = 0.5) -> tuple[jax.Array, jax.Array]:
    """Merges boxes [N, 4] of a class in an image; returns boxes and scores, padded where boxes were merged into others.

    The two boxes of the least distance are replaced by the mean of their coordinates, at the place of the first, until
    the least distance exceeds the threshold. Scores [N], -inf for padding, add up.

    Sermanet et al. 2014, 4.3. DIFFERS: the distance is 1 - IoU. Theirs is "the sum of the distance between centers and
    the intersection area", which is least for disjoint boxes; they do not give the threshold. Of several pairs with
    the least distance, the first is merged. Means are not weighted: a merged box counts once.
    """
    present = scores > -jnp.inf
    pairs = jnp.triu(present[:, None] & present[None], 1)
    distances = jnp.where(pairs, 1 - geometry.iou(boxes, boxes), jnp.inf)
    start = jnp.float32(threshold), boxes, scores, distances, *_nearest(distances)
    state = lax.while_loop(_is_below, _join, start)
    return state[1], state[2]


def _nearest(distances: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the least distance, inf if less than two boxes are left, and the indices of its first pair in order."""
    of_rows = distances.min(1)  # a minimum and two short searches are faster than one search of all pairs
    first = of_rows.argmin()
    return of_rows[first], first, distances[first].argmin()


def _is_below(state: State) -> jax.Array:
    threshold, _, _, _, distance, _, _ = state
    return distance <= threshold


def _join(state: State) -> State:
    threshold, boxes, scores, distances, _, first, second = state
    merged = (boxes[first] + boxes[second]) / 2
    scores = scores.at[first].add(scores[second]).at[second].set(-jnp.inf)
    boxes = boxes.at[first].set(merged)
    # Only the distances of the merged box have changed, and those of the other box have gone. Each is kept once, above
    # the diagonal: computed twice, the two could differ by rounding, and the order of the pair with them.
    changed = jnp.where(scores > -jnp.inf, 1 - geometry.iou(merged[None], boxes)[0], jnp.inf)
    places = jnp.arange(scores.size)
    row, column = places[:, None], places[None]
    distances = jnp.where((row == first) & (column > first), changed[None], distances)
    distances = jnp.where((column == first) & (row < first), changed[:, None], distances)
    distances = jnp.where((row == second) | (column == second), jnp.inf, distances)
    return threshold, boxes, scores, distances, *_nearest(distances)
