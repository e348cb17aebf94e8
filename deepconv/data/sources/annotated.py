"""Images with boxes: all objects of a split in memory, and the checks that every layout on disk shares."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deepconv.boxes import geometry
from deepconv.boxes.average_precision import Objects
from deepconv.data import decode
from deepconv.data.images import Batch, Crop, DataError, Decoding, EvalBatch, Images
from deepconv.run.files import printable

ROUNDING = 1.0  # pixels by which a box may leave its image: decimals, or pixels counted from 0 in place of 1
LINES = 20  # in one message


@dataclass(frozen=True)
class AnnotatedImages(Images):
    """The images and objects of a split. Row i of every array belongs to image i.

    M is the largest number of objects on an image of the split, at least 1; rows are padded with class -1. A training
    batch carries the objects that nets are trained on, "boxes" and "classes"; difficult ones and crowds become padding.
    """

    images: Images
    ids: np.ndarray  # [N], COCO's image numbers as int64, or names of files without suffix as str
    sizes: np.ndarray  # int32 [N, 2], height and width in pixels, as the annotation states them
    boxes: np.ndarray  # float32 [N, M, 4] as in deepconv.boxes, on an image of that size; zeros for padding
    classes: np.ndarray  # int32 [N, M], places in class_names; -1 for padding
    difficult: np.ndarray  # bool [N, M]; not trained on, and neither right nor wrong to find
    crowd: np.ndarray  # bool [N, M]; COCO's box around many objects, not an object
    class_names: tuple[str, ...]
    scaled: bool = False  # whether files may have other sizes than the annotation states, as ImageNet's do
    blacklisted: np.ndarray | None = None  # bool [N], images that ILSVRC does not count; None if its list is missing

    @property
    def in_memory(self) -> bool:
        return self.images.in_memory

    def crops(self, step: int, indices: np.ndarray, decoding: Decoding) -> tuple[Batch, list[Crop]]:
        batch, crops = self.images.crops(step, indices, decoding)
        rows = np.array([crop.index for crop in crops], int)
        batch["classes"] = np.where(self.difficult[rows] | self.crowd[rows], -1, self.classes[rows])
        batch["boxes"] = np.stack([self._in_crop(crop, decoding.geometry.size) for crop in crops])
        batch["boxes"][batch["classes"] < 0] = 0
        return batch, crops

    def _in_crop(self, crop: Crop, size: int) -> np.ndarray:
        """Returns the boxes [M, 4] of a crop's image in pixels of the crop, which has this side."""
        boxes = self.boxes_in(crop.index, crop.height, crop.width)
        boxes = geometry.translate(boxes, -crop.area.left, -crop.area.top)
        return geometry.scale(boxes, size / crop.area.width, size / crop.area.height)

    def test_batch(self, indices: np.ndarray, view: Callable[[np.ndarray], Any]) -> EvalBatch:
        return self.images.test_batch(indices, view)

    def boxes_in(self, row: int, height: int, width: int) -> np.ndarray:
        """Returns the boxes [M, 4] of an image in pixels of its file, whose size is given.

        Raises DataError if the annotation states another size, unless boxes are scaled.
        """
        down, right = self._factors(row, height, width)
        return geometry.scale(self.boxes[row], right, down)

    def in_annotation(self, row: int, boxes: np.ndarray, height: int, width: int) -> np.ndarray:
        """Converts boxes [..., 4] in pixels of an image's file to those of its annotation; undoes `boxes_in`."""
        down, right = self._factors(row, height, width)
        return geometry.scale(boxes, 1 / right, 1 / down)

    def from_rescaled(
        self, row: int, boxes: np.ndarray, rescaled: Sequence[int], size: tuple[int, int], square: bool
    ) -> np.ndarray:
        """Converts boxes [..., 4] in pixels of a tested image to those of its annotation.

        rescaled: height and width of the tested image, or its central square, as `decode.rescale` returns it; size:
        those of the image's file.
        """
        part = decode.tested_area(*size, square)
        height, width = map(int, rescaled)  # NumPy's numbers would turn float32 into float64
        boxes = geometry.scale(boxes, part.width / width, part.height / height)
        return self.in_annotation(row, geometry.translate(boxes, part.left, part.top), *size)

    def _factors(self, row: int, height: int, width: int) -> tuple[float, float]:
        """Returns the height and width of the file relative to those that the annotation states. Raises DataError."""
        stated_height, stated_width = self.sizes[row].tolist()
        if not self.scaled and (stated_height, stated_width) != (height, width):
            raise DataError(
                f"image {self.ids[row]} has {width} x {height} pixels, but its annotation states {stated_width} x "
                f"{stated_height}; restore the image or the annotation"
            )
        return height / stated_height, width / stated_width

    def objects(self) -> Objects:
        """Returns the objects for `average_precision`, images numbered by row; crowds count as difficult.

        Raises ValueError if boxes are scaled: detections are in pixels of the files.
        """
        if self.scaled:
            raise ValueError("these boxes are not in pixels of the image files; rescale each image's with boxes_in")
        chosen = np.nonzero(self.classes >= 0)
        difficult = self.difficult[chosen] | self.crowd[chosen]
        return Objects(chosen[0], self.classes[chosen], self.boxes[chosen], difficult)


@dataclass(frozen=True)
class Found:
    """Objects as they were found in files, in any order."""

    rows: np.ndarray  # int [K], the image
    boxes: np.ndarray  # float32 [K, 4]
    classes: np.ndarray  # int [K]
    difficult: np.ndarray  # bool [K]
    crowd: np.ndarray  # bool [K]


def arrange(
    images: Images,
    ids: np.ndarray,
    sizes: np.ndarray,
    found: Found,
    class_names: tuple[str, ...],
    scaled: bool = False,
) -> AnnotatedImages:
    """Groups objects by image, in the order in which they were found, and pads them."""
    order = np.argsort(found.rows, kind="stable")
    rows = found.rows[order]
    counts = np.bincount(rows, minlength=len(ids))
    places = np.arange(len(rows)) - (np.cumsum(counts) - counts)[rows]
    shape = len(ids), max(1, int(counts.max(initial=0)))
    boxes, classes = np.zeros((*shape, 4), np.float32), np.full(shape, -1, np.int32)
    difficult, crowd = np.zeros(shape, bool), np.zeros(shape, bool)
    for padded, values in (
        *((boxes, found.boxes), (classes, found.classes)),
        *((difficult, found.difficult), (crowd, found.crowd)),
    ):
        padded[rows, places] = values[order]
    return AnnotatedImages(images, ids, sizes.astype(np.int32), boxes, classes, difficult, crowd, class_names, scaled)


def check_boxes(
    boxes: np.ndarray,
    sizes: np.ndarray,
    describe: Callable[[int], str],
    mistakes: list[str],
    empty_allowed: bool = False,
) -> np.ndarray:
    """Clips boxes [K, 4] to their images, of sizes [K, 2]; those that leave them by more than ROUNDING are mistakes.

    So are boxes of a negative width or height or, unless allowed, without area in the image. describe(k)
    names the file and gives the box as it is written there.
    """
    height, width = sizes.T
    x1, y1, x2, y2 = geometry.corners(boxes)
    clipped = geometry.clip(boxes, height, width)
    reversed_box = (x2 < x1) | (y2 < y1)
    outside = (np.minimum(x1, y1) < -ROUNDING) | (x2 > width + ROUNDING) | (y2 > height + ROUNDING)
    empty = (geometry.area(clipped) == 0) & (not empty_allowed)
    for k in np.flatnonzero(reversed_box | outside | empty):
        if reversed_box[k]:
            problem = "its right or bottom is before its left or top; exchange them"
        elif outside[k]:
            problem = (
                f"it leaves its image of {width[k]} x {height[k]} pixels by more than {ROUNDING:g}; correct the box, "
                "or the image's size there"
            )
        else:
            problem = "it has no area inside its image; correct or remove it"
        mistakes.append(f"{describe(int(k))}: {problem}")
    return clipped


def report_empty(boxes: np.ndarray, describe: Callable[[int], str]) -> np.ndarray:
    """Prints boxes without area, of which official data sets have a few; returns which they are, bool [K]."""
    empty = geometry.area(boxes) == 0
    for k in np.flatnonzero(empty):
        print(f"{describe(int(k))}, without area in its image: it counts as difficult", flush=True)
    return empty


def check_images(folder: Path, names: Iterable[str], mistakes: list[str]) -> None:
    """Adds a mistake for each image that is not in its folder; folders are listed once, not looked up file by file."""
    known: dict[Path, set[str]] = {}
    for name in names:
        file = folder / name
        if file.parent not in known:
            known[file.parent] = set(os.listdir(file.parent)) if file.parent.is_dir() else set()
        if file.name not in known[file.parent]:
            mistakes.append(f"{printable(str(file))} is missing, but has annotations; restore it or remove them")


def refuse(mistakes: Sequence[str]) -> None:
    """Raises DataError with a line for each mistake, if there are any: the first LINES, and the number of others."""
    if mistakes:
        more = [f"and {len(mistakes) - LINES} more"] if len(mistakes) > LINES else []
        raise DataError("\n".join([*mistakes[:LINES], *more]))


def names_array(files: Sequence[str]) -> np.ndarray:
    """Returns names of files as bytes [N], as FolderRecords has them."""
    return np.array([os.fsencode(file) for file in files], "S")
