"""Drawings of images with true and predicted boxes."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from deepconv.boxes import geometry
from deepconv.boxes.localization_error import MINIMUM_IOU
from deepconv.data.sources.annotated import AnnotatedImages
from deepconv.run.files import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00")  # Okabe & Ito's, told apart by the colour-blind
TRUE = "white"


def draw(images: AnnotatedImages, rows: np.ndarray, classes: Sequence[str]) -> "Figure":
    """Draws the images of rows of boxes.npy, the first of the split, four in a row.

    True boxes are white and dashed. Each guess has a colour, and a line below the image; a right one has a mark there.
    """
    from matplotlib.figure import Figure  # takes a second, which other calls need not wait for

    columns = min(4, len(rows))
    figure = Figure(figsize=(3 * columns, 4.2 * math.ceil(len(rows) / columns)), layout="constrained")
    axes = figure.subplots(
        2 * math.ceil(len(rows) / columns),
        columns,
        squeeze=False,
        height_ratios=[3, 1.2] * (math.ceil(len(rows) / columns)),
    )
    for place in axes.flat:
        place.set_axis_off()
    for i, image in enumerate(images.test_batch(np.arange(len(rows)), np.asarray)["image"]):
        above, below = axes[2 * (i // columns) :, i % columns][:2]
        true = images.boxes_in(i, *image.shape[:2])[images.classes[i] >= 0]
        factors = np.array(image.shape[:2]) / images.sizes[i]
        guesses = geometry.scale(rows["boxes"][i, :-1], factors[1], factors[0])
        above.imshow(image)
        for box in true:
            _outline(above, box, "black", "solid", 3.5)
            _outline(above, box, TRUE, "dashed", 1.8)
        own = classes[images.classes[i, 0]]
        above.set_title(printable(own), fontsize=9, parse_math=False)
        for place, (number, box, color) in enumerate(zip(rows["classes"][i], guesses, COLORS, strict=False)):
            _outline(above, box, color, "solid", 1.8)
            best = float(geometry.iou(box[None].astype(float), true.astype(float)).max(initial=0))
            right = classes[number] == own and best >= MINIMUM_IOU
            text = f"{place + 1}  {printable(classes[number])}  IoU {best:.2f}{'  right' if right else ''}"
            below.text(
                0.02,
                0.9 - 0.2 * place,
                text,
                color=color,
                va="center",
                fontsize=9,
                parse_math=False,
                fontweight="bold" if right else "normal",
            )
        above.set(xlim=(-0.5, image.shape[1] - 0.5), ylim=(image.shape[0] - 0.5, -0.5))
    return figure


def _outline(axes: "Axes", box: np.ndarray, color: str, style: str, width: float) -> None:
    from matplotlib.patches import Rectangle

    x1, y1, x2, y2 = (float(x) - 0.5 for x in box)  # the centre of the first pixel is at 0
    axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=color, linestyle=style, linewidth=width))
