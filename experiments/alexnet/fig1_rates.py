"""The search for the learning rates of Fig. 1, which the paper does not give: the lowest training error in epoch 2."""

from pathlib import Path

from deepconv.tables import Row, Table, Values
from experiments.alexnet.fig1 import NAMES, by_epoch, net

TRIED = {
    ("18pct", "relu"): (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016),
    ("18pct", "tanh"): (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064),
    ("13pct", "relu"): (0.0005, 0.001, 0.002, 0.004),
    ("13pct", "tanh"): (0.0005, 0.001, 0.002, 0.004),
}


def second_epoch(workdir: Path, test: str) -> Values | None:
    """The mean training error in it."""
    curve = by_epoch(workdir)
    return {"error": curve[1][1]} if len(curve) > 1 else None


TABLE = Table(
    "Fig. 1, learning rates: training error in epoch 2",
    {"training error, %": "error"},
    [
        Row(f"{NAMES[unit]}, {variant}, {rate}", (None,), [net(variant, unit, rate)])
        for (variant, unit), rates in TRIED.items()
        for rate in rates
    ],
    measure=second_epoch,
    note="Not in the paper, which says only that rates were chosen to make training as fast as possible. Runs may be "
    "stopped when their second epoch is over.",
)
