"""The search for the learning rates of Fig. 1, which the paper does not give: the lowest training error in epoch 2."""

from pathlib import Path

from deepconv.run import log as runlog
from experiments import cells
from experiments.entry import Row, Run, Table
from experiments.measurements import Results, Values

NAMES = {"relu": "ReLU", "tanh": "tanh"}
TRIED = {
    ("18pct", "relu"): (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016),
    ("18pct", "tanh"): (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064),
    ("13pct", "relu"): (0.0005, 0.001, 0.002, 0.004),
    ("13pct", "tanh"): (0.002, 0.004, 0.008, 0.016, 0.032),
}
DEFAULT_RATE = 0.001  # cuda-convnet's own rate, used without results of a search


def net(variant: str, activation: str, rate: float) -> Run:
    """Returns the run at a learning rate; the biases' rate is twice that of the weights, as in cuda-convnet's files.

    Every step is logged, since epochs have no whole number of steps.
    """
    changes = {"model.variant": variant, "model.lrn": variant == "18pct", "model.activation": activation}
    rates = {"optimizer.learning_rate": rate, "optimizer.bias.learning_rate": 2 * rate}
    return Run("alexnet_cifar", changes | rates | {"log_every_steps": 1})


def by_epoch(workdir: Path) -> tuple[list[list[float]], set[int]]:
    """Returns [epoch, mean training error] for each full epoch, and the epochs that share windows of steps.

    The log has means over windows of steps; a window belongs to the epoch of its middle.
    """
    shared: set[int] = set()
    errors: dict[int, list[tuple[float, float]]] = {}  # {epoch: [(error, steps of the window), ...]}
    step = epoch_steps = 0
    for record in runlog.read_metrics(workdir):
        if "train_top1_error" in record:
            before, step = step, record["step"]
            epoch_steps = step / record["epoch"]
            first, epoch, last = (int(at / epoch_steps) + 1 for at in (before + 0.5, (before + step) / 2, step - 0.5))
            shared |= {*range(first, last + 1)} if first < last else set()
            errors.setdefault(epoch, []).append((record["train_top1_error"], step - before))
    means = {
        epoch: sum(error * steps for error, steps in windows) / sum(steps for _, steps in windows)
        for epoch, windows in errors.items()
    }
    full = [epoch for epoch in sorted(means) if round(epoch * epoch_steps) <= step]
    return [[epoch, round(means[epoch], 3)] for epoch in full], shared


def second_epoch(workdir: Path, test: str) -> Values | None:
    """Returns the mean training error in epoch 2; None if the epoch is not finished."""
    curve, _ = by_epoch(workdir)  # steps of other epochs in a window would hardly change the search
    return {"error": curve[1][1]} if len(curve) > 1 else None


ROWS = {
    (variant, unit, rate): Row(f"{NAMES[unit]}, {variant}, {rate}", (None,), [net(variant, unit, rate)])
    for (variant, unit), rates in TRIED.items()
    for rate in rates
}
TABLE = Table(
    "Fig. 1, learning rates: training error in epoch 2",
    {"training error, %": "error"},
    [*ROWS.values()],
    measure=second_epoch,
    note="Not in the paper, which states only that rates were chosen to make training as fast as possible. Runs may "
    "stop after their second epoch.",
)


def fastest(variant: str, unit: str, results: Results) -> tuple[float, str]:
    """Returns the learning rate with the lowest error in epoch 2, by the results of TABLE, and a note."""
    found = {rate: cells.row_records(ROWS[variant, unit, rate], results) for rate in TRIED[variant, unit]}
    errors = {rate: records[0]["values"]["error"] for rate, records in found.items() if records}
    if not errors:
        return DEFAULT_RATE, f"learning rate {DEFAULT_RATE}, cuda-convnet's own; the search has no results yet"
    best, low, high = min(errors, key=errors.__getitem__), min(errors), max(errors)
    note = f"learning rate {best}, the best in epoch 2 of {len(errors)} from {low} to {high}"
    sides = [side for side, end in (("below", low), ("above", high)) if best == end]
    return best, f"{note}; no rate {' or '.join(sides)} it was tried" if sides else note
