"""Saved class probabilities: written, read, averaged, and turned into errors."""

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deepconv.run.directory import Procedure, environment, read_eval, write_json


def write(workdir: Path, name: str, probs: np.ndarray, labels: np.ndarray, step: int | None, how: Procedure) -> None:
    """probs.<name>.npy, labels.npy and, last, eval.<name>.json. Raises FloatingPointError.

    float32: in float16, classes below 6e-8 are all the same, and errors of means of them are not those of the net.
    """
    if not np.isfinite(probs).all():
        raise FloatingPointError(f"{name}: the net's probabilities are not finite")
    here = environment()
    record = {
        "protocol": name,
        "examples": len(labels),
        "top1_error": top_k_error(probs, labels, 1),
        "top5_error": top_k_error(probs, labels, 5),
        "step": step,
        **how,
        **{key: here[key] for key in ("time", "commit", "dirty", "versions", "device_kind", "devices", "cpus")},
    }
    np.save(workdir / f"probs.{name}.npy", probs)
    np.save(workdir / "labels.npy", labels)
    write_json(workdir / f"eval.{name}.json", record)


def read_array(file: Path) -> np.ndarray:
    """What a .npy file holds. Raises OSError, with the file's name."""
    try:
        return np.load(file, allow_pickle=False)
    except (EOFError, ValueError) as error:
        raise OSError(f"{file} is damaged: {error}; remove its eval.*.json, and test again") from None


def mean(files: Sequence[Path], weights: Sequence[float] | None = None) -> np.ndarray:
    """The mean of saved probabilities, float32 [N, classes]; of equal weights, if none are given."""
    weights = weights or [1.0] * len(files)
    total = sum(weights)
    parts = (read_array(file) * np.float32(weight / total) for file, weight in zip(files, weights, strict=True))
    return functools.reduce(np.add, parts)


def average(workdir: Path, name: str, of: Sequence[str]) -> None:
    """The protocol that is the mean of others: from their saved probabilities."""
    keys = ("scales", "views", "compiled_shapes", "seconds", "step")
    records = [read_eval(workdir / f"eval.{part}.json", *keys) for part in of]
    probs = mean([workdir / f"probs.{part}.npy" for part in of])
    seconds = sum(record["seconds"] for record in records)
    how = Procedure(
        mean_of=[*of],
        scales=sorted({scale for record in records for scale in record["scales"]}, key=lambda scale: scale or 0),
        views=sum(record["views"] for record in records),
        compiled_shapes=sum(record["compiled_shapes"] for record in records),
        seconds=seconds,
        images_per_second=len(probs) / seconds,
    )
    write(workdir, name, probs, read_array(workdir / "labels.npy"), records[0]["step"], how)


def top_k_error(probabilities: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Percentage of images whose label is not among the k highest; ties go to the lower class, as in argmax."""
    best = np.argsort(-probabilities, axis=-1, kind="stable")[:, :k]
    misses = len(labels) - int((best == labels[:, None]).any(-1).sum())
    return 100 * misses / len(labels)
