"""Sources by name. Finding one is cheap; its images are opened later. The files in DATA_DIR/NAME decide its kind."""

import difflib
from pathlib import Path

from deepconv.data.sources.folders import find_folders
from deepconv.data.sources.imagenet_boxes import BOXES, find_imagenet_boxes
from deepconv.data.sources.packed import find_packed
from deepconv.data.sources.shape_boxes import find_shape_boxes
from deepconv.data.sources.shapes import find_shapes
from deepconv.data.sources.source import PREPARED, Source, data_root
from deepconv.data.sources.tfds import find_tfds, tfds_version
from deepconv.run.files import printable


def find(name: str, split: str, data_dir: str | None, image_size: int, scale: tuple[int, int] | None = None) -> Source:
    """Finds a source. Raises ValueError for an unknown split or size, OSError for missing or incomplete data.

    name is "shapes" or a folder of data_dir, such as "cifar10", "imagenet_v2/matched-frequency", "cifar10/3.0.2".
    split is "train", "test[:1000]", "train[:90%]", "train[45000:]"; data_dir=None is TFDS's default.
    image_size and scale apply to the built-in shapes: with a scale, these are JPEG files of many sizes.
    """
    if name == "shapes":
        return find_shapes(split, image_size, scale)
    folder = data_root(data_dir) / name
    if (folder / "packed.json").exists():
        return find_packed(folder, name, split)
    if builder_dir := tfds_version(folder):
        return find_tfds(builder_dir, name, split)
    if (folder / "train").is_dir():
        return find_folders(folder, name, split)
    raise FileNotFoundError(_missing(name, folder))


def find_annotated(
    name: str, split: str, data_dir: str | None, image_size: int, scale: tuple[int, int] | None = None
) -> Source:
    """Finds a source whose open() returns AnnotatedImages, each with a class and at least one box; as `find`.

    name is "shapes", or a folder of ImageNet's photographs that holds ILSVRC's XML files in `boxes`.
    """
    if name == "shapes":
        return find_shape_boxes(split, image_size, scale)
    folder = data_root(data_dir) / name
    if (folder / BOXES).is_dir():
        return find_imagenet_boxes(folder, name, split)
    if not folder.exists():
        raise FileNotFoundError(_missing(name, folder))
    raise FileNotFoundError(
        f"{printable(str(folder / BOXES))} is missing: {printable(name)} has no boxes, which the recipe's "
        "config.objective needs; unpack ILSVRC's XML files there, as in docs/localization.md. Only folders of "
        "photographs have boxes, TFDS and packed data sets have none"
    )


def check_exists(name: str, data_dir: str | None) -> None:
    """Raises FileNotFoundError if a data set is certainly missing; only `find` examines its files."""
    if name != "shapes" and not (folder := data_root(data_dir) / name).exists():
        raise FileNotFoundError(_missing(name, folder))


def _missing(name: str, folder: Path) -> str:
    if folder.parent.exists() and not folder.parent.is_dir():
        return f"{printable(name)} is not there: --data_dir={printable(str(folder.parent))} is not a directory"
    remedy = "It must be a TFDS data set, a packed one or a folder with train/<class>/*.jpg; 'shapes' is built in"
    if name in PREPARED:
        command = f"python -m deepconv.data.prepare {name} --archives=DIR --data_dir={folder.parent}"
        remedy = f"To make it from the official archives: {command}"
    others = [path.name for path in folder.parent.glob("*") if path.is_dir() and path != folder]
    near = difflib.get_close_matches(name, [*others, *PREPARED, "shapes"], n=1)
    hint = f"; did you mean {near[0]}?" if near and near[0] != name else "."
    return (
        f"{printable(f'{name} is not in {folder.parent} (nothing usable in {folder}){hint}')} "
        "If it lies elsewhere, give --data_dir=DIR or set "
        f"TFDS_DATA_DIR. {remedy}"
    )
