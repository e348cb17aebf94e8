"""What a net is trained for: the loss of a batch, and an error in percent.

A batch, as `data.augment` leaves it, has "label" int32 [B] and, with objects, "boxes" float32 [B, M, 4] in pixels of
the crops and "classes" int32 [B, M], -1 for padding. A loss is a mean over the images of the batch.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from deepconv.boxes import anchors, codes, geometry, matching
from deepconv.boxes.localization_error import MINIMUM_IOU
from deepconv.boxes.losses import box_error, shares_of_own, smooth_l1
from deepconv.ops.parts import draw

Batch = dict[str, jax.Array]
CHOICES = (
    *("classification", "single_class_regression", "per_class_regression"),
    *("class_region_proposal", "class_box_refinement"),
)
MINIMUM_SHARE = 0.5  # of a box inside the crop
STRIDES = {"resnet": 32, "resnet_cifar": 4}  # pixels between neighbouring places of a net's last map


@dataclass(frozen=True)
class Classification:
    """One label per image: softmax cross entropy."""

    outputs: int  # of the net: one score per class

    error: ClassVar[str] = "top1_error"
    per_place: ClassVar[bool] = False

    def __call__(self, scores: jax.Array, batch: Batch, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the loss and the top-1 error of scores [B, classes]."""
        return cross_entropy(scores, batch["label"]), top1_error(scores, batch["label"])


@dataclass(frozen=True)
class BoxRegression:
    """The box of an image's object: Euclidean loss (Simonyan & Zisserman 2015, appendix A).

    The outputs [B, boxes * 4] are codes of `boxes.codes.encode_in_crop`, in the layout [boxes, 4]. There is one box for
    all classes (single-class regression, SCR) or one per class (per-class regression, PCR), of which only that of the
    image's class has a target.
    """

    boxes: int  # 1 or the number of classes
    size: int  # side of a crop in pixels

    error: ClassVar[str] = "true_class_localization_error"
    per_place: ClassVar[bool] = False

    @property
    def outputs(self) -> int:
        """Returns the number of outputs of the net."""
        return 4 * self.boxes

    def __call__(self, outputs: jax.Array, batch: Batch, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the loss, and the percentage of images whose box has no IoU of 0.5 or more with a box of their class.

        The loss is sum((p - t)^2) / 2N as in Caffe, where N is the number of images in the batch. The target is the box
        of the image's class with the largest share inside the crop, not clipped. An image for which this share is below
        0.5 adds 0 to the loss, and counts in N.
        """
        found = of_classes(outputs, batch["label"][:, None], 4)[:, 0]
        own, shares = shares_of_own(batch, self.size)
        target = jnp.take_along_axis(batch["boxes"], shares.argmax(1)[:, None, None], 1)[:, 0]
        weight = (shares.max(1) >= MINIMUM_SHARE).astype(jnp.float32)
        squares = jnp.square(found - codes.encode_in_crop(target, self.size)).sum(1)
        return (weight * squares).mean() / 2, box_error(self.boxes_of(outputs, batch["label"]), batch["boxes"], own)

    def boxes_of(self, outputs: jax.Array, classes: jax.Array) -> jax.Array:
        """Returns the boxes of these classes, int [B], in pixels of the crops, float32 [B, 4]."""
        return codes.decode_in_crop(of_classes(outputs, classes[:, None], 4)[:, 0], self.size)


@dataclass(frozen=True)
class ClassRegionProposal:
    """A region proposal network with a score and a box for each class (He et al. 2015, appendix C).

    At each place of the last map and for each of its nine anchors, the net gives each class a logit for the anchor
    being an object of the class, and a code of `boxes.codes.encode`: [B, h, w, 9 * classes * 5], in the layout [9,
    classes, 5]. The paper's two sibling layers, for scores and for boxes, are one layer here.
    """

    classes: int
    size: int  # side of a crop in pixels
    stride: int  # pixels between neighbouring places of the map

    error: ClassVar[str] = "true_class_localization_error"
    per_place: ClassVar[bool] = True
    # DIFFERS: the paper gives no anchors. These have sides of 64, 128 and 256 pixels for its crops of 224.
    sides: ClassVar[tuple[float, ...]] = (2 / 7, 4 / 7, 8 / 7)  # of the crop
    drawn: ClassVar[int] = 8  # anchors of an image: "we randomly sample 8 anchors for each image"

    @property
    def outputs(self) -> int:
        """Returns the number of outputs of the net at each place."""
        return 5 * self.classes * len(self.sides) * len(anchors.RATIOS)

    def __call__(self, outputs: jax.Array, batch: Batch, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the loss, and the percentage of images whose best box has no IoU of 0.5 with a box of their class.

        Eight anchors of each image are drawn: up to four objects, the others background. Only the outputs for the
        image's class are trained. The loss of an image is the mean logistic loss of its anchors, and the smooth L1 loss
        of the codes of its objects, divided by the number of anchors (Ren et al. 2015, 3.1.2, with weights that are
        equal, as in the authors' code). An object is to be found if half of it is inside the crop. An image without a
        box of its class adds 0.
        """
        logits, found = (x[:, 0] for x in self.read(outputs, batch["label"][:, None]))
        places = jnp.tile(self.anchors_of_map(*outputs.shape[1:3])[None], (len(outputs), 1, 1))
        own, shares = shares_of_own(batch, self.size)
        is_object, is_background, boxes = matching.match(places, batch["boxes"], own, shares >= MINIMUM_SHARE)
        numbers = draw(lambda shape: jax.random.uniform(key, shape), is_object.shape)
        objects = matching.draw(is_object, numbers, jnp.full(len(own), self.drawn // 2))
        background = matching.draw(is_background, numbers, self.drawn - objects.sum(1))
        chosen = objects | background
        logistic = jnp.where(chosen, optax.sigmoid_binary_cross_entropy(logits, objects), 0.0)
        target = codes.encode(jnp.where(objects[..., None], boxes, places), places)
        distances = jnp.where(objects, smooth_l1(found - target).sum(-1), 0.0)
        per_image = (logistic + distances).sum(1) / jnp.maximum(chosen.sum(1), 1)
        best = self.boxes_of(outputs, batch["label"])
        return per_image.mean(), box_error(best, batch["boxes"], own)

    def anchors_of_map(self, height: int, width: int) -> np.ndarray:
        """Returns the anchors of a map of this size, float32 [N, 4], in the order of `read`."""
        cell = anchors.cell(self.stride, [share * self.size for share in self.sides])
        return anchors.over_map(cell, height, width, self.stride).reshape(-1, 4)

    def read(self, outputs: jax.Array, classes: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the logits [B, K, N] and codes [B, K, N, 4] of all anchors for these classes, int [B, K]."""
        by_anchor = outputs.reshape(len(outputs), -1, 5 * self.classes)
        chosen = of_classes(by_anchor, classes, 5).swapaxes(1, 2)
        return chosen[..., 0], chosen[..., 1:]

    def proposals(self, outputs: jax.Array, classes: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the boxes [B, K, N, 4] of all anchors for these classes, int [B, K], and their logits [B, K, N]."""
        logits, found = self.read(outputs, classes)
        places = jnp.broadcast_to(self.anchors_of_map(*outputs.shape[1:3])[None, None], found.shape)
        return codes.decode(found, places), logits  # sigmoids tie from 17 on, as those of several scales do

    def boxes_of(self, outputs: jax.Array, classes: jax.Array) -> jax.Array:
        """Returns the boxes with the highest score for these classes, int [B], in pixels of the crops: [B, 4]."""
        boxes, logits = self.proposals(outputs, classes[:, None])
        return jnp.take_along_axis(boxes[:, 0], logits.argmax(2)[..., None], 1)[:, 0]


@dataclass(frozen=True)
class ClassBoxRefinement:
    """R-CNN with a score and a box for each class (He et al. 2015, appendix C): a crop is a proposal for its class.

    For each class, the net gives a logit for the crop being an object of the class, and a code of `boxes.codes.encode`
    relative to the crop: [B, classes * 5], in the layout [classes, 5].
    """

    classes: int
    size: int  # side of a crop in pixels

    error: ClassVar[str] = "true_class_localization_error"
    per_place: ClassVar[bool] = False

    @property
    def outputs(self) -> int:
        """Returns the number of outputs of the net."""
        return 5 * self.classes

    def __call__(self, outputs: jax.Array, batch: Batch, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the loss, and the percentage of crops whose box has no IoU of 0.5 or more with a box of their class.

        A crop is an object if its IoU with a box of its class is 0.5 or more, else background. The loss is the mean of
        the logistic loss for the class of the crop and, if it is an object, the smooth L1 loss of the code.
        """
        code, logits = self._read(outputs, batch["label"])
        crops, (own, _) = self._crops(len(code)), shares_of_own(batch, self.size)
        overlaps = jnp.where(own, geometry.iou(crops[:, None], batch["boxes"])[:, 0], 0.0)
        is_object = overlaps.max(1) >= MINIMUM_IOU
        target = jnp.take_along_axis(batch["boxes"], overlaps.argmax(1)[:, None, None], 1)[:, 0]
        target = codes.encode(jnp.where(is_object[:, None], target, crops), crops)
        distances = jnp.where(is_object, smooth_l1(code - target, sigma=1.0).sum(1), 0.0)
        loss = optax.sigmoid_binary_cross_entropy(logits, is_object) + distances
        return loss.mean(), box_error(self.boxes_of(outputs, batch["label"]), batch["boxes"], own)

    def refined(self, outputs: jax.Array, classes: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the boxes [B, 4] in pixels of the crops and the scores [B] for these classes, int [B]."""
        code, logits = self._read(outputs, classes)
        return codes.decode(code, self._crops(len(code))), jax.nn.sigmoid(logits)

    def boxes_of(self, outputs: jax.Array, classes: jax.Array) -> jax.Array:
        """Returns the boxes of these classes, int [B], in pixels of the crops: [B, 4]."""
        return self.refined(outputs, classes)[0]

    def _read(self, outputs: jax.Array, classes: jax.Array) -> tuple[jax.Array, jax.Array]:
        chosen = of_classes(outputs, classes[:, None], 5)[:, 0]
        return chosen[:, 1:], chosen[:, 0]

    def _crops(self, count: int) -> jax.Array:
        return jnp.tile(jnp.array([[0, 0, self.size, self.size]], jnp.float32), (count, 1))


Objective = Classification | BoxRegression | ClassRegionProposal | ClassBoxRefinement


def create(config: ConfigDict, classes: int) -> Objective:
    """Returns the objective that config.objective names, for a number of classes. Raises ValueError."""
    name, size = config.get("objective", "classification"), config.data.image_size
    if not needs_boxes(name):
        return Classification(classes)
    if name == "class_box_refinement":
        return ClassBoxRefinement(classes, size)
    if name != "class_region_proposal":
        return BoxRegression(classes if name == "per_class_regression" else 1, size)
    if config.model.name not in STRIDES:
        raise ValueError(
            f"config.model.name={config.model.name} has no outputs at each place of its last map, which "
            f"config.objective={name} needs; choose {' or '.join(STRIDES)}"
        )
    return ClassRegionProposal(classes, size, STRIDES[config.model.name])


def needs_boxes(name: str) -> bool:
    """Returns whether the objective with this name is trained on boxes. Raises ValueError for an unknown name."""
    if name not in CHOICES:
        raise ValueError(f"config.objective={name!r} is unknown; choose one of {', '.join(CHOICES)}")
    return name != "classification"


def of_classes(outputs: jax.Array, classes: jax.Array, numbers: int) -> jax.Array:
    """Returns the outputs of chosen classes, int [B, K], from those of all classes, [B, ..., classes * numbers].

    The result is float32 [B, ..., K, numbers]. A single class among the outputs stands for every class.
    """
    by_class = outputs.astype(jnp.float32).reshape(*outputs.shape[:-1], -1, numbers)
    chosen = classes if by_class.shape[-2] > 1 else jnp.zeros_like(classes)
    return jnp.take_along_axis(by_class, jnp.expand_dims(chosen, (*range(1, outputs.ndim - 1), -1)), -2)


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the mean softmax cross entropy in nats; logits [B, classes], labels int [B]."""
    return optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), labels).mean()


def top1_error(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the percentage of images whose highest score is not their label's."""
    return 100.0 * (logits.argmax(-1) != labels).mean()
