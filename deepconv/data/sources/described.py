"""Descriptions of the papers' data sets, for work that reads no images."""

from typing import Any

from deepconv.data.known import DATA
from deepconv.data.sources.source import Source, parse_split


def describe(name: str, split: str, boxes: bool = False, **settings: Any) -> Source:
    """Returns a split of one of the papers' data sets; its open() raises OSError. Raises ValueError for other splits.

    With `boxes`, it has only the training images that have boxes. `settings` are those of sources.find, and do not
    matter here.
    """
    known = DATA[name]
    train = known.train_with_boxes if boxes and known.train_with_boxes else known.train
    sizes = {"train": train} | ({} if known.test is None else {"validation": known.test, "test": known.test})
    _, first, last = parse_split(split, sizes)
    classes = tuple(f"n{number:08}" for number in range(known.classes))
    return Source(name, split, last - first, classes, known.size, _refuse_to_open)


def _refuse_to_open() -> Any:
    raise OSError("only the numbers of these images are known")
