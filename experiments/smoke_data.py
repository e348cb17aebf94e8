"""Small data sets for the smoke test of commands that read runs: drawn shapes in place of VGG's other data sets."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from deepconv.data import decode
from deepconv.data.sources import shape_drawing, voc

SIDE = 40  # pixels
CALTECH_IMAGES = 62  # of a class: 60 for training on Caltech-256, and two for the test
VOC_IMAGES = 12  # of a split
OBJECTS = ("person", "dog")  # in turn, one an image
ANNOTATION = """<annotation><size><width>{side}</width><height>{side}</height><depth>3</depth></size>
<object><name>{name}</name><difficult>0</difficult>
<bndbox><xmin>3</xmin><ymin>3</ymin><xmax>38</xmax><ymax>38</ymax></bndbox></object></annotation>
"""


def write(root: Path) -> None:
    """Writes VOC-2007, VOC-2012 with its actions, Caltech-101 and Caltech-256, each with two classes of images."""
    images, _ = shape_drawing.draw_many(0, 2 * CALTECH_IMAGES, SIDE)
    for name in ("101_ObjectCategories", "256_ObjectCategories"):
        for label, part in zip(OBJECTS, np.split(images, 2), strict=True):
            _write_images(root / name / label, part)
    for year, splits in {"VOC2007": ("train", "val", "test"), "VOC2012": ("train", "val")}.items():
        _write_voc(root / "VOCdevkit" / year, splits, images)


def _write_voc(folder: Path, splits: Sequence[str], images: np.ndarray) -> None:
    """Writes the layout of `deepconv.data.sources.voc`, with lists of actions."""
    count = VOC_IMAGES * len(splits)
    _write_images(folder / "JPEGImages", images[:count])
    for number in range(count):
        text = ANNOTATION.format(side=SIDE, name=OBJECTS[number % 2])
        _write_text(folder / "Annotations" / f"{number:06}.xml", text)
    lists = folder / "ImageSets"
    for part, split in enumerate(splits):
        numbers = range(part * VOC_IMAGES, (part + 1) * VOC_IMAGES)
        _write_text(lists / "Main" / f"{split}.txt", "".join(f"{number:06}\n" for number in numbers))
        for name in voc.CLASSES:
            lines = (f"{number:06} {1 if OBJECTS[number % 2] == name else -1}" for number in numbers)
            _write_text(lists / "Main" / f"{name}_{split}.txt", "\n".join(lines))
        for place, name in enumerate(voc.ACTIONS):  # each person does every second one, the next person the others
            persons = [number for number in numbers if OBJECTS[number % 2] == "person"]
            lines = (f"{number:06} 1 {1 if (number // 2 + place) % 2 else -1}" for number in persons)
            _write_text(lists / "Action" / f"{name}_{split}.txt", "\n".join(lines))


def _write_images(folder: Path, images: Iterable[np.ndarray]) -> None:
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        (folder / f"{number:06}.jpg").write_bytes(decode.as_jpeg(image, 90))


def _write_text(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
