"""The images of a split, by index: arrays of one size, or encoded images of any size."""

import abc
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, NotRequired, Protocol, TypedDict

import numpy as np

from deepconv.data import decode
from deepconv.data.decode import Area, Geometry

ChooseArea = Callable[[int, int, int, np.random.Generator], Area]  # record, height and width, random numbers

ALL_ROWS = slice(None)


class Batch(TypedDict):
    """A training batch."""

    image: np.ndarray  # uint8 [B, H, W, 3]
    label: np.ndarray  # int32 [B]
    corrupt: NotRequired[list[str]]  # messages
    boxes: NotRequired[np.ndarray]  # float32 [B, M, 4] in pixels of `image`, which they may leave; zeros for padding
    classes: NotRequired[np.ndarray]  # int32 [B, M], of the boxes; -1 for padding


class EvalBatch(TypedDict):
    """A batch of test images."""

    image: list[Any]  # view(image) for each
    label: np.ndarray  # int32 [B]
    index: np.ndarray  # int [B], in the split


class Rows(Protocol):
    """Images of one size, in memory or on disk."""

    def __getitem__(self, indices: np.ndarray, /) -> np.ndarray: ...


class DataError(OSError):
    """Data is damaged, or differs from its description."""


class Record(NamedTuple):
    """An encoded image and its label."""

    data: bytes
    label: int
    name: str  # for messages


class Crop(NamedTuple):
    """The origin of an image of a training batch."""

    index: int  # of the record in the split
    height: int  # of the decoded image, in pixels
    width: int
    area: Area  # the part of the decoded image


@dataclass(frozen=True)
class Decoding:
    """The settings that turn encoded images into training batches."""

    geometry: Geometry
    examples: int  # in the split
    seed: int
    replace: bool  # replace an image that cannot be decoded with the next that can
    rows: slice  # the part of each batch that this process reads
    choose: ChooseArea | None = None  # chooses the part of an image; without it, `geometry` does


class Images(abc.ABC):
    """The images of a split; can be pickled, for loader processes."""

    @property
    def in_memory(self) -> bool:
        """Returns whether images are in memory; if not, they are read or decoded in parallel."""
        return False

    def training_batch(self, step: int, indices: np.ndarray, decoding: Decoding) -> Batch:
        """Returns this process's rows of the batch with these indices; encoded images are cropped as in batch `step`.

        Raises DataError.
        """
        return self.crops(step, indices, decoding)[0]

    @abc.abstractmethod
    def crops(self, step: int, indices: np.ndarray, decoding: Decoding) -> tuple[Batch, list[Crop]]:
        """Returns `training_batch` and the origin of each of its images. Raises DataError."""

    @abc.abstractmethod
    def test_batch(self, indices: np.ndarray, view: Callable[[np.ndarray], Any]) -> EvalBatch:
        """Returns view(image), of uint8 [H, W, 3], for the images at these indices. Raises DataError."""


@dataclass(frozen=True)
class Arrays(Images):
    """Images of one size, used as they are."""

    images: Rows  # uint8 [N, H, W, 3]
    labels: np.ndarray  # int32 [N]

    @property
    def in_memory(self) -> bool:
        return isinstance(self.images, np.ndarray)

    def training_batch(self, step: int, indices: np.ndarray, decoding: Decoding) -> Batch:
        own = indices[decoding.rows]
        return {"image": self.images[own], "label": self.labels[own]}

    def crops(self, step: int, indices: np.ndarray, decoding: Decoding) -> tuple[Batch, list[Crop]]:
        batch = self.training_batch(step, indices, decoding)
        height, width = batch["image"].shape[1:3]
        whole = Area(0, 0, height, width)
        return batch, [Crop(int(index), height, width, whole) for index in indices[decoding.rows]]

    def test_batch(self, indices: np.ndarray, view: Callable[[np.ndarray], Any]) -> EvalBatch:
        return {"image": [*map(view, self.images[indices])], "label": self.labels[indices], "index": indices}


class Encoded(Images):
    """Encoded images of any size; a subclass reads their records."""

    @abc.abstractmethod
    def read(self, indices: Iterable[int]) -> list[Record]:
        """Reads the records at these indices. Raises DataError."""

    def crops(self, step: int, indices: np.ndarray, decoding: Decoding) -> tuple[Batch, list[Crop]]:
        own, side = indices[decoding.rows], decoding.geometry.size
        places = range(len(indices))[decoding.rows]  # in the full batch
        images = np.empty((len(own), side, side, 3), np.uint8)
        labels, corrupt, origins = np.empty(len(own), np.int32), [], []
        for i, (place, record) in enumerate(zip(places, self.read(own), strict=True)):
            index, image, labels[i] = self._decode(int(own[i]), record, decoding, corrupt)
            rng = np.random.default_rng((decoding.seed, step, place))
            height, width = image.shape[:2]
            if decoding.choose:
                area = decoding.choose(index, height, width, rng)
            else:
                area = decode.choose_square(height, width, decoding.geometry, rng)
            images[i] = decode.resize(area.cut(image), side, side)
            origins.append(Crop(index, height, width, area))
        return {"image": images, "label": labels, "corrupt": corrupt}, origins

    def _decode(
        self, index: int, record: Record, decoding: Decoding, corrupt: list[str]
    ) -> tuple[int, np.ndarray, int]:
        """Returns a record's index, image and label; with `replace`, those of the next record that can be decoded."""
        for _ in range(100):
            try:
                return index, decode.decode(record.data), record.label
            except decode.CorruptImage as error:
                corrupt.append(f"record {index} ({record.name}) cannot be decoded: {error}")
                if not decoding.replace:
                    raise DataError(
                        f"{corrupt[0]}. Repair it, or replace it with the next image by on_corrupt=replace, which "
                        f"works for training, packing and statistics, but not for tests"
                    ) from None
                index = (index + 1) % decoding.examples
                (record,) = self.read([index])
        raise DataError(f"a hundred records in a row cannot be decoded; the last is {corrupt[-1]}")

    def test_batch(self, indices: np.ndarray, view: Callable[[np.ndarray], Any]) -> EvalBatch:
        records, images = self.read(indices), []
        for index, record in zip(indices, records, strict=True):
            try:
                images.append(view(decode.decode(record.data)))
            except decode.CorruptImage as error:
                raise DataError(
                    f"record {index} ({record.name}) cannot be decoded: {error}. Repair it; a test does not "
                    f"replace images"
                ) from None
        labels = np.array([record.label for record in records], np.int32)
        return {"image": images, "label": labels, "index": indices}
