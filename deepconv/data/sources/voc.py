"""PASCAL VOC's folders, such as VOCdevkit/VOC2007, and data sets in the same layout."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deepconv.boxes import geometry
from deepconv.data.images import DataError
from deepconv.data.sources import annotated, pascal_xml
from deepconv.data.sources.annotated import AnnotatedImages
from deepconv.data.sources.folders import FolderRecords
from deepconv.data.sources.pascal_xml import PascalImage, PascalObject
from deepconv.data.sources.source import parse_split, split_name

CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
ACTIONS = (  # of VOC 2012; its "other" is not evaluated
    *("jumping", "phoning", "playinginstrument", "reading", "ridingbike", "ridinghorse", "running", "takingphoto"),
    *("usingcomputer", "walking"),
)


def read_voc(folder: Path, split: str) -> AnnotatedImages:
    """Reads the images of ImageSets/Main/<split>.txt with the objects in Annotations; split may be train[:90%].

    The names of classes come from the files <class>_<split>.txt or, without these, from all annotations of the folder,
    so that they are the same for every split. Classes are VOC's twenty if all names are among them, otherwise the names
    in alphabetical order. Raises ValueError for
    an unknown split, and DataError with a line for each annotation or image that is missing or malformed.
    """
    base, names = _image_names(folder, split)
    mistakes: list[str] = []
    listed = _listed_classes(folder)
    files = [_xml(folder, name) for name in names]
    others = [] if listed else sorted((folder / "Annotations").glob("*.xml"))
    read = _read(dict.fromkeys([*files, *others]), mistakes)
    known = listed or {found.name for image in read.values() for found in image.objects}
    classes = CLASSES if known <= set(CLASSES) else tuple(sorted(known))
    objects = [
        _Object(row, file, number, found)
        for row, file in enumerate(files)
        if file in read
        for number, found in enumerate(read[file].objects, 1)
    ]
    return _annotated(folder, names, read, objects, classes, mistakes)


def image_labels(folder: Path, split: str, classes: Sequence[str] = CLASSES) -> np.ndarray:
    """Returns ImageSets/Main/<class>_<split>.txt, int8 [N, classes]: 1, or -1 for an image without the class.

    0 means that all its objects of the class are difficult. Rows are those of `read_voc`. Raises DataError for a file
    that is missing or malformed, or lacks an image of the split.
    """
    base, names = _image_names(folder, split)
    labels = np.empty((len(names), len(classes)), np.int8)
    for column, name in enumerate(classes):
        file = folder / f"ImageSets/Main/{name}_{base}.txt"
        table = _labels(file, words=2)
        if missing := [image for image in names if (image,) not in table]:
            raise DataError(f"{file} has no line for the image {missing[0]}, which {base}.txt lists; restore it")
        labels[:, column] = [table[image,] for image in names]
    return labels


def read_actions(folder: Path, split: str) -> tuple[AnnotatedImages, np.ndarray]:
    """Reads the persons of VOC 2012's ImageSets/Action/<action>_<split>.txt, and their labels, int8 [N, 10].

    Row i is one person on its image, M is 1; images with several persons recur. Labels are as in `image_labels`, in
    the order of ACTIONS. Raises as `read_voc` does.
    """
    actions, base = folder / "ImageSets/Action", split.split("[")[0]
    known = sorted(file.stem.removeprefix(f"{ACTIONS[0]}_") for file in actions.glob(f"{ACTIONS[0]}_*.txt"))
    if base not in known:
        raise ValueError(f"no split {split!r} in {actions}; choose one of {known}, or a part of one")
    lists = [actions / f"{name}_{base}.txt" for name in ACTIONS]
    tables = [_labels(file, words=3) for file in lists]
    persons = list(tables[0])
    for file, table in zip(lists, tables, strict=True):
        if different := sorted(table.keys() ^ tables[0].keys()):
            raise DataError(
                f"{file} and {lists[0].name} differ in object {' '.join(different[0][1:])} of "
                f"{different[0][0]}, which one of them lacks; restore them"
            )
    _, first, last = parse_split(split, {base: len(persons)})
    persons = persons[first:last]
    names, mistakes = [image for image, _ in persons], []
    read = _read(dict.fromkeys(_xml(folder, name) for name in names), mistakes)
    objects = []
    for row, (name, number) in enumerate(persons):
        if (image := read.get(file := _xml(folder, name))) is None:
            continue
        if number.isdecimal() and 1 <= int(number) <= len(image.objects):
            objects.append(_Object(row, file, int(number), image.objects[int(number) - 1]))
        else:
            mistakes.append(f"{file} has {len(image.objects)} objects; {lists[0].name} has a label of object {number}")
    people = _annotated(folder, names, read, objects, ("person",), mistakes)
    return people, np.array([[table[person] for table in tables] for person in persons], np.int8)


class _Object(NamedTuple):
    row: int  # of its image
    file: Path
    number: int  # in its file, from 1
    found: PascalObject


def _annotated(
    folder: Path,
    names: Sequence[str],
    read: Mapping[Path, PascalImage],
    objects: Sequence[_Object],
    classes: tuple[str, ...],
    mistakes: list[str],
) -> AnnotatedImages:
    """Checks images and objects, and arranges them. Raises DataError if there are mistakes, earlier ones too."""
    images = [f"JPEGImages/{name}.jpg" for name in names]
    annotated.check_images(folder, dict.fromkeys(images), mistakes)
    numbers = {name: number for number, name in enumerate(classes)}
    for _, file, number, found in objects:
        if found.name not in numbers:
            mistakes.append(f"{file}: object {number} is of the class {found.name!r}; known are {', '.join(classes)}")

    def describe(k: int) -> str:
        _, file, number, found = objects[k]
        return pascal_xml.written(file, number, found)

    boxes = geometry.from_voc(np.array([item.found.box for item in objects]).reshape(-1, 4))
    boxes = annotated.check_boxes(
        boxes, np.array([read[item.file].size for item in objects]).reshape(-1, 2), describe, mistakes
    )
    annotated.refuse(mistakes)
    flat = annotated.Found(
        rows=np.array([item.row for item in objects], int),
        boxes=boxes,
        classes=np.array([numbers[item.found.name] for item in objects], int),
        difficult=np.array([item.found.difficult for item in objects], bool),
        crowd=np.zeros(len(objects), bool),
    )
    records = FolderRecords(str(folder), annotated.names_array(images), np.full(len(names), -1, np.int32))
    sizes = np.array([read[_xml(folder, name)].size for name in names])
    return annotated.arrange(records, np.array(names), sizes, flat, classes)


def _read(files: Iterable[Path], mistakes: list[str]) -> dict[Path, PascalImage]:
    """Reads annotations; those that cannot be read become mistakes."""
    read = {}
    for file in files:
        try:
            read[file] = pascal_xml.read(file)
        except DataError as error:
            mistakes.append(str(error))
    return read


def _xml(folder: Path, name: str) -> Path:
    return folder / "Annotations" / f"{name}.xml"


def _image_names(folder: Path, split: str) -> tuple[str, list[str]]:
    """Returns the split's name without its part, as in train[:90%], and the names of its images."""
    lists = folder / "ImageSets/Main"
    known = _splits(lists)
    base = split.split("[")[0]
    chosen = split_name(base, known)
    if chosen not in known:
        raise ValueError(f"no split {split!r} in {lists}; choose one of {known}, or a part of one")
    names = (lists / f"{chosen}.txt").read_text().split()
    if repeated := [name for name, other in zip(sorted(names), sorted(names)[1:], strict=False) if name == other]:
        raise DataError(f"{lists / chosen}.txt lists the image {repeated[0]} twice; remove one line")
    _, first, last = parse_split(split, {base: len(names)})
    return chosen, names[first:last]


def _listed_classes(folder: Path) -> set[str]:
    """Returns the classes that have a list of images of any split; none in data sets that have no such lists."""
    lists = folder / "ImageSets/Main"
    return {file.stem.removesuffix(f"_{split}") for split in _splits(lists) for file in lists.glob(f"*_{split}.txt")}


def _splits(lists: Path) -> list[str]:
    return sorted(file.stem for file in lists.glob("*.txt") if "_" not in file.stem)


def _labels(file: Path, words: int) -> dict[tuple[str, ...], int]:
    """Reads lines of so many words, of which the last is a label, 1, 0 or -1. Raises DataError for another line."""
    try:
        lines = file.read_text().splitlines()
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}; it should hold labels") from None
    table = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        *key, label = line.split()
        if len(key) != words - 1 or label not in ("-1", "0", "1"):
            raise DataError(f"{file}, line {number}, is {line!r}; it should be {words} words, the last 1, 0 or -1")
        if tuple(key) in table:
            raise DataError(f"{file}, line {number}, is the second line for {' '.join(key)}; remove one")
        table[tuple(key)] = int(label)
    return table
