"""Data sets by name: cheap to find, read when asked."""

import io
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from deepconv.data import shapes

Arrays = tuple[np.ndarray, np.ndarray]  # uint8 [N, H, W, 3], int32 [N]

TFDS_NAMES = {"cifar10": 32}  # those whose images all have one size, in pixels


@dataclass(frozen=True)
class Source:
    """A split of a data set; `read()` gives its images and labels."""

    examples: int
    classes: tuple[str, ...]
    read: Callable[[], Arrays]


def find(name: str, split: str, data_dir: str | None, image_size: int) -> Source:
    """Raises ValueError for an unknown name, split or size, FileNotFoundError for a data set that is not on disk.

    split is "train", "test[:1000]", "train[:90%]", "train[45000:]"; data_dir None means what TFDS uses.
    """
    if name == "shapes":
        if image_size < 8:
            raise ValueError(f"config.data.image_size={image_size}, has to be at least 8")
        first, last = parse_split(split, shapes.SPLITS)
        offset = shapes.OFFSETS[split.split("[")[0]]
        return Source(last - first, shapes.CLASSES, lambda: shapes.draw_many(offset + first, offset + last, image_size))
    if name in TFDS_NAMES:
        if image_size != TFDS_NAMES[name]:
            raise ValueError(f"config.data.image_size={image_size}, but the images of {name} have {TFDS_NAMES[name]}")
        return _find_tfds(name, split, data_dir)
    raise ValueError(
        f"config.data.name={name!r} is not a data set; choose one of {sorted([*TFDS_NAMES, 'shapes'])}, or try --smoke"
    )


def parse_split(split: str, sizes: dict[str, int]) -> tuple[int, int]:
    """ "train[10%:500]" -> (first, last + 1); raises ValueError where the split is unknown, malformed or empty."""
    parts = re.fullmatch(r"(\w+)(?:\[(-?\d+%?)?:(-?\d+%?)?\])?", split)
    if not parts or parts[1] not in sizes:
        raise ValueError(f"split {split!r} is not to be had; choose one of {sorted(sizes)}, or a part like train[:90%]")
    examples = sizes[parts[1]]
    bounds = [
        None if text is None else round(int(text[:-1]) * examples / 100) if text.endswith("%") else int(text)
        for text in parts.groups()[1:]
    ]
    first, last, _ = slice(*bounds).indices(examples)
    if first >= last:
        raise ValueError(f"split {split!r} is empty: {parts[1]} has {examples} examples")
    return first, last


def _find_tfds(name: str, split: str, data_dir: str | None) -> Source:
    import tensorflow_datasets as tfds  # takes a second, which configs and the built-in data do without

    data_dir = data_dir or os.environ.get("TFDS_DATA_DIR") or tfds.core.constants.DATA_DIR
    builder = tfds.builder(name, data_dir=data_dir)
    if not Path(builder.data_dir, "dataset_info.json").exists():
        prepare = f"tfds.builder({name!r}, data_dir={data_dir!r}, file_format='array_record').download_and_prepare()"
        raise FileNotFoundError(
            f"{name} is not in {builder.data_dir}. If it lies elsewhere, give --data_dir=DIR or set TFDS_DATA_DIR "
            f"(DIR/{name}/{builder.version} is looked in). To download and prepare it: pip install -e '.[prepare]' && "
            f'python -c "import tensorflow_datasets as tfds; {prepare}"'
        )
    if (found := builder.info.file_format.value) != "array_record":
        raise FileNotFoundError(
            f"{name} in {builder.data_dir} is in {found} files, and array_record is needed; prepare it once more, into "
            f"another --data_dir, with file_format='array_record'"
        )
    first, last = parse_split(split, {key: info.num_examples for key, info in builder.info.splits.items()})

    def read() -> Arrays:
        records = builder.as_data_source(split.split("[")[0], decoders={"image": tfds.decode.SkipDecoding()})
        records = records.__getitems__(range(first, last))
        images = np.stack([np.asarray(Image.open(io.BytesIO(record["image"]))) for record in records])
        return images, np.array([record["label"] for record in records], np.int32)

    return Source(last - first, tuple(builder.info.features["label"].names), read)
