"""Tests on crops of a fixed size."""

import jax
import jax.numpy as jnp
import numpy as np

from deepconv.data import augment
from deepconv.evaluation.net import Net, divisible, variables
from deepconv.evaluation.protocols import PLACES
from deepconv.state import TrainState


def crop_probabilities(state: TrainState, batch: dict[str, jax.Array], *, net: Net, mirrored: bool) -> jax.Array:
    """Returns mean class probabilities, float32 [B, classes], of crops uint8 [B, crops, S, S, 3] and mirror images."""
    crops = batch["image"]
    flat = crops.reshape(-1, *crops.shape[2:])
    probs = []
    for images in (flat, flat[:, :, ::-1]) if mirrored else (flat,):
        scores = net.model.apply(variables(state), augment.normalize(images, net.input), train=False)
        probs.append(jax.nn.softmax(jnp.asarray(scores, jnp.float32)))
    return (sum(probs[1:], probs[0]) / len(probs)).reshape(*crops.shape[:2], -1).mean(1)


def empty_batch(net: Net, kind: str) -> dict[str, np.ndarray]:
    """Returns a batch without images, for a protocol's crops."""
    places = len(PLACES[kind])
    count = divisible(net.batch_size // places, net.mesh)
    return {"image": np.zeros((count, places, net.size, net.size, 3), np.uint8)}


def put(image: np.ndarray, batch: dict[str, np.ndarray], place: int, kind: str) -> None:
    """Puts a protocol's crops of an image, uint8 [H, W, 3], into a batch; a grid goes from edge to edge."""
    crops = batch["image"][place]
    height, width = (length - crops.shape[1] for length in image.shape[:2])
    for crop, (down, right) in zip(crops, PLACES[kind], strict=True):
        top, left = height * down // 4, width * right // 4
        crop[:] = image[top : top + len(crop), left : left + len(crop)]
