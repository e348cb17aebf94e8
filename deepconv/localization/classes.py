"""The classes of each image that get a box: the likeliest by saved probabilities."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deepconv.boxes.localization_error import GUESSES
from deepconv.evaluation import probabilities
from deepconv.localization.dense import Guesses
from deepconv.run.files import read_json


def choose(files: Sequence[Path], names: Sequence[str], labels: np.ndarray) -> Guesses:
    """Returns the K classes to keep for each image: its five likeliest, or all of fewer, then its true class.

    Likeliest is the mean of saved probabilities; ties go to the lower class. names are the classes of the localisation
    nets and labels int [N] those of its images, which must be those of the files. Raises ValueError, OSError.
    """
    saved = probabilities.common_labels(files)
    if not np.array_equal(saved, labels):
        problem = f"{len(saved)}, not {len(labels)}" if len(saved) != len(labels) else "others, or in another order"
        raise ValueError(
            f"{files[0]} was not computed from the images of this test: its images are {problem}; test that net on "
            "the same split of the same data"
        )
    for file in files:
        if (known := file.with_name("classes.json")).exists() and read_json(known, list) != list(names):
            raise ValueError(f"{file} has other classes than the localisation net: {known} differs")
        if (shape := probabilities.read_array(file).shape) != (len(labels), len(names)):
            raise ValueError(
                f"{file} holds an array of shape {shape}; {len(labels)} rows of {len(names)} probabilities are needed, "
                "as the localisation net has classes"
            )
    mean = probabilities.mean(files)
    best = np.argsort(-mean, axis=-1, kind="stable")[:, :GUESSES]
    classes = np.concatenate([best, labels[:, None]], -1).astype(np.int32)
    return Guesses(classes, np.take_along_axis(mean, classes, -1).astype(np.float32))
