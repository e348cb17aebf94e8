"""Values of each class: average precision on PASCAL VOC, recall on Caltech."""

import numpy as np

from deepconv.boxes.average_precision import Measure, area, eleven_point, precision_recall


def class_values(measure: str, scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the value of each class in percent, float64 [classes]; NaN for a class without positive examples.

    scores float [N, classes]; labels int [N, classes], 1, -1, or 0 for one that does not count. For recall, exactly one
    label of each row is 1, and an example is assigned to the class of its largest score.
    """
    return _recalls(scores, labels) if measure == "recall" else _precisions(scores, labels, MEASURES[measure])


MEASURES: dict[str, Measure] = {"eleven_point": eleven_point, "area": area}


def _precisions(scores: np.ndarray, labels: np.ndarray, rule: Measure) -> np.ndarray:
    values = np.full(labels.shape[1], np.nan)
    for number, (column, label) in enumerate(zip(scores.T, labels.T, strict=True)):
        if positives := int((label > 0).sum()):
            values[number] = 100 * rule(*precision_recall(column, label > 0, label < 0, positives))
    return values


def _recalls(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    truth, right = labels.argmax(1), labels.argmax(1) == scores.argmax(1)
    counts = np.bincount(truth, minlength=labels.shape[1])
    found = np.bincount(truth[right], minlength=labels.shape[1])
    return np.divide(100 * found, counts, where=counts > 0, out=np.full(labels.shape[1], np.nan))
