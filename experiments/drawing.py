"""Plots of figures: the paper's digitised curves and ours."""

import csv
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.measurements import Results, Values

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curve = tuple[list[float], list[float]]
COLORS = ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown")


def read(file: Path, x: str, y: str, *names: str) -> dict[tuple[str, ...], Curve]:
    """Returns the digitised curves of a CSV file, {values of the columns `names`: (x, y)}."""
    curves: dict[tuple[str, ...], Curve] = {}
    with file.open(newline="") as lines:
        for line in csv.DictReader(lines):
            xs, ys = curves.setdefault(tuple(line[name] for name in names), ([], []))
            xs.append(float(line[x]))
            ys.append(float(line[y]))
    return curves


def records(results: Results, label: str) -> list[tuple[str, Values]]:
    """Returns (name, values) of each record of a row; the name lists its departures from the paper."""
    found = results.get("rows", {}).get(label, [])
    return [(", ".join(["ours", *record["departs"]]), record["values"]) for record in found]


def panels(count: int, xlabel: str, ylabel: str, titles: Sequence[str]) -> "tuple[Figure, Sequence[Axes]]":
    """Returns a figure with plots side by side."""
    from matplotlib.figure import Figure  # slow to import

    figure = Figure(figsize=(1.5 + 5 * count, 4.5), layout="constrained")
    axes = figure.subplots(1, count, squeeze=False, sharey=True)[0]
    for plot, title in zip(axes, titles, strict=True):
        plot.set(xlabel=xlabel, title=title)
        plot.grid(alpha=0.3)
    axes[0].set_ylabel(ylabel)
    return figure, axes


def errors(
    results: Results,
    *,
    file: Path,
    plots: Mapping[str, Sequence[str]],
    splits: Mapping[str, str],
    paper_name: Callable[[str], str] = str.lower,
    limits: tuple[float, float] = (0, 20),
) -> "Figure":
    """Draws errors over steps. plots: {title: rows}; splits: {ours: the file's}; paper_name(row): its net there."""
    paper = read(file, "iter", "error_pct", "net", "split")
    figure, axes = panels(len(plots), "step", "error, %", list(plots))
    depths = dict.fromkeys(label.split("-")[-1] for labels in plots.values() for label in labels)
    colors = dict(zip(depths, itertools.cycle(COLORS), strict=False))  # one color per depth, in all plots
    for plot, labels in zip(axes, plots.values(), strict=True):
        for label in labels:
            color = colors[label.split("-")[-1]]
            for style, (split, paper_split) in zip(("--", "-"), splits.items(), strict=True):
                shared = dict(linestyle=style, color=color)
                if (paper_name(label), paper_split) in paper:
                    name = f"{label}, {split}, paper" if split == "test" else None
                    plot.plot(*paper[paper_name(label), paper_split], **shared, alpha=0.35, linewidth=1, label=name)
                for name, values in records(results, label):
                    shown = f"{label}, {split}, {name}" if split == "test" else None
                    plot.plot(*zip(*values[split], strict=True), **shared, linewidth=1.8, label=shown)
        plot.set_ylim(*limits)
        plot.legend(fontsize=7)
    figure.supxlabel("dashed: training error; solid: test error; pale: digitised from the paper", fontsize=8)
    return figure
