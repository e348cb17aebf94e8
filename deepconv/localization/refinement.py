"""New scores and boxes for the proposals of images: the R-CNN step of He et al. 2015, appendix C."""

import functools
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from deepconv import distributed
from deepconv.boxes import geometry
from deepconv.boxes.suppression import nms
from deepconv.data import augment, decode, pipeline
from deepconv.data.decode import Area
from deepconv.data.sources.annotated import AnnotatedImages
from deepconv.data.sources.proposed import area_of
from deepconv.evaluation.net import Net, Trained, divisible, variables
from deepconv.evaluation.run import compiled
from deepconv.evaluation.table import open_table
from deepconv.localization.dense import Guesses
from deepconv.localization.proposals import MAXIMUM_IOU
from deepconv.localization.training_proposals import PROPOSALS
from deepconv.localization.window_table import WindowTable, read_windows
from deepconv.objective import ClassBoxRefinement
from deepconv.state import TrainState

CHUNK = 8  # images that a thread decodes at a time


@dataclass
class _Crops:
    """The proposals of an image, on their way through the nets."""

    row: int
    size: tuple[int, int]  # of the image's file
    areas: list[Area]  # of proposals, in pixels of the file
    classes: np.ndarray  # int [n], of proposals
    outputs: list[list[jax.Array]]  # of each net, one for each batch: boxes in pixels of crops, and scores, [B, 5]


def open_refined(file: Path, images: int, classes: int) -> np.ndarray:
    """Opens the table FILE of refined boxes, with the images that an earlier start has done. Raises OSError."""
    return open_table(images, [("output", np.float32, (classes, 5)), ("seconds", np.float32), ("done", np.bool_)], file)


def refine(
    nets: Sequence[Trained],
    tables: Sequence[WindowTable],
    images: AnnotatedImages,
    guesses: Guesses,
    refined: np.ndarray,
    show: Callable[[int], None] = lambda done: None,
) -> None:
    """Fills the rows that are missing in a table of `open_refined`: the refined box of the highest score of each class.

    The proposals in the tables are put together for each class, and the 200 best that do not overlap are warped to
    squares. Scores and boxes of several nets are averaged. Raises DataError, OSError, and FloatingPointError if a box
    is not finite.
    """
    predicts = [compiled(trained.net, functools.partial(refined_boxes, net=trained.net)) for trained in nets]
    forwards = [functools.partial(predict, net.state) for predict, net in zip(predicts, nets, strict=True)]
    done, clock = int(refined["done"].sum()), time.perf_counter()
    with ThreadPoolExecutor(pipeline.THREADS) as threads:

        def start(row: int, image: np.ndarray, classes: np.ndarray, proposals: jax.Array) -> _Crops:
            areas, labels = _areas(image, images.sizes[row].tolist(), classes, np.asarray(proposals))
            outputs = _outputs(image, areas, labels, nets[0].net, forwards, threads)
            return _Crops(row, image.shape[:2], areas, labels, outputs)

        # The device computes the proposals of the next image before the crops of this one: otherwise, the host would
        # wait for them.
        found = pipeline.ahead(_proposals(tables, images, guesses, ~refined["done"]), 1)
        for crops in pipeline.ahead(itertools.starmap(start, found), 1):  # the host cuts one image ahead of the device
            refined["output"][crops.row] = _best(crops, nets[0].net.size, images, guesses.classes[crops.row])
            before, clock = clock, time.perf_counter()
            refined["seconds"][crops.row] = clock - before
            refined["done"][crops.row] = True  # last: a row that is marked done is complete, whenever the process ends
            done += 1
            show(done)


def _proposals(
    tables: Sequence[WindowTable], images: AnnotatedImages, guesses: Guesses, missing: np.ndarray
) -> Iterator[tuple[int, np.ndarray, np.ndarray, jax.Array]]:
    """Yields row and pixels of each missing image, its distinct classes [k] and their proposals [k, 200, 5]."""
    for chunk in pipeline.test_images(images, np.flatnonzero(missing), CHUNK, lambda image: image):
        for row, image in zip(chunk["index"].tolist(), chunk["image"], strict=True):
            candidates = np.concatenate([read_windows(windows, np.array([row]))[0] for windows in tables])
            classes, first = np.unique(guesses.classes[row], return_index=True)
            yield row, image, classes, best_proposals(candidates[:, first])


@jax.jit
def best_proposals(candidates: jax.Array) -> jax.Array:
    """Returns the best of the candidates [n, K, 5] of each class that do not overlap, [K, 200, 5], then zeros."""

    def best(candidates: jax.Array) -> jax.Array:
        scores = jnp.where(candidates[:, 4] > 0, candidates[:, 4], -jnp.inf)
        index = nms(candidates[:, :4], scores, MAXIMUM_IOU, PROPOSALS)
        return candidates.at[index].get(mode="fill", fill_value=0.0)

    return jax.vmap(best)(candidates.swapaxes(0, 1))


def _areas(
    image: np.ndarray, stated: Sequence[int], classes: np.ndarray, proposals: np.ndarray
) -> tuple[list[Area], np.ndarray]:
    """Returns the parts of an image that the proposals [k, 200, 5] of classes [k] cover, and the class of each.

    Proposals are in pixels of the stated height and width. A class without proposals gets the full image.
    """
    (height, width), (stated_height, stated_width) = image.shape[:2], stated
    boxes_of_classes = geometry.clip(proposals[..., :4], stated_height, stated_width)
    boxes_of_classes = geometry.scale(boxes_of_classes, width / stated_width, height / stated_height)
    areas, labels = [], []
    for label, boxes in zip(classes, boxes_of_classes, strict=True):
        found = [area_of(box, height, width) for box in boxes[geometry.area(boxes) > 0]]
        found = found or [Area(0, 0, height, width)]
        areas += found
        labels += [label] * len(found)
    return areas, np.array(labels, np.int32)


def _outputs(
    image: np.ndarray,
    areas: Sequence[Area],
    labels: np.ndarray,
    net: Net,
    forwards: Sequence[Callable],
    threads: ThreadPoolExecutor,
) -> list[list[jax.Array]]:
    """Starts the nets on areas of an image, warped to squares, batch by batch; returns the batches' outputs by net."""
    capacity = divisible(net.batch_size, net.mesh)
    outputs = [[] for _ in forwards]
    for start in range(0, len(areas), capacity):
        parts, own = areas[start : start + capacity], labels[start : start + capacity]
        crops = np.zeros((capacity, net.size, net.size, 3), np.uint8)
        warped = threads.map(lambda part: decode.resize(part.cut(image), net.size, net.size), parts)
        for place, crop in enumerate(warped):
            crops[place] = crop
        arrays = {"image": crops, "label": np.pad(own, (0, capacity - len(own)))}
        arrays = distributed.put_whole_batch(arrays, net.mesh)
        for of_net, forward in zip(outputs, forwards, strict=True):
            of_net.append(forward(arrays))
    return outputs


def _best(crops: _Crops, size: int, images: AnnotatedImages, classes: np.ndarray) -> np.ndarray:
    """Returns the box of the highest score of each class, float32 [K, 5], in pixels of the annotated image."""
    of_nets = [np.concatenate([np.asarray(part) for part in parts])[: len(crops.areas)] for parts in crops.outputs]
    found = np.mean(of_nets, 0)
    if not np.isfinite(found).all():
        raise FloatingPointError(f"image {images.ids[crops.row]}: a refined box or its score is not finite")
    top, left, height, width = np.array(crops.areas, np.float32).T
    boxes = geometry.translate(geometry.scale(found[:, :4], width / size, height / size), left, top)
    boxes = images.in_annotation(crops.row, boxes, *crops.size)
    found = np.concatenate([boxes, found[:, 4:]], -1)
    best = [np.where(crops.classes == label, found[:, 4], -np.inf).argmax() for label in classes]
    return found[best]


def refined_boxes(state: TrainState, batch: dict[str, jax.Array], *, net: Net) -> jax.Array:
    """Returns the boxes, in pixels of the crops, uint8 [B, S, S, 3], and the scores of the labels, float32 [B, 5]."""
    assert isinstance(net.objective, ClassBoxRefinement)
    outputs = net.model.apply(variables(state), augment.normalize(batch["image"], net.input), train=False)
    boxes, scores = net.objective.refined(jnp.asarray(outputs), batch["label"])
    return jnp.concatenate([boxes, scores[:, None]], -1)
