"""Augmentation of a batch of training images, within the jitted step."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from ml_collections import ConfigDict

from deepconv.boxes import geometry
from deepconv.data import statistics
from deepconv.data.statistics import Input, Statistics

Batch = dict[str, jax.Array]  # "image", "label" and, with objects, "boxes" and "classes", as in data.images.Batch
Prepare = Callable[[jax.Array, jax.Array, Batch], Batch]  # key, step, batch of uint8 images -> of float32 images
SIGMA = 0.1  # of the colour shift
ALWAYS = 2**31 - 1  # the largest step, an int32
AUGMENTATIONS = ("crop_flip", "none", "pad_crop_flip")
LIGHTINGS = ("eigenvalue", "none", "standard_deviation")


def for_training(data: ConfigDict, computed: Statistics, lighting_steps: int) -> Prepare:
    """Returns the augmentation that config.data describes; colours are shifted in the first lighting_steps steps."""
    given, shifts = statistics.input_of(data, computed), color_directions(computed, data.get("lighting", "none"))
    return functools.partial(training_batch, data=data, given=given, shifts=shifts, lighting_steps=lighting_steps)


def training_batch(
    key: jax.Array,
    step: jax.Array,
    batch: Batch,
    *,
    data: ConfigDict,
    given: Input,
    shifts: np.ndarray | None,
    lighting_steps: int,
) -> Batch:
    """Augments the images uint8 [B, H, W, 3] of a batch to float32 [B, image_size, image_size, 3].

    Boxes move with the pixels of their images; they are not clipped. `shifts` come from `color_directions`.
    """
    geometry_key, color_key = jax.random.split(key)
    size = data.image_size
    if data.augment == "crop_flip":
        batch = random_crop_flip(geometry_key, batch, size)
    batch = center_crop(batch, size)
    images = normalize(batch["image"], Input(given.mean))
    if data.augment == "pad_crop_flip":  # refused for batches with boxes
        images = pad_crop_flip(geometry_key, images)
    if shifts is not None:
        shifted = shift_colors(color_key, images, shifts)
        if data.lighting == "standard_deviation":
            shifted /= 1.1  # as in the authors' code while it shifted colours; the text does not mention it
        images = shifted if lighting_steps == ALWAYS else jnp.where(step < lighting_steps, shifted, images)
    return batch | {"image": images / given.std}


def normalize(images: jax.Array, given: Input) -> jax.Array:
    """Subtracts the mean from uint8 [B, H, W, 3] and divides by the standard deviation; returns float32."""
    return (images.astype(jnp.float32) - given.mean) / given.std


def center_crop(batch: Batch, size: int) -> Batch:
    """Reduces the images [B, H, W, 3] of a batch to their central crops [B, size, size, 3]."""
    images = batch["image"]
    top, left = (images.shape[1] - size) // 2, (images.shape[2] - size) // 2
    batch = batch | {"image": images[:, top : top + size, left : left + size]}
    return batch | {"boxes": geometry.translate(batch["boxes"], -left, -top)} if "boxes" in batch else batch


def random_crop_flip(key: jax.Array, batch: Batch, size: int) -> Batch:
    """Reduces each image of a batch to a random crop or its mirror image: [B, H, W, 3] -> [B, size, size, 3].

    Krizhevsky et al. 2012, 4.1. Images of 256 pixels have 33 x 33 places for a crop of 224, as in the authors' code;
    the text's factor of 2048 is 32 x 32 x 2.
    """
    count, height, width = batch["image"].shape[:3]

    def draw(key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        corner_key, flip_key = jax.random.split(key)
        top, left = jax.random.randint(corner_key, (2,), 0, jnp.array([height - size + 1, width - size + 1]))
        return top, left, jax.random.bernoulli(flip_key)

    def cut(image: jax.Array, top: jax.Array, left: jax.Array, flip: jax.Array) -> jax.Array:
        crop = lax.dynamic_slice(image, (top, left, 0), (size, size, 3))
        return jnp.where(flip, crop[:, ::-1], crop)

    top, left, flip = jax.vmap(draw)(jax.random.split(key, count))
    cropped = batch | {"image": jax.vmap(cut)(batch["image"], top, left, flip)}
    if "boxes" not in batch:
        return cropped
    boxes = geometry.translate(batch["boxes"], -left[:, None], -top[:, None])
    return cropped | {"boxes": jnp.where(flip[:, None, None], geometry.mirror(boxes, size), boxes)}


def pad_crop_flip(key: jax.Array, images: jax.Array, pad: int = 4) -> jax.Array:
    """Returns a random crop of the padded image or its mirror image, [B, S, S, 3]; the mean is already subtracted.

    He et al. 2015, 4.2. The usual reading is a border that is zero after subtraction of the mean.
    """
    padded = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    return random_crop_flip(key, {"image": padded}, images.shape[1])["image"]


def color_directions(statistics: Statistics, convention: str) -> np.ndarray | None:
    """Returns the change of R, G, B for a shift by one SIGMA along each principal component: [3 components, 3].

    Krizhevsky et al. 2012, 4.1: in units of the eigenvalue, as in the text, or of its square root, as in the code.
    The text's formula makes sense for colours from 0 to 1; with 0 to 255, it would shift them by thousands.
    """
    if convention == "none":
        return None
    spread = {"eigenvalue": statistics.eigenvalues, "standard_deviation": np.sqrt(statistics.eigenvalues)}[convention]
    return SIGMA * 255 * (statistics.eigenvectors * spread).T


def shift_colors(key: jax.Array, images: jax.Array, directions: np.ndarray) -> jax.Array:
    """Adds a random colour shift to each image, the same for all its pixels: float [B, H, W, 3]."""
    amounts = jax.random.normal(key, (images.shape[0], 3))
    shifts = jnp.einsum("bi,ic->bc", amounts, directions, precision="highest")
    return images + shifts[:, None, None, :]
