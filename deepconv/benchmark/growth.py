"""The cost of training as work grows: records, depth, classes, devices and the side of images.

Every point is measured by `training` in its own process, with a recipe of small batches. The data for records, classes
and sides is made on the fly: packed black images, in sparse files that take no space.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deepconv.benchmark.record import Figures
from deepconv.benchmark.timing import short
from deepconv.config import recipes
from deepconv.run import preemption


@dataclass(frozen=True)
class Data:
    """A data set of black images to make."""

    records: int
    side: int  # pixels
    classes: int = 10


@dataclass(frozen=True)
class Point:
    """A measurement: a recipe, its changes, its data, and the number of virtual devices of the CPU."""

    value: int  # the place on the axis
    recipe: str
    changes: dict[str, Any]
    data: Data | None = None  # None for the built-in data
    devices: int = 1


CIFAR = {"batch_size": 128}
AXES: dict[str, list[Point]] = {
    "records": [Point(count, "resnet_cifar", CIFAR, Data(count, 32)) for count in (1_000, 10_000, 100_000, 1_280_000)],
    "depth": [
        Point(depth, "resnet_cifar", {"batch_size": 4, "model.depth": depth}) for depth in (20, 56, 110, 326, 1202)
    ],
    "classes": [
        Point(count, "alexnet", {"batch_size": 16}, Data(max(1_000, count), 224, count))
        for count in (10, 100, 1_000, 10_000, 22_000)
    ],
    "devices": [Point(count, "resnet_cifar", CIFAR, devices=count) for count in (1, 2, 4, 8)],
    "side": [
        Point(side, "resnet18", {"batch_size": 2, "model.bn_group": 0}, Data(64, side)) for side in (224, 320, 448, 640)
    ],
}
SHOWN = {  # a figure of `training`: its heading, and its divisor
    "first_batch_seconds": ("first batch, s", 1),
    "compile_seconds": ("compilation, s", 1),
    "input_images_per_second": ("input, images/s", 1),
    "step_images_per_second": ("step, images/s", 1),
    "peak_memory_bytes": ("peak memory, GB", 1e9),
}


def check(axes: Sequence[str]) -> None:
    """Raises ValueError for an unknown axis, or if a recipe is not in ./configs."""
    if unknown := [name for name in axes if name not in AXES]:
        raise ValueError(f"--axes={unknown[0]} is unknown; choose from {', '.join(AXES)}")
    if not axes:
        raise ValueError(f"--axes is empty; choose from {', '.join(AXES)}")
    for axis in axes:
        for point in AXES[axis]:
            recipes.find(point.recipe)


def show_growth(axes: Sequence[str], steps: int) -> Figures:
    """Measures and prints the points of axes. Raises OSError if a measurement fails."""
    found: dict[str, list[dict[str, Any]]] = {axis: [] for axis in axes}
    for axis in axes:
        for point in AXES[axis]:
            figures = measure(point, steps)
            found[axis].append({axis: point.value, **figures})
            shown = (f"{heading} {short(figures[name] / divisor)}" for name, (heading, divisor) in SHOWN.items())
            print(f"{axis} {point.value:,}: {'; '.join(shown)}", flush=True)
    return found


def measure(point: Point, steps: int) -> dict[str, Any]:
    """Returns the figures of `training` at a point. Raises OSError if it fails, and Preempted on a signal to stop."""
    with tempfile.TemporaryDirectory(prefix="deepconv-growth-") as folder:
        command = [sys.executable, "-m", "deepconv.benchmark", "training", f"--config={point.recipe}", "--smoke"]
        command += [f"--steps={steps}", "--json=-", f"--data_dir={folder}"]
        changes = point.changes | (_make(Path(folder), point.data) if point.data else {})
        command += [f"--config.{field}={value}" for field, value in changes.items()]
        # last, since the last one counts
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={point.devices}"
        environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags.strip()}
        preemption.unsaved(True)  # a signal ends the measurement and removes its data before this process ends
        with preemption.waiting():
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
        preemption.unsaved(False)
        if done.returncode:
            message = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise OSError(f"{' '.join(command)} ended with code {done.returncode}: {message}")
        return json.loads(done.stdout)["figures"]


def _make(folder: Path, data: Data) -> dict[str, Any]:
    """Makes a packed data set in the folder `packed`; returns the changes that make a recipe use it."""
    target = folder / "packed"
    target.mkdir()
    splits = {"train": data.records, "test": 16}
    for split, count in splits.items():
        shape = (count, data.side, data.side, 3)
        images = np.lib.format.open_memmap(target / f"{split}.images.npy", "w+", np.uint8, shape)
        del images  # written, as a sparse file
        np.save(target / f"{split}.labels.npy", np.arange(count, dtype=np.int32) % data.classes)
    info = {"size": data.side, "classes": [str(number) for number in range(data.classes)], "splits": splits}
    (target / "packed.json").write_text(json.dumps(info))
    changes = {"name": "packed", "train_split": "train", "eval_split": "test", "image_size": data.side}
    changes["mean"] = "120,120,120"
    if data.side != 32:  # recipes for photographs
        changes |= {"train_scale": f"{data.side},{data.side}", "test_scale": data.side, "central_square": True}
        changes["lighting"] = "none"  # black images have no principal colours
    return {f"data.{field}": value for field, value in changes.items()}
