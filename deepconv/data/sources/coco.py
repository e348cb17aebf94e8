"""COCO's layout: annotations/instances_<split>.json and the images in <split>/."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from deepconv.boxes import geometry
from deepconv.data.images import DataError
from deepconv.data.sources import annotated
from deepconv.data.sources.annotated import AnnotatedImages
from deepconv.data.sources.folders import FolderRecords
from deepconv.data.sources.source import parse_split

LARGEST = 1e9  # pixels
NEEDED = {
    "images": {"id": int, "file_name": str, "height": int, "width": int},
    "categories": {"id": int, "name": str},
    "annotations": {"id": int, "image_id": int, "category_id": int, "bbox": list, "area": (int, float), "iscrowd": int},
}


def read_coco(folder: Path, split: str) -> AnnotatedImages:
    """Reads a split such as val2017 or train2017[:90%]; images without objects stay.

    Classes are the places of the categories sorted by id, as for `deepconv.boxes.coco`. Objects without area, of which
    train2017 has two, are printed and become difficult. Raises ValueError for an unknown split, and DataError with a
    line for each malformed entry and missing image.
    """
    base = split.split("[")[0]
    known = sorted(path.stem.removeprefix("instances_") for path in (folder / "annotations").glob("instances_*.json"))
    if base not in known:
        raise ValueError(f"no split {split!r} in {folder / 'annotations'}; choose one of {known}, or a part of one")
    content = read_annotations(folder, base)
    file = annotations_file(folder, base)
    _, first, last = parse_split(split, {base: len(content["images"])})
    images, mistakes = content["images"][first:last], []
    annotated.check_images(folder / base, [image["file_name"] for image in images], mistakes)
    rows = {image["id"]: row for row, image in enumerate(images)}
    objects = [annotation for annotation in content["annotations"] if annotation["image_id"] in rows]
    categories = sorted(content["categories"], key=lambda category: category["id"])
    numbers = {category["id"]: number for number, category in enumerate(categories)}

    def describe(k: int) -> str:
        return f"{file}: annotation {objects[k]['id']} has the bbox {objects[k]['bbox']}"

    places = np.array([rows[annotation["image_id"]] for annotation in objects], int)
    sizes = np.array([(image["height"], image["width"]) for image in images], np.int32).reshape(-1, 2)
    boxes = geometry.from_coco(np.array([annotation["bbox"] for annotation in objects]).reshape(-1, 4))
    boxes = annotated.check_boxes(boxes, sizes[places], describe, mistakes, empty_allowed=True)
    annotated.refuse(mistakes)
    empty = annotated.report_empty(boxes, describe)
    found = annotated.Found(
        rows=places,
        boxes=boxes,
        classes=np.array([numbers[annotation["category_id"]] for annotation in objects], int),
        difficult=empty,
        crowd=np.array([annotation["iscrowd"] for annotation in objects], bool),
    )
    names = annotated.names_array([f"{base}/{image['file_name']}" for image in images])
    records = FolderRecords(str(folder), names, np.full(len(images), -1, np.int32))
    ids = np.array([image["id"] for image in images], np.int64)
    return annotated.arrange(records, ids, sizes, found, tuple(category["name"] for category in categories))


def annotations_file(folder: Path, split: str) -> Path:
    """Returns the file of a split's objects."""
    return folder / "annotations" / f"instances_{split}.json"


def read_annotations(folder: Path, split: str) -> dict[str, Any]:
    """Reads instances_<split>.json without its outlines, for `deepconv.boxes.coco`, too.

    Outlines are dropped as they are read: they are most of the file. Raises DataError with a line for each entry that
    lacks a field or refers to an unknown image or category.
    """
    file = annotations_file(folder, split)
    try:
        with file.open(encoding="utf-8") as opened:
            content = json.load(opened, object_hook=_without_outline)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from None
    except (RecursionError, ValueError) as error:  # not JSON, or not UTF-8
        raise DataError(f"{file} is damaged: {error}; restore it") from None
    for kind in NEEDED:
        if not isinstance(content, dict) or not isinstance(content.get(kind), list):
            raise DataError(f"{file} has no list {kind!r}; COCO's format has {', '.join(NEEDED)}")
    mistakes = [
        f"{file}: entry {number} of {kind} {problem}"
        for kind, fields in NEEDED.items()
        for number, entry in enumerate(content[kind], 1)
        if (problem := _problem(entry, fields))
    ]
    annotated.refuse(mistakes)
    for kind in ("images", "categories"):
        ids = [entry["id"] for entry in content[kind]]
        mistakes += [f"{file}: two {kind} have the id {number}; ids must differ" for number in _repeated(ids)]
    annotated.refuse(mistakes)
    images, categories = ({entry["id"] for entry in content[kind]} for kind in ("images", "categories"))
    for annotation in content["annotations"]:
        if annotation["image_id"] not in images:
            mistakes.append(
                f"{file}: annotation {annotation['id']} is on image {annotation['image_id']}, which is not among the "
                f"{len(images)} images"
            )
        if annotation["category_id"] not in categories:
            mistakes.append(
                f"{file}: annotation {annotation['id']} has the category {annotation['category_id']}; known are "
                f"{', '.join(map(str, sorted(categories)))}"
            )
    annotated.refuse(mistakes)
    return content


def _without_outline(entry: dict[str, Any]) -> dict[str, Any]:
    entry.pop("segmentation", None)
    return entry


def _problem(entry: Any, fields: dict[str, Any]) -> str:
    """Describes what an entry lacks; "" for nothing."""
    if not isinstance(entry, dict):
        return f"is {entry!r:.60}, not an object with {', '.join(fields)}"
    for name, kind in fields.items():
        if not isinstance(entry.get(name), kind) or isinstance(entry[name], bool):
            return f"has {name} {entry[name]!r:.60}" if name in entry else f"has no {name!r}"
    box = entry.get("bbox", [0, 0, 0, 0])
    if len(box) != 4 or not all(isinstance(x, int | float) and abs(x) < LARGEST for x in box):
        return f"has the bbox {box!r:.60}; four numbers are needed: x, y, width, height"
    if "height" in entry and not all(0 < entry[side] < LARGEST for side in ("height", "width")):
        return f"has a height of {entry['height']} and a width of {entry['width']}; both must be above 0"
    if entry["id"] >= 2**63:
        return f"has the id {entry['id']}; it must be below 2**63"
    if entry.get("iscrowd", 0) not in (0, 1):
        return f"has iscrowd {entry['iscrowd']}; it must be 0 or 1"
    return ""


def _repeated(ids: Iterable[int]) -> list[int]:
    ordered = sorted(ids)
    return sorted({a for a, b in zip(ordered, ordered[1:], strict=False) if a == b})
