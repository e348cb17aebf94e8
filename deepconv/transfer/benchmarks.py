"""The data sets of VGG's appendix B as they lie on disk: images, labels, splits and what is measured."""

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deepconv.data.images import DataError, Encoded
from deepconv.data.sources import annotated, voc
from deepconv.data.sources.folders import SUFFIXES, FolderRecords, subfolders
from deepconv.data.sources.source import data_root
from deepconv.transfer.crops import Crops

# below DATA_DIR, as the official archives unpack
PLACES = {
    "voc2007": "VOCdevkit/VOC2007",
    "voc2012": "VOCdevkit/VOC2012",
    "voc2012_action": "VOCdevkit/VOC2012",
    "caltech101": "101_ObjectCategories",
    "caltech256": "256_ObjectCategories",
}
REGIONS = ("image", "box")
VOC_SCALES = (256, 384, 512, 640, 768)  # averaged
CALTECH_SCALES = (256, 384, 512)  # stacked
SEEDS = (0, 1, 2)  # of the random splits of folders of classes
TRAIN_IMAGES = {"caltech256": 60}  # of each class; 30 for others
TEST_IMAGES = {"caltech256": None}  # at most, of each class: all others; 50 for other data sets
VALIDATION = 0.2  # share of a training set that chooses C where there is no official part for it; our reading


@dataclass(frozen=True)
class Split:
    """Rows of examples, int arrays. Machines are trained on `fit` for the choice of C, and on `train` for the test."""

    fit: np.ndarray
    validation: np.ndarray
    train: np.ndarray  # has all of fit and validation
    test: np.ndarray


@dataclass(frozen=True)
class Part:
    """One of the images, or regions of images, that describe an example."""

    images: Encoded
    count: int
    rows: np.ndarray  # int [N], the image of each example
    digest: str  # of the names and sizes of the files, and of boxes


@dataclass(frozen=True)
class Benchmark:
    """A data set and what is measured on it. Row i of `labels` and of each part's rows belongs to example i."""

    name: str
    classes: tuple[str, ...]
    labels: np.ndarray  # int8 [N, classes]: 1, -1, or 0 for an image whose objects of the class are all difficult
    splits: tuple[Split, ...]
    parts: dict[str, Part]  # by region
    measure: str  # "eleven_point" or "area", VOC's average precision, or "recall"
    stacked: bool  # scales are stacked, else averaged
    scales: tuple[int, ...]  # of the paper
    test: str  # the split that is tested, in words
    seeds: tuple[int, ...] = ()  # of random splits


def find(name: str, data_dir: str | None, regions: Sequence[str] = ()) -> Benchmark:
    """Finds a data set and reads its lists. Raises ValueError for unknown names, OSError for incomplete data.

    A name that is not one of PLACES is a folder of data_dir: one in the layout of PASCAL VOC, which is treated as VOC,
    or one with a folder of images per class, which is treated as Caltech-101.
    """
    if wrong := sorted({*regions} - {*REGIONS}):
        raise ValueError(f"--regions={wrong[0]} is unknown; choose image, box or image,box")
    if regions and name != "voc2012_action":
        raise ValueError(f"--regions is for voc2012_action, which has boxes; leave it out for {name}")
    folder = locate(name, data_dir)
    if name == "voc2012_action":
        return _actions(folder, [region for region in REGIONS if region in (regions or REGIONS)])
    if (folder / "ImageSets/Main").is_dir():
        return _voc(name, folder)
    return _folders(name, folder)


def locate(name: str, data_dir: str | None) -> Path:
    """Returns the folder of a data set: below DATA_DIR, below DATA_DIR/NAME, or DATA_DIR itself."""
    root = data_root(data_dir)
    official = Path(PLACES.get(name, name))
    places = [root / official, root / official.name, root / name / official, root / name / official.name, root / name]
    if root.name == official.name:
        places.append(root)
    for place in places:
        if place.is_dir():
            return place
    known, missing = ", ".join(PLACES), " and no ".join(dict.fromkeys([str(official), name]))
    raise FileNotFoundError(
        f"--data={name} is not in {root}: there is no {missing}. Known data sets are {known}; any other "
        "name is a folder of --data_dir, in VOC's layout or with a folder of images per class"
    )


def _voc(name: str, folder: Path) -> Benchmark:
    """Returns the benchmark of a VOC folder: C is chosen on train and val, and test is tested, if it has labels."""
    # DIFFERS: the labels of VOC 2012's test images are on a server; here, val is tested, and only train is trained on
    tested = name != "voc2012" and any((folder / "ImageSets/Main").glob("*_test.txt"))
    splits = ["train", "val", "test"] if tested else ["train", "val"]
    found = [voc.read_voc(folder, split) for split in splits]
    classes = found[0].class_names
    if name not in PLACES:  # such a folder may have some of VOC's classes only
        lists = {file.stem for split in splits for file in (folder / "ImageSets/Main").glob(f"*_{split}.txt")}
        classes = tuple(label for label in classes if any(f"{label}_{split}" in lists for split in splits)) or classes
    labels = np.concatenate([voc.image_labels(folder, split, classes) for split in splits])
    names = np.concatenate([part.ids for part in found]).tolist()
    parts = {"image": _images(folder, [f"JPEGImages/{name}.jpg" for name in names])}
    split = _voc_split([len(part.ids) for part in found])
    return Benchmark(
        name, classes, labels, (split,), parts, _rule(name, folder), False, VOC_SCALES, splits[-1], _seeds(tested)
    )


def _actions(folder: Path, regions: Sequence[str]) -> Benchmark:
    """Returns VOC 2012's classification of actions of persons, tested on val, since test labels are on a server.

    The paper does not say how the features of a box are computed. Our reading: the box is cut out, without context, and
    described as an image is.
    """
    found = [voc.read_actions(folder, split) for split in ("train", "val")]
    names = np.concatenate([people.ids for people, _ in found])
    unique, rows = np.unique(names, return_inverse=True)
    parts = {}
    if "image" in regions:
        parts["image"] = _images(folder, [f"JPEGImages/{name}.jpg" for name in unique.tolist()], rows)
    if "box" in regions:
        boxes = np.concatenate([people.boxes[:, 0] for people, _ in found])
        sizes = np.concatenate([people.sizes for people, _ in found])
        parts["box"] = _boxes(folder, [f"JPEGImages/{name}.jpg" for name in names.tolist()], boxes, sizes)
    labels = np.concatenate([labels for _, labels in found])
    split = _voc_split([len(labels) for _, labels in found])
    return Benchmark(
        "voc2012_action", voc.ACTIONS, labels, (split,), parts, "area", False, VOC_SCALES, "val", _seeds(False)
    )


def _voc_split(counts: Sequence[int]) -> Split:
    """Returns the rows of train, val and test; without test, val is tested and a part of train validates."""
    train, val, *rest = np.split(np.arange(sum(counts)), np.cumsum(counts)[:-1])
    if rest:
        return Split(train, val, np.concatenate([train, val]), rest[0])
    order = np.random.default_rng(SEEDS[0]).permutation(train)
    validation = round(VALIDATION * len(train))
    return Split(np.sort(order[validation:]), np.sort(order[:validation]), train, val)


def _seeds(tested: bool) -> tuple[int, ...]:
    return () if tested else SEEDS[:1]


def _rule(name: str, folder: Path) -> str:
    """Returns VOC's average precision of the year in the name: eleven points until 2009, then the area."""
    year = re.search(r"20\d\d", name) or re.search(r"20\d\d", folder.name)
    return "eleven_point" if year and int(year[0]) <= 2009 else "area"


def _folders(name: str, folder: Path) -> Benchmark:
    """Returns a folder's benchmark, as Caltech's: three random splits with as many training images of each class."""
    train, most = TRAIN_IMAGES.get(name, 30), TEST_IMAGES.get(name, 50)
    files: dict[str, list[str]] = {}
    roots = [folder]
    if (folder / "train").is_dir() and subfolders(folder / "train"):  # images of all splits are put together
        known = set(subfolders(folder / "train"))
        roots = [folder / split for split in subfolders(folder) if known & {*subfolders(folder / split)}]
    for root in roots:
        for label in subfolders(root):
            files.setdefault(label, []).extend(_image_files(folder, root / label))
    classes = tuple(sorted(files))
    if len(classes) < 2:
        raise DataError(f"{folder} holds {len(classes)} folders of images; at least two classes are needed")
    few = [label for label in classes if len(files[label]) <= train]
    annotated.refuse(
        [
            f"{folder / label} holds {len(files[label])} images ({', '.join(SUFFIXES)}); {train} are needed for "
            "training and one for the test; add images, or remove the class"
            for label in few
        ]
    )
    numbers = np.repeat(np.arange(len(classes)), [len(files[label]) for label in classes])
    labels = np.where(np.arange(len(classes)) == numbers[:, None], 1, -1).astype(np.int8)
    parts = {"image": _images(folder, [file for label in classes for file in files[label]])}
    splits = tuple(random_split(numbers, train, most, seed) for seed in SEEDS)
    return Benchmark(name, classes, labels, splits, parts, "recall", True, CALTECH_SCALES, "random splits", SEEDS)


def random_split(numbers: np.ndarray, train: int, most: int | None, seed: int) -> Split:
    """Draws `train` images of each class for training and, of the others, at most `most` for the test.

    A fifth of the training images of each class, at least one, validates.
    """
    rng, drawn = np.random.default_rng(seed), []
    validation = max(1, round(VALIDATION * train))
    for number in range(numbers.max() + 1):
        rows = rng.permutation(np.flatnonzero(numbers == number))
        end = None if most is None else train + most
        drawn.append((rows[validation:train], rows[:validation], rows[:train], rows[train:end]))
    return Split(*(np.sort(np.concatenate(part)) for part in zip(*drawn, strict=True)))


def _image_files(root: Path, folder: Path) -> list[str]:
    names = [entry.name for entry in os.scandir(folder) if entry.name.lower().endswith(SUFFIXES)]
    relative = folder.relative_to(root)
    return [str(relative / name) for name in sorted(names) if not name.startswith(".")]


def _images(folder: Path, files: Sequence[str], rows: np.ndarray | None = None) -> Part:
    rows = np.arange(len(files)) if rows is None else rows
    return Part(_records(folder, files), len(files), rows, _digest(folder, files))


def _boxes(folder: Path, files: Sequence[str], boxes: np.ndarray, sizes: np.ndarray) -> Part:
    crops = Crops(_records(folder, files), boxes, sizes)
    return Part(crops, len(files), np.arange(len(files)), _digest(folder, files, boxes.tobytes()))


def _records(folder: Path, files: Sequence[str]) -> FolderRecords:
    return FolderRecords(str(folder), annotated.names_array(files), np.full(len(files), -1, np.int32))


def _digest(folder: Path, files: Sequence[str], boxes: bytes = b"") -> str:
    sizes = {file: os.stat(folder / file).st_size for file in dict.fromkeys(files)}
    lines = [os.fsencode(f"{file} {sizes[file]}") for file in files]
    return hashlib.sha256(b"\n".join(lines) + b"\n" + boxes).hexdigest()
