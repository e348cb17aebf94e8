"""Dense tests: the net is applied to full images (Simonyan & Zisserman 2015, 3.2)."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from deepconv.data import augment
from deepconv.evaluation.net import Net, divisible, variables
from deepconv.ops.extent import mask_padding, padded
from deepconv.state import TrainState

DENSE_SHARE = 4  # a dense batch has a quarter of the pixels of a batch of crops, and fills sooner


def dense_probabilities(state: TrainState, batch: dict[str, jax.Array], *, net: Net, posteriors: bool) -> jax.Array:
    """Returns class probabilities, float32 [B, classes], of full images, averaged over places and mirror images.

    "The class score map is spatially averaged" (Simonyan & Zisserman 2015, 3.2): scores, or with posteriors,
    probabilities. The probabilities of an image and its mirror image are always averaged.
    """
    means = dense_means(state, batch, net=net, output=functools.partial(_score_map, net=net, posteriors=posteriors))
    image, mirrored = means if posteriors else map(jax.nn.softmax, means)
    return (image + mirrored) / 2


def _score_map(state: TrainState, images: jax.Array, *, net: Net, posteriors: bool) -> jax.Array:
    scores = jnp.asarray(net.model.apply(variables(state), images, train=False))
    return jax.nn.softmax(scores) if posteriors else scores


def dense_means(
    state: TrainState, batch: dict[str, jax.Array], *, net: Net, output: Callable[[TrainState, jax.Array], jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """Returns means over the map [B, h, w, C] that output(state, images) gives, each [B, C].

    The first is that of full images, the second that of their mirror images. The images, uint8 [B, H, W, 3], fill their
    extents [B, 2]; `output` takes them normalised.
    """
    images, extent = batch["image"], batch["extent"]
    mean, columns = stretch(net.input.mean, extent, images.shape[1:3]), jnp.arange(images.shape[2])[None]
    net_input = net.input._replace(mean=mean)
    mirrored = (extent[:, 1:] - 1 - columns) % images.shape[2]  # a mirror image also starts at the left edge

    def mean_over_map(views: jax.Array) -> jax.Array:
        with padded(views, extent, net.size) as extents:
            values = output(state, augment.normalize(views, net_input))
            return mask_padding(values).sum((1, 2)) / extents[values.shape[1:3]].sides.prod(1, keepdims=True)

    return mean_over_map(images), mean_over_map(jnp.take_along_axis(images, mirrored[:, None, :, None], 2))


def stretch(mean: np.ndarray | jax.Array, extent: jax.Array, shape: tuple[int, ...]) -> np.ndarray | jax.Array:
    """Resizes the mean image to the size of each image, [B, H, W, 3]; a mean colour stays as it is.

    The papers do not say what is subtracted from images larger than the mean image. The detection code of
    ResNet's authors stretches it.
    """
    if mean.shape[1:3] == (1, 1):
        return mean

    def one(extent: jax.Array) -> jax.Array:
        scale = extent / np.array(mean.shape[1:3], np.float32)
        return jax.image.scale_and_translate(mean[0], (*shape, 3), (0, 1), scale, jnp.zeros(2), "linear", False)

    return jax.vmap(one)(extent)


def bucket_shape(height: int, width: int) -> tuple[int, int]:
    """Returns the shape an image is padded to, one of a few, each of which is compiled once.

    The longer side is rounded up to one of eight lengths for each doubling of the aspect ratio, 1 to 2, 2 to 4, and so
    on, which adds less than an eighth. For ratios up to 8, in both orientations, there are 49 shapes.
    """
    shorter, longer = sorted((height, width))
    double = 2 ** ((longer // shorter).bit_length() - 1)
    longest = -(-shorter * double * -(-8 * longer // (shorter * double)) // 8)
    return (longest, shorter) if height > width else (shorter, longest)


def batch_capacity(net: Net, shape: tuple[int, int]) -> int:
    """Returns the number of images of a shape in a dense batch."""
    return divisible(net.batch_size * net.size**2 // (DENSE_SHARE * shape[0] * shape[1]), net.mesh)


def empty_batch(net: Net, shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """Returns a batch without images, for images that are padded to this shape."""
    count = batch_capacity(net, shape)
    return {"image": np.zeros((count, *shape, 3), np.uint8), "extent": np.full((count, 2), shape, np.int32)}


def put(image: np.ndarray, batch: dict[str, np.ndarray], place: int) -> None:
    """Puts an image, uint8 [H, W, 3], into a batch, with padding on the right and below."""
    height, width = image.shape[:2]
    batch["extent"][place] = height, width
    batch["image"][place, :height, :width] = image
