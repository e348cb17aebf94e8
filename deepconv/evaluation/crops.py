"""Tests on crops of a fixed size."""

import jax
import jax.numpy as jnp
import numpy as np

from deepconv.boxes import geometry
from deepconv.data import augment, decode
from deepconv.evaluation.net import Net, divisible, variables
from deepconv.evaluation.protocols import PLACES, Protocol
from deepconv.objective import Classification
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


def crop_boxes(state: TrainState, batch: dict[str, jax.Array], *, net: Net) -> jax.Array:
    """Returns the box of each image's class, float32 [B, 4] in pixels of its only crop, uint8 [B, 1, S, S, 3]."""
    assert not isinstance(net.objective, Classification)
    images = augment.normalize(batch["image"][:, 0], net.input)
    outputs = jnp.asarray(net.model.apply(variables(state), images, train=False))
    return net.objective.boxes_of(outputs, batch["label"])


def empty_batch(net: Net, kind: str) -> dict[str, np.ndarray]:
    """Returns a batch without images, for a protocol's crops."""
    places = len(PLACES[kind])
    count = divisible(net.batch_size // places, net.mesh)
    return {"image": np.zeros((count, places, net.size, net.size, 3), np.uint8)}


def put(image: np.ndarray, batch: dict[str, np.ndarray], place: int, kind: str) -> None:
    """Puts a protocol's crops of an image, uint8 [H, W, 3], into a batch; a grid goes from edge to edge."""
    crops = batch["image"][place]
    height, width = image.shape[:2]
    size = crops.shape[1]
    for crop, (top, left) in zip(crops, corners(height, width, size, kind), strict=True):
        crop[:] = image[top : top + size, left : left + size]


def corners(height: int, width: int, size: int, kind: str) -> list[tuple[int, int]]:
    """Returns top and left of a protocol's crops, of this side, in an image of this height and width."""
    return [((height - size) * down // 4, (width - size) * right // 4) for down, right in PLACES[kind]]


def in_file(box: np.ndarray, size: tuple[int, int], net: Net, protocol: Protocol) -> np.ndarray:
    """Converts a box [4] in the only crop of an image to pixels of its file, which has this height and width."""
    part = decode.tested_area(*size, net.square)
    height, width = decode.rescaled_size(part, protocol.scale or min(part.height, part.width))
    ((top, left),) = corners(height, width, net.size, protocol.kind)
    box = geometry.scale(geometry.translate(box, left, top), part.width / width, part.height / height)
    return geometry.translate(box, part.left, part.top)
