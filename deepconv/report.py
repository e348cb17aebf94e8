"""What a run prints before its work and after it."""

import glob
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from deepconv import description
from deepconv.data.sources.source import data_root
from deepconv.ops import counting, forms
from deepconv.run import checkpoint_files
from deepconv.run.evaluations import Evaluation, errors_of
from deepconv.run.files import printable
from deepconv.task import Task

# the fields of a test that the summary needs apart from its errors and number of images
SUMMARY = "protocol", "step", "views"
# heads of the columns of the summary
ERRORS = {
    "top1_error": "top-1 error",
    "top5_error": "top-5 error",
    "true_class_localization_error": "localisation error, true class",
    "true_class_localization_error_without_blacklisted": "without blacklisted images",
}
CHANGES = 8  # that a start names one by one
GPUS = "/dev/nvidia[0-9]*", "/usr/lib/wsl/lib/nvidia-smi"  # files of NVIDIA's driver, in Linux and in Windows' Linux


def recipe(name: str, changes: Mapping[str, tuple[Any, Any]]) -> str:
    """Returns a line with a recipe and its changes {field: (before, now)}."""
    named = [f"{field}={now} instead of {before}" for field, (before, now) in changes.items()]
    if len(named) > CHANGES:
        named = [*named[:CHANGES], f"and {len(named) - CHANGES} more changes"]
    return f"recipe: {', '.join([name, *named])}"


def net(task: Task) -> str:
    """Returns a line with the net's numbers of parameters and multiply-adds."""
    size = task.config.data.image_size
    parameters, multiply_adds = map(description.in_words, counting.count(task.model, (size, size, 3)))
    numbers = f"{parameters} parameters, {multiply_adds} multiply-adds for an image of {size} x {size} pixels"
    return f"net: {task.config.model.name}, {numbers}"


def data(task: Task, data_dir: str | None) -> str:
    """Returns a line with the data set, its place and its numbers of images and classes."""
    name, classes = task.config.data.name, len(task.train_source.classes)
    place = "built in" if name == "shapes" else f"in {printable(str(data_root(data_dir) / name))}"
    training = f"{task.train_source.examples:,} training images, " if task.total_steps else ""
    return f"data: {name}, {place}, {training}{task.eval_source.examples:,} test images, {classes:,} classes"


def schedule(task: Task, workdir: Path, tests: Sequence[str]) -> str:
    """Returns a line with the length of training, the step from which it continues, and the tests after it."""
    done = checkpoint_files.steps(workdir / "checkpoints")
    at = f", continued from step {done[-1]:,}" if done else ""
    at = ", done" if done and done[-1] >= task.total_steps else at
    averaged = ", with moving averages of the weights" if task.config.optimizer.ema_decay else ""
    length = description.length(task.config, task.train_source.examples)
    return f"training: {length}{at}; then test {', '.join(tests)}{averaged}"


def warnings(task: Task, weights: Mapping[str, Any], workdir: Path) -> list[str]:
    """Returns what may be a mistake in a run, which is allowed; `weights` are those that it starts from, by layer."""
    return [
        warning for warning in (unused_gpu(), untrained_layers(task, weights, workdir), shared_images(task)) if warning
    ]


def shared_images(task: Task) -> str | None:
    """Returns a warning if training and test images are parts of one split that may overlap."""
    data = task.config.data
    (train, begin, end), (test, first, last) = map(_part, (data.train_split, data.eval_split))
    apart = end == first or last == begin or _before(end, first) or _before(last, begin)
    if train != test or apart or not task.total_steps:
        return None
    return (
        f"WARNING: training and test images may overlap (config.data.train_split={data.train_split}, "
        f"config.data.eval_split={data.eval_split}); the test error is then not that of unseen images"
    )


def _part(split: str) -> tuple[str, str, str]:
    """Returns the base of a split such as train[:90%], and the words of its bounds, of which the first may be empty."""
    base, _, bounds = split.rstrip("]").partition("[")
    first, _, last = bounds.partition(":")
    return {"val": "validation"}.get(base, base), first or "0", last or "100%"


def _before(end: str, first: str) -> bool:
    """Returns whether a bound is certainly not after another: two numbers from the start, or two of percent."""
    alike = end.endswith("%") == first.endswith("%") and not (end + first).count("-")
    return alike and int(end.rstrip("%")) <= int(first.rstrip("%"))


def untrained_layers(task: Task, weights: Mapping[str, Any], workdir: Path) -> str | None:
    """Returns a warning if a new run's first weights, by layer, lack layers that the recipe never trains."""
    layers = task.config.optimizer.get("layers", {})
    frozen = [
        layer for layer, node in layers.items() if 0 in (node.get("freeze_at_steps"), node.get("freeze_at_epochs"))
    ]
    random = [layer for layer in frozen if layer not in weights.get("params", {})]
    if not random or not task.total_steps or checkpoint_files.steps(workdir / "checkpoints"):
        return None
    named = f"{random[0]} and {len(random) - 1} more layers" if len(random) > 1 else random[0]
    return f"WARNING: {named} get random weights and are never trained; --init_from gives trained ones, for these, too"


def unused_gpu() -> str | None:
    """Returns a warning if this machine has an NVIDIA GPU that JAX leaves unused although no variable says so."""
    chosen = os.environ.get("JAX_PLATFORMS") or os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if forms.platform() == "gpu" or chosen or not any(map(glob.glob, GPUS)):
        return None
    return (
        "WARNING: this machine has an NVIDIA GPU, and JAX does not use it. To install JAX with CUDA: "
        "pip install 'deepconv[cuda]'. To use the CPU without this warning: JAX_PLATFORMS=cpu"
    )


def summary(task: Task, workdir: Path, evals: Sequence[Evaluation]) -> None:
    """Prints the errors of tests, and where they are."""
    classes = len(task.eval_source.classes)
    title = f"after {evals[0]['step']} steps" if task.total_steps else None
    names = dict.fromkeys(name for record in evals for name in errors_of(record))
    classifies = "top1_error" in names
    columns = "images", "views", *(ERRORS[name] for name in names), *["by chance"] * classifies
    table = Table(Column("protocol", overflow="fold"), *columns, title=title)
    for record in evals:
        counts, found = (str(record["examples"]), str(record["views"])), errors_of(record)
        errors = [f"{found[name]:.2f} %" if name in found else "–" for name in names]
        chance = [f"{100 - 100 / classes:.0f} %"] * classifies
        table.add_row(record["protocol"], *counts, *errors, *chance)
    Console().print(table)
    corrupt = workdir / "corrupt.txt"
    if corrupt.exists():
        count = len(corrupt.read_text("utf-8", "replace").splitlines())
        print(f"{count} images could not be decoded and were replaced: see {corrupt}")
    print(f"run directory: {workdir}")
