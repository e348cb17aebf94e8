"""Data sets in TFDS's layout, read without TensorFlow."""

import functools
import hashlib
import math
import os
import re
import resource
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deepconv.data import decode
from deepconv.data.images import Arrays, DataError, Encoded, Record
from deepconv.data.sources.source import Source, parse_split, replaced_in
from deepconv.run.files import printable

OPEN_FILES = 65_536
IN_MEMORY_BYTES = 4_000_000_000  # smaller data sets of images of one size are decoded once and kept in memory


@dataclass(frozen=True)
class _TfdsRecords(Encoded):
    records: Any  # of the full split
    first: int
    classes: int
    title: str

    def read(self, indices: Iterable[int]) -> list[Record]:
        try:
            found = self.records.__getitems__([self.first + int(i) for i in indices])
        except RuntimeError as error:  # from array_record
            raise DataError(f"{self.title} cannot be read: {error}") from None
        for index, record in zip(indices, found, strict=True):
            if not 0 <= record["label"] < self.classes:
                raise DataError(
                    f"record {index} of {self.title} has the label {record['label']}, not one from 0 to "
                    f"{self.classes - 1}; a split without labels can be used for neither training nor tests"
                )
        return [Record(record["image"], int(record["label"]), self._name(record)) for record in found]

    def _name(self, record: dict[str, Any]) -> str:
        name = record.get("file_name", record.get("id", b""))
        name = os.fsdecode(name) if isinstance(name, bytes) else str(name)
        return f"{printable(name)} of {self.title}".lstrip()


def tfds_version(folder: Path) -> Path | None:
    """Returns the folder of a TFDS data set or of its newest version; None if it is not one."""
    if (folder / "dataset_info.json").exists():
        return folder
    versions = [path.parent for path in folder.glob("*/dataset_info.json")]
    numbered = [path for path in versions if re.fullmatch(r"\d+\.\d+\.\d+", path.name)]
    return max(numbered, key=lambda path: [int(part) for part in path.name.split(".")], default=None)


def find_tfds(builder_dir: Path, name: str, split: str) -> Source:
    """Finds a data set in TFDS's layout. Raises DataError if files are missing."""
    import tensorflow_datasets as tfds  # takes a second, which other sources need not wait for

    try:
        info = tfds.builder_from_directory(builder_dir).info
    except Exception as error:  # the readers of JSON and protocol buffers raise many kinds
        raise DataError(f"{builder_dir} is not a readable TFDS data set: {error}") from None
    if (found := info.file_format.value) != "array_record":
        raise DataError(
            f"{name} in {builder_dir} is in {found} files, not array_record; prepare it again, into "
            f"another --data_dir, with file_format='array_record'"
        )
    if missing := [feature for feature in ("image", "label") if feature not in info.features]:
        raise DataError(f"{name} has no feature {missing[0]!r}; it has {sorted(info.features)}")
    base, first, last = parse_split(split, {key: part.num_examples for key, part in info.splits.items()})
    title = f"{name} {base} in {builder_dir}"
    label = info.features["label"]
    if not getattr(label, "num_classes", None):
        raise DataError(f"the feature 'label' of {name} is {label}, not a class label")
    classes = tuple(label.int2str(number) if label.names else str(number) for number in range(label.num_classes))
    shape = info.features["image"].shape

    def open_records() -> Encoded:
        _allow_open_files()
        _check_shards(info.splits[base], title)
        source = tfds.builder_from_directory(builder_dir).as_data_source(
            base, decoders={"image": tfds.decode.SkipDecoding()}
        )
        return _TfdsRecords(source, first, len(classes), title)

    def open_arrays() -> Arrays:
        records = open_records()
        images, labels = np.empty((last - first, *shape[:2], 3), np.uint8), np.empty(last - first, np.int32)
        for start in range(0, last - first, 1000):
            for index, record in enumerate(records.read(range(start, min(start + 1000, last - first))), start):
                try:
                    images[index], labels[index] = decode.decode(record.data), record.label
                except ValueError as error:  # CorruptImage, or another size
                    raise DataError(f"record {index} ({record.name}) cannot be decoded: {error}") from None
        return Arrays(images, labels)

    digest = hashlib.sha256((builder_dir / "dataset_info.json").read_bytes() + split.encode()).hexdigest()
    replaced = replaced_in(builder_dir, split)
    describe = functools.partial(Source, name, split, last - first, classes, fingerprint=digest, replaced=replaced)
    examples = sum(
        part.num_examples for part in info.splits.values()
    )  # all splits, which are then treated the same way
    if None not in shape and examples * math.prod(shape) < IN_MEMORY_BYTES:
        return describe(size=shape[:2], open=open_arrays)
    return describe(size=None, open=open_records, folder=builder_dir)


def _allow_open_files() -> None:
    """Raises this process's limit of open files: array_record keeps every file open, and ImageNet has 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _check_shards(split: Any, title: str) -> None:
    """Checks that every file exists and holds the number of records in dataset_info.json."""
    from array_record.python.array_record_module import ArrayRecordReader

    def check(file: Path, expected: int) -> None:
        try:
            reader = ArrayRecordReader(str(file))
            found = reader.num_records()
            reader.close()
        except RuntimeError as error:
            problem = "is missing" if not file.exists() else f"is damaged or cut off: {error}"
            raise DataError(f"{file} of {title} {problem}; copy or prepare it again") from None
        if found != expected:
            raise DataError(f"{file} of {title} has {found} records instead of {expected}; copy or prepare it again")

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(check, map(Path, split.filepaths), split.shard_lengths))
