"""Average precision by the rules of PASCAL VOC, for detections and for classification."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from deepconv.boxes import geometry


@dataclass(frozen=True)
class Detections:
    """The detections of a test, one a row, in any order."""

    images: np.ndarray  # int [N], the number of the image
    classes: np.ndarray  # int [N], -1 for padding
    scores: np.ndarray  # float [N]
    boxes: np.ndarray  # float [N, 4]


@dataclass(frozen=True)
class Objects:
    """The true objects of a test, one a row."""

    images: np.ndarray  # int [M], the number of the image
    classes: np.ndarray  # int [M], -1 for padding
    boxes: np.ndarray  # float [M, 4]
    difficult: np.ndarray  # bool [M]; these are neither right nor wrong to find


def eleven_point(recall: np.ndarray, precision: np.ndarray) -> float:
    """Returns the mean of the largest precisions at recalls of at least 0, 0.1, ..., 1, VOC's rule until 2009."""
    reached = recall >= np.arange(11)[:, None] * 0.1  # 3 * 0.1 > 0.3, as in VOC's and Girshick's code
    return float(np.where(reached, precision, 0.0).max(-1, initial=0.0).mean())


def area(recall: np.ndarray, precision: np.ndarray) -> float:
    """Returns the area below the falling envelope of the precision, VOC's rule since 2010."""
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))


Measure = Callable[[np.ndarray, np.ndarray], float]


def precision_recall(
    scores: np.ndarray, right: np.ndarray, wrong: np.ndarray, positives: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns recall and precision [N] after each of N answers by falling score; some are neither right nor wrong.

    right and wrong bool [N]. For the classification of images, they are label > 0 and label < 0.
    """
    order = np.argsort(-scores, kind="stable")
    hits, misses = np.cumsum(right[order]), np.cumsum(wrong[order])
    return hits / positives, hits / np.maximum(hits + misses, 1)


def average_precision(
    detections: Detections, objects: Objects, classes: int, measure: Measure, minimum_iou: float = 0.5
) -> np.ndarray:
    """Returns the average precision of each class in percent, float64 [classes]; NaN for one without objects to find.

    A detection is compared with the object of its class that it overlaps most. It is right if the IoU is at least
    minimum_iou and no better detection has the object, and does not count if the object is difficult.
    """
    best, overlap = _best_objects(detections, objects)
    matched = overlap >= minimum_iou
    counts = matched.copy()
    counts[matched] &= ~objects.difficult[best[matched]]
    order = np.argsort(-detections.scores, kind="stable")
    candidates = order[counts[order]]
    right = np.zeros(len(order), bool)
    right[candidates[np.unique(best[candidates], return_index=True)[1]]] = True  # the best of each object
    wrong = ~matched | (counts & ~right)
    precisions = np.full(classes, np.nan)
    for number in range(classes):
        positives = int(np.count_nonzero((objects.classes == number) & ~objects.difficult))
        if positives:
            here = detections.classes == number
            curve = precision_recall(detections.scores[here], right[here], wrong[here], positives)
            precisions[number] = 100 * measure(*curve)
    return precisions


def _best_objects(detections: Detections, objects: Objects) -> tuple[np.ndarray, np.ndarray]:
    """Returns the object of its image and class that each detection overlaps most, int [N], and the IoU, 0 for none."""
    best, overlap = np.zeros(len(detections.scores), int), np.zeros(len(detections.scores))
    objects_of = _rows(objects.images)
    for image, rows in _rows(detections.images).items():
        if (found := objects_of.get(image)) is not None:
            ious = geometry.iou(detections.boxes[rows].astype(np.float64), objects.boxes[found].astype(np.float64))
            ious *= detections.classes[rows][:, None] == objects.classes[found]
            best[rows], overlap[rows] = found[ious.argmax(-1)], ious.max(-1)
    return best, overlap


def _rows(images: np.ndarray) -> dict[int, np.ndarray]:
    """Returns the rows of each image, in their order."""
    order = np.argsort(images, kind="stable")
    numbers, starts = np.unique(images[order], return_index=True)
    return dict(zip(numbers.tolist(), np.split(order, starts[1:]), strict=True)) if len(images) else {}
