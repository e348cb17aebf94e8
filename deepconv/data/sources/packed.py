"""Packed data sets: square images of one size, stored as pixels."""

import hashlib
import math
import os
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from deepconv.data.images import Arrays, DataError
from deepconv.data.sources.source import Source, parse_split, replaced_in
from deepconv.run.files import read_json


class PackedImages:
    """Images in a .npy file, uint8 [N, H, W, 3], read from disk by index; pickled as the file's name.

    They are not memory-mapped: mapped pages would count as this process's memory.
    """

    def __init__(self, path: Path, first: int, last: int) -> None:
        self._where = path, first, last
        self._file = os.open(path, os.O_RDONLY)
        with path.open("rb") as file:
            np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            self._offset = file.tell()
        self.shape, self._row_bytes = (min(last, shape[0]) - first, *shape[1:]), math.prod(shape[1:])
        if dtype != np.uint8 or path.stat().st_size != self._offset + shape[0] * self._row_bytes:
            raise ValueError(f"{path.stat().st_size} bytes for {shape} of {dtype}")

    def __reduce__(self) -> tuple[Any, ...]:
        return PackedImages, self._where

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        images = np.empty((len(indices), *self.shape[1:]), np.uint8)
        path, first, _ = self._where
        for image, index in zip(images, indices, strict=True):
            try:
                read = os.preadv(self._file, [image], self._offset + (first + int(index)) * self._row_bytes)
            except OSError as error:
                raise DataError(f"image {index} of {path} cannot be read: {error.strerror}") from None
            if read != self._row_bytes:
                raise DataError(f"{path} was cut off before image {index}; copy or pack it again")
        return images


class Packed(TypedDict):
    """The content of packed.json."""

    size: int  # pixels of a side
    classes: list[str]
    splits: dict[str, int]  # numbers of images


def find_packed(folder: Path, name: str, split: str) -> Source:
    """Finds a folder with packed.json and, for splits packed later, packed.<splits>.json."""
    infos = {file: _read_packed(file) for file in [folder / "packed.json", *sorted(folder.glob("packed.*.json"))]}
    sizes = {name: count for info in infos.values() for name, count in info["splits"].items()}
    base, first, last = parse_split(split, sizes)
    file, info = next((file, info) for file, info in infos.items() if base in info["splits"])
    size, classes = info["size"], tuple(info["classes"])

    def open_arrays() -> Arrays:
        path = folder / f"{base}.images.npy"
        try:
            images = PackedImages(path, first, last)
            labels = np.load(folder / f"{base}.labels.npy")
        except (EOFError, OSError, ValueError) as error:
            raise DataError(f"{path} is incomplete or damaged: {error}; copy or pack it again") from None
        if images.shape != (last - first, size, size, 3) or labels.shape != (sizes[base],):
            raise DataError(f"{path} holds {images.shape}, which differs from packed.json; copy or pack it again")
        if labels.min() < 0 or labels.max() >= len(classes):
            raise DataError(
                f"{folder / base}.labels.npy has labels from {labels.min()} to {labels.max()}; pack it again"
            )
        return Arrays(images, labels[first:last])

    digest = hashlib.sha256(file.read_bytes() + split.encode()).hexdigest()
    replaced = replaced_in(folder, split)
    return Source(name, split, last - first, classes, (size, size), open_arrays, folder, digest, replaced=replaced)


def _read_packed(file: Path) -> Packed:
    remedy = "copy or pack it again"
    info = read_json(file, dict, "size", "classes", "splits", remedy=remedy)
    size, classes, splits = info["size"], info["classes"], info["splits"]
    if not (isinstance(classes, list) and classes and all(isinstance(name, str) for name in classes)):
        raise DataError(f"{file} is damaged: its classes are not a list of names; {remedy}")
    if not isinstance(splits, dict) or not all(
        type(number) is int and number > 0 for number in (size, *splits.values())
    ):
        raise DataError(f"{file} is damaged: its size and splits are not numbers above 0; {remedy}")
    return Packed(size=size, classes=classes, splits=splits)
