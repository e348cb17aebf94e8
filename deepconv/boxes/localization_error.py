"""The localisation error of ILSVRC, in percent."""

from pathlib import Path

import numpy as np

from deepconv.boxes import geometry

GUESSES = 5  # of a class and a box per image
MINIMUM_IOU = 0.5
VALIDATION_IMAGES = 50_000


def localization_error(
    classes: np.ndarray, boxes: np.ndarray, true_classes: np.ndarray, true_boxes: np.ndarray, counted: np.ndarray
) -> float:
    """Returns the percentage of images without a guess that has the class of a true box and an IoU of 0.5 with it.

    classes int [N, 5] and boxes [N, 5, 4]: up to five guesses for an image, class -1 for padding. true_classes int
    [N, M] and true_boxes [N, M, 4]: all objects, class -1 for padding. counted bool [N]: see `not_blacklisted`.
    """
    if classes.shape[1] > GUESSES:
        raise ValueError(f"{classes.shape[1]} guesses per image; ILSVRC allows {GUESSES}: give the best {GUESSES}")
    if not counted.any():
        raise ValueError(f"none of {len(counted)} images counts, so there is no error: at least one must")
    same = (classes[:, :, None] == true_classes[:, None]) & (true_classes >= 0)[:, None]
    overlaps = geometry.iou(boxes.astype(np.float64), true_boxes.astype(np.float64)) >= MINIMUM_IOU
    right = (same & overlaps).any((1, 2))
    return float(100 * (~right[counted]).mean())


def error_of_true_class(
    labels: np.ndarray, boxes: np.ndarray, true_classes: np.ndarray, true_boxes: np.ndarray, counted: np.ndarray
) -> float:
    """Returns the percentage of images whose box has an IoU below 0.5 with all true boxes of the image's true class.

    labels int [N]; boxes [N, 4]: one for an image, made for its label. The rest is as in `localization_error`.
    """
    return localization_error(labels[:, None], boxes[:, None], true_classes, true_boxes, counted)


def not_blacklisted(path: Path, numbers: np.ndarray) -> np.ndarray:
    """Returns which validation images count, bool [N]: those that the devkit's file of blacklisted numbers lacks.

    numbers int [N], from 1: ILSVRC2012_val_00000036 has number 36. The file is
    ILSVRC2015_clsloc_validation_blacklist.txt, one number a line. Raises ValueError for another line.
    """
    lines = path.read_text().split()
    for line in lines:
        if not (line.isdecimal() and 1 <= int(line) <= VALIDATION_IMAGES):
            raise ValueError(
                f"{path}: {line!r} is not the number of a validation image, 1 to {VALIDATION_IMAGES}; give ILSVRC's "
                "file ILSVRC2015_clsloc_validation_blacklist.txt"
            )
    return ~np.isin(numbers, np.array(lines, int))
