"""Linear support vector machines, one against the rest for each class.

scikit-learn's LinearSVC (liblinear) computes in float64. Its primal form draws no random numbers, so results do not
depend on the threads that share the classes.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

LIBLINEAR_BYTES = 16  # for each value of the descriptors
# The paper gives neither the range of C, nor the loss, nor whether classes share C. Our reading: the loss is the
# squared hinge, and all classes share the C of the best mean on the validation rows, the smallest of equally good ones.
GRID = tuple(2.0**exponent for exponent in range(-4, 9, 2))


class Machines(NamedTuple):
    """A machine for each class; its scores are x @ weights + biases."""

    weights: np.ndarray  # float64 [d, classes]; 0 for a class that could not be trained
    biases: np.ndarray  # float64 [classes]
    trained: np.ndarray  # bool [classes]; false if one side of the class has no example

    def scores(self, x: np.ndarray) -> np.ndarray:
        """Returns scores, float64 [N, classes], of descriptors [N, d]."""
        return x @ self.weights + self.biases


def train(x: np.ndarray, labels: np.ndarray, c: float) -> Machines:
    """Trains a machine for each class on descriptors float64 [N, d] and labels [N, classes] of 1 and -1.

    Examples of label 0 are left out. Classes are shared among threads, since liblinear releases Python's lock: as many
    as there are cores, and as copies of the descriptors fit into the available memory.
    """
    from sklearn.svm import LinearSVC  # takes seconds to import

    x = np.ascontiguousarray(x, np.float64)
    trained = (labels == 1).any(0) & (labels == -1).any(0)
    weights, biases = np.zeros((x.shape[1], labels.shape[1])), np.zeros(labels.shape[1])

    def train_class(number: int) -> None:
        known = labels[:, number] != 0
        rows = x if known.all() else x[known]
        machine = LinearSVC(C=c, dual=False).fit(rows, labels[known, number])
        weights[:, number], biases[number] = machine.coef_[0], machine.intercept_[0]

    lines = Path("/proc/meminfo").read_text().splitlines()
    available = 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    workers = min(len(os.sched_getaffinity(0)), available // (LIBLINEAR_BYTES * max(1, x.size)))
    with ThreadPoolExecutor(max(1, workers)) as pool:
        list(pool.map(train_class, np.flatnonzero(trained)))
    return Machines(weights, biases, trained)


def rotated(x: np.ndarray, train_rows: np.ndarray) -> np.ndarray:
    """Returns descriptors [N, d] as float64, in fewer dimensions if there are more than training examples.

    Weights lie in the space that the n training examples span. In n coordinates of an orthonormal basis of that space,
    machines have the same scores, and are trained d / n times as fast.
    """
    if x.shape[1] <= len(train_rows):
        return x.astype(np.float64)
    basis, _ = np.linalg.qr(x[train_rows].T.astype(np.float64))  # [d, n]
    return x @ basis


def choose_c(
    x: np.ndarray,
    labels: np.ndarray,
    fit: np.ndarray,
    validation: np.ndarray,
    values: Callable[[np.ndarray, np.ndarray], np.ndarray],
    show: Callable[[], None] = lambda: None,
) -> tuple[float, dict[float, float]]:
    """Returns the C of GRID with the best mean over classes on the validation rows, and the mean for each C.

    values(scores, labels) gives the value of each class, NaN for one without positive examples. Classes without a value
    do not count. Raises ValueError if no class has a value.
    """
    means = {}
    for c in GRID:
        machines = train(x[fit], labels[fit], c)
        found = values(machines.scores(x[validation]), labels[validation])
        found = found[machines.trained & ~np.isnan(found)]
        if not len(found):
            raise ValueError("C cannot be chosen: no class has images in both parts of the training set")
        means[c] = float(found.mean())
        show()
    return max(means, key=lambda c: means[c]), means
