"""Images in memory -> batches on the host. The batch of step t is a function of (seed, t) and of nothing else."""

import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator

import grain
import numpy as np

Batch = dict[str, np.ndarray]


def train_batches(
    images: np.ndarray,
    labels: np.ndarray,
    *,
    batch_size: int,
    seed: int,
    first_step: int = 0,
    workers: int = 0,
) -> Iterator[Batch]:
    """Endless batches {"image": uint8 [B, H, W, 3], "label": int32 [B]} from first_step on.

    Reshuffled every epoch; a batch may hold the end of one epoch and the beginning of the next.
    """
    # Indices are batched first and the images gathered in one go: Grain costs 19 us an element whatever it holds.
    order = grain.MapDataset.range(len(images)).seed(seed).shuffle().repeat()
    batches = order.batch(batch_size).map(functools.partial(_gather, images, labels))[first_step:]
    loader = batches.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=4))
    if workers:
        options = grain.multiprocessing.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=4)
        loader = loader.mp_prefetch(options, worker_init_fn=_start_worker)
    return iter(loader)


def eval_batches(images: np.ndarray, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(images, mask): every image once, in order; the last batch is padded with zeros where the mask is False."""
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        padding = ((0, batch_size - len(batch)), (0, 0), (0, 0), (0, 0))
        yield np.pad(batch, padding), np.arange(batch_size) < len(batch)


def _gather(images: np.ndarray, labels: np.ndarray, indices: np.ndarray) -> Batch:
    return {"image": images[indices], "label": labels[indices]}


def _start_worker(worker: int, workers: int) -> None:
    os.environ["JAX_PLATFORMS"] = "cpu"  # a worker never needs an accelerator, and must not take its memory
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # sent to the whole group; the main process ends its workers itself
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)  # it was killed; nobody else would end this process
