"""The official archives of ImageNet and CIFAR-10 -> TFDS's files."""

import contextlib
import hashlib
import io
import os
import pickle
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image

from deepconv.data import decode, sources, writer
from deepconv.data.sources import DataError

IMAGENET_TARS = {"train": "ILSVRC2012_img_train.tar", "validation": "ILSVRC2012_img_val.tar"}
IMAGENET_COUNTS = {"train": 1_281_167, "validation": 50_000}
CIFAR10_MD5 = {
    "cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530",
    "cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a",
}
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PICKLED = {"numpy": ("_reconstruct", "ndarray", "dtype"), "_codecs": ("encode",)}  # what an array in a pickle calls


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
        for split in IMAGENET_TARS:
            sources.find("imagenet2012/5.1.0", split, str(data_dir), 256).open()  # raises, where it is not whole
        return target
    synsets = Path(tfds.core.tfds_path("datasets/imagenet2012/labels.txt")).read_text().split()
    for tar in IMAGENET_TARS.values():
        if not (archives / tar).exists():
            raise FileNotFoundError(f"{archives / tar} is missing; image-net.org gives it to who registers")
    features = {
        "image": tfds.features.Image(encoding_format="jpeg"),
        "label": tfds.features.ClassLabel(names=synsets),
        "file_name": tfds.features.Text(),
    }
    sizes = {tar: (archives / tar).stat().st_size for tar in IMAGENET_TARS.values()}
    with writer.building(target, sizes) as folder:
        splits, indices = {}, {split: folder / f"{split}.index.npz" for split in IMAGENET_TARS}
        for split, index in indices.items():
            path = archives / IMAGENET_TARS[split]
            if not index.exists():
                found = _members(path, synsets, counts[split])
                np.savez(index.with_suffix(".part.npz"), **vars(found))
                index.with_suffix(".part.npz").replace(index)
            with np.load(index) as arrays:
                members = Members(**arrays)
            order = writer.tfds_order(split, members.names.tolist())
            splits[split] = writer.Split(len(order), int(members.sizes.sum()), _images_of_tar(path, members, order))
        writer.write_tfds(folder, target, features, splits)
        for index in indices.values():
            index.unlink()
    return target


def _members(path: Path, synsets: Sequence[str], count: int) -> Members:
    """The images of an archive, or of the archives in it, one for each class; checked to be those that are expected."""
    numbers = {synset: number for number, synset in enumerate(synsets)}
    validation = {
        f"ILSVRC2012_val_{i:08d}.JPEG": name for i, name in enumerate(sources.imagenet_validation_labels(), 1)
    }
    rows, classes, length = [], set(), path.stat().st_size
    with _readable_tar(path), tarfile.open(path, "r:") as outer, writer.progress(f"looking into {path}", count) as show:
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


def _images_of_tar(path: Path, members: Members, order: Sequence[int]) -> Callable[[int], Iterator[writer.Example]]:
    def examples_from(first: int) -> Iterator[writer.Example]:
        with path.open("rb") as tar:
            for i in order[first:]:
                name = str(members.names[i])
                data = os.pread(tar.fileno(), int(members.sizes[i]), int(members.offsets[i]))
                if len(data) != members.sizes[i]:
                    raise DataError(f"{path} ends in the middle of {name}; copy or download it again")
                try:
                    image = as_rgb_jpeg(data)
                except decode.CorruptImage as error:
                    raise DataError(f"{name} in {path} is not an image: {error}; copy or download it again") from None
                yield {"image": image, "label": int(members.labels[i]), "file_name": name.encode()}

    return examples_from


def as_rgb_jpeg(data: bytes) -> bytes:
    """The bytes as they are, but for a CMYK JPEG or another format: ImageNet has 22 and one. Raises CorruptImage."""
    with contextlib.suppress(KeyError, ValueError):
        if simplejpeg.decode_jpeg_header(data, strict=False)[2] in ("YCbCr", "Gray", "RGB"):
            return data
    return decode.as_jpeg(decode.decode(data), quality=100)


def cifar10(archives: Path, data_dir: Path, md5: Mapping[str, str] = CIFAR10_MD5) -> Path:
    """The authors' archive, binary or for Python -> DIR/cifar10/3.0.2. Raises DataError for any other file."""
    import tensorflow_datasets as tfds

    target = data_dir / "cifar10" / "3.0.2"
    if target.exists():
        return target
    path = next((archives / name for name in md5 if (archives / name).exists()), None)
    if path is None:
        raise FileNotFoundError(
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
        order = writer.tfds_order(split, range(last - first))

        def examples_from(start: int, order: list[int] = order, first: int = first, split: str = split) -> Any:
            for i in order[start:]:
                file = io.BytesIO()
                Image.fromarray(images[first + i]).save(file, "PNG")
                name = f"{split}_{i:05d}".encode()
                yield {"id": name, "image": file.getvalue(), "label": int(labels[first + i])}

        splits[split] = writer.Split(last - first, (last - first) * 2_300, examples_from)
    with writer.building(target, {"md5": found}) as folder:
        writer.write_tfds(folder, target, features, splits)
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
        if name in PICKLED.get(module.split(".")[0], ()):
            return super().find_class(module, name)
        raise DataError(f"the archive wants to call {module}.{name}, which no CIFAR-10 needs")


@contextlib.contextmanager
def _readable_tar(path: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError, KeyError, ValueError) as error:
        raise DataError(f"{path} cannot be read as an archive: {error}; copy or download it again") from None
