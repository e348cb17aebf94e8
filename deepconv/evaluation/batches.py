"""Batches of several tests from one pass over their images."""

import functools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from deepconv.data import decode, pipeline
from deepconv.data.images import Images
from deepconv.evaluation import crops, dense
from deepconv.evaluation.net import Net
from deepconv.evaluation.protocols import Protocol

CHUNK = 32  # images that a thread reads, decodes and rescales at a time; fewer at several scales, to limit memory


@dataclass
class TestBatch:
    """A batch of a test, filled from the first place on; places that stay empty are padding."""

    test: int  # its number among the tests
    # "image" uint8 [B, ...]; in dense tests, "extent" int32 [B, 2]; in tests of boxes, "label" int32 [B]
    arrays: dict[str, np.ndarray]
    rows: list[int] = field(default_factory=list)  # indices of images
    labels: list[int] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)  # height and width of the images before rescaling


def batches(net: Net, tests: Sequence[Protocol], missing: Sequence[np.ndarray], data: Images) -> Iterator[TestBatch]:
    """Yields batches of tests; a mask for each test, bool [N], marks the images that it needs.

    An image is read and decoded once for all tests, and rescaled once for all tests at a scale. The batches of a test
    do not depend on the other tests. A test has at most one incomplete batch of each shape at a time.
    """
    scales = {test.scale for test in tests}
    rescale, chunk_size = functools.partial(at_scales, scales=scales, square=net.square), max(1, CHUNK // len(scales))
    incomplete: dict[tuple[int, tuple[int, int]], TestBatch] = {}
    for chunk in pipeline.test_images(data, np.flatnonzero(np.any(missing, 0)), chunk_size, rescale):
        for index, label, (size, images) in zip(chunk["index"], chunk["label"], chunk["image"], strict=True):
            for number, test in enumerate(tests):
                if not missing[number][index]:
                    continue
                image = images[test.scale]
                shape = dense.bucket_shape(*image.shape[:2]) if test.kind == "dense" else (net.size, net.size)
                if (number, shape) not in incomplete:
                    incomplete[number, shape] = TestBatch(number, _empty(net, test, shape))
                batch = incomplete[number, shape]
                _put(image, label, batch.arrays, len(batch.rows), test)
                batch.rows.append(index)
                batch.labels.append(label)
                batch.sizes.append(size)
                if len(batch.rows) == len(batch.arrays["image"]):
                    yield incomplete.pop((number, shape))
    yield from incomplete.values()


def at_scales(
    image: np.ndarray, *, scales: Collection[int | None], square: bool
) -> tuple[tuple[int, int], dict[int | None, np.ndarray]]:
    """Returns an image's height and width, and the image, or its central square, at each scale; None keeps it."""
    rescaled = {scale: image if scale is None else decode.rescale(image, scale, square) for scale in scales}
    return image.shape[:2], rescaled


def _empty(net: Net, test: Protocol, shape: tuple[int, int]) -> dict[str, np.ndarray]:
    if test.kind == "dense":
        return dense.empty_batch(net, shape)
    arrays = crops.empty_batch(net, test.kind)
    return arrays | {"label": np.zeros(len(arrays["image"]), np.int32)} if test.boxes else arrays


def _put(image: np.ndarray, label: int, batch: dict[str, np.ndarray], place: int, test: Protocol) -> None:
    if test.kind == "dense":
        dense.put(image, batch, place)
    else:
        crops.put(image, batch, place, test.kind)
    if test.boxes:
        batch["label"][place] = label
