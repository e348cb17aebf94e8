"""Packing of data sets: every image becomes a square of one size."""

import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from deepconv.data import decode, sources
from deepconv.data.images import Batch, DataError, Images
from deepconv.data.prepare import tfds_writer
from deepconv.data.sources.source import Source
from deepconv.run import log as runlog
from deepconv.run.files import read_json, write_json

if TYPE_CHECKING:
    from deepconv.data import pipeline  # takes seconds

BATCH = 100  # images between two updates of the progress
PACKED_FROM = "packed_from.json"  # beside packed JPEGs: fingerprints of what was packed, as packed.json has for pixels


def pack(
    name: str,
    data_dir: Path,
    splits: Sequence[str],
    size: int,
    kind: str,
    replace: bool = False,
) -> Path:
    """Writes central squares of size x size of any data set to DIR/NAME-SIZE-KIND, as "uint8" or "jpeg" of quality 90.

    An image that cannot be decoded raises DataError or, with `replace` and in splits for training, is replaced with the
    next and listed in corrupt.txt. Raises ValueError if the data set has changed since it was packed.
    """
    packed = f"{name.replace('/', '-')}-{size}-{kind}"
    packed_dir = data_dir / packed / "1.0.0" if kind == "jpeg" else data_dir / packed
    target = packed_dir
    if packed_dir.exists():
        _check_unchanged(name, packed_dir, data_dir, size)
        if not (splits := [split for split in splits if not _is_packed(packed_dir, split, data_dir, size)]):
            return packed_dir
        if kind == "jpeg":
            raise ValueError(
                f"{packed_dir} was packed without {splits[0]!r}, and TFDS's files cannot be added to; remove it and "
                f"give all splits at once, such as --split=train,{splits[0]}"
            )
        target = packed_dir.with_name(f"{packed}+{'+'.join(splits)}")
    if parts := [split for split in splits if "[" in split]:
        raise ValueError(
            f"--split={parts[0]}: only complete splits can be packed; training can use a part of a packed split"
        )
    found = {split: sources.find(name, split, str(data_dir), size, (size, size)) for split in splits}
    for source in found.values():
        check_size(source, size)
    if not target.exists():
        with tfds_writer.building(target, {split: source.fingerprint for split, source in found.items()}) as folder:
            report = runlog.corrupt_list(folder / "corrupt.txt") if replace else None
            (_pack_jpeg if kind == "jpeg" else _pack_uint8)(folder, target, found, size, report)
    if target != packed_dir:
        _add(target, packed_dir, "+".join(splits))
    return packed_dir


def _check_unchanged(name: str, packed_dir: Path, data_dir: Path, size: int) -> None:
    """Raises ValueError if a split was packed from other images; images may have moved between splits."""
    infos = [read_json(file, dict) for file in packed_dir.glob("packed*.json")]  # PACKED_FROM among them
    for split, before in (item for info in infos for item in info.get("of", {}).items()):
        try:
            now = sources.find(name, split, str(data_dir), size, (size, size)).fingerprint
        except FileNotFoundError:  # what was packed need not stay
            continue
        except ValueError:  # the split is gone
            now = None
        if before != now:
            what = "changed" if now else f"lost its split {split!r}; restore that or, if its images have moved,"
            again = f"{';' if now else ''} remove it, and pack it again"
            raise ValueError(f"{packed_dir} was packed from {name} before that {what}{again}")


def _is_packed(packed_dir: Path, split: str, data_dir: Path, size: int) -> bool:
    """Returns whether a split was packed before."""
    try:
        sources.find(packed_dir.relative_to(data_dir).parts[0], split, str(data_dir), size)
    except ValueError:  # no such split
        return False
    return True


def _replaces(split: str) -> bool:
    """Returns whether images of a split may be replaced: test images never are."""
    return split.startswith("train")


def _add(added: Path, packed_dir: Path, splits: str) -> None:
    """Moves newly packed splits to those packed before; can be repeated after a stop."""
    old, new = (read_json(folder / "packed.json", dict, "classes")["classes"] for folder in (packed_dir, added))
    if old != new:
        raise DataError(f"{added} and {packed_dir} have other classes, or in another order; remove one of them")
    for file in [*added.glob("*.npy"), *added.glob("corrupt.txt")]:
        file.replace(packed_dir / (file.name if file.suffix == ".npy" else f"corrupt.{splits}.txt"))
    (added / "packed.json").replace(packed_dir / f"packed.{splits}.json")  # last: this makes the new splits visible
    added.rmdir()


def check_size(source: Source, size: int) -> None:
    """Raises ValueError if the source's images have one size, and it is a different one."""
    if source.size and source.size != (size, size):
        height, width = source.size
        raise ValueError(f"the images of {source.name} have {height} x {width} pixels; give that as --size")


def squares(
    source: Source,
    data: Images,
    size: int,
    report: "pipeline.Report | None",
    first: int = 0,
) -> Iterator[Batch]:
    """Yields batches of central squares of a source's images, uint8 [N, size, size, 3]."""
    from deepconv.data import pipeline

    return pipeline.ordered_batches(data, source.examples, BATCH, decode.central_square(size), first, report)


def _pack_jpeg(
    folder: Path, target: Path, found: Mapping[str, Source], size: int, report: "pipeline.Report | None"
) -> None:
    import tensorflow_datasets as tfds

    def split_of(source: Source) -> tfds_writer.Split:
        def examples_from(first: int) -> Iterator[tfds_writer.Example]:
            for batch in squares(source, source.open(), size, report if _replaces(source.split) else None, first):
                for image, label in zip(batch["image"], batch["label"], strict=True):
                    yield {"image": decode.as_jpeg(image, quality=90), "label": int(label)}

        return tfds_writer.Split(source.examples, source.examples * size**2 * 29_000 // 256**2, examples_from)

    classes = next(iter(found.values())).classes
    features = {"image": tfds.features.Image(encoding_format="jpeg"), "label": tfds.features.ClassLabel(names=classes)}
    tfds_writer.write_tfds(folder, target, features, {split: split_of(source) for split, source in found.items()})
    write_json(folder / PACKED_FROM, _fingerprints(found))


def _pack_uint8(
    folder: Path, target: Path, found: Mapping[str, Source], size: int, report: "pipeline.Report | None"
) -> None:
    tfds_writer.need_space(folder, sum(source.examples for source in found.values()) * size * size * 3)
    for split, source in found.items():
        images = _open_rows(folder / f"{split}.images.npy", "|u1", (source.examples, size, size, 3))
        labels = _open_rows(folder / f"{split}.labels.npy", "<i4", (source.examples,))
        done = min((file.tell() - header) // row for file, header, row in (images, labels))
        for file, header, row in (images, labels):
            file.truncate(header + done * row)  # a kill may have left part of an image
        with images[0], labels[0], tfds_writer.progress(f"{target.name} {split}", source.examples, done) as show:
            for batch in squares(source, source.open(), size, report if _replaces(split) else None, done):
                images[0].write(batch["image"].tobytes())
                labels[0].write(batch["label"].astype("<i4").tobytes())
                done += len(batch["label"])
                show(done)
    info = {"size": size, "splits": {split: source.examples for split, source in found.items()}}
    info |= {"classes": next(iter(found.values())).classes}
    info |= _fingerprints(found)
    (folder / "packed.json").write_text(json.dumps(info, indent=2))


def _fingerprints(found: Mapping[str, Source]) -> dict[str, dict[str, str]]:
    """Returns the record of what was packed, with which `_check_unchanged` notices changes."""
    return {"of": {split: source.fingerprint for split, source in found.items()}}


def _open_rows(path: Path, kind: str, shape: tuple[int, ...]) -> tuple[BinaryIO, int, int]:
    """Opens a .npy file to append rows; returns it with the sizes of its header and of a row in bytes."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": kind, "fortran_order": False, "shape": shape})
    file = path.open("ab")
    if file.tell() < header.tell():
        file.truncate(0)
        file.write(header.getvalue())
    return file, header.tell(), np.dtype(kind).itemsize * math.prod(shape[1:])
