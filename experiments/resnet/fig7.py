"""Fig. 7: standard deviations of layer responses on CIFAR-10."""

import itertools
import statistics
from pathlib import Path
from typing import TYPE_CHECKING

from deepconv.run.files import read_json
from experiments import drawing, records
from experiments.entry import Row, Table
from experiments.measurements import Results, Values
from experiments.resnet import CIFAR, CIFAR_PLAIN

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLAIN = {20: (2.06, 2.32, 1.85), 56: (3.03, 1.66, 1.54)}
RESIDUAL = {20: (1.71, 2.50, 1.54), 56: (2.98, 1.53, 1.08), 110: (3.41, 1.68, 0.91)}


def responses(workdir: Path, test: str) -> Values | None:
    """Returns the results of experiments.responses in a run's directory; None before the run is tested."""
    files = workdir / "responses.json", workdir / f"eval.{test}.json"
    if not all(file.exists() for file in files):
        return None
    found, tested = (read_json(file, dict, "step", *keys) for file, keys in zip(files, (["std"], []), strict=True))
    if found["step"] != tested["step"]:  # responses of an unfinished net
        return None
    std = [round(value, 4) for value in found["std"]]
    values = {"first": std[0], "last": std[-1], "median": statistics.median(std), "std": std}
    return values | {"tested": records.environment(found)}


def draw(results: Results) -> "Figure":
    """Draws the deviations in the order of layers, and sorted by size."""
    paper = drawing.read(Path(__file__).with_suffix(".csv"), "layer", "std", "net", "order")
    titles = ("in the order of layers", "sorted by size")
    figure, axes = drawing.panels(2, "layer", "standard deviation", titles)
    for color, row in zip(itertools.cycle(drawing.COLORS), TABLE.rows, strict=False):
        shared = dict(color=color, linestyle="--" if row.label.startswith("plain") else "-")
        for plot, order in zip(axes, ("original", "sorted"), strict=True):
            curve = paper[row.label.lower(), order]
            plot.plot(*curve, **shared, alpha=0.35, linewidth=1, label=f"{row.label}, paper")
            for name, values in drawing.records(results, row.label):
                std = values["std"] if order == "original" else sorted(values["std"], reverse=True)
                plot.plot(range(1, len(std) + 1), std, **shared, linewidth=1.8, label=f"{row.label}, {name}")
    axes[0].legend(fontsize=7)
    figure.supxlabel("dashed: plain nets; solid: residual nets; pale: digitised from the paper", fontsize=8)
    return figure


TABLE = Table(
    "Fig. 7. CIFAR-10: residual nets have smaller responses than plain nets, and deeper nets than shallower ones",
    {"std of the first layer": "first", "std of the last layer": "last", "median": "median"},
    [
        *(Row(f"plain-{depth}", numbers, [CIFAR_PLAIN[depth]]) for depth, numbers in PLAIN.items()),
        *(Row(f"ResNet-{depth}", numbers, [CIFAR[depth]]) for depth, numbers in RESIDUAL.items()),
    ],
    measure=responses,
    draw=draw,
    extra_commands=("deepconv experiments.responses --run={run}",),
    note="Responses are taken after BatchNorm, before the rectifier or the sum. The paper's numbers are read from the "
    "figure, within 0.03.",
)
