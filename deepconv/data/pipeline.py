"""A source -> batches on the host. The batch of step t is a function of (seed, t) and of nothing else."""

import functools
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import resource_tracker

import grain
import numpy as np
from ml_collections import ConfigDict

from deepconv.data import decode
from deepconv.data.decode import Geometry
from deepconv.data.images import Batch, Decoding, Images
from deepconv.run import preemption

Report = Callable[[list[str]], None]  # takes what could not be decoded and was replaced
THREADS = len(os.sched_getaffinity(0)) + 1  # that decode: one a core, and one that waits for the disk


def check_scale(data: ConfigDict) -> tuple[int, int] | None:
    """config.data.train_scale, where there is one. Raises ValueError where it is not a range."""
    scale = tuple(data.get("train_scale", ()))
    if "train_scale" in data and (len(scale) != 2 or not 1 <= scale[0] <= scale[1]):
        raise ValueError(f"config.data.train_scale={scale}, has to be two sizes in pixels, such as 256,480 or 256,256")
    return scale or None


def geometry(data: ConfigDict, size: tuple[int, int] | None) -> Geometry:
    """Which pixels of an image config.data asks for in training; size is that of all images, where they have one.

    Raises ValueError where config.data cannot work, or not with images of that size.
    """
    if size:
        _check_size(data, size)
        return decode.central_square(min(size))
    if missing := [field for field in ("train_scale", "test_scale", "central_square") if field not in data]:
        raise ValueError(
            f"config.data.{missing[0]} is missing, and the images of {data.name} have many sizes; take a recipe for "
            f"ImageNet, such as configs/resnet50.py"
        )
    scale, square = tuple(data.train_scale), data.central_square
    for field, smallest in (("train_scale", scale[0]), ("test_scale", data.test_scale)):
        if smallest < data.image_size:
            raise ValueError(f"config.data.{field}={data[field]} is less than config.data.image_size={data.image_size}")
    if square and scale[0] != scale[1]:
        raise ValueError(
            f"config.data.train_scale={scale}: central squares have one size; give it twice, as in 256,256"
        )
    return Geometry(scale, data.image_size, square, random=data.augment == "crop_flip" and not square)


def _check_size(data: ConfigDict, size: tuple[int, int]) -> None:
    if min(size) < data.image_size:
        raise ValueError(
            f"config.data.image_size={data.image_size}, but the images of {data.name} have {size[0]} x {size[1]}"
        )
    if data.augment == "pad_crop_flip" and size != (data.image_size, data.image_size):
        raise ValueError(f"config.data.augment=pad_crop_flip keeps the images' size, so image_size has to be {size[0]}")
    wanted = {*data.get("train_scale", size), data.get("test_scale", size[0])}
    if wanted != {*size} or not data.get("central_square", True):
        raise ValueError(
            f"{data.name} holds squares of {size[0]} pixels; the recipe asks for central_square="
            f"{data.get('central_square')}, scales {data.get('train_scale')} and {data.get('test_scale')}, which need "
            f"the images themselves"
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
) -> Iterator[Batch]:
    """Endless batches {"image": uint8 [B, H, W, 3], "label": int32 [B]} from first_step on.

    Reshuffled every epoch; a batch may hold the end of one epoch and the beginning of the next.
    Raises DataError for an image that cannot be decoded, or, with a report, gives that a message for each and has the
    next image that can be decoded in its place.
    """
    # Indices are batched first and the images fetched in one go: Grain costs 19 us an element whatever it holds.
    decoding = Decoding(geometry, examples, seed, replace=report is not None)
    fetch = functools.partial(data.training_batch, decoding=decoding)
    order = grain.MapDataset.range(examples).seed(seed).shuffle().repeat()
    batches = order.batch(batch_size).map_with_index(fetch)[first_step:]
    if not workers:
        return _reported(batches.to_iter_dataset(_options(data)), report)
    _start_tracker()
    loader = batches.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=4))
    options = grain.multiprocessing.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=4)
    return _reported(_by_workers(loader.mp_prefetch(options, worker_init_fn=_start_worker)), report)


def ordered_batches(
    data: Images,
    examples: int,
    batch_size: int,
    geometry: Geometry,
    first: int = 0,
    report: Report | None = None,
) -> Iterator[Batch]:
    """Every image from the first on once, in order; the last batch may be smaller. Raises as train_batches does."""
    if first == examples:
        return iter(())
    decoding = Decoding(geometry, examples, seed=0, replace=report is not None)
    fetch = functools.partial(data.training_batch, decoding=decoding)
    batches = grain.MapDataset.range(first, examples).batch(batch_size).map_with_index(fetch)
    return _reported(batches.to_iter_dataset(_options(data)), report)


def _by_workers(batches: grain.IterDataset) -> Iterator[Batch]:
    loader = iter(batches)
    with preemption.blocked():  # the workers start; they end with this process, after it has saved its state
        first = next(loader)
    yield first
    yield from loader


def _reported(batches: Iterable[Batch], report: Report | None) -> Iterator[Batch]:
    for batch in batches:
        corrupt = batch.pop("corrupt", [])
        if corrupt and report:
            report(corrupt)
        yield batch


def test_images(
    data: Images, indices: np.ndarray, batch_size: int, view: Callable[[np.ndarray], np.ndarray]
) -> Iterator[Batch]:
    """{"index": [B], "image", "label": int32 [B]} in the order of the indices.

    Images are uint8 [B, H, W, 3] where all have one size, else a list of view(image) for uint8 [H, W, 3]. Raises
    DataError.
    """
    if not len(indices):
        return iter(())
    chunks = grain.MapDataset.source(indices.tolist()).batch(batch_size)
    batches = chunks.map(lambda chunk: {"index": chunk} | data.test_batch(chunk, view))
    return iter(batches.to_iter_dataset(_options(data)))


def _options(data: Images) -> grain.ReadOptions:
    """Decoding and reading take the time, and leave Python alone meanwhile; gathering from memory is one copy."""
    if data.in_memory:
        return grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)
    return grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=THREADS + 1)


def _start_tracker() -> None:
    """Start Python's process that frees the memory shared with workers, so that it does so without a warning.

    Memory is left over whenever this process ends while workers are ahead of it, as it does when it is stopped.
    """
    sys.warnoptions.append("ignore:resource_tracker")  # handed on to the processes that Python starts
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
    os._exit(1)  # it was killed; nobody else would end this process
