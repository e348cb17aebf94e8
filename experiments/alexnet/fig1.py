"""Fig. 1: training with rectifiers and with tanh on CIFAR-10.

The authors chose a rate for each nonlinearity, to make training as fast as possible, and did not regularise. The paper
does not name the net. Two of cuda-convnet's nets fit: 18pct has four layers with weights, and 13pct has four before the
last. The rates here have the lowest training error in epoch 2, by the results of fig1_rates.py.
"""

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

from experiments import drawing, entries
from experiments.alexnet import fig1_rates
from experiments.alexnet.fig1_rates import NAMES, by_epoch, net
from experiments.entry import Row, Table
from experiments.measurements import Results, Values

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GOAL = 25.0  # training error in percent; the paper's curves end there
SEARCH = entries.results("alexnet/fig1_rates")


def epochs_to_goal(workdir: Path, test: str) -> Values | None:
    """Returns the first epoch whose mean training error is at most 25 %."""
    curve, shared = by_epoch(workdir)
    if not curve:
        return None
    reached = next((epoch for epoch, error in curve if error <= GOAL), None)
    finished = (workdir / f"eval.{test}.json").exists()
    departs = [] if reached or finished else [f"stopped after epoch {curve[-1][0]}"]
    departs += [f"epoch {reached} shares windows of the log with others"] if reached in shared else []
    epochs = f"more than {curve[-1][0]}" if finished and not reached else reached
    return {"epochs": epochs, "last_error": curve[-1][1], "train": curve, "departs": departs}


def draw(results: Results) -> "Figure":
    """Draws the training error over epochs."""
    paper = drawing.read(Path(__file__).with_suffix(".csv"), "epoch", "train_error", "unit")
    figure, (plot,) = drawing.panels(1, "epoch", "training error, %", ["four layers on CIFAR-10"])
    for unit, name in NAMES.items():
        epochs, errors = paper[unit,]
        style = "-" if unit == "relu" else "--"
        plot.plot(epochs, [100 * error for error in errors], style, color="black", label=f"{name}, paper")
    for color, row in zip(itertools.cycle(drawing.COLORS), TABLE.rows, strict=False):
        for name, values in drawing.records(results, row.label) if row.combine == "mean" else ():
            style = "-" if row.label.startswith("ReLU") else "--"
            plot.plot(*zip(*values["train"], strict=True), style, color=color, label=f"{row.label}, {name}")
    plot.axhline(GOAL, color="grey", linewidth=0.8)
    plot.set(ylim=(0, 75), xlim=(0, 40))
    plot.legend(fontsize=7)
    return figure


def rows(variant: str) -> list[Row]:
    """Returns rows for both nonlinearities and for the ratio of their epochs."""
    rates = {unit: fig1_rates.fastest(variant, unit, SEARCH) for unit in NAMES}
    relu, tanh = (net(variant, unit, rate) for unit, (rate, _) in rates.items())
    return [
        Row(f"ReLU, {variant}", (6,), [relu], note=rates["relu"][1]),
        Row(f"tanh, {variant}", (36,), [tanh], note=rates["tanh"][1]),
        Row(f"tanh / ReLU, {variant}", (6,), [tanh, relu], combine="ratio"),
    ]


TABLE = Table(
    "Fig. 1. CIFAR-10: epochs to 25 % training error with rectifiers and with tanh",
    {"epochs": "epochs"},
    [*rows("18pct"), *rows("13pct")],
    measure=epochs_to_goal,
    draw=draw,
    note="The paper does not name the net; 18pct and 13pct are two readings. An epoch's error is the mean over its "
    "batches; only full epochs count. The paper's numbers are read from the figure.",
)
