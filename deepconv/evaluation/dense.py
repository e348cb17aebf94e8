"""Dense tests: the net is applied to whole images (Simonyan & Zisserman 2015, 3.2)."""

import functools
from collections import defaultdict
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from deepconv.data import augment, pipeline
from deepconv.data.images import Images
from deepconv.evaluation.net import Net, Step, divisible, rescaled, variables
from deepconv.evaluation.protocols import Protocol
from deepconv.ops.extent import inside, padded
from deepconv.state import TrainState

DENSE_SHARE = 4  # a dense batch has this part of the pixels of a batch of crops: so fewer images wait for their like


def see_whole(state: TrainState, batch: dict[str, jax.Array], *, net: Net, posteriors: bool) -> jax.Array:
    """Class probabilities, float32 [B, classes], of whole images: means over all views, and over their mirrors.

    uint8 [B, H, W, 3]; each fills its extent [B, 2]. "The class score map is spatially averaged" (Simonyan & Zisserman
    2015, 3.2): scores, unless posteriors are asked for; of an image and its mirror, posteriors.
    """
    images, extent = batch["image"], batch["extent"]
    mean, columns = stretch(net.input.mean, extent, images.shape[1:3]), jnp.arange(images.shape[2])[None]
    given = net.input._replace(mean=mean)
    back = (extent[:, 1:] - 1 - columns) % images.shape[2]  # a mirror image begins where the image does
    probs = []
    for seen in (images, jnp.take_along_axis(images, back[:, None, :, None], 2)):
        with padded(seen, extent, net.size) as extents:
            scores = jnp.asarray(net.model.apply(variables(state), augment.normalize(seen, given), train=False))
            values = inside(jax.nn.softmax(scores) if posteriors else scores).sum((1, 2))
        values /= extents[scores.shape[1:3]].extent.prod(1, keepdims=True)
        probs.append(values if posteriors else jax.nn.softmax(values))
    return (probs[0] + probs[1]) / 2


def stretch(mean: np.ndarray | jax.Array, extent: jax.Array, shape: tuple[int, ...]) -> np.ndarray | jax.Array:
    """The mean image made as large as each image, [B, H, W, 3]; a mean colour stays as it is.

    The papers do not say what a net that subtracts a mean image subtracts from larger ones. The detection code of
    ResNet's authors does this.
    """
    if mean.shape[1:3] == (1, 1):
        return mean

    def one(extent: jax.Array) -> jax.Array:
        scale = extent / np.array(mean.shape[1:3], np.float32)
        return jax.image.scale_and_translate(mean[0], (*shape, 3), (0, 1), scale, jnp.zeros(2), "linear", False)

    return jax.vmap(one)(extent)


def dense_batches(net: Net, protocol: Protocol, data: Images, missing: np.ndarray) -> Iterator[Step]:
    """Batches of whole images whose rows of the table are missing, by shape."""
    waiting = defaultdict(list)  # images by the shape of the batch that they will be in
    look = functools.partial(rescaled, net=net, protocol=protocol)
    for chunk in pipeline.test_images(data, missing, 32, look):
        for index, label, image in zip(chunk["index"], chunk["label"], chunk["image"], strict=True):
            shape = bucket(*image.shape[:2])
            waiting[shape].append((index, label, image))
            if len(waiting[shape]) == room(net, shape):
                yield together(waiting.pop(shape), shape, room(net, shape))
    for shape, images in waiting.items():
        yield together(images, shape, room(net, shape))


def bucket(height: int, width: int) -> tuple[int, int]:
    """The shape that an image is padded to, so that few shapes have to be compiled for.

    The longer side is one of eight between the shorter and its double, eight more up to four times it, and so on:
    less than an eighth is added, and up to eight times the shorter side there are 49 shapes.
    """
    shorter, longer = sorted((height, width))
    double = 2 ** ((longer // shorter).bit_length() - 1)
    longest = -(-shorter * double * -(-8 * longer // (shorter * double)) // 8)
    return (longest, shorter) if height > width else (shorter, longest)


def room(net: Net, shape: tuple[int, int]) -> int:
    """How many images of a shape are tested densely at a time."""
    return divisible(net.batch_size * net.size**2 // (DENSE_SHARE * shape[0] * shape[1]), net.mesh)


def together(images: Sequence[tuple[int, int, np.ndarray]], shape: tuple[int, int], count: int) -> Step:
    """Images by number, label and pixels -> one batch of `count`, each at the top left of its place."""
    batch = np.zeros((count, *shape, 3), np.uint8)
    extent = np.full((count, 2), shape, np.int32)
    for i, (_, _, image) in enumerate(images):
        extent[i] = image.shape[:2]
        batch[i, : extent[i, 0], : extent[i, 1]] = image
    rows, labels, _ = zip(*images, strict=True)
    return np.array(rows), np.array(labels), {"image": batch, "extent": extent}
