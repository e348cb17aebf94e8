"""Images of which training sees one proposed box at a time, warped to a square, as R-CNN does."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from deepconv.boxes import geometry
from deepconv.boxes.localization_error import MINIMUM_IOU
from deepconv.data.decode import Area
from deepconv.data.images import Batch, Crop, Decoding, EvalBatch, Images
from deepconv.data.sources.annotated import AnnotatedImages

# DIFFERS: the paper does not give this share. It is that of Fast R-CNN, and of R-CNN's 32 objects among 128 crops.
OBJECTS = 0.25


@dataclass(frozen=True)
class ProposedImages(Images):
    """Annotated images with proposals for the class of each; a random crop of a training batch is one of the proposals.

    With the probability OBJECTS, the crop is an object, with an IoU of 0.5 or more with a box of the class; otherwise
    it is background. If the image has no proposal of the kind drawn, the other kind is used.
    """

    images: AnnotatedImages
    file: Path  # of proposals; they stay on the disk, since loader processes would each copy them
    proposals: int  # of an image
    first: int  # the byte of the file at which those of image 0 begin

    @property
    def in_memory(self) -> bool:
        return self.images.in_memory

    def crops(self, step: int, indices: np.ndarray, decoding: Decoding) -> tuple[Batch, list[Crop]]:
        random = decoding.geometry.random  # statistics are of images, not of proposals
        return self.images.crops(step, indices, replace(decoding, choose=self._choose) if random else decoding)

    def test_batch(self, indices: np.ndarray, view: Callable[[np.ndarray], Any]) -> EvalBatch:
        return self.images.test_batch(indices, view)

    def _choose(self, index: int, height: int, width: int, rng: np.random.Generator) -> Area:
        """Returns the part of an image of this size that is a proposal chosen at random."""
        images = self.images
        stated_height, stated_width = images.sizes[index].tolist()
        # not by np.load, which parses the file's header in each thread: Python 3.11 may fail then (its issue 106905)
        start = self.first + 16 * self.proposals * index
        stored = np.fromfile(self.file, np.float32, 4 * self.proposals, offset=start).reshape(-1, 4)
        found = geometry.clip(stored, stated_height, stated_width)
        found = found[geometry.area(found) > 0]
        if not len(found):
            return Area(0, 0, height, width)
        trained = (images.classes[index] >= 0) & ~images.difficult[index] & ~images.crowd[index]
        overlaps = geometry.iou(found, images.boxes[index][trained]).max(1, initial=0)
        wanted = rng.random() < OBJECTS
        chosen = found[(overlaps >= MINIMUM_IOU) == wanted]
        box = rng.choice(chosen if len(chosen) else found)
        return area_of(geometry.scale(box, width / stated_width, height / stated_height), height, width)


def read_proposed(images: AnnotatedImages, file: Path) -> ProposedImages:
    """Adds the proposals of an .npy file, float32 [N, P, 4] in pixels of the annotations; without area for padding."""
    try:
        stored = np.load(file, mmap_mode="r")
    except (EOFError, ValueError) as error:
        raise OSError(f"{file} is damaged: {error}; restore it, or remove it and start again") from None
    if stored.dtype != np.float32 or stored.ndim != 3 or len(stored) != len(images.ids):
        raise OSError(
            f"{file} holds {stored.dtype} {list(stored.shape)}, not proposals of {len(images.ids)} images; remove it, "
            "and start again"
        )
    return ProposedImages(images, file, stored.shape[1], stored.offset)


def area_of(box: np.ndarray, height: int, width: int) -> Area:
    """Returns the pixels of an image of this size, at least one, that a box [4] covers, rounded outwards."""
    left, top = (min(int(np.floor(max(0, x))), side - 1) for x, side in zip(box[:2], (width, height), strict=True))
    right, bottom = (min(int(np.ceil(x)), side) for x, side in zip(box[2:], (width, height), strict=True))
    return Area(top, left, max(1, bottom - top), max(1, right - left))
