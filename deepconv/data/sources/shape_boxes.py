"""The built-in shapes as images with boxes, one object an image or several."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from deepconv.data import decode
from deepconv.data.images import Encoded, Record
from deepconv.data.sources import shapes
from deepconv.data.sources.annotated import AnnotatedImages, Found, arrange
from deepconv.data.sources.source import parse_split

CELL_SIDE = 16  # pixels that a shape needs


@dataclass(frozen=True)
class _Pictures(Encoded):
    """Draws pictures with several shapes."""

    first: int
    sides: tuple[int, int]
    most: int

    def read(self, indices: Iterable[int]) -> list[Record]:
        return [self._draw(self.first + int(i), f"picture {i}") for i in indices]

    def _draw(self, index: int, name: str) -> Record:
        image, _ = shapes.draw_several(index, *shapes.jpeg_size(index, self.sides), self.most)
        return Record(decode.as_jpeg(image, 90), -1, name)


def read_shape_boxes(split: str, sides: tuple[int, int], most: int = 1) -> AnnotatedImages:
    """Returns drawn pictures whose sides are random numbers from sides = (smallest, largest).

    With most=1, they are the pictures of the data set "shapes" at these sides; with more, each has one to `most`
    shapes. split is train, test or a part. Raises ValueError for an unknown split, or sides too small for the shapes.
    """
    smallest = CELL_SIDE * math.ceil(math.sqrt(most))
    if most < 1 or not smallest <= sides[0] <= sides[1] <= shapes.SHAPES_SIDE:
        raise ValueError(
            f"pictures with up to {most} shapes and sides from {sides[0]} to {sides[1]} pixels are not drawn; 1 shape "
            f"or more and sides from {smallest} to {shapes.SHAPES_SIDE} are"
        )
    base, first, last = parse_split(split, shapes.SPLITS)
    first, last = first + shapes.OFFSETS[base], last + shapes.OFFSETS[base]
    sizes = [shapes.jpeg_size(index, sides) for index in range(first, last)]
    rows, labels, boxes = [], [], []
    for row, (height, width) in enumerate(sizes):
        index = first + row
        one = most == 1
        found = [shapes.place(index, height, width)] if one else shapes.place_several(index, height, width, most)
        for shape in found:
            top, left, bottom, right = shape.box
            rows.append(row)
            labels.append(shape.label)
            boxes.append((left, top, right, bottom))
    none = np.zeros(len(rows), bool)
    objects = Found(np.array(rows), np.array(boxes, np.float32), np.array(labels), none, none)
    images = shapes.ShapeRecords(first, sides) if most == 1 else _Pictures(first, sides, most)
    return arrange(images, np.arange(first, last), np.array(sizes), objects, shapes.CLASSES)
