"""Class probabilities on disk: writing, reading, averaging, and their errors."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from deepconv.run.evaluations import Procedure, read_eval
from deepconv.run.files import read_json, write_json
from deepconv.run.starts import environment

if TYPE_CHECKING:
    from deepconv.evaluation.batches import TestBatch  # imports Grain, which the command `ensemble` need not wait for


def write(
    workdir: Path, name: str, probs: np.ndarray, labels: np.ndarray, step: int | None, procedure: Procedure
) -> None:
    """Writes probs.<name>.npy, labels.npy and, last, eval.<name>.json. Raises FloatingPointError.

    Probabilities are float32: float16 merges probabilities below 6e-8, which changes the errors of means.
    """
    if not np.isfinite(probs).all():
        raise FloatingPointError(f"{name}: the net's probabilities are not finite")
    np.save(workdir / f"probs.{name}.npy", probs)
    np.save(workdir / "labels.npy", labels)
    errors = {f"top{k}_error": top_k_error(probs, labels, k) for k in (1, 5)}
    write_record(workdir, name, len(labels), errors, step, procedure)


def write_record(
    workdir: Path, name: str, examples: int, errors: dict[str, float], step: int | None, procedure: Procedure
) -> None:
    """Writes eval.<name>.json, which marks a test as finished; errors are in percent."""
    env = environment()
    record = {
        "protocol": name,
        "examples": examples,
        **errors,
        "step": step,
        **procedure,
        **{key: value for key, value in env.items() if key not in ("argv", "python")},
    }
    write_json(workdir / f"eval.{name}.json", record)


@dataclass(frozen=True)
class ClassProbabilities:
    """The measure of a classifier: class probabilities, and their errors."""

    width: int  # of a table's row, one probability per class

    def rows(self, batch: "TestBatch", output: np.ndarray) -> np.ndarray:
        """Returns rows of the table, float32 [B, width], for a batch and its outputs."""
        return output

    def is_complete(self, rows: np.ndarray) -> np.ndarray:
        """Returns whether rows [N, width] were written in full, bool [N]."""
        return abs(rows.sum(1) - 1) < 1e-3

    def error(self, table: np.ndarray) -> float:
        """Returns the top-1 error in percent."""
        return top_k_error(table["output"], table["label"], 1)

    def write(self, workdir: Path, name: str, table: np.ndarray, step: int, procedure: Procedure) -> None:
        """Writes the results of a finished test."""
        write(workdir, name, table["output"], table["label"], step, procedure)


@dataclass(frozen=True)
class Hits:
    """The top-1 error of a classifier alone, with one number per image: whether its class is the likeliest."""

    width: ClassVar = 1

    def rows(self, batch: "TestBatch", output: np.ndarray) -> np.ndarray:
        """Returns rows of the table, float32 [B, 1]; probabilities that are not finite are misses.

        They occur early in training, when BatchNorm's averages lag behind a deep plain net.
        """
        hits = (output.argmax(1) == batch.labels) & np.isfinite(output).all(1)
        return hits[:, None].astype(np.float32)

    def error(self, table: np.ndarray) -> float:
        """Returns the top-1 error in percent; ties go to the lower class."""
        return 100 * int((table["output"] == 0).sum()) / len(table)


def read_array(file: Path) -> np.ndarray:
    """Reads a .npy file. Raises OSError with the file's name."""
    try:
        return np.load(file, allow_pickle=False)
    except FileNotFoundError:
        raise FileNotFoundError(f"{file} is gone; remove the eval.*.json of this test and test again") from None
    except (EOFError, ValueError) as error:
        raise OSError(f"{file} is damaged: {error}; remove the eval.*.json of this test and test again") from None


def common_labels(files: Sequence[Path]) -> np.ndarray:
    """Returns the labels saved beside all files. Raises ValueError if they differ, OSError if they are missing."""
    if not files:
        raise ValueError("no files are given; name the probs.<protocol>.npy of some runs")
    for file in files:
        if missing := [path for path in (file, file.with_name("labels.npy")) if not path.is_file()]:
            raise FileNotFoundError(
                f"{missing[0]} is missing; a test writes probs.<protocol>.npy and labels.npy to a run's directory"
            )
    labels = [read_array(file.with_name("labels.npy")) for file in files]
    for file, file_labels in zip(files, labels, strict=True):
        if not np.array_equal(file_labels, labels[0]):
            raise ValueError(f"{file} and {files[0]} were not computed from the same test images: their labels differ")
    files_of_classes = [known for file in files if (known := file.with_name("classes.json")).exists()]
    for known in files_of_classes[1:]:
        if read_json(known, list) != read_json(files_of_classes[0], list):
            raise ValueError(f"{known} and {files_of_classes[0]} differ: these nets have other classes")
    return labels[0]


def mean(files: Sequence[Path], weights: Sequence[float] | None = None) -> np.ndarray:
    """Returns the mean of saved probabilities, float32 [N, classes], with equal weights by default.

    Raises ValueError if some are not finite, OSError.
    """
    weights = weights or [1.0] * len(files)
    total = sum(weights)
    parts = (_finite(file) * np.float32(weight / total) for file, weight in zip(files, weights, strict=True))
    return functools.reduce(np.add, parts)


def _finite(file: Path) -> np.ndarray:
    probs = read_array(file)
    if probs.dtype.kind != "f" or probs.ndim != 2:
        raise ValueError(f"{file} holds {probs.dtype} {[*probs.shape]}; probabilities are numbers, [images, classes]")
    if not np.isfinite(probs).all():
        raise ValueError(f"{file} holds numbers that are not finite; test that net again")
    if (abs(probs.sum(1) - 1) > 0.01).any():
        raise ValueError(f"{file} does not hold probabilities: the numbers of an image do not add up to 1")
    return probs


def average(workdir: Path, name: str, parts: Sequence[str]) -> None:
    """Writes a test that averages the saved probabilities of other tests."""
    keys = ("scales", "views", "compiled_shapes", "seconds", "step")
    records = [read_eval(workdir / f"eval.{part}.json", *keys) for part in parts]
    probs = mean([workdir / f"probs.{part}.npy" for part in parts])
    seconds = sum(record["seconds"] for record in records)
    procedure = Procedure(
        mean_of=[*parts],
        scales=sorted({scale for record in records for scale in record["scales"]}, key=lambda scale: scale or 0),
        views=sum(record["views"] for record in records),
        compiled_shapes=sum(record["compiled_shapes"] for record in records),
        seconds=seconds,
        images_per_second=len(probs) / seconds,
    )
    write(workdir, name, probs, read_array(workdir / "labels.npy"), records[0]["step"], procedure)


def top_k_error(probabilities: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Returns the percentage of images whose label is not among the k likeliest; ties go to the lower class."""
    hits = 0
    for start in range(0, len(labels), 10_000):  # ImageNet's releases give tables of gigabytes
        rows = slice(start, start + 10_000)
        best = np.argsort(-probabilities[rows], axis=-1, kind="stable")[:, :k]
        hits += int((best == labels[rows, None]).any(-1).sum())
    return 100 * (len(labels) - hits) / len(labels)
