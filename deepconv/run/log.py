"""Logs of a run: metrics, TensorBoard, a progress line."""

import contextlib
import datetime
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from deepconv import imports, processes
from deepconv.run.directory import printable

Record = dict[str, float]  # a line of metrics.jsonl: "step", "epoch" and the metrics


@contextlib.contextmanager
def tensorboard(workdir: Path) -> Iterator[Callable[[Record], None]]:
    """Yields write(record), which raises OSError on a full disk; tensorboardX's writer would fail silently.

    With several processes, process 0 writes.
    """
    if not processes.primary():
        yield lambda record: None
        return
    with imports.without("torch"):
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

    writer = EventsWriter(str(workdir / "events"))

    def write(record: Record) -> None:
        for name, value in ((name, value) for name, value in record.items() if name != "step"):
            event = Event(wall_time=time.time(), step=record["step"], summary=scalar(name, value))
            writer.write_event(event)
        writer.flush()

    with contextlib.closing(writer):
        yield write


def append_metrics(workdir: Path, record: Record) -> None:
    """Appends one line to metrics.jsonl, in process 0; a line that a crash left incomplete is ended first."""
    if not processes.primary():
        return
    with (workdir / "metrics.jsonl").open("ab+") as file:
        if size := file.tell():
            file.seek(size - 1)
            incomplete = file.read() != b"\n"
            file.write(b"\n" * incomplete)
        file.write(json.dumps(record).encode() + b"\n")


def corrupt_list(file: Path) -> Callable[[list[str]], None]:
    """Returns report(messages), which prints each replaced image once and appends it to the file.

    With several processes, process 0 does this for all.
    """
    reported = set(file.read_text("utf-8").splitlines()) if file.exists() else set()

    def write(message: str) -> None:
        print(f"replaced by the next image: {message}", flush=True)
        with file.open("a", encoding="utf-8") as out:
            out.write(message + "\n")

    def report(messages: list[str]) -> None:
        for message in map(printable, messages):
            if message not in reported:
                reported.add(message)
                processes.send("replaced", message) if not processes.primary() else write(message)

    processes.receive("replaced", lambda message: report([message]))
    return report


def read_metrics(workdir: Path) -> list[Record]:
    """Returns one record per step, in order; later lines win (after a crash, steps are logged again).

    A line that is not a record, such as one that a crash left incomplete, is ignored.
    """
    by_step: dict[int, Record] = {}
    path = workdir / "metrics.jsonl"
    for line in path.read_bytes().split(b"\n") if path.exists() else []:
        try:
            record = json.loads(line)
        except (RecursionError, ValueError):
            continue
        if not isinstance(record, dict) or type(record.get("step")) is not int:
            continue
        by_step.setdefault(record["step"], {}).update(record)
    return [by_step[step] for step in sorted(by_step)]


class Show(Protocol):
    """Shows how many of the total are done, and a text."""

    def __call__(self, done: int, text: str | None = None, log: bool | None = None) -> None: ...


@contextlib.contextmanager
def progress(title: str, total: int, done: int = 0) -> Iterator[Show]:
    """Yields show(done, text, log), which moves a progress bar or, without a terminal, prints a line if log is true.

    Without log, it prints a line for each tenth of the total.
    """
    console, first, start = Console(), done, time.monotonic()

    def time_left(done: int) -> str:
        seconds = (time.monotonic() - start) * (total - done) / max(done - first, 1)
        return f"{datetime.timedelta(seconds=round(seconds))} left"

    if not console.is_terminal:
        shown = 10 * done // max(total, 1)

        def show_plain(done: int, text: str | None = "", log: bool | None = None) -> None:
            nonlocal shown
            before, shown = shown, 10 * done // max(total, 1)
            if shown > before if log is None else log:
                print(f"{title} {done}/{total}  {text}  {time_left(done)}", flush=True)

        yield show_plain
        return
    columns = TextColumn(title), BarColumn(20), TextColumn("{task.completed}/{task.total}  {task.fields[text]}")
    with Progress(*columns, TextColumn("{task.fields[left]}"), console=console) as bar:
        task = bar.add_task(title, total=total, completed=done, text="", left="")

        last = ""

        def show(done: int, text: str | None = None, log: bool | None = None) -> None:
            nonlocal last
            last = last if text is None else text
            bar.update(task, completed=done, left=time_left(done), text=last)

        yield show
