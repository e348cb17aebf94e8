"""ILSVRC-2012's images with the boxes of its XML files, for localisation."""

import functools
import hashlib
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from deepconv.boxes import geometry
from deepconv.boxes.localization_error import not_blacklisted
from deepconv.data.images import DataError
from deepconv.data.sources import annotated, pascal_xml
from deepconv.data.sources.annotated import AnnotatedImages
from deepconv.data.sources.folders import FolderRecords, hashed_order, imagenet_synsets, imagenet_validation_labels
from deepconv.data.sources.source import Source, parse_split, split_name
from deepconv.run import log as runlog

BOXES = "boxes"  # folder of the XML files, beside train and val
BLACKLIST = "ILSVRC2015_clsloc_validation_blacklist.txt"  # of the devkit, beside the XML files' folders train and val


def find_imagenet_boxes(folder: Path, name: str, split: str) -> Source:
    """Finds the images that have boxes; open() reads the XML files. Raises as `read_imagenet_boxes` does."""
    _, files, labels = _listed(folder, folder / BOXES / _base(split), split)
    digest = hashlib.sha256("\n".join(files).encode() + labels.tobytes()).hexdigest()
    read = functools.cache(functools.partial(read_imagenet_boxes, folder, folder / BOXES, split))
    return Source(name, split, len(files), tuple(imagenet_synsets()), None, read, folder, digest)


def read_imagenet_boxes(folder: Path, annotations: Path, split: str) -> AnnotatedImages:
    """Reads the images that have boxes: about 42 % of the training set, and all of the validation set.

    folder has train/<synset>/<name>.JPEG, and val/<name>.JPEG or val/<synset>/<name>.JPEG; annotations has
    train/<synset>/<name>.xml and val/<name>.xml. split is "train", "val" or a part; images are in hashed order.

    Boxes are on images of the size that their file states, mostly not that of the JPEG: use `boxes_in`. Boxes with min
    above max are sorted, and all are clipped to the image, which the devkit does not do; those without area in it are
    printed and become difficult. All objects have the class of their image; a file's <filename> and <name> are not
    read, since some are "%s" or words. Raises ValueError for an unknown split, and DataError with a line for each file
    that is malformed, of an unknown class, or without its image.
    """
    root, mistakes = annotations / _base(split), []
    names, files, labels = _listed(folder, root, split)
    annotated.check_images(folder, files, mistakes)
    sizes, rows, boxes, places = np.ones((len(names), 2), np.int32), [], [], []
    with runlog.progress(f"boxes of {root.name}", len(names)) as show:
        for row, name in enumerate(names):
            path = root / f"{name}.xml"
            try:
                image = pascal_xml.read(path)
            except DataError as error:
                mistakes.append(str(error))
                continue
            if not image.objects:
                mistakes.append(f"{path} has no <object>; add one, or remove the file")
            sizes[row] = image.size
            for number, item in enumerate(image.objects, 1):
                rows.append(row)
                boxes.append(item.box)
                places.append(number)
            if (row + 1) % 1000 == 0:
                show(row + 1)

    def describe(k: int) -> str:
        corners = ", ".join(f"{x:g}" for x in boxes[k])
        return f"{root / names[rows[k]]}.xml: object {places[k]} has {', '.join(pascal_xml.SIDES)} {corners}"

    flat = np.array(boxes).reshape(-1, 4)
    flat = np.concatenate([np.minimum(flat[:, :2], flat[:, 2:]), np.maximum(flat[:, :2], flat[:, 2:])], -1)
    of_rows = sizes[np.array(rows, int)]
    # DIFFERS: ILSVRC's devkit does not clip
    clipped = geometry.clip(geometry.from_voc(flat), of_rows[:, 0], of_rows[:, 1])
    clipped = annotated.check_boxes(clipped, of_rows, describe, mistakes, empty_allowed=True)
    annotated.refuse(mistakes)
    empty = annotated.report_empty(clipped, describe)
    found = annotated.Found(np.array(rows, int), clipped, labels[rows], empty, np.zeros(len(rows), bool))
    records = FolderRecords(str(folder), annotated.names_array(files), labels)
    ids = np.array([name.rpartition("/")[2] for name in names])
    images = annotated.arrange(records, ids, sizes, found, tuple(imagenet_synsets()), scaled=True)
    listing = annotations / BLACKLIST
    if root.name != "val" or not listing.exists():
        return images
    numbers = np.array([int(name.rpartition("_")[2]) for name in ids.tolist()])
    try:
        return replace(images, blacklisted=~not_blacklisted(listing, numbers))
    except ValueError as error:
        raise DataError(str(error)) from None


def _base(split: str) -> str:
    base = split_name(split.split("[")[0], ("train", "val"))
    if base not in ("train", "val"):
        raise ValueError(f"no split {split!r}; choose train or val, or a part of one")
    return base


def _listed(folder: Path, root: Path, split: str) -> tuple[list[str], list[str], np.ndarray]:
    """Returns the names of a split's images with boxes, their files in folder and their classes, int32 [N]."""
    base, mistakes = root.name, []
    found = [path.relative_to(root) for path in root.glob("*/*.xml" if base == "train" else "*.xml")]
    if not found:
        pattern = "<synset>/<name>.xml" if base == "train" else "<name>.xml"
        raise DataError(f"{root} holds no files {pattern}; unpack ILSVRC's boxes of {base} there")
    names = [path.with_suffix("").as_posix() for path in found]
    labels = _labels(root, names, mistakes)
    annotated.refuse(mistakes)
    in_folders = base == "val" and not any((folder / base).glob("*.JPEG"))
    synsets = imagenet_synsets()
    files = [
        f"{base}/{synsets[label]}/{name}.JPEG" if in_folders else f"{base}/{name}.JPEG"
        for name, label in zip(names, labels, strict=True)
    ]
    _, first, last = parse_split(split, {split.split("[")[0]: len(names)})
    part = hashed_order([file.encode() for file in files])[first:last]  # the order of the data set without boxes
    return [names[k] for k in part], [files[k] for k in part], labels[part]


def _labels(root: Path, names: list[str], mistakes: list[str]) -> np.ndarray:
    """Returns the class of each image, int32 [N], by its folder or, for the validation set, by its number."""
    synsets = {name: number for number, name in enumerate(imagenet_synsets())}
    validation = imagenet_validation_labels()
    labels = np.full(len(names), -1, np.int32)
    for row, name in enumerate(names):
        folder, _, stem = name.rpartition("/")
        number = re.fullmatch(r"ILSVRC2012_val_(\d{8})", stem)
        if folder in synsets:
            labels[row] = synsets[folder]
        elif folder:
            mistakes.append(f"{root / name}.xml is in a folder that is not one of ILSVRC-2012's {len(synsets)} synsets")
        elif number and 1 <= int(number[1]) <= len(validation):
            labels[row] = synsets[validation[int(number[1]) - 1]]
        else:
            mistakes.append(
                f"{root / name}.xml has no number of a validation image; ILSVRC2012_val_00000001.xml to "
                f"ILSVRC2012_val_{len(validation):08}.xml are known"
            )
    return labels
