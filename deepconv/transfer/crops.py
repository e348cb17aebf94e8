"""Boxes of images as images."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from deepconv.data.images import DataError, Encoded, EvalBatch, Record


@dataclass(frozen=True)
class Crops(Encoded):
    """The part of each image that its box covers, rounded outwards to whole pixels."""

    images: Encoded
    boxes: np.ndarray  # float [N, 4] as in deepconv.boxes
    sizes: np.ndarray  # int [N, 2], height and width that the annotation states

    def read(self, indices: Iterable[int]) -> list[Record]:
        """Reads the records of full images."""
        return self.images.read(indices)

    def test_batch(self, indices: np.ndarray, view: Callable[[np.ndarray], Any]) -> EvalBatch:
        """Returns view(crop) for the crops at these indices. Raises DataError."""
        batch = self.images.test_batch(indices, np.asarray)
        crops = [view(self._crop(int(i), image)) for i, image in zip(indices, batch["image"], strict=True)]
        return {**batch, "image": crops}

    def _crop(self, index: int, image: np.ndarray) -> np.ndarray:
        stated = self.sizes[index].tolist()
        if [*image.shape[:2]] != stated:
            (record,) = self.read([index])
            raise DataError(
                f"{record.name} has {image.shape[1]} x {image.shape[0]} pixels, but its annotation states "
                f"{stated[1]} x {stated[0]}; restore the image or the annotation"
            )
        left, top = np.floor(self.boxes[index, :2]).astype(int)
        right, bottom = np.ceil(self.boxes[index, 2:]).astype(int)
        return image[top:bottom, left:right]
