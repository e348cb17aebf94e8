"""Averages over a training set: the mean image, the mean colour, and the directions in which colours vary."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MEANS = ("channel", "pixel")


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
        height, width = self.pixel_mean.shape[:2]
        top, left = (height - size) // 2, (width - size) // 2
        return self.pixel_mean[None, top : top + size, left : left + size]


# Of ImageNet's training set. The mean is that of the VGG authors' nets; the components are those of fb.resnet.torch.
PUBLISHED = Statistics(
    np.array([123.68, 116.779, 103.939], np.float32),
    np.array([0.2175, 0.0188, 0.0045], np.float32),
    np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]], np.float32),
)


def compute(batches: Iterable[np.ndarray]) -> Statistics:
    """One pass over uint8 [B, H, W, 3]; sums are exact (integers below 2**53 in float64)."""
    total, products, examples = 0, np.zeros((3, 3)), 0
    for images in batches:
        total = total + images.sum(0, dtype=np.int64)
        for image in images:
            colours = image.reshape(-1, 3).astype(np.float64)
            products += colours.T @ colours
        examples += len(images)
    pixels = examples * total.shape[0] * total.shape[1]
    mean = total.sum((0, 1)) / pixels
    values, vectors = np.linalg.eigh((products / pixels - np.outer(mean, mean)) / 255**2)
    vectors *= np.where(vectors[np.abs(vectors).argmax(0), range(3)] < 0, -1, 1)  # the sign is free: settle it
    return Statistics(
        mean.astype(np.float32),
        values[::-1].clip(0).astype(np.float32),
        vectors[:, ::-1].astype(np.float32),
        (total / examples).astype(np.float32),
    )


def path(folder: Path, split: str, size: int) -> Path:
    """Where the statistics of a split are, beside the data; size is that of the central squares they are taken over."""
    return folder / f"statistics.{split}.{size}.npz"


def save(file: Path, statistics: Statistics, fingerprint: str) -> None:
    """Whole or not at all, with the fingerprint of the data."""
    temporary = file.with_name(file.name + ".tmp")
    with temporary.open("wb") as out:
        np.savez(out, fingerprint=np.array(fingerprint), **vars(statistics))
    temporary.replace(file)


def load(file: Path, fingerprint: str) -> Statistics:
    """Raises OSError where there are none, or those of other data, or where the file is damaged."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            found = dict(arrays)
        stored = str(found.pop("fingerprint"))
        statistics = Statistics(**found)
    except FileNotFoundError:
        raise
    except Exception as error:  # zipfile's, zlib's and NumPy's own
        raise OSError(f"{file} is damaged: {error}; remove it and compute it again") from None
    if stored != fingerprint:
        raise OSError(f"{file} was computed from other data than there is now; remove it and compute it again")
    return statistics
