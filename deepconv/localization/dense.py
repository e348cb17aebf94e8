"""One pass of a localisation net over the images of a split, at several scales."""

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import jax
import numpy as np

from deepconv import distributed
from deepconv.data import pipeline
from deepconv.data.sources.annotated import AnnotatedImages
from deepconv.evaluation.batches import TestBatch, batches
from deepconv.evaluation.protocols import Protocol
from deepconv.evaluation.run import compiled
from deepconv.localization.proposals import class_proposals
from deepconv.localization.window_table import WindowTable, append
from deepconv.localization.windows import Localizer, window_boxes
from deepconv.objective import ClassRegionProposal


@dataclass(frozen=True)
class Guesses:
    """The classes of each image that get a box."""

    classes: np.ndarray  # int32 [N, K]
    probabilities: np.ndarray  # float32 [N, K], of these classes


def fill(
    localizer: Localizer,
    scales: Sequence[int],
    tables: Sequence[WindowTable],
    data: AnnotatedImages,
    guesses: Guesses,
    show: Callable[[int], None] = lambda done: None,
    proposals: int = 1,
) -> None:
    """Fills the rows that are missing in the tables, one per scale: boxes in pixels of the annotations' images.

    A region proposal network gives each class of an image `proposals` boxes, zeros in place of missing ones. Images are
    not mirrored: the papers do not mention it for boxes. `show` receives the number of rows that are done. Raises
    DataError, FloatingPointError if a box is not finite, OSError.
    """
    net = replace(localizer.boxes.net, square=False)
    tests = [Protocol(f"dense_q{scale}", "dense", scale, posteriors=False, precise=False) for scale in scales]
    predict, missing = _jit(localizer, proposals), [~table.rows["done"] for table in tables]
    states = jax.device_put(localizer.states, distributed.replicated(net.mesh))
    done, clock = sum(int(table.rows["done"].sum()) for table in tables), time.perf_counter()

    def start(batch: TestBatch) -> tuple[TestBatch, tuple[jax.Array, jax.Array]]:
        arrays = batch.arrays | {
            "classes": _padded(guesses.classes[batch.rows], batch),
            "probabilities": _padded(guesses.probabilities[batch.rows], batch),
        }
        return batch, predict(states, distributed.put_whole_batch(arrays, net.mesh))

    started = map(start, batches(net, tests, missing, data))
    for batch, arrays in pipeline.ahead(started, 1):  # the host prepares one batch ahead of the device
        output, sides = map(np.asarray, arrays)
        found = []
        for i, (row, size) in enumerate(zip(batch.rows, batch.sizes, strict=True)):
            height, width = sides[i]
            windows = output[i, :height, :width].reshape(-1, *output.shape[3:])
            if not np.isfinite(windows).all():
                scale = scales[batch.test]
                raise FloatingPointError(f"image {data.ids[row]} at {scale} pixels: a box or a score is not finite")
            boxes = data.from_rescaled(row, windows[..., :4], batch.arrays["extent"][i], size, net.square)
            found.append(np.concatenate([boxes, windows[..., 4:]], -1))
        before, clock = clock, time.perf_counter()
        append(tables[batch.test], batch.rows, found, clock - before)
        done += len(batch.rows)
        show(done)


def _jit(localizer: Localizer, proposals: int) -> Callable:
    net, scorer = localizer.boxes.net, localizer.scores.net if localizer.scores else None
    if isinstance(net.objective, ClassRegionProposal):
        forward = functools.partial(class_proposals, net=net, count=proposals)
    else:
        forward = functools.partial(window_boxes, net=net, scorer=scorer)
    return compiled(net, forward)


def _padded(rows: np.ndarray, batch: TestBatch) -> np.ndarray:
    return np.pad(rows, ((0, len(batch.arrays["image"]) - len(rows)), (0, 0)))
