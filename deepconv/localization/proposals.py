"""The boxes that a region proposal network gives chosen classes on full images (He et al. 2015, appendix C)."""

from typing import Any

import jax
import jax.numpy as jnp

from deepconv.boxes.suppression import nms
from deepconv.evaluation.net import Net
from deepconv.localization.windows import outputs_on_map
from deepconv.objective import ClassRegionProposal
from deepconv.state import TrainState

MAXIMUM_IOU = 0.7  # of two proposals of a class, as in Faster R-CNN


def class_proposals(
    states: tuple[TrainState, ...], batch: dict[str, Any], *, net: Net, count: int
) -> tuple[jax.Array, jax.Array]:
    """Returns the best boxes of each class, with their scores, as the windows of `windows.window_boxes`.

    These are x1, y1, x2, y2 and a probability, float32 [B, count, 1, K, 5], best first, in pixels of the images, uint8
    [B, H, W, 3], which fill their extents [B, 2]; classes are int [B, K]. A better box that overlaps another removes
    it; where fewer are left, zeros follow. If a box or a score of a class is NaN, all of its boxes are. The second
    array, int [B, 2], is (count, 1) for each image.
    """
    goal = net.objective
    assert isinstance(goal, ClassRegionProposal)
    outputs, extent = outputs_on_map(net, states[0], batch["image"], batch["extent"])
    boxes, logits = goal.proposals(outputs, batch["classes"])  # [B, K, N, 4], [B, K, N]
    rows, columns = (
        jnp.arange(side)[None] < extent.sides[:, axis, None] for axis, side in enumerate(outputs.shape[1:3])
    )
    inside = rows[:, :, None] & columns[:, None]
    anchors = logits.shape[2] // inside[0].size  # at each place
    present = jnp.repeat(inside.reshape(len(inside), -1), anchors, 1)
    logits = jnp.where(present[:, None], logits, -jnp.inf)

    def best(boxes: jax.Array, logits: jax.Array) -> jax.Array:
        index, found = nms(boxes, logits, MAXIMUM_IOU, count), jnp.column_stack([boxes, jax.nn.sigmoid(logits)])
        broken = jnp.isnan(found).any()  # nms would take a NaN for the end of the list
        return jnp.where(broken, jnp.nan, found.at[index].get(mode="fill", fill_value=0.0))

    found = jax.vmap(jax.vmap(best))(boxes, logits)  # [B, K, count, 5]
    return found.swapaxes(1, 2)[:, :, None], jnp.tile(jnp.array([[count, 1]]), (len(found), 1))
