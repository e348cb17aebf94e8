"""Descriptors of a data set -> support vector machines -> the values of its classes."""

import dataclasses
import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepconv.config import recipes
from deepconv.run import log as runlog
from deepconv.run.directory import lock
from deepconv.run.files import read_json, write_json
from deepconv.transfer import descriptors, metrics, svm
from deepconv.transfer.benchmarks import Benchmark, Split
from deepconv.transfer.descriptors import Describer

WAIT_SECONDS = 24 * 3600  # for another command that computes the same descriptors


def settings(benchmark: Benchmark, nets: Sequence[Describer]) -> dict[str, Any]:
    """Returns what a directory measures; a command with other settings needs another directory."""
    truth = hashlib.sha256(benchmark.labels.tobytes())
    for rows in (rows for split in benchmark.splits for rows in dataclasses.astuple(split)):
        truth.update(rows.tobytes())
    return {
        "data": benchmark.name,
        "labels_and_splits": truth.hexdigest(),
        "regions": {region: part.digest for region, part in benchmark.parts.items()},
        "test": benchmark.test,
        "seeds": [*benchmark.seeds],
        "runs": [{"directory": net.name, "step": net.step, "weights": net.digest, "layer": net.layer} for net in nets],
        "scales": [test.scale for test in nets[0].tests],
    }


def claim(workdir: Path, new: dict[str, Any]) -> None:
    """Writes settings.json. Raises ValueError with the differences if the directory holds other settings."""
    file = workdir / "settings.json"
    if not file.exists():
        write_json(file, new)
        return
    old = read_json(file, dict, remedy="remove the directory, or give another --workdir")
    new = {name: value for name, value in new.items() if name in old or name != "labels_and_splits"}  # of version 0.2.0
    if changed := recipes.differences(_flat(old), _flat(new)):
        lines = [f"  {line.replace(' in the run, ', ' there, ')}" for line in changed]
        raise ValueError("\n".join([f"{workdir} holds another measurement; give another --workdir:", *lines]))


def _flat(content: dict[str, Any]) -> dict[str, Any]:
    runs = {f"run {number}": run for number, run in enumerate(content.get("runs", []), 1)}
    return {name: value for name, value in content.items() if name != "runs"} | runs


def all_descriptors(benchmark: Benchmark, nets: Sequence[Describer], workdir: Path) -> np.ndarray:
    """Returns descriptors of all examples, float32 [N, d].

    Those of each net and region are combined over scales, and then stacked. Tables lie beside the working directory, in
    descriptors/, since other commands with the same net and images use them too.
    """
    stack = []
    for net in nets:
        for region, part in benchmark.parts.items():
            identity = {"digest": f"{net.digest[:12]}-{part.digest[:12]}", "region": region, "run": net.name}
            folder = workdir.absolute().parent / "descriptors" / name(benchmark.name, identity)
            with lock(folder, patience=WAIT_SECONDS):
                scales = descriptors.describe(net, part, folder, f"{net.name}, {region}")
                combined = descriptors.combine(scales, benchmark.stacked)
            stack.append(combined[part.rows])
    return np.concatenate(stack, 1)


def name(data: str, changes: dict[str, str]) -> str:
    """Returns the name of a directory, with letters of data that have a meaning in paths replaced."""
    return recipes.run_name(data.replace("/", "_").replace(".", "_"), changes)


def measure_split(x: np.ndarray, benchmark: Benchmark, split: Split, title: str) -> dict[str, Any]:
    """Chooses C, trains on the split's training rows and tests; values are in percent, None for unmeasured classes."""
    labels, done = benchmark.labels, 0

    def values(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return metrics.class_values(benchmark.measure, scores, labels)

    with runlog.progress(title, len(svm.GRID) + 1) as show:

        def advance() -> None:
            nonlocal done
            done += 1
            show(done)

        x = svm.rotated(x, split.train)
        c, means = svm.choose_c(x, labels, split.fit, split.validation, values, advance)
        machines = svm.train(x[split.train], labels[split.train], c)
        found = values(machines.scores(x[split.test]), labels[split.test])
        advance()
    found[~machines.trained] = np.nan
    return {
        "c": c,
        "validation": {f"{c:g}": mean for c, mean in means.items()},
        "values": [None if np.isnan(value) else float(value) for value in found],
        "images": {"train": len(split.train), "test": len(split.test)},
    }


def measure(benchmark: Benchmark, nets: Sequence[Describer], workdir: Path) -> dict[str, Any]:
    """Returns what is measured, the content of transfer.json without the environment.

    Splits that are finished are kept in splits.json. Raises OSError, FloatingPointError.
    """
    start = time.perf_counter()
    x = all_descriptors(benchmark, nets, workdir)
    described = time.perf_counter()
    file = workdir / "splits.json"
    splits = read_json(file, list, remedy="remove it") if file.exists() else []
    for number, split in enumerate(benchmark.splits[len(splits) :], len(splits) + 1):
        began = time.perf_counter()
        title = f"split {number} of {len(benchmark.splits)}" if len(benchmark.splits) > 1 else "machines"
        splits.append(measure_split(x, benchmark, split, title))
        splits[-1]["seconds"] = time.perf_counter() - began
        write_json(file, splits)
    result = summary(benchmark, splits) | {"descriptor_length": x.shape[1]}
    machine_seconds = sum(split["seconds"] for split in splits)
    return result | {"seconds": {"descriptors": described - start, "machines": machine_seconds}}


def summary(benchmark: Benchmark, splits: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns the values of each class and their mean: for recall, means over splits, with the standard deviation.

    It is that of a sample, with n - 1. Classes without a value in any split are left out of means.
    """
    table = np.array([split["values"] for split in splits], np.float64)  # None becomes NaN
    measured = ~np.isnan(table).any(0)
    means = table[:, measured].mean(1)
    values = {name: value for name, value in zip(benchmark.classes, table.mean(0).tolist(), strict=True)}
    result = {
        "images": splits[0]["images"],
        "c": [split["c"] for split in splits],
        "validation": [split["validation"] for split in splits],
        "classes": {name: None if np.isnan(value) else value for name, value in values.items()},
    }
    if benchmark.measure == "recall":
        spread = float(means.std(ddof=1))
        return result | {"mean_class_recall": float(means.mean()), "mean_class_recall_std": spread}
    return result | {"mean_average_precision": float(means.mean()), "rule": benchmark.measure}
