"""Conversion of CIFAR-10's official archive to TFDS's layout."""

import hashlib
import io
import pickle
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deepconv.data.images import DataError
from deepconv.data.prepare import tfds_writer
from deepconv.data.prepare.imagenet import readable_tar

CIFAR10_MD5 = {
    "cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530",
    "cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a",
}
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PICKLED = {"numpy": ("_reconstruct", "ndarray", "dtype"), "_codecs": ("encode",)}  # calls in a pickled array


def cifar10(archives: Path, data_dir: Path, md5: Mapping[str, str] = CIFAR10_MD5) -> Path:
    """Converts the authors' archive, binary or for Python, to DIR/cifar10/3.0.2. Raises DataError for other files."""
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
        order = tfds_writer.tfds_order(split, range(last - first))

        def examples_from(
            start: int, order: list[int] = order, first: int = first, split: str = split
        ) -> Iterator[tfds_writer.Example]:
            for i in order[start:]:
                file = io.BytesIO()
                Image.fromarray(images[first + i]).save(file, "PNG")
                name = f"{split}_{i:05d}".encode()
                yield {"id": name, "image": file.getvalue(), "label": int(labels[first + i])}

        splits[split] = tfds_writer.Split(last - first, (last - first) * 2_300, examples_from)
    with tfds_writer.building(target, {"md5": found}) as folder:
        tfds_writer.write_tfds(folder, target, features, splits)
    return target


def _read_cifar10(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads images, uint8 [60000, 32, 32, 3], test images last, and labels."""
    parts = []
    with readable_tar(path), tarfile.open(path, "r:gz") as tar:
        found = ((Path(member.name).name, tar.extractfile(member)) for member in tar if member.isfile())
        files = {name: file for name, file in found if file}
        for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
            if f"{name}.bin" in files:
                rows = np.frombuffer(files[f"{name}.bin"].read(), np.uint8).reshape(10_000, 3073)
                parts.append((rows[:, 0], rows[:, 1:]))
            else:
                batch = _ArraysOnly(files[name], encoding="latin1").load()
                parts.append((np.array(batch["labels"]), batch["data"]))
    labels, pixels = (np.concatenate(part) for part in zip(*parts, strict=True))
    return pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels


class _ArraysOnly(pickle.Unpickler):
    """Reads lists, text and arrays, and refuses all other calls in a pickle."""

    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("numpy.core", "numpy._core")
        if name in PICKLED.get(module.split(".")[0], ()):
            return super().find_class(module, name)
        raise DataError(f"the archive calls {module}.{name}, which CIFAR-10's does not")
