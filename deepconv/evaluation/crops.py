"""Tests on crops of a fixed size."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from deepconv.data import augment, pipeline
from deepconv.data.images import Images
from deepconv.evaluation.net import Net, Step, divisible, rescaled, variables
from deepconv.evaluation.protocols import PLACES, Protocol
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


def crop(image: np.ndarray, size: int, kind: str) -> np.ndarray:
    """Returns a protocol's crops [..., crops, size, size, 3] of uint8 [..., H, W, 3]; a grid goes from edge to edge."""
    height, width = image.shape[-3:-1]
    corners = [((height - size) * down // 4, (width - size) * right // 4) for down, right in PLACES[kind]]
    return np.stack([image[..., top : top + size, left : left + size, :] for top, left in corners], -4)


def crop_batches(net: Net, protocol: Protocol, data: Images, missing: np.ndarray) -> Iterator[Step]:
    """Yields batches of crops of the images with these indices."""

    def crop_rescaled(image: np.ndarray) -> np.ndarray:
        return crop(rescaled(image, net, protocol), net.size, protocol.kind)

    count = divisible(net.batch_size // len(PLACES[protocol.kind]), net.mesh)
    for chunk in pipeline.test_images(data, missing, count, crop_rescaled):
        images = chunk["image"]
        crops = np.stack(images) if isinstance(images, list) else crop(images, net.size, protocol.kind)
        padding = ((0, count - len(crops)), *[(0, 0)] * 4)
        yield chunk["index"], chunk["label"], {"image": np.pad(crops, padding)}
