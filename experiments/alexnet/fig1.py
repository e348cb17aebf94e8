"""Fig. 1: training with rectifiers and with tanh on CIFAR-10.

Rates were chosen for each by itself, to make training as fast as possible, and nothing was regularised. Which net it
was is not said. Of cuda-convnet's nets, 18pct has four layers with weights, and
13pct has four before the last. Rates: see fig1_rates.py.
"""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepconv import runlog
from deepconv.tables import Row, Run, Table, Values
from experiments import drawing

GOAL = 25.0  # training error in percent, at which the paper's curves end
RATES = {"18pct": {"relu": 0.004, "tanh": 0.032}, "13pct": {"relu": 0.001, "tanh": 0.001}}
NAMES = {"relu": "ReLU", "tanh": "tanh"}


def net(variant: str, activation: str, rate: float) -> Run:
    """Biases learn twice as fast as weights, as in cuda-convnet's files."""
    changes = {"model.variant": variant, "model.lrn": variant == "18pct", "model.activation": activation}
    return Run("alexnet_cifar", changes | {"optimizer.learning_rate": rate, "optimizer.bias.learning_rate": 2 * rate})


def by_epoch(workdir: Path) -> list[list[float]]:
    """[epoch, mean training error in it] of the whole epochs.

    What is logged are means over windows of steps; one belongs to the epoch that its middle lies in.
    """
    errors: dict[int, list[float]] = {}
    last = window = 0.0
    for record in runlog.read_metrics(workdir):
        if "train_top1_error" in record:
            window, last = record["epoch"] - last, record["epoch"]
            errors.setdefault(int(last - window / 2) + 1, []).append(record["train_top1_error"])
    return [[epoch, round(sum(of) / len(of), 3)] for epoch, of in sorted(errors.items()) if epoch <= last + window / 2]


def epochs_to_goal(workdir: Path, test: str) -> Values | None:
    """The first epoch whose mean training error is below 25 %."""
    curve = by_epoch(workdir)
    if not curve:
        return None
    reached = next((epoch for epoch, error in curve if error <= GOAL), None)
    finished = (workdir / f"eval.{test}.json").exists()
    departs = [] if reached or finished else [f"stopped after epoch {curve[-1][0]}"]
    epochs = f"more than {curve[-1][0]}" if finished and not reached else reached
    return {"epochs": epochs, "last_error": curve[-1][1], "train": curve, "departs": departs}


def draw(results: Mapping[str, Any]) -> Any:
    """Training error over epochs."""
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
    """Both nonlinearities, and how many times as many epochs tanh takes."""
    relu, tanh = (net(variant, unit, RATES[variant][unit]) for unit in ("relu", "tanh"))
    return [
        Row(f"ReLU, {variant}", (6,), [relu]),
        Row(f"tanh, {variant}", (36,), [tanh]),
        Row(f"tanh / ReLU, {variant}", (6,), [tanh, relu], combine="ratio"),
    ]


TABLE = Table(
    "Fig. 1. CIFAR-10: epochs to 25 % training error with rectifiers and with tanh",
    {"epochs": "epochs"},
    [*rows("18pct"), *rows("13pct")],
    measure=epochs_to_goal,
    draw=draw,
    note="The paper's net is not named; these are two readings. An epoch's error is the mean over its batches, "
    "which are logged by the hundred. The paper's numbers are read from the figure.",
)
