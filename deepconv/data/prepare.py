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

import contextlib
import hashlib
import io
import json
import os
import pickle
import re
import shutil
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from absl import app, flags
from PIL import Image

from deepconv import runlog
from deepconv.data import decode, pipeline, sources, statistics
from deepconv.data.sources import DataError

IMAGENET_TARS = {"train": "ILSVRC2012_img_train.tar", "validation": "ILSVRC2012_img_val.tar"}
IMAGENET_COUNTS = {"train": 1_281_167, "validation": 50_000}
CIFAR10_MD5 = {
    "cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530",
    "cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a",
}
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PICKLED = {
    ("numpy", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}  # arrays need them
BATCH = 100  # images between two looks at the clock

Example = dict[str, bytes | int]


@dataclass(frozen=True)
class Split:
    """What is to be written: its size, and its examples from one on."""

    examples: int
    size_bytes: int  # about
    examples_from: Callable[[int], Iterator[Example]]


def write_tfds(target: Path, features: dict[str, Any], splits: Mapping[str, Split]) -> None:
    """A data set as TFDS lays it out, in target = DIR/NAME/VERSION; files that are whole already are kept.

    Raises OSError, before anything is written, where the disk is too small.
    """
    import tensorflow_datasets as tfds
    from array_record.python.array_record_module import ArrayRecordWriter
    from tensorflow_datasets.core.utils.shard_utils import ShardConfig, get_shard_boundaries

    folder = _unfinished(target)
    _need_space(folder, sum(split.size_bytes for split in splits.values()))
    infos = []
    for name, split in splits.items():
        ends = get_shard_boundaries(
            split.examples, ShardConfig.calculate_number_shards(split.size_bytes, split.examples)
        )
        template = tfds.core.ShardedFileTemplate(
            data_dir=folder, dataset_name=target.parent.name, split=name, filetype_suffix="array_record"
        )
        files = [Path(template.sharded_filepath(shard_index=i, num_shards=len(ends))) for i in range(len(ends))]
        lengths = np.diff([0, *ends]).tolist()
        whole = next((i for i, file in enumerate(files) if not file.exists()), len(files))
        done = sum(lengths[:whole])
        examples = split.examples_from(done)
        with _progress(f"{target.parent.name} {name}", split.examples, done) as show:
            for file, length in zip(files[whole:], lengths[whole:], strict=True):
                writer = ArrayRecordWriter(f"{file}.part", "group_size:1")
                for _ in range(length):
                    writer.write(_serialized(next(examples)))
                    done += 1
                    show(done)
                writer.close()
                Path(f"{file}.part").replace(file)
        size = sum(file.stat().st_size for file in files)
        infos.append(tfds.core.SplitInfo(name=name, shard_lengths=lengths, num_bytes=size, filename_template=template))
    identity = tfds.core.dataset_info.DatasetIdentity(target.parent.name, target.name, str(folder), module_name="")
    info = tfds.core.DatasetInfo(
        builder=identity, features=tfds.features.FeaturesDict(features), supervised_keys=("image", "label")
    )
    info.set_file_format("array_record")
    info.set_splits(tfds.core.splits.SplitDict(infos))
    info.write_to_directory(folder)
    folder.rename(target)


def _serialized(example: Example) -> bytes:
    from tensorflow_datasets.proto import tf_example_pb2, tf_feature_pb2

    def feature(value: bytes | int) -> tf_feature_pb2.Feature:
        if isinstance(value, bytes):
            return tf_feature_pb2.Feature(bytes_list=tf_feature_pb2.BytesList(value=[value]))
        return tf_feature_pb2.Feature(int64_list=tf_feature_pb2.Int64List(value=[value]))

    features = tf_feature_pb2.Features(feature={name: feature(value) for name, value in example.items()})
    return tf_example_pb2.Example(features=features).SerializeToString()


def _tfds_order(split: str, keys: Sequence[str | int]) -> list[int]:
    """The order in which TFDS would write examples with these keys."""
    from tensorflow_datasets.core.hashing import Hasher

    hasher = Hasher(split)
    hashes = [hasher.hash_key(key) for key in keys]
    return sorted(range(len(keys)), key=hashes.__getitem__)


# ImageNet


@dataclass(frozen=True)
class Members:
    """Where the images of an archive lie in it; the archive is not extracted."""

    names: np.ndarray  # str [N]
    labels: np.ndarray  # int32 [N]
    offsets: np.ndarray  # int64 [N], in bytes
    sizes: np.ndarray  # int64 [N], in bytes


def imagenet2012(archives: Path, data_dir: Path, counts: Mapping[str, int] = IMAGENET_COUNTS) -> Path:
    """The official archives -> DIR/imagenet2012/5.1.0. Raises DataError for an archive that is not whole.

    Where each image lies is read from the archives first, and counted. Then images are read in TFDS's order, which is
    a random one: on a disk with a head, that takes hours.
    """
    import tensorflow_datasets as tfds

    target = data_dir / "imagenet2012" / "5.1.0"
    if target.exists():
        return target
    synsets = Path(tfds.core.tfds_path("datasets/imagenet2012/labels.txt")).read_text().split()
    for tar in IMAGENET_TARS.values():
        if not (archives / tar).exists():
            raise DataError(f"{archives / tar} is missing; image-net.org gives it to who registers")
    splits = {}
    for split, tar in IMAGENET_TARS.items():
        index = _unfinished(target) / f"{split}.index.npz"
        if not index.exists():
            found = _members(archives / tar, synsets, counts[split])
            with _whole(index) as file:
                np.savez(file, **vars(found))
        with np.load(index) as arrays:
            members = Members(**arrays)
        order = _tfds_order(split, members.names.tolist())
        splits[split] = Split(len(order), int(members.sizes.sum()), _images_of_tar(archives / tar, members, order))
    features = {
        "image": tfds.features.Image(encoding_format="jpeg"),
        "label": tfds.features.ClassLabel(names=synsets),
        "file_name": tfds.features.Text(),
    }
    write_tfds(target, features, splits)
    for split in splits:
        (target / f"{split}.index.npz").unlink()
    return target


def _members(path: Path, synsets: Sequence[str], count: int) -> Members:
    """The images of an archive, or of the archives in it, one for each class; checked to be those that are expected."""
    numbers = {synset: number for number, synset in enumerate(synsets)}
    validation = {
        f"ILSVRC2012_val_{i:08d}.JPEG": name for i, name in enumerate(sources.imagenet_validation_labels(), 1)
    }
    rows, classes, length = [], set(), path.stat().st_size
    with _readable_tar(path), tarfile.open(path, "r:") as outer, _progress(f"looking into {path}", count) as show:
        for member in outer:
            where = Path(member.name).name  # of a path in an archive nothing else is believed
            if member.isdir():
                continue
            if where in validation:
                found = [(where, validation[where], member.offset_data, member.size)]
            elif where.removesuffix(".tar") in numbers:
                with tarfile.open(fileobj=outer.extractfile(member), mode="r:") as inner:
                    found = [
                        (
                            Path(file.name).name,
                            where.removesuffix(".tar"),
                            member.offset_data + file.offset_data,
                            file.size,
                        )
                        for file in inner
                        if file.isfile()
                    ]
            else:
                raise DataError(f"{path}: {member.name!r} is not a validation image, and not the archive of a class")
            if bad := [row for row in found if not re.fullmatch(r"(n\d{8}|ILSVRC2012_val)_\d+\.JPEG", row[0])]:
                raise DataError(f"{path}: {bad[0][0]!r} in {member.name!r} is not the name of an ImageNet image")
            if found and found[-1][2] + found[-1][3] > length:
                raise DataError(f"{path} ends in the middle of {found[-1][0]}; copy or download it again")
            rows += found
            classes |= {row[1] for row in found}
            show(len(rows))
    check_counts(path, len(rows), count, classes, synsets)
    names, labels, offsets, sizes = zip(*rows, strict=True)
    labels = np.array([numbers[label] for label in labels], np.int32)
    return Members(np.array(names), labels, np.array(offsets, np.int64), np.array(sizes, np.int64))


def check_counts(path: Path, found: int, expected: int, classes: set[str], synsets: Sequence[str]) -> None:
    """Raises DataError where images or classes are missing, or there are too many."""
    if found != expected or len(classes) != len(synsets):
        missing = f" (no images of {min(set(synsets) - classes)})" if len(classes) < len(synsets) else ""
        raise DataError(
            f"{path} has {found:,} images of {len(classes):,} classes instead of {expected:,} of {len(synsets):,}"
            f"{missing}; copy or download it again"
        )


def _images_of_tar(path: Path, members: Members, order: Sequence[int]) -> Callable[[int], Iterator[Example]]:
    def examples_from(first: int) -> Iterator[Example]:
        with path.open("rb") as tar:
            for i in order[first:]:
                name = str(members.names[i])
                data = os.pread(tar.fileno(), int(members.sizes[i]), int(members.offsets[i]))
                try:
                    image = as_rgb_jpeg(data)
                except decode.CorruptImage as error:
                    raise DataError(f"{name} in {path} is not an image: {error}; copy or download it again") from None
                yield {"image": image, "label": int(members.labels[i]), "file_name": name.encode()}

    return examples_from


def as_rgb_jpeg(data: bytes) -> bytes:
    """The bytes as they are, but for a CMYK JPEG or another format: ImageNet has 22 and one. Raises CorruptImage."""
    with contextlib.suppress(ValueError):
        if simplejpeg.decode_jpeg_header(data)[2] in ("YCbCr", "Gray", "RGB"):
            return data
    return _as_jpeg(decode.decode(data), quality=100)


def _as_jpeg(image: np.ndarray, quality: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return file.getvalue()


# CIFAR-10


def cifar10(archives: Path, data_dir: Path, md5: Mapping[str, str] = CIFAR10_MD5) -> Path:
    """The authors' archive, binary or for Python -> DIR/cifar10/3.0.2. Raises DataError for any other file."""
    import tensorflow_datasets as tfds

    target = data_dir / "cifar10" / "3.0.2"
    if target.exists():
        return target
    path = next((archives / name for name in md5 if (archives / name).exists()), None)
    if path is None:
        raise DataError(
            f"{archives} has none of {', '.join(md5)}; they are at https://www.cs.toronto.edu/~kriz/cifar.html"
        )
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found != md5[path.name]:
        raise DataError(f"{path} has the MD5 sum {found} instead of {md5[path.name]}; download it again")
    images, labels = _read_cifar10(path)
    bounds = {"train": (0, 50_000), "test": (50_000, 60_000)}
    features = {
        "id": tfds.features.Text(),
        "image": tfds.features.Image(shape=(32, 32, 3)),
        "label": tfds.features.ClassLabel(names=CIFAR10_CLASSES),
    }
    splits = {}
    for split, (first, last) in bounds.items():
        order = _tfds_order(split, range(last - first))

        def examples_from(start: int, order: list[int] = order, first: int = first, split: str = split) -> Any:
            for i in order[start:]:
                file = io.BytesIO()
                Image.fromarray(images[first + i]).save(file, "PNG")
                name = f"{split}_{i:05d}".encode()
                yield {"id": name, "image": file.getvalue(), "label": int(labels[first + i])}

        splits[split] = Split(last - first, (last - first) * 2_300, examples_from)
    write_tfds(target, features, splits)
    return target


def _read_cifar10(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [60000, 32, 32, 3], those of the test last, and labels."""
    parts = []
    with _readable_tar(path), tarfile.open(path, "r:gz") as tar:
        files = {Path(member.name).name: member for member in tar if member.isfile()}
        for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
            if f"{name}.bin" in files:
                rows = np.frombuffer(tar.extractfile(files[f"{name}.bin"]).read(), np.uint8).reshape(10_000, 3073)
                parts.append((rows[:, 0], rows[:, 1:]))
            else:
                batch = _ArraysOnly(tar.extractfile(files[name]), encoding="latin1").load()
                parts.append((np.array(batch["labels"]), batch["data"]))
    labels, pixels = (np.concatenate(part) for part in zip(*parts, strict=True))
    return pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels


class _ArraysOnly(pickle.Unpickler):
    """Reads lists, text and arrays; anything else that a pickle could call is refused."""

    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("numpy.core", "numpy._core")
        if (module.split(".")[0], name) in PICKLED:
            return super().find_class(module, name)
        raise DataError(f"the archive wants to call {module}.{name}, which no CIFAR-10 needs")


# Packed images and statistics


def pack(name: str, data_dir: Path, splits: Sequence[str], size: int, kind: str) -> Path:
    """Central squares of size x size of any data set -> DIR/NAME-SIZE-KIND, as "uint8" or as "jpeg" of quality 90."""
    target = data_dir / f"{name.replace('/', '-')}-{size}-{kind}"
    target = target / "1.0.0" if kind == "jpeg" else target
    if target.exists():
        return target
    found = {split: sources.find(name, split, str(data_dir), size, (size, size)) for split in splits}
    if kind == "jpeg":
        _pack_jpeg(target, found, size)
    else:
        _pack_uint8(target, found, size)
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

        def examples_from(first: int, source: sources.Source = source) -> Iterator[Example]:
            for batch in _squares(source, size, first):
                for image, label in zip(batch["image"], batch["label"], strict=True):
                    yield {"image": _as_jpeg(image, quality=90), "label": int(label)}

        splits[split] = Split(source.examples, source.examples * size**2 * 29_000 // 256**2, examples_from)
    classes = next(iter(found.values())).classes
    features = {
        "image": tfds.features.Image(encoding_format="jpeg"),
        "label": tfds.features.ClassLabel(names=classes),
    }
    write_tfds(target, features, splits)


def _pack_uint8(target: Path, found: Mapping[str, sources.Source], size: int) -> None:
    folder, bytes_each = _unfinished(target), size * size * 3
    _need_space(folder, sum(source.examples for source in found.values()) * bytes_each)
    for split, source in found.items():
        header = io.BytesIO()
        shape = (source.examples, size, size, 3)
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
        path, header = folder / f"{split}.images.npy", header.getvalue()
        with path.open("ab") as images, (folder / f"{split}.labels").open("ab") as labels:
            if not images.tell():
                images.write(header)
            done = max(0, min((images.tell() - len(header)) // bytes_each, labels.tell() // 4))
            images.truncate(len(header) + done * bytes_each)  # a kill may have cut an image in two
            labels.truncate(done * 4)
            with _progress(f"{target.name} {split}", source.examples, done) as show:
                for batch in _squares(source, size, done):
                    images.write(batch["image"].data)
                    labels.write(batch["label"].astype("<i4").tobytes())
                    done += len(batch["label"])
                    show(done)
        np.save(folder / f"{split}.labels.npy", np.fromfile(folder / f"{split}.labels", "<i4"))
        (folder / f"{split}.labels").unlink()
    classes = next(iter(found.values())).classes
    splits = {split: source.examples for split, source in found.items()}
    fingerprints = {split: source.fingerprint for split, source in found.items()}
    info = {"size": size, "splits": splits, "classes": classes, "of": fingerprints}
    (folder / "packed.json").write_text(json.dumps(info, indent=2))
    folder.rename(target)


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
    with _progress(f"statistics of {name} {split}", source.examples, int(sums.examples)) as show:
        for batch in _squares(source, size, int(sums.examples)):
            sums = sums.add(batch["image"])
            show(sums.examples)
            if time.monotonic() - saved > 30:
                statistics.save(unfinished, sums, source.fingerprint)
                saved = time.monotonic()
    statistics.save(file, sums.statistics(), source.fingerprint)
    unfinished.unlink(missing_ok=True)
    return file


# What all share


def _unfinished(target: Path) -> Path:
    """The folder, made if need be, that becomes the target when all of it is written."""
    folder = target.with_name(target.name + ".unfinished")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _need_space(folder: Path, total_bytes: int) -> None:
    there = sum(file.stat().st_size for file in folder.iterdir())
    free = shutil.disk_usage(folder).free
    if total_bytes - there > free:
        raise OSError(
            f"{folder} needs {(total_bytes - there) / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free; give another "
            f"--data_dir, or make room and type the same command again"
        )


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[Any]:
    """A file that is there whole or not at all."""
    temporary = path.with_name(path.name + ".part")
    with temporary.open("wb") as file:
        yield file
    temporary.replace(path)


@contextlib.contextmanager
def _readable_tar(path: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError, KeyError, ValueError) as error:
        raise DataError(f"{path} cannot be read as an archive: {error}; copy or download it again") from None


@contextlib.contextmanager
def _progress(title: str, total: int, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Gives show(done), which may be called often: it moves once a second, and writes a line every ten."""
    with runlog.progress(title, total, done) as show:
        shown = logged = time.monotonic()

        def show_sometimes(done: int) -> None:
            nonlocal shown, logged
            now = time.monotonic()
            if now - shown > 1 or done == total:
                log = now - logged > 10 or done == total
                shown, logged = now, now if log else logged
                show(done, "", log)

        yield show_sometimes


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
            make = imagenet2012 if command == "imagenet2012" else cifar10
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
