"""Official archives -> TFDS's files, without TensorFlow; packed images; statistics.

    python -m deepconv.data.prepare imagenet2012 --archives=DIR --data_dir=DIR
    python -m deepconv.data.prepare cifar10 --archives=DIR --data_dir=DIR
    python -m deepconv.data.prepare pack NAME --data_dir=DIR --split=train,validation --format=uint8
    python -m deepconv.data.prepare statistics NAME --data_dir=DIR --split=train

imagenet2012 wants ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar in --archives; cifar10 wants
cifar-10-binary.tar.gz or cifar-10-python.tar.gz. What they make is what `tfds.data_source` reads, in TFDS's order.
pack and statistics take any data set that training takes. pack makes the shorter side --size and keeps the central
square: as uint8 in one file that is read in place (ImageNet: 252 GB), or as jpeg in TFDS's files (about 37 GB).
The same command goes on where it was stopped.
"""

import io
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from absl import app, flags

from deepconv.data import archives, decode, pipeline, sources, statistics, writer
from deepconv.data.sources import DataError

BATCH = 100  # images between two looks at the clock


def pack(name: str, data_dir: Path, splits: Sequence[str], size: int, kind: str) -> Path:
    """Central squares of size x size of any data set -> DIR/NAME-SIZE-KIND, as "uint8" or as "jpeg" of quality 90."""
    packed = f"{name.replace('/', '-')}-{size}-{kind}"
    target = data_dir / packed / "1.0.0" if kind == "jpeg" else data_dir / packed
    if target.exists():
        for split in splits:
            sources.find(packed, split, str(data_dir), size)  # raises, where it was packed without that split
        return target
    if parts := [split for split in splits if "[" in split]:
        raise ValueError(f"--split={parts[0]}: whole splits are packed; training can take a part of one")
    found = {split: sources.find(name, split, str(data_dir), size, (size, size)) for split in splits}
    (_pack_jpeg if kind == "jpeg" else _pack_uint8)(target, found, size)
    return target


def _squares(source: sources.Source, size: int, first: int = 0) -> Iterator[pipeline.Batch]:
    geometry = None if source.size else decode.Geometry((size, size), size, square=True, random=False)
    if source.size and source.size != (size, size):
        raise ValueError(
            f"the images of {source.name} have {source.size[0]} x {source.size[1]} pixels; give it as --size"
        )
    return pipeline.ordered_batches(source.open(), source.examples, BATCH, geometry, first)


def _pack_jpeg(target: Path, found: Mapping[str, sources.Source], size: int) -> None:
    import tensorflow_datasets as tfds

    splits = {}
    for split, source in found.items():

        def examples_from(first: int, source: sources.Source = source) -> Iterator[writer.Example]:
            for batch in _squares(source, size, first):
                for image, label in zip(batch["image"], batch["label"], strict=True):
                    yield {"image": decode.as_jpeg(image, quality=90), "label": int(label)}

        splits[split] = writer.Split(source.examples, source.examples * size**2 * 29_000 // 256**2, examples_from)
    classes = next(iter(found.values())).classes
    features = {
        "image": tfds.features.Image(encoding_format="jpeg"),
        "label": tfds.features.ClassLabel(names=classes),
    }
    writer.write_tfds(target, features, splits)


def _pack_uint8(target: Path, found: Mapping[str, sources.Source], size: int) -> None:
    folder = writer.unfinished(target)
    classes = next(iter(found.values())).classes
    info = {"size": size, "splits": {split: source.examples for split, source in found.items()}, "classes": classes}
    info["of"] = {split: source.fingerprint for split, source in found.items()}
    plan, text = folder / "packed.json", json.dumps(info, indent=2)
    if plan.exists() and plan.read_text() != text:
        raise DataError(f"{folder} was begun with other data or splits; remove it, and type the same command again")
    plan.write_text(text)
    writer.need_space(folder, sum(source.examples for source in found.values()) * size * size * 3)
    for split, source in found.items():
        images = _open_rows(folder / f"{split}.images.npy", "|u1", (source.examples, size, size, 3))
        labels = _open_rows(folder / f"{split}.labels.npy", "<i4", (source.examples,))
        done = min((file.tell() - header) // row for file, header, row in (images, labels))
        for file, header, row in (images, labels):
            file.truncate(header + done * row)  # a kill may have cut an image in two
        with images[0], labels[0], writer.progress(f"{target.name} {split}", source.examples, done) as show:
            for batch in _squares(source, size, done):
                images[0].write(batch["image"].tobytes())
                labels[0].write(batch["label"].astype("<i4").tobytes())
                done += len(batch["label"])
                show(done)
    folder.rename(target)


def _open_rows(path: Path, kind: str, shape: tuple[int, ...]) -> tuple[BinaryIO, int, int]:
    """A .npy file with some of its rows, to append to; and the sizes in bytes of its header and of a row."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": kind, "fortran_order": False, "shape": shape})
    file = path.open("ab")
    if file.tell() < header.tell():
        file.truncate(0)
        file.write(header.getvalue())
    return file, header.tell(), np.dtype(kind).itemsize * math.prod(shape[1:])


def compute_statistics(name: str, data_dir: Path, split: str, size: int) -> Path:
    """Mean image, mean colour and principal colours of the central squares -> a file beside the data."""
    source = sources.find(name, split, str(data_dir), size, (size, size))
    if source.folder is None:
        raise ValueError(f"the images of {name} fit into memory; their statistics are computed when training begins")
    file = statistics.path(source.folder, split, size)
    if file.exists():
        statistics.load(file, source.fingerprint)
        return file

    unfinished, saved = file.with_name(file.name + ".unfinished"), time.monotonic()
    sums = statistics.NO_IMAGES
    if unfinished.exists():
        sums = statistics.load(unfinished, source.fingerprint, statistics.Sums)
    with writer.progress(f"statistics of {name} {split}", source.examples, int(sums.examples)) as show:
        for batch in _squares(source, size, int(sums.examples)):
            sums = sums.add(batch["image"])
            show(sums.examples)
            if time.monotonic() - saved > 30:
                statistics.save(unfinished, sums, source.fingerprint)
                saved = time.monotonic()
    statistics.save(file, sums.statistics(), source.fingerprint)
    unfinished.unlink(missing_ok=True)
    return file


def define_flags() -> None:
    """The flags of this command alone; --data_dir comes from cli."""
    flags.DEFINE_string("archives", None, "imagenet2012, cifar10: where the official archives are.")
    flags.DEFINE_list("split", ["train"], "pack, statistics: splits, such as train,validation.")
    flags.DEFINE_integer("size", 256, "pack, statistics: side of the central squares in pixels.", lower_bound=1)
    flags.DEFINE_enum("format", "uint8", ["uint8", "jpeg"], "pack: as pixels, or as JPEG of quality 90.")


def main(arguments: list[str]) -> int:
    """One of the four commands."""
    from deepconv import cli

    given, (command, *names) = flags.FLAGS, [*arguments[1:], ""]
    data_dir = sources.data_root(cli.DATA_DIR.value)
    try:
        if command in ("imagenet2012", "cifar10"):
            if names[1:] or not given["archives"].present:
                raise ValueError(
                    f"{command} needs --archives=DIR, and --data_dir=DIR for another place than {data_dir}"
                )
            make = archives.imagenet2012 if command == "imagenet2012" else archives.cifar10
            result = make(Path(given["archives"].value).expanduser(), data_dir)
        elif command in ("pack", "statistics") and len(names) == 2:
            splits, size = given["split"].value, given["size"].value
            if command == "pack":
                result = pack(names[0], data_dir, splits, size, given["format"].value)
            else:
                result = [str(compute_statistics(names[0], data_dir, split, size)) for split in splits]
                result = ", ".join(result)
        else:
            raise ValueError(f"{' '.join(arguments[1:])!r} is not a command; see --help")
    except (ValueError, OSError) as error:
        return cli.refuse(str(error))
    print(f"{result} is whole")
    return 0


if __name__ == "__main__":
    from deepconv.cli import parse

    define_flags()
    app.run(main, flags_parser=parse)
