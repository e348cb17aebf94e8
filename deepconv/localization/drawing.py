"""Drawings of images with true and predicted boxes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from deepconv.boxes import geometry
from deepconv.boxes.localization_error import MINIMUM_IOU
from deepconv.data.sources.annotated import AnnotatedImages
from deepconv.evaluation.drawing import grid, outline, outline_dashed
from deepconv.run.files import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00")  # Okabe & Ito's, told apart by the colour-blind


def draw(images: AnnotatedImages, rows: np.ndarray, classes: Sequence[str]) -> "Figure":
    """Draws the images of rows of boxes.npy, the first of the split, four in a row.

    True boxes are white and dashed. Each guess has a colour, and a line below the image; a right one has a mark there.
    """
    decoded = images.test_batch(np.arange(len(rows)), np.asarray)["image"]
    names = [classes[number] for number in images.classes[: len(rows), 0]]
    figure, axes = grid(decoded, names, below=2.25)
    for i, (image, own, (above, below)) in enumerate(zip(decoded, names, axes, strict=True)):
        true = images.boxes_in(i, *image.shape[:2])[images.classes[i] >= 0]
        factors = np.array(image.shape[:2]) / images.sizes[i]
        guesses = geometry.scale(rows["boxes"][i, :-1], factors[1], factors[0])
        for box in true:
            outline_dashed(above, box)
        for place, (number, box, color) in enumerate(zip(rows["classes"][i], guesses, COLORS, strict=False)):
            outline(above, box, color)
            best = float(geometry.iou(box[None].astype(float), true.astype(float)).max(initial=0))
            right = classes[number] == own and best >= MINIMUM_IOU
            text = f"{place + 1}  {printable(classes[number])}  IoU {best:.2f}{'  right' if right else ''}"
            style = dict(color=color, va="center", fontsize=9, fontweight="bold" if right else "normal")
            below.text(0.02, 0.9 - 0.2 * place, text, parse_math=False, **style)
    return figure
