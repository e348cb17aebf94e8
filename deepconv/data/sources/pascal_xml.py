"""The annotation of one image as an XML file in PASCAL VOC's format, which ImageNet has, too."""

import math
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from deepconv.data.images import DataError

SIDES = ("xmin", "ymin", "xmax", "ymax")


class PascalObject(NamedTuple):
    """An object as its file has it."""

    name: str
    box: tuple[float, float, float, float]  # xmin, ymin, xmax, ymax: pixels counted from 1, both ends inside
    difficult: bool


class PascalImage(NamedTuple):
    """The content of a file. An object's parts, such as a person's head, are left out."""

    size: tuple[int, int]  # height and width in pixels
    objects: list[PascalObject]


def read(path: Path) -> PascalImage:
    """Reads a file. Raises DataError for one that is missing, cannot be parsed or lacks a size, a name or a box."""
    try:
        root = ElementTree.parse(path).getroot()
    except FileNotFoundError:
        raise DataError(f"{path} is missing; every image of the split needs its annotation") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # the last two: unknown encodings
        raise DataError(f"{path} cannot be parsed as XML: {error}; restore it") from None
    sides = [_number(root, f"size/{side}", f"{path}") for side in ("height", "width")]
    if not all(side >= 1 and side == int(side) for side in sides):
        raise DataError(
            f"{path} states a height of {sides[0]:g} and a width of {sides[1]:g}; both must be whole numbers from 1"
        )
    items = root.findall("object")
    return PascalImage(
        (int(sides[0]), int(sides[1])),
        [_object(item, f"{path}: object {number}") for number, item in enumerate(items, 1)],
    )


def written(path: Path, number: int, found: PascalObject) -> str:
    """Describes the box of the object with this number, from 1, for a message."""
    return f"{path}: object {number} ({found.name}) has {', '.join(SIDES)} {', '.join(f'{x:g}' for x in found.box)}"


def _object(item: ElementTree.Element, place: str) -> PascalObject:
    name = (item.findtext("name") or "").strip()
    if not name:
        raise DataError(f"{place} has no <name>; it needs the name of its class")
    x1, y1, x2, y2 = (_number(item, f"bndbox/{side}", place) for side in SIDES)
    difficult = (item.findtext("difficult") or "0").strip()  # as VOC's PASreadrecord reads a missing one
    if difficult not in ("0", "1"):
        raise DataError(f"{place} has difficult {difficult!r}; 0 and 1 are allowed")
    return PascalObject(name, (x1, y1, x2, y2), difficult == "1")


def _number(item: ElementTree.Element, tag: str, place: str) -> float:
    text = item.findtext(tag)
    if text is None:
        raise DataError(f"{place} has no <{tag}>, which must be a number of pixels")
    try:
        number = float(text)  # VOC 2012 has a few with decimals
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{place} has the {tag.split('/')[1]} {text.strip()!r}, not a number of pixels")
    return number
