"""Sources and the names of their splits."""

import os
import re
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from pathlib import Path

from deepconv.data.images import Images
from deepconv.run.files import expanded

PREPARED = ("cifar10", "imagenet2012")  # made by deepconv.data.prepare from the official archives


@dataclass(frozen=True)
class Source:
    """A split of a data set; open() returns its images, Arrays if all have one size, else Encoded, also with boxes."""

    name: str
    split: str
    examples: int
    classes: tuple[str, ...]
    size: tuple[int, int] | None  # height and width of every image; None for encoded ones
    open: Callable[[], Images]
    folder: Path | None = None  # of stored statistics; None if they are computed from images in memory
    fingerprint: str = ""  # of file names, or of the data's description; changes with them
    writes: Path | None = None  # a file that the first open() computes; None if open() only reads
    replaced: tuple[str, ...] = ()  # a line for each damaged image that was replaced when the data was packed

    @property
    def is_imagenet(self) -> bool:
        """Returns whether the classes are a thousand synsets, such as n01440764."""
        return len(self.classes) == 1000 and all(re.fullmatch(r"n\d{8}", name) for name in self.classes)


def data_root(data_dir: str | None) -> Path:
    """Returns the directory of data sets: the flag's, the environment's, or TFDS's default."""
    return expanded(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")


def replaced_in(folder: Path, split: str) -> tuple[str, ...]:
    """Returns the lines of corrupt*.txt beside packed data: damaged training images that were replaced."""
    files = sorted(folder.glob("corrupt*.txt")) if split.startswith("train") else []
    return tuple(line for file in files for line in file.read_text("utf-8", "replace").splitlines())


def parse_split(split: str, sizes: Mapping[str, int]) -> tuple[str, int, int]:
    """Parses "train[10%:500]" to ("train", first, last + 1). Raises ValueError if it is unknown, malformed or empty."""
    parts = re.fullmatch(r"([^\[\]]+)(?:\[(-?\d+%?)?:(-?\d+%?)?\])?", split)
    base = parts and split_name(parts[1], sizes)
    if not parts or base not in sizes:
        raise ValueError(f"no split {split!r}; choose one of {', '.join(sorted(sizes))}, or a part like train[:90%]")
    examples = sizes[base]
    bounds = [
        None if text is None else round(int(text[:-1]) * examples / 100) if text.endswith("%") else int(text)
        for text in parts.groups()[1:]
    ]
    first, last, _ = slice(*bounds).indices(examples)
    if first >= last:
        raise ValueError(f"split {split!r} is empty: {base} has {examples} examples")
    return base, first, last


def split_name(name: str, known: Container[str]) -> str:
    """Returns the known name of a split: folders' val and TFDS's validation are the same."""
    other = {"val": "validation", "validation": "val"}.get(name, name)
    return other if name not in known and other in known else name
