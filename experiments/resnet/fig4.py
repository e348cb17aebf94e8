"""Fig. 4: training on ImageNet."""

import functools
from pathlib import Path

from experiments import drawing, records
from experiments.entry import Row, Table
from experiments.resnet import LAST_ERRORS, PLAIN, SHORTCUT_A

NAMES = {"plain-18": "plain-18", "plain-34": "plain-34", "ResNet-18": "resnet-18A", "ResNet-34": "resnet-34A"}
TABLE = Table(
    "Fig. 4. ImageNet, central crops: plain nets and residual nets of 18 and 34 layers",
    LAST_ERRORS,
    [
        Row("plain-18", (31.5, 31.4), [PLAIN[18]]),
        Row("plain-34", (32.6, 32.5), [PLAIN[34]]),
        Row("ResNet-18", (30.0, 31.1), [SHORTCUT_A[18]]),
        Row("ResNet-34", (25.0, 28.3), [SHORTCUT_A[34]]),
    ],
    measure=records.curves,
    draw=functools.partial(
        drawing.errors,
        file=Path(__file__).with_suffix(".csv"),
        plots={"plain": ("plain-18", "plain-34"), "residual": ("ResNet-18", "ResNet-34")},
        splits={"train": "train", "test": "val_centre"},
        paper_name=NAMES.__getitem__,
        limits=(20, 60),
    ),
    note="The paper's numbers are read from the figure, within 0.2: means from step 500,000 on.",
)
