"""Test protocols: a trained net and a data set -> class probabilities -> errors."""

import functools
import os
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from deepconv import metrics, preemption, runlog, sharding
from deepconv.data import augment, decode, pipeline
from deepconv.data.sources import Arrays, Records
from deepconv.data.statistics import Input
from deepconv.models.layers import Dense, inside
from deepconv.protocols import PLACES, Protocol
from deepconv.state import TrainState

Predict = Callable[[TrainState, dict[str, jax.Array]], jax.Array]
Step = tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]  # numbers of images, their labels, a batch

DENSE_SHARE = 4  # a dense batch has this part of the pixels of a batch of crops: so fewer images wait for their like


@dataclass(frozen=True)
class Net:
    """A network, and how images are prepared for it."""

    model: nn.Module
    input: Input
    size: int  # pixels of a side in training, and of a crop
    square: bool  # whether central squares are all that is seen of images
    batch_size: int  # crops at a time
    mesh: Mesh


def see_crops(state: TrainState, batch: dict[str, jax.Array], *, net: Net, mirrored: bool) -> jax.Array:
    """Class probabilities, float32 [B, classes]: means over crops, uint8 [B, crops, S, S, 3], and their mirrors."""
    crops = batch["image"]
    flat = crops.reshape(-1, *crops.shape[2:])
    probs = []
    for images in (flat, flat[:, :, ::-1]) if mirrored else (flat,):
        scores = net.model.apply(_variables(state), augment.normalize(images, net.input), train=False)
        probs.append(jax.nn.softmax(scores.astype(jnp.float32)))
    return (sum(probs) / len(probs)).reshape(*crops.shape[:2], -1).mean(1)


def see_whole(state: TrainState, batch: dict[str, jax.Array], *, net: Net, posteriors: bool) -> jax.Array:
    """Class probabilities, float32 [B, classes], of whole images: means over all views, and over their mirrors.

    uint8 [B, H, W, 3]; each fills its extent [B, 2]. "The class score map is spatially averaged" (Simonyan & Zisserman
    2015, 3.2): scores, unless posteriors are asked for; of an image and its mirror, posteriors.
    """
    images, extent = batch["image"], batch["extent"]
    mean, columns = stretch(net.input.mean, extent, images.shape[1:3]), jnp.arange(images.shape[2])[None]
    given = net.input._replace(mean=mean)
    back = (extent[:, 1:] - 1 - columns) % images.shape[2]  # a mirror image begins where the image does
    probs = []
    for seen in (images, jnp.take_along_axis(images, back[:, None, :, None], 2)):
        dense = Dense(extent, net.size)
        scores, views = net.model.apply(_variables(state), augment.normalize(seen, given), train=False, dense=dense)
        scores = scores.astype(jnp.float32)
        values = inside(jax.nn.softmax(scores) if posteriors else scores, views).sum((1, 2))
        values /= views.prod(1, keepdims=True)
        probs.append(values if posteriors else jax.nn.softmax(values))
    return sum(probs) / 2


def stretch(mean: np.ndarray | jax.Array, extent: jax.Array, shape: tuple[int, int]) -> np.ndarray | jax.Array:
    """The mean image made as large as each image, [B, H, W, 3]; a mean colour stays as it is.

    The papers do not say what a net that subtracts a mean image subtracts from larger ones. The detection code of
    ResNet's authors does this.
    """
    if mean.shape[1:3] == (1, 1):
        return mean

    def one(extent: jax.Array) -> jax.Array:
        scale = extent / np.array(mean.shape[1:3], np.float32)
        return jax.image.scale_and_translate(mean[0], (*shape, 3), (0, 1), scale, jnp.zeros(2), "linear", False)

    return jax.vmap(one)(extent)


def _variables(state: TrainState) -> dict[str, Any]:
    return {"params": state.params, "batch_stats": state.batch_stats}


def jit(net: Net, protocol: Protocol) -> Predict:
    """A protocol's view of a batch, compiled for the mesh."""
    if protocol.kind == "dense":
        see = functools.partial(see_whole, net=net, posteriors=protocol.posteriors)
    else:
        see = functools.partial(see_crops, net=net, mirrored=protocol.kind != "center")
    whole, split = sharding.replicated(net.mesh), sharding.split(net.mesh)
    options = sharding.compiler_options()
    return jax.jit(see, in_shardings=(whole, split), out_shardings=whole, compiler_options=options)


def new_table(examples: int, width: int, file: Path | None = None) -> np.ndarray:
    """A row an image: "output" float32 [width], such as the probability of each class; "label", "seconds", and "done".

    With a file, the table is on disk, and is what an earlier start has left there. Raises OSError.
    """
    fields = [("output", np.float32, (width,)), ("label", np.int32), ("seconds", np.float32), ("done", np.bool_)]
    row = np.dtype(fields)
    if file is None:
        return np.zeros(examples, row)
    if not file.exists():
        new = file.with_name(file.name + ".tmp")
        np.lib.format.open_memmap(new, "w+", row, (examples,))
        with new.open("r+b") as out:  # a mapped file on a full disk would be the end of the process
            os.posix_fallocate(out.fileno(), 0, new.stat().st_size)
        new.replace(file)
    try:
        table = np.lib.format.open_memmap(file, "r+")
    except ValueError as error:
        raise OSError(f"{file} is damaged: {error}; remove it") from None
    if (table.dtype, table.shape) != (row, (examples,)):
        raise OSError(f"{file} was left by another test; remove it")
    return table


def probabilities(
    net: Net,
    protocol: Protocol,
    predict: Predict,
    state: TrainState,
    data: Arrays | Records,
    table: np.ndarray,
    show: Callable[[int], None] = lambda done: None,
) -> int:
    """Fill the rows of a table that are not done, by a jitted predict; gives how many shapes were compiled for."""
    missing = np.flatnonzero(~table["done"])
    done = len(table) - len(missing)
    steps = (_whole if protocol.kind == "dense" else _crops)(net, protocol, data, missing)
    shapes, running, clock = set(), deque(), time.perf_counter()

    def finish() -> None:
        nonlocal done, clock
        rows, labels, output = running.popleft()
        table["output"][rows], table["label"][rows] = np.asarray(output)[: len(rows)], labels
        before, clock = clock, time.perf_counter()
        table["seconds"][rows] = (clock - before) / len(rows)
        table["done"][rows] = True  # last: whenever the process ends, a row that is done is whole
        done += len(rows)
        show(done)

    while True:
        with preemption.waiting():
            step = next(steps, None)
        if step is None:
            break
        rows, labels, batch = step
        shapes.add(batch["image"].shape)
        running.append((rows, labels, predict(state, sharding.put_batch(batch, net.mesh))))
        if len(running) > 1:  # while the device works, the host prepares what comes next
            finish()
    while running:
        finish()
    if not table["done"].all():
        raise RuntimeError(f"{(~table['done']).sum()} of {len(table)} images were not tested")
    return len(shapes)


def cut(image: np.ndarray, size: int, kind: str) -> np.ndarray:
    """A protocol's crops of uint8 [..., H, W, 3]: [..., crops, size, size, 3]. A grid spans the image, edge to edge."""
    height, width = image.shape[-3:-1]
    corners = [((height - size) * down // 4, (width - size) * right // 4) for down, right in PLACES[kind]]
    return np.stack([image[..., top : top + size, left : left + size, :] for top, left in corners], -4)


def _crops(net: Net, protocol: Protocol, data: Arrays | Records, missing: np.ndarray) -> Iterator[Step]:
    def look(image: np.ndarray) -> np.ndarray:
        return cut(decode.rescale(image, protocol.scale, net.square), net.size, protocol.kind)

    count = _divisible(net.batch_size // len(PLACES[protocol.kind]), net.mesh)
    for chunk in pipeline.test_images(data, missing, count, look):
        images = chunk["image"]
        crops = np.stack(images) if isinstance(images, list) else cut(images, net.size, protocol.kind)
        padding = ((0, count - len(crops)), *[(0, 0)] * 4)
        yield chunk["index"], chunk["label"], {"image": np.pad(crops, padding)}


def _whole(net: Net, protocol: Protocol, data: Arrays | Records, missing: np.ndarray) -> Iterator[Step]:
    waiting = defaultdict(list)  # images by the shape of the batch that they will be in
    look = functools.partial(decode.rescale, shorter=protocol.scale, square=net.square)
    for chunk in pipeline.test_images(data, missing, 32, look):
        for index, label, image in zip(chunk["index"], chunk["label"], chunk["image"], strict=True):
            shape = bucket(*image.shape[:2])
            waiting[shape].append((index, label, image))
            if len(waiting[shape]) == room(net, shape):
                yield together(waiting.pop(shape), shape, room(net, shape))
    for shape, images in waiting.items():
        yield together(images, shape, room(net, shape))


def bucket(height: int, width: int) -> tuple[int, int]:
    """The shape that an image is padded to, so that few shapes have to be compiled for.

    The longer side is one of eight between the shorter and its double, eight more up to four times it, and so on:
    less than an eighth is added, and up to eight times the shorter side there are 49 shapes.
    """
    shorter, longer = sorted((height, width))
    double = 2 ** ((longer // shorter).bit_length() - 1)
    longest = -(-shorter * double * -(-8 * longer // (shorter * double)) // 8)
    return (longest, shorter) if height > width else (shorter, longest)


def room(net: Net, shape: tuple[int, int]) -> int:
    """How many images of a shape are tested densely at a time."""
    return _divisible(net.batch_size * net.size**2 // (DENSE_SHARE * shape[0] * shape[1]), net.mesh)


def together(images: Sequence[tuple[int, int, np.ndarray]], shape: tuple[int, int], count: int) -> Step:
    """Images by number, label and pixels -> one batch of `count`, each at the top left of its place."""
    batch = np.zeros((count, *shape, 3), np.uint8)
    extent = np.full((count, 2), shape, np.int32)
    for i, (_, _, image) in enumerate(images):
        extent[i] = image.shape[:2]
        batch[i, : extent[i, 0], : extent[i, 1]] = image
    rows, labels, _ = zip(*images, strict=True)
    return np.array(rows), np.array(labels), {"image": batch, "extent": extent}


def _divisible(count: int, mesh: Mesh) -> int:
    return max(1, count // mesh.size) * mesh.size


def write(
    workdir: Path, name: str, probs: np.ndarray, labels: np.ndarray, step: int | None, how: dict[str, Any]
) -> None:
    """probs.<name>.npy, labels.npy and, last, eval.<name>.json. Raises FloatingPointError.

    float32: in float16, classes below 6e-8 are all the same, and errors of means of them are not those of the net.
    """
    if not np.isfinite(probs).all():
        raise FloatingPointError(f"{name}: the net's probabilities are not finite")
    here = runlog.environment()
    record = {
        "protocol": name,
        "examples": len(labels),
        "top1_error": metrics.top_k_error(probs, labels, 1),
        "top5_error": metrics.top_k_error(probs, labels, 5),
        "step": step,
        **how,
        **{key: here[key] for key in ("time", "commit", "dirty", "versions", "device_kind", "devices", "cpus")},
    }
    np.save(workdir / f"probs.{name}.npy", probs)
    np.save(workdir / "labels.npy", labels)
    runlog.write_json(workdir / f"eval.{name}.json", record)


def run(
    net: Net,
    protocol: Protocol,
    state: TrainState,
    data: Arrays | Records,
    workdir: Path,
    *,
    examples: int,
    classes: int,
) -> None:
    """Test and write, with a progress bar; a test that was stopped goes on, and one that is there is left alone."""
    file = workdir / f"probs.{protocol.name}.partial.npy"
    if (workdir / f"eval.{protocol.name}.json").exists():
        file.unlink(missing_ok=True)
        return
    table = new_table(examples, classes, file=file)
    table["done"] &= abs(table["output"].sum(1) - 1) < 1e-3  # of a machine that failed, any part may be on disk
    before = int(table["done"].sum())
    with runlog.progress(protocol.name, examples, before) as show:
        shapes = probabilities(net, protocol, jit(net, protocol), state, data, table, show)
    seconds = float(table["seconds"].sum(dtype=np.float64))  # of all starts
    print(f"{protocol.name}: {examples - before} images were tested; shapes compiled for: {shapes}", flush=True)
    how = {"scales": [protocol.scale], "views": protocol.views, "compiled_shapes": shapes, "seconds": seconds}
    how["images_per_second"] = examples / seconds
    write(workdir, protocol.name, table["output"], table["label"], int(state.step), how)
    file.unlink()


def read_array(file: Path) -> np.ndarray:
    """What a .npy file holds. Raises OSError, with the file's name."""
    try:
        return np.load(file, allow_pickle=False)
    except (EOFError, ValueError) as error:
        raise OSError(f"{file} is damaged: {error}; remove its eval.*.json, and test again") from None


def mean(files: Sequence[Path], weights: Sequence[float] | None = None) -> np.ndarray:
    """The mean of saved probabilities, float32 [N, classes]; of equal weights, if none are given."""
    weights = weights or [1.0] * len(files)
    return sum(
        read_array(file) * np.float32(weight / sum(weights)) for file, weight in zip(files, weights, strict=True)
    )


def average(workdir: Path, name: str, of: Sequence[str]) -> None:
    """The protocol that is the mean of others: from their saved probabilities."""
    keys = ("scales", "views", "compiled_shapes", "seconds", "step")
    records = [runlog.read_eval(workdir / f"eval.{part}.json", *keys) for part in of]
    probs = mean([workdir / f"probs.{part}.npy" for part in of])
    how = {"mean_of": [*of], "scales": sorted({scale for record in records for scale in record["scales"]})}
    how |= {key: sum(record[key] for record in records) for key in ("views", "compiled_shapes", "seconds")}
    how["images_per_second"] = len(probs) / how["seconds"]
    write(workdir, name, probs, read_array(workdir / "labels.npy"), records[0]["step"], how)
