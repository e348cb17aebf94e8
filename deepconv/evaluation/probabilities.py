"""Class probabilities on disk: writing, reading, averaging, and their errors."""

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deepconv.run.directory import Procedure, environment, read_eval, write_json


def write(
    workdir: Path, name: str, probs: np.ndarray, labels: np.ndarray, step: int | None, procedure: Procedure
) -> None:
    """Writes probs.<name>.npy, labels.npy and, last, eval.<name>.json. Raises FloatingPointError.

    Probabilities are float32: float16 merges probabilities below 6e-8, which changes the errors of means.
    """
    if not np.isfinite(probs).all():
        raise FloatingPointError(f"{name}: the net's probabilities are not finite")
    env = environment()
    record = {
        "protocol": name,
        "examples": len(labels),
        "top1_error": top_k_error(probs, labels, 1),
        "top5_error": top_k_error(probs, labels, 5),
        "step": step,
        **procedure,
        **{key: env[key] for key in ("time", "commit", "dirty", "versions", "device_kind", "devices", "cpus")},
    }
    np.save(workdir / f"probs.{name}.npy", probs)
    np.save(workdir / "labels.npy", labels)
    write_json(workdir / f"eval.{name}.json", record)


def read_array(file: Path) -> np.ndarray:
    """Reads a .npy file. Raises OSError with the file's name."""
    try:
        return np.load(file, allow_pickle=False)
    except (EOFError, ValueError) as error:
        raise OSError(f"{file} is damaged: {error}; remove the eval.*.json of this test and test again") from None


def mean(files: Sequence[Path], weights: Sequence[float] | None = None) -> np.ndarray:
    """Returns the mean of saved probabilities, float32 [N, classes], with equal weights by default."""
    weights = weights or [1.0] * len(files)
    total = sum(weights)
    parts = (read_array(file) * np.float32(weight / total) for file, weight in zip(files, weights, strict=True))
    return functools.reduce(np.add, parts)


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
    best = np.argsort(-probabilities, axis=-1, kind="stable")[:, :k]
    misses = len(labels) - int((best == labels[:, None]).any(-1).sum())
    return 100 * misses / len(labels)
