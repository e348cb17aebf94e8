"""Fig. 3: the 96 kernels of the first convolution."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from experiments.alexnet import CODE_2010, TEXT, TEXT_2010
from experiments.entry import Row, Table
from experiments.measurements import Results, Values

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PER_ROW = 16  # as in the authors' shownet.py


def kernels(workdir: Path, test: str) -> Values | None:
    """Returns the kernels as pixels, and the share of colour in each tower's kernels."""
    from deepconv.run import checkpoint  # with JAX

    if not (workdir / f"eval.{test}.json").exists():
        return None
    kernel = np.asarray(checkpoint.read(workdir / "checkpoints")["params"]["conv1"]["kernel"])  # [h, w, 3, kernels]
    halves = np.split(kernel, 2, -1)
    colors = {f"tower{number}": saturation(half) for number, half in enumerate(halves, 1)}
    low, high = kernel.min(), kernel.max()  # of all kernels, as in shownet.py
    pixels = np.round(255 * (kernel - low) / (high - low)).astype(int)
    return colors | {"pixels": np.moveaxis(pixels, -1, 0).tolist()}


def saturation(kernel: np.ndarray) -> float:
    """Returns the share of the variance of kernels [h, w, 3, kernels] that the three channels do not share, 0 to 1.

    This measure is ours: the paper says "color-agnostic" and "color-specific" without a number.
    """
    centered = kernel - kernel.mean((0, 1, 2), keepdims=True)
    grey = centered.mean(2, keepdims=True)
    shares = np.square(centered - grey).sum((0, 1, 2)) / np.square(centered).sum((0, 1, 2))
    return round(float(shares.mean()), 4)


def draw(results: Results) -> "Figure":
    """Draws six rows of 16 kernels for each run; the first three rows belong to the first tower."""
    from matplotlib.figure import Figure

    sheets = [(row.label, record) for row in TABLE.rows for record in results.get("rows", {}).get(row.label, [])]
    figure = Figure(figsize=(7, 0.6 + 3.2 * len(sheets)), layout="constrained")
    for plot, (label, record) in zip(np.atleast_1d(figure.subplots(len(sheets))), sheets, strict=True):
        plot.imshow(sheet(np.array(record["values"]["pixels"], np.uint8)))
        plot.set_title(", ".join([label, *record["departs"]]), fontsize=8)
    for plot in figure.axes:
        plot.set_axis_off()
    return figure


def sheet(pixels: np.ndarray) -> np.ndarray:
    """Arranges kernels [N, h, w, 3] in rows, with a white pixel between them."""
    padded = np.pad(pixels, ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=255)
    rows = padded.reshape(-1, PER_ROW, *padded.shape[1:])
    return np.concatenate([np.concatenate([*row], axis=1) for row in rows], axis=0)


TABLE = Table(
    "Fig. 3. The 96 kernels of conv1: colour-agnostic in one tower, colour-specific in the other",
    {"share of colour, one tower": "tower1", "share of colour, other tower": "tower2"},
    [
        Row("CNN", ("color-agnostic", "color-specific"), [TEXT_2010]),
        Row("CNN of the authors' code", ("color-agnostic", "color-specific"), [CODE_2010]),
        Row("CNN on ILSVRC-2012", ("color-agnostic", "color-specific"), [TEXT]),
    ],
    measure=kernels,
    draw=draw,
    note="The tower that learns the colours may differ between runs.",
)
