"""A drawing of a measurement: the value of each class."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from deepconv.run.files import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(result: Mapping[str, Any], kind: str, label: str) -> "Figure":
    """Draws the values of classes as bars, highest first, and a line at their mean.

    result: the content of transfer.json; kind: its field that holds the mean; label: what the values are.
    """
    from matplotlib.figure import Figure  # takes a second, which other calls need not wait for

    values = {name: value for name, value in result["classes"].items() if value is not None}
    names = sorted(values, key=lambda name: -values[name])
    figure = Figure(figsize=(6, 1 + 0.25 * len(names)), layout="constrained")
    axes = figure.subplots()
    axes.barh(range(len(names)), [values[name] for name in names], height=0.8, color="lightsteelblue")
    for place, name in enumerate(names):
        text = f"{printable(name)}  {values[name]:.1f}"
        axes.text(1, place, text, va="center", fontsize=8, parse_math=False)
    axes.axvline(result[kind], color="black", linestyle="dashed", linewidth=1, label=f"mean {result[kind]:.1f}")
    axes.set(xlim=(0, 100), ylim=(len(names) - 0.4, -0.6), xlabel=label, yticks=[])
    axes.legend(loc="lower right")
    return figure
