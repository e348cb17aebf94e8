"""Folders of images: <split>/<class>/*.jpg."""

import functools
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deepconv.data.images import DataError, Encoded, Record
from deepconv.data.sources.source import Source, parse_split, split_name
from deepconv.data.synsets import imagenet_words
from deepconv.run.files import printable

SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")
NAME_AND_CLASS = rf"(.+?(?:{'|'.join(map(re.escape, SUFFIXES))}))\s+(.+)"  # a line of val.txt


@dataclass(frozen=True)
class FolderRecords(Encoded):
    """Reads the files of one split."""

    folder: str
    files: np.ndarray  # bytes [N], relative to the folder
    labels: np.ndarray  # int32 [N]

    def read(self, indices: Iterable[int]) -> list[Record]:
        return [self._read(os.fsdecode(self.files[i]), int(self.labels[i])) for i in indices]

    def _read(self, file: str, label: int) -> Record:
        name = printable(file)  # names are bytes, of any encoding
        try:
            return Record(Path(self.folder, file).read_bytes(), label, f"{name} in {self.folder}")
        except OSError as error:
            raise DataError(f"{name} in {self.folder} cannot be read: {error.strerror}") from None


def find_folders(folder: Path, name: str, split: str) -> Source:
    """Finds a folder of train/<class>/*.jpg, and val/<class>/*.jpg or val/*.jpg with val.txt; train has the classes."""
    splits = subfolders(folder)
    base = split.split("[")[0]
    chosen = split_name(base, splits)
    if chosen not in splits:
        raise ValueError(
            f"no split {split!r} in {folder}; choose one of {', '.join(splits)}, or a part of one, as in "
            "--config.data.train_split='train[:90%]' --config.data.eval_split='train[90%:]'"
        )
    classes = subfolders(folder / "train")
    if not classes:
        raise DataError(f"{folder / 'train'} has no folders; it must have one folder of images per class")
    files, labels = _list_folders(str(folder), chosen, tuple(classes))
    _, first, last = parse_split(split, {base: len(files)})
    records = FolderRecords(str(folder), files[first:last], labels[first:last])
    digest = hashlib.sha256(b"\n".join(records.files.tolist()) + records.labels.tobytes()).hexdigest()
    return Source(name, split, last - first, tuple(classes), None, lambda: records, folder, digest)


@functools.cache  # a million files take seconds, and several parts of a split may be needed
def _list_folders(folder: str, split: str, classes: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Lists files and labels in hashed order, which makes any part of a split a fair sample."""
    root = Path(folder, split)
    found, unread = subfolders(root), []
    if found == ["images"] and "images" not in classes:
        found = []  # the layout of Tiny ImageNet
    if unknown := sorted(set(found) - set(classes)):
        raise DataError(
            f"{root / unknown[0]} has no counterpart in {Path(folder, 'train')}, whose folders define the classes; "
            "rename or remove it"
        )
    files, labels = [], []
    if found:
        numbers = {name: number for number, name in enumerate(classes)}
        for name in found:  # a test set may lack a class
            images = _images(root / name, unread)
            if not images:
                content = (
                    f"; it holds {_kinds(other)}" if (other := [path for path in unread if name in path.parts]) else ""
                )
                raise DataError(
                    f"{root / printable(name)} holds no images ({', '.join(SUFFIXES)}){content}; fill it, or "
                    f"remove the class everywhere"
                )
            files += [f"{split}/{name}/{image}" for image in images]
            labels += [numbers[name]] * len(images)
        unread += [root / entry.name for entry in _visible(root) if not entry.is_dir()]
    else:
        images = sorted(_images(root, unread))
        if not images:
            raise DataError(f"{root} holds no images ({', '.join(SUFFIXES)}) and no folders with images")
        files = [f"{split}/{image}" for image in images]
        listing = Path(folder, f"{split}.txt")
        if not listing.exists() and (annotations := root / f"{split}_annotations.txt") in unread:  # Tiny ImageNet's
            listing = annotations
            unread.remove(listing)
        labels = _listed_labels(listing, images, classes)
    if unread:
        example = printable(str(unread[0].relative_to(root)))
        print(f"{len(unread)} files in {root} are not read: {_kinds(unread)} (for example {example})", flush=True)
    names = np.array([os.fsencode(file) for file in files])
    order = hashed_order(names.tolist())
    return names[order], np.array(labels, np.int32)[order]


def subfolders(folder: Path) -> list[str]:
    """Returns the names of the folders in a folder, without hidden ones, in order."""
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    return [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]


def _images(folder: Path, unread: list[Path]) -> list[str]:
    """Lists the images in a folder or, as in Tiny ImageNet, its subfolder images; adds other entries to unread."""
    entries = _visible(folder)
    images = [entry.name for entry in entries if entry.name.lower().endswith(SUFFIXES) and entry.is_file()]
    known = {*images}
    if not images and any(entry.name == "images" and entry.is_dir() for entry in entries):
        images, known = [f"images/{name}" for name in _images(folder / "images", unread)], {"images"}
    unread += [folder / entry.name for entry in entries if entry.name not in known]
    return images


def _kinds(paths: Sequence[Path]) -> str:
    """Counts the paths of each kind, as in "10 .heic, 2 folders"."""
    kinds = Counter("folders" if path.is_dir() else path.suffix.lower() or "without a suffix" for path in paths)
    return ", ".join(f"{count} {printable(kind)}" for kind, count in kinds.most_common(9))


def _listed_labels(listing: Path, images: list[str], classes: tuple[str, ...]) -> list[int]:
    """Reads a flat folder's labels: one class per line, in the order of names, or an image's name and its class."""
    numbers = {name: number for number, name in enumerate(classes)}
    if listing.exists():
        text = listing.read_text("utf-8-sig", errors="surrogateescape")  # names are bytes, of any encoding
        lines = [line.strip() for line in text.split("\n") if line.strip()]
        named = [re.fullmatch(NAME_AND_CLASS, line, re.IGNORECASE) for line in lines]
        lines = [[*found.groups()] if found else [line] for line, found in zip(lines, named, strict=True)]
        lines = [[part.split("\t")[0] for part in line] for line in lines]  # boxes follow in Tiny ImageNet
    elif images[0] == "ILSVRC2012_val_00000001.JPEG":
        lines = [[synset] for synset in imagenet_validation_labels()]
        if len(images) != len(lines):
            raise DataError(
                f"{len(images)} of ImageNet's {len(lines)} validation images are in {listing.with_suffix('')}; restore "
                f"the others, or write {listing.name} with the class of each image"
            )
    else:
        raise DataError(
            f"{listing} is missing; it must have {len(images)} lines, the class of each image in the order of names"
        )
    if len(lines) != len(images):
        raise DataError(
            f"{len(images)} images are in {listing.with_suffix('')}, but {listing.name} has {len(lines)} lines; give "
            "one for each image"
        )
    if any(len(line) > 1 for line in lines):
        named = {line[0]: line[-1] for line in lines}
        names = [image.removeprefix("images/") for image in images]
        if missing := [name for name in names if name not in named]:
            raise DataError(f"{listing} does not name {printable(missing[0])}; add a line for it")
        lines = [[named[name]] for name in names]
    if unknown := [line[0] for line in lines if line[0] not in numbers]:
        where = f"{listing} names" if listing.exists() else f"{listing.with_suffix('')} has images of"
        raise DataError(f"{where} the class {unknown[0]!r}, which has no folder in train/")
    return [numbers[line[0]] for line in lines]


def hashed_order(names: Iterable[bytes]) -> np.ndarray:
    """Returns the order of names by their hashes, int [N], in which any part is a fair sample."""
    return np.argsort(np.array([hashlib.blake2b(name, digest_size=8).digest() for name in names]), kind="stable")


def imagenet_validation_labels() -> list[str]:
    """Returns the synset of each of ILSVRC-2012's 50,000 validation images, in the order of their names."""
    import tensorflow_datasets as tfds

    path = Path(tfds.core.tfds_path("datasets/imagenet2012/validation_labels.txt"))
    return path.read_text().split()


def imagenet_synsets() -> list[str]:
    """Returns the names of ILSVRC-2012's classes, in the order of their numbers."""
    return [*imagenet_words()]
