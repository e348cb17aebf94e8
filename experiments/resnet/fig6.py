"""Fig. 6: training on CIFAR-10."""

import functools
from pathlib import Path

from experiments import drawing, records
from experiments.entry import Row, Table
from experiments.resnet import CIFAR, CIFAR_PLAIN, LAST_ERRORS

PLAIN = {20: (1.4, 9.7), 32: (1.2, 10.1), 44: (3.2, 11.4), 56: (5.9, 13.2), 110: (None, "over 60")}
RESIDUAL = {20: (0.8, 8.8), 32: (0.3, 7.5), 44: (0.1, 7.2), 56: (0.0, 7.0), 110: (0.1, 6.55), 1202: (0.03, 7.9)}
TABLE = Table(
    "Fig. 6. CIFAR-10: plain nets, residual nets, and residual nets of 110 and 1202 layers",
    LAST_ERRORS,
    [
        *(Row(f"plain-{depth}", errors, [CIFAR_PLAIN[depth]]) for depth, errors in PLAIN.items()),
        *(Row(f"ResNet-{depth}", errors, [CIFAR[depth]]) for depth, errors in RESIDUAL.items()),
    ],
    measure=records.curves,
    draw=functools.partial(
        drawing.errors,
        file=Path(__file__).with_suffix(".csv"),
        plots={
            "plain": [f"plain-{depth}" for depth in (20, 32, 44, 56)],  # without 110 layers, as in the paper
            "residual": [f"ResNet-{depth}" for depth in (20, 32, 44, 56, 110)],
            "residual, deep": ["ResNet-110", "ResNet-1202"],
        },
        splits={"train": "train", "test": "test"},
    ),
    note="The paper's numbers are read from the figure, within 0.1.",
)
