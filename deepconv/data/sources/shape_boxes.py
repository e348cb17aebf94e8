"""The built-in shapes as images with boxes, one object an image or several."""

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from deepconv.data import decode
from deepconv.data.images import Arrays, Encoded, Images, Record
from deepconv.data.sources import shape_drawing, shapes
from deepconv.data.sources.annotated import AnnotatedImages, Found, arrange
from deepconv.data.sources.shape_drawing import Box, Shape
from deepconv.data.sources.source import Source, parse_split

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
        image, _ = shape_drawing.draw_several(index, *shape_drawing.jpeg_size(index, self.sides), self.most)
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
    sizes = [shape_drawing.jpeg_size(index, sides) for index in range(first, last)]
    rows, objects = [], []
    for row, (height, width) in enumerate(sizes):
        index = first + row
        if most == 1:
            found = [shape_drawing.place(index, height, width)]
        else:
            found = shape_drawing.place_several(index, height, width, most)
        rows += [row] * len(found)
        objects += [(shape.label, shape.box) for shape in found]
    images = shapes.ShapeRecords(first, sides) if most == 1 else _Pictures(first, sides, most)
    return _arranged(images, first, sizes, rows, objects)


def read_square_shape_boxes(split: str, size: int) -> AnnotatedImages:
    """Returns the images of the data set "shapes" at this size in pixels, in memory. Raises ValueError."""
    base, first, last = parse_split(split, shapes.SPLITS)
    first, last = first + shapes.OFFSETS[base], last + shapes.OFFSETS[base]
    images, labels = np.empty((last - first, size, size, 3), np.uint8), np.empty(last - first, np.int32)
    objects = []
    for rows, drawn, classes, covers in shape_drawing.draw_parts(first, last, size):
        images[rows], labels[rows] = drawn, classes
        found = map(Shape, classes.tolist(), covers)
        objects += [(shape.label, shape.box) for shape in found]
    return _arranged(Arrays(images, labels), first, [(size, size)] * len(labels), range(len(labels)), objects)


def _arranged(
    images: Images,
    first: int,
    sizes: Sequence[tuple[int, int]],
    rows: Sequence[int],
    objects: Sequence[tuple[int, Box]],
) -> AnnotatedImages:
    """Arranges objects, each a class and a box, on images with these sizes and numbers from `first`."""
    labels, boxes = zip(*objects, strict=True)
    top, left, bottom, right = np.array(boxes, np.float32).T
    none = np.zeros(len(rows), bool)
    found = Found(np.array(rows), np.stack([left, top, right, bottom], 1), np.array(labels), none, none)
    return arrange(images, first + np.arange(len(sizes)), np.array(sizes), found, shape_drawing.CLASSES)


def find_shape_boxes(split: str, image_size: int, scale: tuple[int, int] | None) -> Source:
    """Finds the built-in data set with boxes, one shape an image; the images are those of `find_shapes`."""
    source = shapes.find_shapes(split, image_size, scale)
    read = (read_shape_boxes, split, shapes.sides(scale)) if scale else (read_square_shape_boxes, split, image_size)
    return replace(source, open=functools.cache(functools.partial(*read)))
