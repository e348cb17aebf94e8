"""Statistics of a training set: the mean image, the mean colour and the principal components of colours."""

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
from ml_collections import ConfigDict

from deepconv.run.files import replacing

if TYPE_CHECKING:
    import jax  # takes seconds, which commands without a net need not wait for

MEANS = ("channel", "pixel")
STDS = ("none", "channel")


class Input(NamedTuple):
    """The normalisation of a net's images: (pixels from 0 to 255 - mean) / std, in RGB."""

    mean: "np.ndarray | jax.Array"  # float32, a colour [1, 1, 1, 3] or an image [1, H, W, 3]
    std: np.ndarray = np.ones((1, 1, 1, 3), np.float32)


@dataclass(frozen=True)
class Statistics:
    """Statistics of RGB pixels from 0 to 255; principal components are of colours from 0 to 1, largest first."""

    channel_mean: np.ndarray  # float32 [3]
    eigenvalues: np.ndarray  # float32 [3], of the covariance of a pixel's colours
    eigenvectors: np.ndarray  # float32 [3, 3], one per column
    pixel_mean: np.ndarray | None = None  # float32 [H, W, 3]

    def mean(self, kind: str, size: int) -> np.ndarray:
        """Returns the mean to subtract: "channel" [1, 1, 1, 3], or "pixel" [1, size, size, 3], the mean image's centre.

        AlexNet's authors subtracted the centre from every crop, wherever it was taken.
        """
        if kind == "channel":
            return self.channel_mean.reshape(1, 1, 1, 3)
        if self.pixel_mean is None:
            raise ValueError("these statistics have a mean colour but no mean image")
        height, width = self.pixel_mean.shape[:2]
        if size > min(height, width):
            raise ValueError(f"the mean image has {height} x {width} pixels, fewer than config.data.image_size={size}")
        top, left = (height - size) // 2, (width - size) // 2
        return self.pixel_mean[None, top : top + size, left : left + size]

    def std(self) -> np.ndarray:
        """Returns the standard deviation of each channel over all pixels, [1, 1, 1, 3]."""
        variance = np.square(self.eigenvectors) @ self.eigenvalues
        return 255 * np.sqrt(variance).reshape(1, 1, 1, 3)


Kind = TypeVar("Kind", bound="Statistics | Sums")

# ImageNet's training set. The mean is that of the VGG authors' nets; the components are those of fb.resnet.torch.
PUBLISHED = Statistics(
    np.array([123.68, 116.779, 103.939], np.float32),
    np.array([0.2175, 0.0188, 0.0045], np.float32),
    np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]], np.float32),
)

# For recipes that need no statistics: every result computed with these is NaN
NOT_NEEDED = Statistics(np.full(3, np.nan), np.full(3, np.nan), np.full((3, 3), np.nan))


def check(data: ConfigDict) -> None:
    """Raises ValueError if config.data.mean or std is neither a known name nor three numbers."""
    for field, names in (("mean", MEANS), ("std", STDS)):
        value = data.get(field, names[0])
        colour = numbers(value)
        if value not in names and (colour is None or (field == "std" and colour.min() <= 0)):
            least = " above 0" if field == "std" else ""
            raise ValueError(
                f"config.data.{field}={value!r} is unknown; choose one of {', '.join(names)}, or three numbers{least}, "
                "for R, G and B from 0 to 255, such as 123.68,116.779,103.939"
            )


def needed(data: ConfigDict, training: bool) -> bool:
    """Returns whether config.data needs statistics of the training images."""
    lit = training and data.get("lighting", "none") != "none"
    return data.mean in MEANS or data.get("std", "none") == "channel" or lit


def input_of(data: ConfigDict, found: Statistics) -> Input:
    """Returns the normalisation that config.data.mean and std describe."""
    mean, name = numbers(data.mean), data.get("std", "none")
    if mean is None:
        mean = found.mean(data.mean, data.image_size)
    std = found.std() if name == "channel" else numbers(name)
    return Input(mean) if std is None else Input(mean, std)


def numbers(text: str) -> np.ndarray | None:
    """Parses "123.68,116.779,103.939" to float32 [1, 1, 1, 3]; returns None for anything else."""
    try:
        values = np.array([float(part) for part in text.split(",")], np.float32)
    except ValueError:
        return None
    return values.reshape(1, 1, 1, 3) if values.size == 3 and np.isfinite(values).all() else None


@dataclass(frozen=True)
class Sums:
    """Sums from which statistics are computed; integers, exact in float64 up to 2**53, which ILSVRC does not reach."""

    examples: int
    pixels: np.ndarray  # int64 [H, W, 3], over images
    products: np.ndarray  # float64 [3, 3], of colours, over images and pixels

    def add(self, images: np.ndarray) -> "Sums":
        """Returns the sums with the images uint8 [B, H, W, 3] added."""
        colours = images.reshape(-1, 3).astype(np.float64)
        products = self.products + colours.T @ colours
        return Sums(self.examples + len(images), self.pixels + images.sum(0, dtype=np.int64), products)

    def statistics(self) -> Statistics:
        """Returns the statistics of all images that were added."""
        count = self.examples * self.pixels[..., 0].size
        mean = self.pixels.sum((0, 1)) / count
        values, vectors = np.linalg.eigh((self.products / count - np.outer(mean, mean)) / 255**2)
        vectors *= np.where(vectors[np.abs(vectors).argmax(0), range(3)] < 0, -1, 1)  # the sign is arbitrary: fix it
        return Statistics(
            mean.astype(np.float32),
            values[::-1].clip(0).astype(np.float32),
            vectors[:, ::-1].astype(np.float32),
            (self.pixels / self.examples).astype(np.float32),
        )


NO_IMAGES = Sums(0, np.zeros((1, 1, 3), np.int64), np.zeros((3, 3)))


def compute(batches: Iterable[np.ndarray]) -> Statistics:
    """Computes statistics in one pass over batches uint8 [B, H, W, 3]."""
    return functools.reduce(Sums.add, batches, NO_IMAGES).statistics()


def path(folder: Path, split: str, size: int) -> Path:
    """Returns the file of a split's statistics, beside the data; size is the side of the central squares."""
    return folder / f"statistics.{split}.{size}.npz"


def save(file: Path, content: Statistics | Sums, fingerprint: str) -> None:
    """Writes statistics or sums atomically, with the fingerprint of the data."""
    with replacing(file) as temporary, temporary.open("wb") as out:
        arrays = {name: array for name, array in vars(content).items() if array is not None}
        np.savez(out, fingerprint=np.array(fingerprint), **arrays)


def load(
    file: Path, fingerprint: str, kind: type[Kind] = Statistics, remedy: str = "remove it and compute it again"
) -> Kind:
    """Reads statistics or sums. Raises OSError if they are missing, damaged or of other data."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            found = dict(arrays)
        stored = str(found.pop("fingerprint"))
        content = kind(**found)
    except FileNotFoundError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy each raise their own
        raise OSError(f"{file} is damaged: {error}; {remedy}") from None
    if stored != fingerprint:
        raise OSError(f"{file} was computed from data that has changed since; remove it and compute it again")
    return content
