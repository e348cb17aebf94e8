"""Conversion of ImageNet's official archives to TFDS's layout."""

import contextlib
import os
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import simplejpeg

from deepconv.data import decode, sources
from deepconv.data.images import DataError
from deepconv.data.prepare import tfds_writer
from deepconv.data.sources import folders

IMAGENET_TARS = {"train": "ILSVRC2012_img_train.tar", "validation": "ILSVRC2012_img_val.tar"}
IMAGENET_COUNTS = {"train": 1_281_167, "validation": 50_000}


@dataclass(frozen=True)
class Members:
    """The positions of images within an archive, which is not extracted."""

    names: np.ndarray  # str [N]
    labels: np.ndarray  # int32 [N]
    offsets: np.ndarray  # int64 [N], in bytes
    sizes: np.ndarray  # int64 [N], in bytes


def imagenet2012(archives: Path, data_dir: Path, counts: Mapping[str, int] = IMAGENET_COUNTS) -> Path:
    """Converts the official archives to DIR/imagenet2012/5.1.0. Raises DataError for an incomplete archive.

    First, the position of each image in the archives is read, and the images are counted. Then images are read in
    TFDS's order, which is random and takes hours on a hard disk.
    """
    import tensorflow_datasets as tfds

    target = data_dir / "imagenet2012" / "5.1.0"
    if target.exists():
        for split in IMAGENET_TARS:
            sources.find("imagenet2012/5.1.0", split, str(data_dir), 256).open()  # raises if it is incomplete
        return target
    synsets = Path(tfds.core.tfds_path("datasets/imagenet2012/labels.txt")).read_text().split()
    for tar in IMAGENET_TARS.values():
        if not (archives / tar).exists():
            raise FileNotFoundError(
                f"{archives / tar} is missing; download it from image-net.org, where you have to register"
            )
    features = {
        "image": tfds.features.Image(encoding_format="jpeg"),
        "label": tfds.features.ClassLabel(names=synsets),
        "file_name": tfds.features.Text(),
    }
    sizes = {tar: (archives / tar).stat().st_size for tar in IMAGENET_TARS.values()}
    with tfds_writer.building(target, sizes) as folder:
        splits, indices = {}, {split: folder / f"{split}.index.npz" for split in IMAGENET_TARS}
        for split, index in indices.items():
            path = archives / IMAGENET_TARS[split]
            if not index.exists():
                found = _members(path, synsets, counts[split])
                np.savez(index.with_suffix(".part.npz"), **vars(found))
                index.with_suffix(".part.npz").replace(index)
            with np.load(index) as arrays:
                members = Members(**arrays)
            order = tfds_writer.tfds_order(split, members.names.tolist())
            splits[split] = tfds_writer.Split(
                len(order), int(members.sizes.sum()), _images_of_tar(path, members, order)
            )
        tfds_writer.write_tfds(folder, target, features, splits)
        for index in indices.values():
            index.unlink()
    return target


def _members(path: Path, synsets: Sequence[str], count: int) -> Members:
    """Lists and checks the images of an archive, or of the archives in it, one per class."""
    numbers = {synset: number for number, synset in enumerate(synsets)}
    validation = {
        f"ILSVRC2012_val_{i:08d}.JPEG": name for i, name in enumerate(folders.imagenet_validation_labels(), 1)
    }
    rows, classes, length = [], set(), path.stat().st_size
    with (
        readable_tar(path),
        tarfile.open(path, "r:") as outer,
        tfds_writer.progress(f"listing {path}", count) as show,
    ):
        for member in outer:
            name = Path(member.name).name  # the folders in a member's path are ignored
            if member.isdir():
                continue
            if name in validation:
                found = [(name, validation[name], member.offset_data, member.size)]
            elif name.removesuffix(".tar") in numbers:
                with tarfile.open(fileobj=outer.extractfile(member), mode="r:") as inner:
                    found = [
                        (
                            Path(file.name).name,
                            name.removesuffix(".tar"),
                            member.offset_data + file.offset_data,
                            file.size,
                        )
                        for file in inner
                        if file.isfile()
                    ]
            else:
                raise DataError(f"{path}: {member.name!r} is not a validation image, and not the archive of a class")
            if bad := [row for row in found if not re.fullmatch(r"(n\d{8}|ILSVRC2012_val)_\d+\.JPEG", row[0])]:
                raise DataError(f"{path}: {bad[0][0]!r} in {member.name!r} does not have the name of an ImageNet image")
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
    """Raises DataError if images or classes are missing, or there are too many."""
    if found != expected or len(classes) != len(synsets):
        missing = f" (no images of {min(set(synsets) - classes)})" if len(classes) < len(synsets) else ""
        raise DataError(
            f"{path} has {found:,} images of {len(classes):,} classes instead of {expected:,} of {len(synsets):,}"
            f"{missing}; copy or download it again"
        )


def _images_of_tar(
    path: Path, members: Members, order: Sequence[int]
) -> Callable[[int], Iterator[tfds_writer.Example]]:
    def examples_from(first: int) -> Iterator[tfds_writer.Example]:
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
    """Converts CMYK JPEGs (22 in ImageNet) and other formats (one image) to RGB JPEG. Raises CorruptImage."""
    with contextlib.suppress(KeyError, ValueError):
        if simplejpeg.decode_jpeg_header(data, strict=False)[2] in ("YCbCr", "Gray", "RGB"):
            return data
    return decode.as_jpeg(decode.decode(data), quality=100)


@contextlib.contextmanager
def readable_tar(path: Path) -> Iterator[None]:
    """Raises DataError with the file's name if the block finds a damaged archive."""
    try:
        yield
    except (tarfile.TarError, EOFError, KeyError, ValueError) as error:
        raise DataError(f"{path} cannot be read as an archive: {error}; copy or download it again") from None
