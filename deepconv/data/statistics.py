"""Averages over a training set: the mean image, the mean colour, and the directions in which colours vary."""

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
from ml_collections import ConfigDict

if TYPE_CHECKING:
    import jax  # takes seconds, which commands without a net do without

MEANS = ("channel", "pixel")
STDS = ("none", "channel")


class Input(NamedTuple):
    """What a net is given: (pixels from 0 to 255 - mean) / std, in RGB."""

    mean: "np.ndarray | jax.Array"  # float32, a colour [1, 1, 1, 3] or an image [1, H, W, 3]
    std: np.ndarray = np.ones((1, 1, 1, 3), np.float32)


@dataclass(frozen=True)
class Statistics:
    """Of RGB pixels from 0 to 255; the principal components are of colours from 0 to 1, the largest first."""

    channel_mean: np.ndarray  # float32 [3]
    eigenvalues: np.ndarray  # float32 [3], of the covariance of a pixel's colours
    eigenvectors: np.ndarray  # float32 [3, 3], in columns
    pixel_mean: np.ndarray | None = None  # float32 [H, W, 3]

    def mean(self, kind: str, size: int) -> np.ndarray:
        """What is subtracted: "channel" [1, 1, 1, 3], or "pixel" [1, size, size, 3], the centre of the mean image.

        The authors of AlexNet took that part for every crop, wherever it came from.
        """
        if kind == "channel":
            return self.channel_mean.reshape(1, 1, 1, 3)
        if self.pixel_mean is None:
            raise ValueError("these statistics have a mean colour, and no mean image")
        height, width = self.pixel_mean.shape[:2]
        top, left = (height - size) // 2, (width - size) // 2
        return self.pixel_mean[None, top : top + size, left : left + size]

    def std(self) -> np.ndarray:
        """The standard deviation of each channel over all pixels, [1, 1, 1, 3]."""
        variance = np.square(self.eigenvectors) @ self.eigenvalues
        return 255 * np.sqrt(variance).reshape(1, 1, 1, 3)


@dataclass(frozen=True)
class ToCompute:
    """Statistics that are computed from the training images when these are opened."""


Kind = TypeVar("Kind", bound="Statistics | Sums")

# Of ImageNet's training set. The mean is that of the VGG authors' nets; the components are those of fb.resnet.torch.
PUBLISHED = Statistics(
    np.array([123.68, 116.779, 103.939], np.float32),
    np.array([0.2175, 0.0188, 0.0045], np.float32),
    np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]], np.float32),
)

# For data that asks for none: whatever is computed with these is not a number
NOT_NEEDED = Statistics(np.full(3, np.nan), np.full(3, np.nan), np.full((3, 3), np.nan))


def check(data: ConfigDict) -> None:
    """Raises ValueError where config.data.mean or std is neither a known name nor three numbers."""
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
    """Whether config.data asks for anything that has to be computed from the training images."""
    lit = training and data.get("lighting", "none") != "none"
    return data.mean in MEANS or data.get("std", "none") == "channel" or lit


def input_of(data: ConfigDict, found: Statistics) -> Input:
    """What config.data.mean and std make of images."""
    mean, name = numbers(data.mean), data.get("std", "none")
    if mean is None:
        mean = found.mean(data.mean, data.image_size)
    std = found.std() if name == "channel" else numbers(name)
    return Input(mean) if std is None else Input(mean, std)


def numbers(text: str) -> np.ndarray | None:
    """ "123.68,116.779,103.939" -> float32 [1, 1, 1, 3]; None for anything else."""
    try:
        values = np.array([float(part) for part in text.split(",")], np.float32)
    except ValueError:
        return None
    return values.reshape(1, 1, 1, 3) if values.size == 3 and np.isfinite(values).all() else None


@dataclass(frozen=True)
class Sums:
    """What statistics are computed from; exact, as these are integers below 2**53."""

    examples: int
    pixels: np.ndarray  # int64 [H, W, 3], over images
    products: np.ndarray  # float64 [3, 3], of colours, over images and pixels

    def add(self, images: np.ndarray) -> "Sums":
        """With uint8 [B, H, W, 3] added."""
        colours = images.reshape(-1, 3).astype(np.float64)
        products = self.products + colours.T @ colours
        return Sums(self.examples + len(images), self.pixels + images.sum(0, dtype=np.int64), products)

    def statistics(self) -> Statistics:
        """The averages over all images that were added."""
        count = self.examples * self.pixels[..., 0].size
        mean = self.pixels.sum((0, 1)) / count
        values, vectors = np.linalg.eigh((self.products / count - np.outer(mean, mean)) / 255**2)
        vectors *= np.where(vectors[np.abs(vectors).argmax(0), range(3)] < 0, -1, 1)  # the sign is free: settle it
        return Statistics(
            mean.astype(np.float32),
            values[::-1].clip(0).astype(np.float32),
            vectors[:, ::-1].astype(np.float32),
            (self.pixels / self.examples).astype(np.float32),
        )


NO_IMAGES = Sums(0, np.zeros((1, 1, 3), np.int64), np.zeros((3, 3)))


def compute(batches: Iterable[np.ndarray]) -> Statistics:
    """One pass over uint8 [B, H, W, 3]."""
    return functools.reduce(Sums.add, batches, NO_IMAGES).statistics()


def path(folder: Path, split: str, size: int) -> Path:
    """Where the statistics of a split are, beside the data; size is that of the central squares they are taken over."""
    return folder / f"statistics.{split}.{size}.npz"


def save(file: Path, content: Statistics | Sums, fingerprint: str) -> None:
    """Whole or not at all, with the fingerprint of the data."""
    temporary = file.with_name(file.name + ".tmp")
    with temporary.open("wb") as out:
        arrays = {name: array for name, array in vars(content).items() if array is not None}
        np.savez(out, fingerprint=np.array(fingerprint), **arrays)
    temporary.replace(file)


def load(file: Path, fingerprint: str, kind: type[Kind] = Statistics) -> Kind:
    """Raises OSError where there are none, or those of other data, or where the file is damaged."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            found = dict(arrays)
        stored = str(found.pop("fingerprint"))
        content = kind(**found)
    except FileNotFoundError:
        raise
    except Exception as error:  # zipfile's, zlib's and NumPy's own
        raise OSError(f"{file} is damaged: {error}; remove it and compute it again") from None
    if stored != fingerprint:
        raise OSError(f"{file} was computed from other data than there is now; remove it and compute it again")
    return content
