"""Fig. 4: training on ImageNet."""

import functools
import statistics
from pathlib import Path

from experiments import drawing, records
from experiments.entry import Row, Table
from experiments.measurements import Values
from experiments.resnet import LAST_ERRORS, PLAIN, SHORTCUT_A

NAMES = {"plain-18": "plain-18", "plain-34": "plain-34", "ResNet-18": "resnet-18A", "ResNet-34": "resnet-34A"}
PLATEAU = 500_000  # the paper's numbers are means from this step on


def measure(workdir: Path, test: str) -> Values | None:
    """Returns a run's curves, with means from step PLATEAU on as its errors."""
    if (found := records.curves(workdir, test)) is None:
        return None
    for split in ("train", "test"):
        if errors := [error for step, error in found[split] if step >= PLATEAU]:
            found[f"{split}_error"] = round(statistics.mean(errors), 3)
    return found


TABLE = Table(
    "Fig. 4. ImageNet, central crops: plain nets and residual nets of 18 and 34 layers",
    LAST_ERRORS,
    [
        Row("plain-18", (31.5, 31.4), [PLAIN[18]]),
        Row("plain-34", (32.6, 32.5), [PLAIN[34]]),
        Row("ResNet-18", (30.0, 31.1), [SHORTCUT_A[18]]),
        Row("ResNet-34", (25.0, 28.3), [SHORTCUT_A[34]]),
    ],
    measure=measure,
    draw=functools.partial(
        drawing.errors,
        file=Path(__file__).with_suffix(".csv"),
        plots={"plain": ("plain-18", "plain-34"), "residual": ("ResNet-18", "ResNet-34")},
        splits={"train": "train", "test": "val_centre"},
        paper_name=NAMES.__getitem__,
        limits=(20, 60),
    ),
    note="The paper's numbers are read from the figure, within 0.2. They and ours are means from step 500,000 on.",
)
