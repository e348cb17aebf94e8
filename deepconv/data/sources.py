"""Data sets by name: cheap to find, opened when asked. What lies in DATA_DIR/NAME says of which kind it is."""

import functools
import hashlib
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deepconv import runlog
from deepconv.data import decode, shapes

IN_MEMORY_BYTES = 4_000_000_000  # data sets of images of one size are decoded once and kept, up to here
SHAPES_SIDE = 1024  # pixels of the built-in shapes; the papers' largest scale is 640
SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")
PREPARED = ("cifar10", "imagenet2012")  # what deepconv.data.prepare makes from the official archives


class DataError(OSError):
    """Data that is damaged, or is not what it says it is."""


class Arrays(NamedTuple):
    """Images of one size."""

    images: Any  # uint8 [N, H, W, 3]; on disk where it is a PackedImages
    labels: np.ndarray  # int32 [N]


class Record(NamedTuple):
    """One image as it lies in its file."""

    data: bytes
    label: int
    name: str  # for messages


Records = Callable[[Sequence[int]], list[Record]]  # by index; can be pickled


@dataclass(frozen=True)
class Source:
    """A split of a data set; open() gives Arrays, or Records where images have to be decoded."""

    name: str
    split: str
    examples: int
    classes: tuple[str, ...]
    size: tuple[int, int] | None  # height and width of every image; None for Records
    open: Callable[[], Arrays | Records]
    folder: Path | None = None  # where statistics are stored; None where they are computed from images in memory
    fingerprint: str = ""  # of the names of files, or of what describes the data; changes with them

    @property
    def is_imagenet(self) -> bool:
        """Whether the classes are a thousand synsets, such as n01440764."""
        return len(self.classes) == 1000 and all(re.fullmatch(r"n\d{8}", name) for name in self.classes)


def find(name: str, split: str, data_dir: str | None, image_size: int, scale: tuple[int, int] | None = None) -> Source:
    """Raises ValueError for an unknown split or size, OSError for a data set that is not on disk, or not whole.

    name is "shapes" or a folder of data_dir, such as "cifar10", "imagenet_v2/matched-frequency", "cifar10/3.0.2".
    split is "train", "test[:1000]", "train[:90%]", "train[45000:]"; data_dir None means what TFDS uses.
    image_size and scale are asked of the built-in shapes: with a scale, they come as JPEG files of many sizes.
    """
    if name == "shapes":
        return _find_shapes(split, image_size, scale)
    folder = data_root(data_dir) / name
    if (folder / "packed.json").exists():
        return _find_packed(folder, name, split)
    if builder_dir := _tfds_version(folder):
        return _find_tfds(builder_dir, name, split)
    if (folder / "train").is_dir():
        return _find_folders(folder, name, split)
    how = "It has to be a TFDS data set, a packed one, or a folder with train/<class>/*.jpg; built in is 'shapes'"
    if name in PREPARED:
        command = f"python -m deepconv.data.prepare {name} --archives=DIR --data_dir={folder.parent}"
        how = f"To make it from the official archives: {command}"
    raise FileNotFoundError(
        f"{runlog.printable(f'{name} is not in {folder.parent} ({folder} is looked in)')}. "
        "If it lies elsewhere, give --data_dir=DIR or set "
        f"TFDS_DATA_DIR. {how}"
    )


def data_root(data_dir: str | None) -> Path:
    """Where data sets lie: the flag, else the environment, else where TFDS has them."""
    return runlog.expanded(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")


def parse_split(split: str, sizes: Mapping[str, int]) -> tuple[str, int, int]:
    """ "train[10%:500]" -> ("train", first, last + 1); ValueError where it is unknown, malformed or empty."""
    parts = re.fullmatch(r"([^\[\]]+)(?:\[(-?\d+%?)?:(-?\d+%?)?\])?", split)
    whole = parts and split_name(parts[1], sizes)
    if not parts or whole not in sizes:
        raise ValueError(f"no split {split!r}; choose one of {sorted(sizes)}, or a part like train[:90%]")
    examples = sizes[whole]
    bounds = [
        None if text is None else round(int(text[:-1]) * examples / 100) if text.endswith("%") else int(text)
        for text in parts.groups()[1:]
    ]
    first, last, _ = slice(*bounds).indices(examples)
    if first >= last:
        raise ValueError(f"split {split!r} is empty: {whole} has {examples} examples")
    return whole, first, last


def split_name(name: str, known: Container[str]) -> str:
    """The name under which a split is known: val, as folders call it, and validation, as TFDS does, mean the same."""
    other = {"val": "validation", "validation": "val"}.get(name, name)
    return other if name not in known and other in known else name


# The built-in shapes


@dataclass(frozen=True)
class _ShapeRecords:
    first: int
    sides: tuple[int, int]

    def __call__(self, indices: Sequence[int]) -> list[Record]:
        drawn = ((i, *shapes.draw_jpeg(self.first + int(i), self.sides)) for i in indices)
        return [Record(data, label, f"shape {i}") for i, data, label, _ in drawn]


def _find_shapes(split: str, image_size: int, scale: tuple[int, int] | None) -> Source:
    if image_size < 8:
        raise ValueError(f"config.data.image_size={image_size}, has to be at least 8")
    if (largest := max((image_size, *(scale or ())))) > SHAPES_SIDE:
        raise ValueError(f"shapes of {largest} pixels are not drawn; {SHAPES_SIDE} is the largest size")
    whole, first, last = parse_split(split, shapes.SPLITS)
    if not scale and (size_bytes := (last - first) * image_size**2 * 3) > IN_MEMORY_BYTES:
        raise ValueError(
            f"{last - first} shapes of config.data.image_size={image_size} pixels need {size_bytes / 1e9:.3g} GB of "
            f"memory, and {IN_MEMORY_BYTES / 1e9:.3g} GB are allowed; take smaller ones, or a part, as in train[:100]"
        )
    first, last = first + shapes.OFFSETS[whole], last + shapes.OFFSETS[whole]
    common = dict(name="shapes", split=split, examples=last - first, classes=shapes.CLASSES)
    if scale:
        records = _ShapeRecords(first, (scale[0], scale[1] * 3 // 2))
        return Source(**common, size=None, open=lambda: records)
    size = (image_size, image_size)
    return Source(**common, size=size, open=lambda: Arrays(*shapes.draw_many(first, last, image_size)))


# Data sets in TFDS's array_record files


@dataclass(frozen=True)
class _TfdsRecords:
    records: Any  # of all of the split
    first: int
    classes: int
    title: str

    def __call__(self, indices: Sequence[int]) -> list[Record]:
        try:
            found = self.records.__getitems__([self.first + int(i) for i in indices])
        except RuntimeError as error:  # of array_record
            raise DataError(f"{self.title} cannot be read: {error}") from None
        for index, record in zip(indices, found, strict=True):
            if not 0 <= record["label"] < self.classes:
                raise DataError(
                    f"record {index} of {self.title} has the label {record['label']}, not one from 0 to "
                    f"{self.classes - 1}; a split without labels can be neither learned nor tested"
                )
        return [Record(record["image"], int(record["label"]), self._name(record)) for record in found]

    def _name(self, record: dict[str, Any]) -> str:
        name = record.get("file_name", record.get("id", b""))
        name = os.fsdecode(name) if isinstance(name, bytes) else str(name)
        return f"{runlog.printable(name)} of {self.title}".lstrip()


def _tfds_version(folder: Path) -> Path | None:
    """The folder itself, or its newest version, where it holds a TFDS data set."""
    if (folder / "dataset_info.json").exists():
        return folder
    versions = [path.parent for path in folder.glob("*/dataset_info.json")]
    numbered = [path for path in versions if re.fullmatch(r"\d+\.\d+\.\d+", path.name)]
    return max(numbered, key=lambda path: [int(part) for part in path.name.split(".")], default=None)


def _find_tfds(builder_dir: Path, name: str, split: str) -> Source:
    import tensorflow_datasets as tfds  # takes a second, which configs and the built-in data do without

    try:
        info = tfds.builder_from_directory(builder_dir).info
    except Exception as error:  # whatever its readers of JSON and protocol buffers come upon
        raise DataError(f"{builder_dir} is not a TFDS data set that can be read: {error}") from None
    if (found := info.file_format.value) != "array_record":
        raise DataError(
            f"{name} in {builder_dir} is in {found} files, and array_record is needed; prepare it once more, into "
            f"another --data_dir, with file_format='array_record'"
        )
    if missing := [feature for feature in ("image", "label") if feature not in info.features]:
        raise DataError(f"{name} has no feature {missing[0]!r}; it has {sorted(info.features)}")
    whole, first, last = parse_split(split, {key: part.num_examples for key, part in info.splits.items()})
    title = f"{name} {whole} in {builder_dir}"
    label = info.features["label"]
    if not getattr(label, "num_classes", None):
        raise DataError(f"the feature 'label' of {name} is not one of classes, but {label}")
    classes = tuple(label.int2str(number) if label.names else str(number) for number in range(label.num_classes))
    common = dict(name=name, split=split, examples=last - first, classes=classes)
    shape = info.features["image"].shape

    def open_records() -> Records:
        _check_shards(info.splits[whole], title)
        source = tfds.builder_from_directory(builder_dir).as_data_source(
            whole, decoders={"image": tfds.decode.SkipDecoding()}
        )
        return _TfdsRecords(source, first, len(classes), title)

    def open_arrays() -> Arrays:
        records = open_records()
        images, labels = np.empty((last - first, *shape[:2], 3), np.uint8), np.empty(last - first, np.int32)
        for start in range(0, last - first, 1000):
            for index, record in enumerate(records(range(start, min(start + 1000, last - first))), start):
                try:
                    images[index], labels[index] = decode.decode(record.data), record.label
                except ValueError as error:  # CorruptImage, or another size
                    raise DataError(f"record {index} ({record.name}) cannot be decoded: {error}") from None
        return Arrays(images, labels)

    digest = hashlib.sha256((builder_dir / "dataset_info.json").read_bytes() + split.encode()).hexdigest()
    common |= dict(fingerprint=digest)
    examples = sum(part.num_examples for part in info.splits.values())  # so that all splits are treated alike
    if None not in shape and examples * math.prod(shape) < IN_MEMORY_BYTES:
        return Source(**common, size=shape[:2], open=open_arrays)
    return Source(**common, size=None, open=open_records, folder=builder_dir)


def _check_shards(split: Any, title: str) -> None:
    """Every file is there and holds as many records as dataset_info.json says."""
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


# Folders of photographs


@dataclass(frozen=True)
class _FolderRecords:
    folder: str
    files: np.ndarray  # bytes [N], relative to the folder
    labels: np.ndarray  # int32 [N]

    def __call__(self, indices: Sequence[int]) -> list[Record]:
        return [self._read(os.fsdecode(self.files[i]), int(self.labels[i])) for i in indices]

    def _read(self, file: str, label: int) -> Record:
        printable = runlog.printable(file)  # names are bytes, of any encoding
        try:
            return Record(Path(self.folder, file).read_bytes(), label, f"{printable} in {self.folder}")
        except OSError as error:
            raise DataError(f"{printable} in {self.folder} cannot be read: {error.strerror}") from None


@dataclass(frozen=True)
class Summed:
    """Records of a folder, each held against its SHA-256; a sum that is not known yet is filled in."""

    records: _FolderRecords
    sums: np.ndarray  # uint8 [N, 32]; zeros where a sum is not known

    def __call__(self, indices: Sequence[int]) -> list[Record]:
        found = self.records(indices)
        for index, record in zip(indices, found, strict=True):
            digest = np.frombuffer(hashlib.sha256(record.data).digest(), np.uint8)
            if not self.sums[index].any():
                self.sums[index] = digest
            elif (self.sums[index] != digest).any():
                raise DataError(
                    f"{record.name} has changed since its sum was written to {sums_file(self.records)}; restore it, or "
                    f"remove its line there and compute the statistics again"
                )
        return found


def summed(source: Source) -> Summed | None:
    """The records of a folder of photographs with the sums known of them; None for other data. Raises DataError."""
    records = source.open() if source.folder and not source.size else None
    if not isinstance(records, _FolderRecords):
        return None
    known = _read_sums(sums_file(records))
    rows = [known.get(name, b"").ljust(32, b"\0") for name in records.files.tolist()]
    return Summed(records, np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 32).copy())


def verified(source: Source) -> Source:
    """The source, where every file that is read is held against its sum.

    Raises ValueError for data without sums, FileNotFoundError where none are written yet, DataError for a file that
    they lack.
    """
    if not (records := summed(source)):
        raise ValueError(
            f"--verify_data is for folders of photographs, and {source.name} is none; TFDS's files have checksums of "
            f"their own, which are always checked"
        )
    file, missing = sums_file(records.records), np.flatnonzero(~records.sums.any(1))
    data_dir, split = Path(str(source.folder).removesuffix(source.name)), file.suffixes[0].lstrip(".")
    how = f"python -m deepconv.data.prepare statistics {source.name} --data_dir={data_dir} --split={split}"
    if not file.exists():
        raise FileNotFoundError(f"{file} is missing, the sums for --verify_data; to write it: {how}")
    if len(missing):
        name = runlog.printable(os.fsdecode(records.records.files[missing[0]]))
        raise DataError(f"{len(missing)} files are not in {file}, such as {name}; to add them: {how}")
    return replace(source, open=lambda: records)


def sums_file(records: _FolderRecords) -> Path:
    """Where the sums of a split's files are, in the format of sha256sum."""
    return Path(records.folder, f"SHA256SUMS.{os.fsdecode(records.files[0]).split('/')[0]}.txt")


def write_sums(summed: Summed) -> None:
    """Adds the sums that are known to the file of sums, which is whole at any time."""
    file = sums_file(summed.records)
    known = _read_sums(file)
    known |= {n: s.tobytes() for n, s in zip(summed.records.files.tolist(), summed.sums, strict=True) if s.any()}
    temporary = file.with_name(file.name + ".tmp")
    with temporary.open("wb") as out:
        for name, digest in sorted(known.items()):
            written = name.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
            out.write(b"\\" * (written != name) + digest.hex().encode() + b"  " + written + b"\n")
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(file)


def _read_sums(file: Path) -> dict[bytes, bytes]:
    """SHA-256 by name; none where there is no file."""
    known, escapes = {}, {b"\\\\": b"\\", b"\\n": b"\n", b"\\r": b"\r"}
    for number, line in enumerate(file.read_bytes().rstrip(b"\n").split(b"\n") if file.exists() else [], 1):
        if not (parts := re.fullmatch(rb"(\\?)([0-9a-f]{64}) [ *](.+)", line)):
            raise DataError(f"{file} is damaged in line {number}; remove it, and compute the statistics again")
        name = re.sub(rb"\\[\\nr]", lambda found: escapes[found[0]], parts[3]) if parts[1] else parts[3]
        known[name] = bytes.fromhex(parts[2].decode())
    return known


def _find_folders(folder: Path, name: str, split: str) -> Source:
    """train/<class>/*.jpg and val/<class>/*.jpg, or val/*.jpg with val.txt; classes are those of train, by name."""
    splits = _folders(folder)
    whole = split.split("[")[0]
    chosen = split_name(whole, splits)
    if chosen not in splits:
        raise ValueError(f"no split {split!r} in {folder}; choose one of {splits}, or a part of one")
    classes = _folders(folder / "train")
    if not classes:
        raise DataError(f"{folder / 'train'} has no folders; it has to hold one for each class, with its images")
    files, labels = _list_folders(str(folder), chosen, tuple(classes))
    _, first, last = parse_split(split, {whole: len(files)})
    records = _FolderRecords(str(folder), files[first:last], labels[first:last])
    digest = hashlib.sha256(b"\n".join(records.files.tolist()) + records.labels.tobytes()).hexdigest()
    return Source(name, split, last - first, tuple(classes), None, lambda: records, folder, digest)


@functools.cache  # a million files take seconds, and several parts of a split may be asked for
def _list_folders(folder: str, split: str, classes: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Files and labels, in an order that does not depend on classes, so that a part of a split is a fair sample."""
    root = Path(folder, split)
    found, unread = _folders(root), []
    if found == ["images"] and "images" not in classes:
        found = []  # the layout of Tiny ImageNet
    if unknown := sorted(set(found) - set(classes)):
        raise DataError(f"{root / unknown[0]} has no counterpart in {Path(folder, 'train')}; classes are named there")
    files, labels = [], []
    if found:
        numbers = {name: number for number, name in enumerate(classes)}
        for name in found:  # a test may lack a class
            images = _images(root / name, unread)
            if not images:
                there = f"; it holds {_kinds(others)}" if (others := [at for at in unread if name in at.parts]) else ""
                raise DataError(
                    f"{root / runlog.printable(name)} holds no images ({', '.join(SUFFIXES)}){there}; fill it, or "
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
        example = runlog.printable(str(unread[0].relative_to(root)))
        print(f"{len(unread)} files in {root} are not read: {_kinds(unread)} (for example {example})", flush=True)
    names = np.array([os.fsencode(file) for file in files])
    order = np.argsort(np.array([hashlib.blake2b(name, digest_size=8).digest() for name in names]), kind="stable")
    return names[order], np.array(labels, np.int32)[order]


def _folders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    return [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]


def _images(folder: Path, unread: list[Path]) -> list[str]:
    """The images in a folder or, as in Tiny ImageNet, in its folder images; what else is there is added to unread."""
    entries = _visible(folder)
    images = [entry.name for entry in entries if entry.name.lower().endswith(SUFFIXES) and entry.is_file()]
    known = {*images}
    if not images and any(entry.name == "images" and entry.is_dir() for entry in entries):
        images, known = [f"images/{name}" for name in _images(folder / "images", unread)], {"images"}
    unread += [folder / entry.name for entry in entries if entry.name not in known]
    return images


def _kinds(paths: Sequence[Path]) -> str:
    """ "10 .heic, 2 folders": how many there are of each kind."""
    kinds = Counter("folders" if at.is_dir() else at.suffix.lower() or "without a suffix" for at in paths)
    return ", ".join(f"{count} {runlog.printable(kind)}" for kind, count in kinds.most_common(9))


def _listed_labels(listing: Path, images: list[str], classes: tuple[str, ...]) -> list[int]:
    """Labels of a flat folder: a class a line, in the order of the images' names, or an image's name and its class."""
    numbers = {name: number for number, name in enumerate(classes)}
    if listing.exists():
        text = listing.read_text("utf-8-sig", errors="surrogateescape")  # names are bytes, of any encoding
        lines = [line.strip() for line in text.split("\n") if line.strip()]
        lines = [[line] if line in numbers else line.split(maxsplit=1) for line in lines]
        lines = [[part.split("\t")[0] for part in line] for line in lines]  # Tiny ImageNet's go on with boxes
    elif images[0] == "ILSVRC2012_val_00000001.JPEG":
        lines = [[synset] for synset in imagenet_validation_labels()]
    else:
        raise DataError(f"{listing} is missing: {len(images)} lines, the class of each image in the order of names")
    if len(lines) != len(images):
        raise DataError(f"{len(images)} images are in {listing.with_suffix('')}, and the list has {len(lines)} classes")
    if any(len(line) > 1 for line in lines):
        named = {line[0]: line[-1] for line in lines}
        names = [image.removeprefix("images/") for image in images]
        if missing := [name for name in names if name not in named]:
            raise DataError(f"{listing} does not name {runlog.printable(missing[0])}")
        lines = [[named[name]] for name in names]
    if unknown := [line[0] for line in lines if line[0] not in numbers]:
        raise DataError(f"{listing} names the class {unknown[0]!r}, which has no folder in train/")
    return [numbers[line[0]] for line in lines]


def imagenet_validation_labels() -> list[str]:
    """The synset of each of ILSVRC-2012's 50,000 validation images, in the order of their names."""
    import tensorflow_datasets as tfds

    path = Path(tfds.core.tfds_path("datasets/imagenet2012/validation_labels.txt"))
    return path.read_text().split()


def imagenet_synsets() -> list[str]:
    """The names of ILSVRC-2012's classes, in the order of their numbers."""
    import tensorflow_datasets as tfds

    return Path(tfds.core.tfds_path("datasets/imagenet2012/labels.txt")).read_text().split()


# Packed files


class PackedImages:
    """Images in a .npy file that stay on disk, uint8 [N, H, W, 3]; pickled as the file's name.

    They are read, not mapped: mapped pages would count as this process's memory.
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


def _find_packed(folder: Path, name: str, split: str) -> Source:
    """A folder with packed.json and, for splits that were packed later, packed.<splits>.json."""
    infos = {file: _read_packed(file) for file in [folder / "packed.json", *sorted(folder.glob("packed.*.json"))]}
    sizes = {known: count for info in infos.values() for known, count in info["splits"].items()}
    whole, first, last = parse_split(split, sizes)
    file, info = next((file, info) for file, info in infos.items() if whole in info["splits"])
    size, classes = info["size"], tuple(info["classes"])

    def open_arrays() -> Arrays:
        path = folder / f"{whole}.images.npy"
        try:
            images = PackedImages(path, first, last)
            labels = np.load(folder / f"{whole}.labels.npy")
        except (EOFError, OSError, ValueError) as error:
            raise DataError(f"{path} is not whole: {error}; copy or pack it again") from None
        if images.shape != (last - first, size, size, 3) or labels.shape != (sizes[whole],):
            raise DataError(f"{path} holds {images.shape}, not what packed.json says; copy or pack it again")
        if labels.min() < 0 or labels.max() >= len(classes):
            raise DataError(
                f"{folder / whole}.labels.npy has labels from {labels.min()} to {labels.max()}; pack it again"
            )
        return Arrays(images, labels[first:last])

    digest = hashlib.sha256(file.read_bytes() + split.encode()).hexdigest()
    return Source(name, split, last - first, classes, (size, size), open_arrays, folder, digest)


def _read_packed(file: Path) -> dict[str, Any]:
    again = "copy or pack it again"
    info = runlog.read_json(file, dict, "size", "classes", "splits", remedy=again)
    size, classes, splits = info["size"], info["classes"], info["splits"]
    if not (isinstance(classes, list) and classes and all(isinstance(name, str) for name in classes)):
        raise DataError(f"{file} is damaged: its classes are not a list of names; {again}")
    if not isinstance(splits, dict) or not all(
        type(number) is int and number > 0 for number in (size, *splits.values())
    ):
        raise DataError(f"{file} is damaged: its size and splits are not numbers above 0; {again}")
    return info
