"""Fig. 1: plain nets with 20 and 56 layers on CIFAR-10."""

import functools
from pathlib import Path

from experiments import drawing, records
from experiments.entry import Row, Table
from experiments.resnet import CIFAR_PLAIN, LAST_ERRORS

TABLE = Table(
    "Fig. 1. CIFAR-10: a deeper plain net has higher training and test errors",
    LAST_ERRORS,
    [Row("plain-20", (1.5, 9.7), [CIFAR_PLAIN[20]]), Row("plain-56", (5.9, 13.25), [CIFAR_PLAIN[56]])],
    measure=records.curves,
    draw=functools.partial(
        drawing.errors,
        file=Path(__file__).with_suffix(".csv"),
        plots={"plain nets": ("plain-20", "plain-56")},
        splits={"train": "train", "test": "test"},
    ),
    note="The paper's numbers are read from the figure, within 0.1.",
)
