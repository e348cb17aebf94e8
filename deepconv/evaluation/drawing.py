"""Drawings of photographs with their likeliest classes, as in Krizhevsky et al. 2012, Fig. 4, or with boxes."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deepconv.data import decode
from deepconv.data.synsets import label
from deepconv.evaluation.photographs import upright
from deepconv.run.files import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 40  # photographs in a drawing
SHOWN_SIDE = 600  # pixels of the shorter side of a photograph in a drawing, at most


def draw_classes(photos: Sequence[str], probs: np.ndarray, classes: Sequence[str], top: int = 5) -> "Figure":
    """Draws photographs with bars for their likeliest classes below them, from probabilities [N, classes]."""
    figure, axes = _grid_of(photos, below=2)
    for (_, below), row in zip(axes, probs, strict=True):
        best = np.argsort(-row, kind="stable")[:top]
        below.barh(range(len(best)), row[best], height=0.9, color="lightsteelblue")
        for place, number in enumerate(best):
            text = f"{printable(label(classes[number]))}  {row[number]:.2f}"
            below.text(0.02, place, text, va="center", fontsize=8, parse_math=False)
        below.set(xlim=(0, 1), ylim=(max(5, top) - 0.5, -0.5))
    return figure


def draw_boxes(photos: Sequence[str], boxes: np.ndarray, captions: Sequence[str] = ()) -> "Figure":
    """Draws photographs with a box on each, from x1, y1, x2, y2 in pixels, [N, 4], and captions below them, if any."""
    figure, axes = _grid_of(photos, below=0.4)
    for (above, _), box in zip(axes, boxes, strict=True):
        outline_dashed(above, box)
    for (_, below), caption in zip(axes, captions, strict=False):
        below.text(0.5, 1, caption, ha="center", va="top", fontsize=8, parse_math=False)
    return figure


def _grid_of(photos: Sequence[str], below: float) -> "tuple[Figure, list[tuple[Axes, Axes]]]":
    sizes, small = [], []
    for photo in photos:  # one at a time: forty photographs of a camera would take gigabytes
        image = decode.decode(upright(photo))
        sizes.append(image.shape[:2])
        scale = min(1, SHOWN_SIDE / min(image.shape[:2]))
        small.append(decode.resize(image, *(max(1, round(scale * side)) for side in image.shape[:2])))
    return grid(small, [Path(photo).name for photo in photos], below, sizes)


def grid(
    images: Sequence[np.ndarray], titles: Sequence[str], below: float, sizes: Sequence[tuple[int, ...]] = ()
) -> "tuple[Figure, list[tuple[Axes, Axes]]]":
    """Returns a figure with images, four in a row, and the axes of each image and of the space below it.

    below: the height of that space, in units in which the height of an image is 3. sizes: heights and widths for the
    axes' coordinates, if they are not those of the images.
    """
    from matplotlib.figure import Figure  # takes a second, which other calls need not wait for

    columns = min(4, len(images))
    rows = math.ceil(len(images) / columns)
    figure = Figure(figsize=(3 * columns, 0.8 * (3 + below) * rows), layout="constrained")
    axes = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=[3, below] * rows)
    for place in axes.flat:
        place.set_axis_off()
    pairs = []
    for i, (image, title) in enumerate(zip(images, titles, strict=True)):
        above, space = axes[2 * (i // columns) :, i % columns][:2]
        height, width = sizes[i] if sizes else image.shape[:2]
        above.imshow(image, extent=(-0.5, width - 0.5, height - 0.5, -0.5))
        above.set_title(printable(title), fontsize=8, parse_math=False)
        pairs.append((above, space))
    return figure, pairs


def outline_dashed(axes: "Axes", box: np.ndarray) -> None:
    """Draws a box, x1, y1, x2, y2 in pixels, in dashed white on black, which shows on any image."""
    outline(axes, box, "black", "solid", 3.5)
    outline(axes, box, "white", "dashed")


def outline(axes: "Axes", box: np.ndarray, color: str, style: str = "solid", width: float = 1.8) -> None:
    """Draws a box, x1, y1, x2, y2 in pixels, on an image, whose limits stay."""
    from matplotlib.patches import Rectangle

    limits = dict(xlim=axes.get_xlim(), ylim=axes.get_ylim())
    x1, y1, x2, y2 = (float(x) - 0.5 for x in box)  # the centre of the first pixel is at 0
    axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=color, linestyle=style, linewidth=width))
    axes.set(**limits)
