"""Records of a training: metrics.jsonl, TensorBoard and, with their flags, W&B and MLflow.

All get the same scalars; all but the first also get the fields of the config and a picture of the first layer's
filters. In a run of several processes, process 0 writes.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deepconv import imports, processes
from deepconv.run import log as runlog
from deepconv.run import trackers
from deepconv.run.log import Record
from deepconv.run.trackers import Values


@dataclass(frozen=True)
class Board:
    """The writers of a training's records."""

    log: Callable[[Record], None]
    filters: Callable[[int, Mapping[str, Any]], None]  # a step and the net's parameters


@contextlib.contextmanager
def opened(
    workdir: Path, config_fields: Mapping[str, Any], error: str = "top1_error", names: Sequence[str] = ()
) -> Iterator[Board]:
    """Yields the writers of metrics.jsonl, of TensorBoard and of the trackers named.

    config_fields: values by the names of fields, such as model.depth. `error` is the name of the objective's error. A
    full disk raises OSError; the trackers named never raise.
    """
    if not processes.primary():
        yield Board(lambda record: None, lambda step, params: None)
        return
    fields = {
        name: ",".join(map(str, value)) if isinstance(value, tuple | list) else value
        for name, value in config_fields.items()
    }
    with contextlib.ExitStack() as stack:
        write, write_picture = stack.enter_context(_tensorboard(workdir, fields, f"test/{error}"))
        others = [stack.enter_context(trackers.in_background(name, workdir, fields)) for name in names]

        def log(record: Record) -> None:
            runlog.append_metrics(workdir, record)
            values = grouped(record)
            write(int(record["step"]), values)
            for other in others:
                other.log(int(record["step"]), values)

        def filters(step: int, params: Mapping[str, Any]) -> None:
            if found := picture_of_filters(params):
                name, image = f"filters/{found[0]}", found[1]
                write_picture(step, name, image)
                for other in others:
                    other.picture(step, name, image)

        yield Board(log, filters)


def grouped(record: Record) -> Values:
    """Returns the values of a record in groups: train/loss, test/top1_error, run/learning_rate."""
    parts = {name: name.partition("_") for name in record if name != "step"}
    return {
        f"{group}/{rest}" if group in ("train", "test") else f"run/{name}": record[name]
        for name, (group, _, rest) in parts.items()
    }


def picture_of_filters(params: Mapping[str, Any]) -> tuple[str, np.ndarray] | None:
    """Returns the name of the layer that sees the image and a picture of its filters, as in AlexNet's Fig. 3.

    The picture is uint8 [h, w, 3], with 16 filters in a row. Each filter is scaled by its largest weight; zero is grey.
    None if no process holds the layer in full.
    """
    for layer, leaves in params.items():
        kernel = leaves.get("kernel")
        if kernel is None or kernel.ndim != 4 or kernel.shape[2] != 3:
            continue
        if not (kernel.is_fully_addressable or kernel.is_fully_replicated):
            return None
        weights = np.asarray(kernel, np.float32).transpose(3, 0, 1, 2)  # filter, down, right, colour
        weights = weights / np.maximum(abs(weights).max((1, 2, 3), keepdims=True), 1e-12)
        pixels = np.round(127.5 + 127.5 * weights).astype(np.uint8)
        enlarged = pixels.repeat(scale := max(1, 44 // pixels.shape[1]), axis=1).repeat(scale, axis=2)
        framed = np.pad(enlarged, ((0, -len(pixels) % 16), (1, 1), (1, 1), (0, 0)), constant_values=255)
        rows = framed.reshape(-1, 16, *framed.shape[1:])  # row, column, down, right, colour
        height, width = rows.shape[0] * rows.shape[2], 16 * rows.shape[3]
        return layer, rows.transpose(0, 2, 1, 3, 4).reshape(height, width, 3)
    return None


@contextlib.contextmanager
def _tensorboard(
    workdir: Path, fields: Mapping[str, Any], metric: str
) -> Iterator[tuple[Callable[[int, Values], None], Callable[[int, str, np.ndarray], None]]]:
    """Yields write(step, values) and write_picture(step, name, image).

    They raise OSError on a full disk, where tensorboardX's own writer would fail silently.
    """
    with imports.without("torch"):
        from tensorboardX import summary
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event

    suffix = f".{time.time_ns()}"  # two starts in one second would share a file
    writer = EventsWriter(str(workdir / "events"), filename_suffix=suffix)

    def write_summaries(step: int, summaries: Iterator[Any] | Sequence[Any]) -> None:
        for content in summaries:
            writer.write_event(Event(wall_time=time.time(), step=step, summary=content))
        writer.flush()

    def write(step: int, values: Values) -> None:
        write_summaries(step, [summary.scalar(name, value) for name, value in values.items()])

    def write_picture(step: int, name: str, image: np.ndarray) -> None:
        write_summaries(step, [summary.image(name, image, dataformats="HWC")])

    with contextlib.closing(writer):
        experiment, session, _ = summary.hparams(dict(fields), {metric: 0})
        write_summaries(0, [experiment, session])
        yield write, write_picture
