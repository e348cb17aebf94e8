"""Merging of the boxes of several nets and scales, image by image, down to one box per class."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from deepconv import distributed
from deepconv.boxes import merging
from deepconv.localization.window_table import WindowTable, read_windows

IMAGES = 32  # merged at a time on each device; on two CPU cores, 8 and 64 were slower
THRESHOLD = 0.5  # of 1 - IoU; the paper gives none


def best_boxes(windows: jax.Array, counts: jax.Array) -> jax.Array:
    """Returns the merged box of the highest score of each class, and this score, float32 [B, K, 5].

    Only the first counts [B] windows [B, N, K, 5] of an image exist. Of equal scores, the first wins.
    """
    padding = jnp.arange(windows.shape[1])[None, :, None] >= counts[:, None, None]
    by_class = jnp.moveaxis(windows, 2, 1)  # [B, K, N, 5]
    scores = jnp.moveaxis(jnp.where(padding, -jnp.inf, windows[..., 4]), 2, 1)
    one = functools.partial(merging.merge, threshold=THRESHOLD)
    boxes, scores = jax.vmap(jax.vmap(one))(by_class[..., :4], scores)
    best = scores.argmax(-1)[..., None]
    chosen = jnp.take_along_axis(boxes, best[..., None], 2)[:, :, 0]
    return jnp.concatenate([chosen, jnp.take_along_axis(scores, best, 2)], -1)


def highest_boxes(tables: Sequence[WindowTable]) -> np.ndarray:
    """Returns the box of the highest score of each class of each image over all tables, float32 [N, K, 5].

    Each table has one box of each class of each image. Of equal scores, the first table's wins.
    """
    rows = np.arange(len(tables[0].rows))
    found = np.stack([np.concatenate(read_windows(table, rows)) for table in tables], 1)  # [N, tables, K, 5]
    return np.take_along_axis(found, found[..., 4:].argmax(1, keepdims=True), 1)[:, 0]


def padded_count(windows: int) -> int:
    """Returns the number that windows are padded to, one of four in each doubling, each of which is compiled once."""
    step = max(1, 2 ** (windows.bit_length() - 1) // 4)
    return -(-windows // step) * step


def merge_images(
    tables: Sequence[WindowTable], mesh: Mesh, show: Callable[[int], None] = lambda done: None
) -> np.ndarray:
    """Returns the best box of each class of each image over all tables, and its score, float32 [N, K, 5]."""
    counts = np.sum([table.rows["windows"] for table in tables], 0, dtype=int)
    padded = np.array([padded_count(int(count)) for count in counts])
    split, per_batch = distributed.split(mesh), IMAGES * mesh.shape["data"]
    merge = jax.jit(best_boxes, in_shardings=(split, split), out_shardings=distributed.replicated(mesh))
    merged = np.empty((len(counts), tables[0].classes, 5), np.float32)
    done = 0
    for size in np.unique(padded):
        images = np.flatnonzero(padded == size)
        for first in range(0, len(images), per_batch):
            chunk = images[first : first + per_batch]
            windows = np.zeros((per_batch, size, *merged.shape[1:]), np.float32)
            for place, parts in enumerate(zip(*(read_windows(table, chunk) for table in tables), strict=True)):
                windows[place, : counts[chunk[place]]] = np.concatenate(parts)
            present = np.pad(counts[chunk], (0, per_batch - len(chunk)))
            arrays = distributed.put_whole_batch({"windows": windows, "counts": present.astype(np.int32)}, mesh)
            merged[chunk] = np.asarray(merge(arrays["windows"], arrays["counts"]))[: len(chunk)]
            done += len(chunk)
            show(done)
    return merged
