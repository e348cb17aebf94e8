"""What the papers do to a batch of training images; runs inside the jitted step."""

import jax
import jax.numpy as jnp
from jax import lax


def subtract_mean(images: jax.Array, mean: jax.Array) -> jax.Array:
    """uint8 [B, H, W, 3] -> float32, less the mean (per pixel [1, H, W, 3], per channel [1, 1, 1, 3])."""
    return images.astype(jnp.float32) - mean


def pad_crop_flip(key: jax.Array, images: jax.Array, pad: int = 4) -> jax.Array:
    """A random crop of the padded image or its mirror, as large as the image; images [B, H, W, 3] less their mean.

    He et al. 2015, 4.2. The border is zero after the mean was subtracted, which is the usual reading.
    """
    height, width = images.shape[1:3]

    def one(key: jax.Array, image: jax.Array) -> jax.Array:
        corner_key, flip_key = jax.random.split(key)
        top, left = jax.random.randint(corner_key, (2,), 0, 2 * pad + 1)
        padded = jnp.pad(image, ((pad, pad), (pad, pad), (0, 0)))
        crop = lax.dynamic_slice(padded, (top, left, 0), (height, width, 3))
        return jnp.where(jax.random.bernoulli(flip_key), crop[:, ::-1], crop)

    return jax.vmap(one)(jax.random.split(key, images.shape[0]), images)


def none(key: jax.Array, images: jax.Array) -> jax.Array:
    """The images as they are."""
    return images


AUGMENTATIONS = {"none": none, "pad_crop_flip": pad_crop_flip}
