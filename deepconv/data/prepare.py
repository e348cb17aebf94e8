"""Official archives -> TFDS's files, without TensorFlow; packed images; statistics.

    python -m deepconv.data.prepare imagenet2012 --archives=DIR --data_dir=DIR
    python -m deepconv.data.prepare cifar10 --archives=DIR --data_dir=DIR
    python -m deepconv.data.prepare pack NAME --data_dir=DIR --split=train,validation --format=uint8
    python -m deepconv.data.prepare statistics NAME --data_dir=DIR --split=train

imagenet2012 wants ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar in --archives; cifar10 wants
cifar-10-binary.tar.gz or cifar-10-python.tar.gz. What they make is what `tfds.data_source` reads, in TFDS's order.
pack and statistics take any data set that training takes. pack makes the shorter side --size and keeps the central
square: as uint8 in one file that is read in place (ImageNet: 252 GB), or as jpeg in TFDS's files (about 37 GB).
statistics also writes the SHA-256 sums of a folder's files to SHA256SUMS.<split>.txt, for `sha256sum -c` and
main's --verify_data.
The same command goes on where it was stopped.
"""

if __name__ == "__main__":
    from deepconv import preemption

    preemption.install()  # before the imports, which take seconds

import io
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from absl import flags

from deepconv import cli, runlog
from deepconv.data import archives, decode, pipeline, sources, statistics, writer

BATCH = 100  # images between two looks at the clock


def pack(
    name: str,
    data_dir: Path,
    splits: Sequence[str],
    size: int,
    kind: str,
    replace: bool = False,
) -> Path:
    """Central squares of size x size of any data set -> DIR/NAME-SIZE-KIND, as "uint8" or as "jpeg" of quality 90.

    An image that cannot be decoded raises DataError, or is replaced by the next, and listed in corrupt.txt.
    """
    packed = f"{name.replace('/', '-')}-{size}-{kind}"
    whole = data_dir / packed / "1.0.0" if kind == "jpeg" else data_dir / packed
    target = whole
    if whole.exists():
        if not (splits := [split for split in splits if not _is_packed(packed, split, data_dir, size)]):
            return whole
        if kind == "jpeg":
            raise ValueError(
                f"{whole} was packed without {splits[0]!r}, and TFDS's files cannot be added to; remove it, and give "
                f"all splits at once, such as --split=train,{splits[0]}"
            )
        target = whole.with_name(f"{packed}+{'+'.join(splits)}")
    if parts := [split for split in splits if "[" in split]:
        raise ValueError(f"--split={parts[0]}: whole splits are packed; training can take a part of one")
    found = {split: sources.find(name, split, str(data_dir), size, (size, size)) for split in splits}
    for source in found.values():
        _check_size(source, size)
    if not target.exists():
        with writer.building(target, {split: source.fingerprint for split, source in found.items()}) as folder:
            report = runlog.corrupt_list(folder / "corrupt.txt") if replace else None
            (_pack_jpeg if kind == "jpeg" else _pack_uint8)(folder, target, found, size, report)
    if target != whole:
        _add(target, whole, "+".join(splits))
    return whole


def _is_packed(packed: str, split: str, data_dir: Path, size: int) -> bool:
    try:
        sources.find(packed, split, str(data_dir), size)
    except ValueError:  # no such split
        return False
    return True


def _add(added: Path, whole: Path, splits: str) -> None:
    """Moves packed splits to those that were packed before; goes on where it was stopped."""
    old, new = (runlog.read_json(folder / "packed.json", dict, "classes")["classes"] for folder in (whole, added))
    if old != new:
        raise sources.DataError(f"{added} has {len(new)} classes, not the {len(old)} of {whole}; remove one of them")
    for file in [*added.glob("*.npy"), *added.glob("corrupt.txt")]:
        file.replace(whole / (file.name if file.suffix == ".npy" else f"corrupt.{splits}.txt"))
    (added / "packed.json").replace(whole / f"packed.{splits}.json")  # last: now they are found
    added.rmdir()


def _check_size(source: sources.Source, size: int) -> None:
    if source.size and source.size != (size, size):
        height, width = source.size
        raise ValueError(
            f"the images of {source.name} have {height} x {width} pixels; they can be used with that as --size"
        )


def _squares(
    source: sources.Source,
    data: sources.Arrays | sources.Records,
    size: int,
    report: pipeline.Report | None,
    first: int = 0,
) -> Iterator[pipeline.Batch]:
    geometry = None if source.size else decode.central_square(size)
    return pipeline.ordered_batches(data, source.examples, BATCH, geometry, first, report)


def _pack_jpeg(
    folder: Path, target: Path, found: Mapping[str, sources.Source], size: int, report: pipeline.Report | None
) -> None:
    import tensorflow_datasets as tfds

    def split_of(source: sources.Source) -> writer.Split:
        def examples_from(first: int) -> Iterator[writer.Example]:
            for batch in _squares(source, source.open(), size, report, first):
                for image, label in zip(batch["image"], batch["label"], strict=True):
                    yield {"image": decode.as_jpeg(image, quality=90), "label": int(label)}

        return writer.Split(source.examples, source.examples * size**2 * 29_000 // 256**2, examples_from)

    classes = next(iter(found.values())).classes
    features = {"image": tfds.features.Image(encoding_format="jpeg"), "label": tfds.features.ClassLabel(names=classes)}
    writer.write_tfds(folder, target, features, {split: split_of(source) for split, source in found.items()})


def _pack_uint8(
    folder: Path, target: Path, found: Mapping[str, sources.Source], size: int, report: pipeline.Report | None
) -> None:
    writer.need_space(folder, sum(source.examples for source in found.values()) * size * size * 3)
    for split, source in found.items():
        images = _open_rows(folder / f"{split}.images.npy", "|u1", (source.examples, size, size, 3))
        labels = _open_rows(folder / f"{split}.labels.npy", "<i4", (source.examples,))
        done = min((file.tell() - header) // row for file, header, row in (images, labels))
        for file, header, row in (images, labels):
            file.truncate(header + done * row)  # a kill may have cut an image in two
        with images[0], labels[0], writer.progress(f"{target.name} {split}", source.examples, done) as show:
            for batch in _squares(source, source.open(), size, report, done):
                images[0].write(batch["image"].tobytes())
                labels[0].write(batch["label"].astype("<i4").tobytes())
                done += len(batch["label"])
                show(done)
    info = {"size": size, "splits": {split: source.examples for split, source in found.items()}}
    info |= {"classes": next(iter(found.values())).classes}
    info |= {"of": {split: source.fingerprint for split, source in found.items()}}
    (folder / "packed.json").write_text(json.dumps(info, indent=2))


def _open_rows(path: Path, kind: str, shape: tuple[int, ...]) -> tuple[BinaryIO, int, int]:
    """A .npy file with some of its rows, to append to; and the sizes in bytes of its header and of a row."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": kind, "fortran_order": False, "shape": shape})
    file = path.open("ab")
    if file.tell() < header.tell():
        file.truncate(0)
        file.write(header.getvalue())
    return file, header.tell(), np.dtype(kind).itemsize * math.prod(shape[1:])


def compute_statistics(name: str, data_dir: Path, split: str, size: int, replace: bool = False) -> Path:
    """Mean image, mean colour and principal colours of the central squares -> a file beside the data.

    Of a folder's files, SHA-256 sums are written as well.
    """
    source = sources.find(name, split, str(data_dir), size, (size, size))
    if source.folder is None:
        raise ValueError(f"the images of {name} fit into memory; their statistics are computed when training begins")
    _check_size(source, size)
    file, summed = statistics.path(source.folder, split, size), sources.summed(source)
    report = runlog.corrupt_list(file.with_suffix(".corrupt.txt")) if replace else None
    if file.exists():
        statistics.load(file, source.fingerprint)
        if not summed or summed.sums.any(1).all():
            return file

    unfinished, saved = file.with_name(file.name + ".unfinished"), time.monotonic()
    sums, data = statistics.NO_IMAGES, summed or source.open()
    if unfinished.exists():
        sums = statistics.load(unfinished, source.fingerprint, statistics.Sums)
        if summed and not summed.sums[: int(sums.examples)].any(1).all():
            sums = statistics.NO_IMAGES  # the list was removed meanwhile: every file is read once more
    with writer.progress(f"statistics of {name} {split}", source.examples, int(sums.examples)) as show:
        for batch in _squares(source, data, size, report, int(sums.examples)):
            sums = sums.add(batch["image"])
            show(sums.examples)
            if time.monotonic() - saved > 30:
                if summed:
                    sources.write_sums(summed)  # first: what is counted has its sum there
                statistics.save(unfinished, sums, source.fingerprint)
                saved = time.monotonic()
    if summed:
        sources.write_sums(summed)
    statistics.save(file, sums.statistics(), source.fingerprint)
    unfinished.unlink(missing_ok=True)
    return file


def define_flags() -> None:
    """The flags of this command alone; --data_dir comes from cli."""
    flags.DEFINE_string("archives", None, "imagenet2012, cifar10: where the official archives are.")
    flags.DEFINE_list("split", ["train"], "pack, statistics: splits, such as train,validation.")
    flags.DEFINE_integer("size", 256, "pack, statistics: side of the central squares in pixels.", lower_bound=1)
    flags.DEFINE_enum("format", "uint8", ["uint8", "jpeg"], "pack: as pixels, or as JPEG of quality 90.")
    flags.DEFINE_enum(
        "on_corrupt",
        "fail",
        ["fail", "replace"],
        "pack, statistics: stop at an image that is damaged, or take the next.",
    )


def main(arguments: list[str]) -> int:
    """One of the four commands."""
    given, command, names = flags.FLAGS, " ".join(arguments[1:2]), arguments[2:]
    replace = given["on_corrupt"].value == "replace"
    try:
        data_dir = sources.data_root(cli.DATA_DIR.value)
        if command in ("imagenet2012", "cifar10") and not names:
            if not given["archives"].present:
                raise ValueError(
                    f"{command} needs --archives=DIR, and --data_dir=DIR for another place than {data_dir}"
                )
            make = archives.imagenet2012 if command == "imagenet2012" else archives.cifar10
            results = [make(runlog.expanded(given["archives"].value), data_dir)]
        elif command == "pack" and len(names) == 1:
            if not given["split"].present:
                raise ValueError("pack needs all splits that are wanted, such as --split=train,validation")
            results = [
                pack(names[0], data_dir, given["split"].value, given["size"].value, given["format"].value, replace)
            ]
        elif command == "statistics" and len(names) == 1:
            size, splits = given["size"].value, given["split"].value
            results = [compute_statistics(names[0], data_dir, split, size, replace) for split in splits]
        else:
            raise ValueError(f"{' '.join(arguments[1:])!r} is not a command; see --help")
    except (ValueError, OSError) as error:
        return cli.refuse(str(error), code=2 if isinstance(error, ValueError | FileNotFoundError) else 1)
    print("\n".join(f"{result} is whole" for result in results))
    return 0


if __name__ == "__main__":
    define_flags()
    cli.run(main)
