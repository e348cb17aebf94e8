"""Batches on the host. The batch of step t is a function of (seed, t) alone."""

import contextlib
import functools
import importlib.util
import itertools
import multiprocessing
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import resource_tracker
from typing import Any, TypeVar

import grain
import numpy as np
from ml_collections import ConfigDict

from deepconv.data import decode
from deepconv.data.decode import Geometry
from deepconv.data.images import ALL_ROWS, Batch, Decoding, EvalBatch, Images
from deepconv.run import preemption

Item = TypeVar("Item")
Report = Callable[[list[str]], None]  # takes messages about images that were replaced
# for decoding: one per core, and one that waits for the disk; each holds a batch
THREADS = min(len(os.sched_getaffinity(0)), 64) + 1


def ahead(items: Iterable[Item], count: int) -> Iterator[Item]:
    """Yields the items in their order, each after the next `count` were made."""
    made = deque()
    for item in items:
        made.append(item)
        if len(made) > count:
            yield made.popleft()
    yield from made


def check_scale(data: ConfigDict) -> tuple[int, int] | None:
    """Returns config.data.train_scale, or None without one. Raises ValueError if it is not a range."""
    scale = tuple(data.get("train_scale", ()))
    if "train_scale" in data and (len(scale) != 2 or not 1 <= scale[0] <= scale[1]):
        raise ValueError(f"config.data.train_scale={scale}; it must be two sizes in pixels, such as 256,480 or 256,256")
    return scale or None


def check_rescales(data: ConfigDict) -> None:
    """Raises ValueError if a recipe does not say how images of many sizes are rescaled."""
    if missing := [field for field in ("train_scale", "test_scale", "central_square") if field not in data]:
        raise ValueError(
            f"config.data.{missing[0]} is missing, and the images of {data.name} have many sizes; take a recipe for "
            f"ImageNet, such as configs/resnet50.py"
        )


def geometry(data: ConfigDict, size: tuple[int, int] | None) -> Geometry:
    """Returns the part of an image that training uses; size is that of all images, None if their sizes differ.

    Raises ValueError if config.data cannot work, or cannot work with images of that size.
    """
    if size:
        _check_size(data, size)
        return decode.central_square(min(size))
    check_rescales(data)
    scale, square = tuple(data.train_scale), data.central_square
    for field, smallest in (("train_scale", scale[0]), ("test_scale", data.test_scale)):
        if smallest < data.image_size:
            raise ValueError(f"config.data.{field}={data[field]} is less than config.data.image_size={data.image_size}")
    if square and scale[0] != scale[1]:
        raise ValueError(f"config.data.train_scale={scale}: central squares need one size, given twice, as in 256,256")
    random = data.augment == "crop_flip" and not square
    if data.augment == "pad_crop_flip":
        raise ValueError(f"config.data.augment=pad_crop_flip is for images of one size, not for those of {data.name}")
    if not (random or square) and scale[0] != scale[1]:
        raise ValueError(
            f"config.data.augment={data.augment} takes the central crop at one size; give config.data.train_scale one "
            f"size, twice, as in {data.test_scale},{data.test_scale}"
        )
    return Geometry(scale, data.image_size, square, random)


def _check_size(data: ConfigDict, size: tuple[int, int]) -> None:
    if min(size) < data.image_size:
        raise ValueError(
            f"config.data.image_size={data.image_size}, but the images of {data.name} have {size[0]} x {size[1]}"
        )
    if data.augment == "pad_crop_flip" and size != (data.image_size, data.image_size):
        raise ValueError(f"config.data.augment=pad_crop_flip keeps the images' size; image_size must be {size[0]}")
    wanted = {*data.get("train_scale", size), data.get("test_scale", size[0])}
    if wanted != {*size} or not data.get("central_square", True):
        raise ValueError(
            f"{data.name} holds squares of {size[0]} pixels; the recipe asks for central_square="
            f"{data.get('central_square')}, scales {data.get('train_scale')} and {data.get('test_scale')}, which need "
            f"the original images"
        )


def train_batches(
    data: Images,
    examples: int,
    *,
    batch_size: int,
    seed: int,
    geometry: Geometry,
    first_step: int = 0,
    workers: int = 0,
    report: Report | None = None,
    rows: slice = ALL_ROWS,
) -> Iterator[Batch]:
    """Yields batches {"image": uint8 [B, H, W, 3], "label": int32 [B]} without end, starting at first_step.

    The images are reshuffled every epoch; a batch may span two epochs. With a report, an image that cannot be decoded
    is replaced with the next one that can be, and the report receives a message. Without a report, such an image raises
    DataError. With rows, only this part of each batch is read.
    """
    # Indices are batched before the images are fetched: Grain costs 19 us per element of any size.
    decoding = Decoding(geometry, examples, seed, report is not None, rows)
    fetch = functools.partial(data.training_batch, decoding=decoding)
    order = grain.MapDataset.range(examples).seed(seed).shuffle().repeat()
    batches = order.batch(batch_size).map_with_index(fetch)[first_step:]
    if not workers:
        return _reported(batches.to_iter_dataset(_options(data)), report)
    _start_tracker()
    loader = batches.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=4))
    options = grain.multiprocessing.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=4)
    return _reported(_by_workers(loader.mp_prefetch(options, worker_init_fn=_start_worker), workers), report)


def ordered_batches(
    data: Images,
    examples: int,
    batch_size: int,
    geometry: Geometry,
    first: int = 0,
    report: Report | None = None,
) -> Iterator[Batch]:
    """Yields each image once, in order, starting at `first`; the last batch may be smaller. Raises as train_batches."""
    if first == examples:
        return iter(())
    decoding = Decoding(geometry, examples, 0, report is not None, ALL_ROWS)
    fetch = functools.partial(data.training_batch, decoding=decoding)
    batches = grain.MapDataset.range(first, examples).batch(batch_size).map_with_index(fetch)
    return _reported(batches.to_iter_dataset(_options(data)), report)


def _by_workers(batches: grain.IterDataset, workers: int) -> Iterator[Batch]:
    loader = iter(batches)
    # workers ignore signals, and end with this process, after its save; all have started once each has given a batch
    with preemption.blocked(), _main_module("deepconv.data.loader"):
        first = list(itertools.islice(loader, workers))
    yield from first
    yield from loader


@contextlib.contextmanager
def _main_module(name: str) -> Iterator[None]:
    """Makes processes started by multiprocessing import this module in place of the command's."""
    main = sys.modules["__main__"]
    before, main.__spec__ = main.__spec__, importlib.util.find_spec(name)
    try:
        yield
    finally:
        main.__spec__ = before


def _reported(batches: Iterable[Batch], report: Report | None) -> Iterator[Batch]:
    for batch in batches:
        corrupt = batch.pop("corrupt", [])
        if corrupt and report:
            report(corrupt)
        yield batch


def test_images(
    data: Images, indices: np.ndarray, batch_size: int, view: Callable[[np.ndarray], Any]
) -> Iterator[EvalBatch]:
    """Yields batches of view(image), of uint8 [H, W, 3], in the order of the indices. Raises DataError."""
    if not len(indices):
        return iter(())
    chunks = grain.MapDataset.source(indices.tolist()).batch(batch_size)
    batches = chunks.map(lambda chunk: data.test_batch(chunk, view))
    return iter(batches.to_iter_dataset(_options(data)))


def _options(data: Images) -> grain.ReadOptions:
    """Returns options with many threads to decode or read, which release Python's lock, or one to copy memory."""
    if data.in_memory:
        return grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)
    return grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=THREADS + 1)


def _start_tracker() -> None:
    """Starts Python's process that frees memory shared with workers, with its warnings off.

    Shared memory remains if this process is stopped while batches are waiting.
    """
    sys.warnoptions.append("ignore:resource_tracker")  # inherited by the processes that Python starts
    try:
        resource_tracker.ensure_running()
    finally:
        sys.warnoptions.pop()


def _start_worker(worker: int, workers: int) -> None:
    os.environ["JAX_PLATFORMS"] = "cpu"  # a worker never needs an accelerator, and must not take its memory
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
    os._exit(1)  # the parent was killed; nothing else would end this process
