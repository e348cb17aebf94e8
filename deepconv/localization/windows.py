"""The boxes of a localisation net at all windows of full images, and the scores of a classification net there."""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from deepconv.boxes import codes, geometry
from deepconv.data import augment
from deepconv.evaluation.dense import stretch
from deepconv.evaluation.net import Net, Trained, variables
from deepconv.objective import of_classes
from deepconv.ops.extent import Extent, padded
from deepconv.state import TrainState

Batch = dict[str, Any]


@dataclass(frozen=True)
class Localizer:
    """A localisation net, and the classification net that scores its windows, if there is one."""

    boxes: Trained
    scores: Trained | None

    @property
    def states(self) -> tuple[TrainState, ...]:
        """Returns the arrays of both nets, or of the only one."""
        return (self.boxes.state, self.scores.state) if self.scores else (self.boxes.state,)


def window_boxes(
    states: tuple[TrainState, ...], batch: Batch, *, net: Net, scorer: Net | None
) -> tuple[jax.Array, jax.Array]:
    """Returns x1, y1, x2, y2 and the score of a window, float32 [B, h, w, K, 5], and the windows of images, int [B, 2].

    The images, uint8 [B, H, W, 3], fill their extents [B, 2]; boxes are in their pixels. Of all classes, K of each
    image, int [B, K], are kept. Window (i, j) of the map sees `net.size` pixels from stride * i down and stride * j to
    the right, where the stride, 32 in VGG and ResNet, is that of the net's last map; the last windows may reach beyond
    the image, where they see padding. The score is the scorer's softmax output for the class at the same window;
    without a scorer, it is the image's probability of the class, [B, K], at every window.
    """
    images, extent, classes = batch["image"], batch["extent"], batch["classes"]
    outputs, found = outputs_on_map(net, states[0], images, extent)
    boxes = codes.decode_in_crop(of_classes(outputs, classes, 4), net.size)
    down, right = (found.stride * jnp.arange(count) for count in outputs.shape[1:3])
    boxes = geometry.translate(boxes, right[None, None, :, None], down[None, :, None, None])
    if scorer is None:
        scores = jnp.broadcast_to(batch["probabilities"][:, None, None], boxes.shape[:-1])
    else:
        class_scores, of_scores = outputs_on_map(scorer, states[1], images, extent)
        if (of_scores.stride, class_scores.shape[1:3]) != (found.stride, outputs.shape[1:3]):
            raise ValueError(
                f"the two nets have different windows, {found.stride} and {of_scores.stride} pixels apart in maps of "
                f"{outputs.shape[1:3]} and {class_scores.shape[1:3]}; give a classification net of the same kind"
            )
        scores = of_classes(jax.nn.softmax(class_scores), classes, 1)[..., 0]
    return jnp.concatenate([boxes, scores[..., None]], -1), found.sides


def outputs_on_map(net: Net, state: TrainState, images: jax.Array, extent: jax.Array) -> tuple[jax.Array, Extent]:
    """Returns the map of the last layer's outputs, float32 [B, h, w, outputs], and the windows of each image in it."""
    net_input = net.input._replace(mean=stretch(net.input.mean, extent, images.shape[1:3]))
    with padded(images, extent, net.size) as extents:
        outputs = jnp.asarray(net.model.apply(variables(state), augment.normalize(images, net_input), train=False))
    return outputs, extents[outputs.shape[1:3]]


def check_windows(localizer: Localizer) -> None:
    """Raises ValueError if the two nets do not have the same windows; nothing is computed."""
    if not localizer.scores:
        return
    net, scorer = localizer.boxes.net, localizer.scores.net
    side = 2 * net.size
    batch = {
        "image": jax.ShapeDtypeStruct((1, side, side, 3), jnp.uint8),
        "extent": jax.ShapeDtypeStruct((1, 2), jnp.int32),
        "classes": jax.ShapeDtypeStruct((1, 1), jnp.int32),
        "probabilities": jax.ShapeDtypeStruct((1, 1), jnp.float32),
    }
    if scorer.size != net.size:
        raise ValueError(
            f"the classification net takes images of {scorer.size} pixels and the localisation net images of "
            f"{net.size}; give one of the same size"
        )
    jax.eval_shape(functools.partial(window_boxes, net=net, scorer=scorer), localizer.states, batch)
