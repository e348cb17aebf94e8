"""Parts of losses and errors of nets that predict boxes in a batch of crops, as in `deepconv.objective`."""

import jax
import jax.numpy as jnp
import optax

from deepconv.boxes import geometry
from deepconv.boxes.localization_error import MINIMUM_IOU


def shares_of_own(batch: dict[str, jax.Array], size: int) -> tuple[jax.Array, jax.Array]:
    """Returns which boxes [B, M] have the class of their image, and their shares inside the crop, -1 for the others."""
    own = batch["classes"] == batch["label"][:, None]
    crops = jnp.tile(jnp.array([[0, 0, size, size]], jnp.float32), (len(own), 1))
    return own, jnp.where(own, geometry.share_inside(batch["boxes"], crops), -1.0)


def box_error(found: jax.Array, boxes: jax.Array, own: jax.Array) -> jax.Array:
    """Returns the percentage of boxes [B, 4] without an IoU of 0.5 or more with a box [B, M, 4] of their class."""
    overlaps = geometry.iou(found[:, None], boxes)[:, 0]
    found_one = (jnp.where(own, overlaps, 0.0) >= MINIMUM_IOU).any(1)  # False for a NaN
    return 100.0 * (1 - found_one.mean())


def smooth_l1(x: jax.Array, sigma: float = 3.0) -> jax.Array:
    """Returns the smooth L1 loss of Girshick 2015: a parabola below 1 / sigma^2. sigma is that of Ren et al.'s code."""
    return sigma**2 * optax.huber_loss(x, delta=1 / sigma**2)
