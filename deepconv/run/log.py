"""Logs of a run: metrics, replaced images, a progress line."""

import contextlib
import datetime
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from deepconv import processes
from deepconv.run.files import printable

Record = dict[str, float]  # a line of metrics.jsonl: "step", "epoch" and the metrics


def append_metrics(workdir: Path, record: Record) -> None:
    """Appends one line to metrics.jsonl; a line that a crash left incomplete is ended first."""
    with (workdir / "metrics.jsonl").open("ab+") as file:
        if size := file.tell():
            file.seek(size - 1)
            incomplete = file.read() != b"\n"
            file.write(b"\n" * incomplete)
        file.write(json.dumps(record).encode() + b"\n")


def corrupt_list(file: Path) -> Callable[[list[str]], None]:
    """Returns report(messages), which prints each replaced image once and appends it to the file.

    With several processes, process 0 does this for all. A line that a crash left incomplete is removed: its image is
    met again.
    """
    data = file.read_bytes() if file.exists() else b""
    whole = data[: data.rfind(b"\n") + 1]
    if processes.primary() and whole != data:
        os.truncate(file, len(whole))
    reported = set(whole.decode(errors="replace").splitlines())

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
    by_step: dict[float, Record] = {}
    for record in reversed([*newest_metrics(workdir)]):
        by_step.setdefault(record["step"], {}).update(record)
    return [by_step[step] for step in sorted(by_step)]


def newest_metrics(workdir: Path) -> Iterator[Record]:
    """Yields the records of metrics.jsonl, the newest first, without lines that are not records."""
    path = workdir / "metrics.jsonl"
    for line in reversed(path.read_bytes().split(b"\n") if path.exists() else []):
        try:
            record = json.loads(line)
        except (RecursionError, ValueError):
            continue
        if isinstance(record, dict) and type(record.get("step")) is int:
            yield record


def error_of(record: Record, part: str) -> float | None:
    """Returns the error in a record, in percent, or None; part is "train" or "test".

    Its name tells the objective: train_top1_error, or train_true_class_localization_error.
    """
    found = (value for name, value in record.items() if name.startswith(f"{part}_") and name.endswith("_error"))
    return next((value for value in found if type(value) in (int, float)), None)


def last_test(workdir: Path, step: int) -> tuple[float, float | None]:
    """Returns the step and the error of the last test up to a step, from metrics.jsonl; -1 and None without a test."""
    tests = [(record["step"], error_of(record, "test")) for record in read_metrics(workdir) if record["step"] <= step]
    return next(((tested, error) for tested, error in reversed(tests) if error is not None), (-1, None))


def summary_line(record: Record, test_error: float | None = None) -> str:
    """Returns the epoch, the loss, the errors and the speed, as far as they are known, for the progress line."""
    parts = [f"epoch {record['epoch']:.1f}"]
    if "train_loss" in record:
        parts.append(f"loss {record['train_loss']:.3f}  error {error_of(record, 'train'):.1f} %")
    if test_error is not None:
        parts.append(f"test error {test_error:.1f} %")
    if "images_per_second" in record:
        parts.append(f"{record['images_per_second']:.0f} images/s")
    return "  ".join(parts)


class Show(Protocol):
    """Shows how many of the total are done, and a text.

    The seconds of `uncounted`, such as those of compilation, are left out of the estimate of the time left.
    """

    def __call__(self, done: int, text: str | None = None, log: bool | None = None, uncounted: float = 0) -> None: ...


@contextlib.contextmanager
def progress(title: str, total: int, done: int = 0) -> Iterator[Show]:
    """Yields show(done, text, log), which moves a progress bar or, without a terminal, prints a line if log is true.

    With log=None, it prints a line for each tenth of the total. The time left is estimated from the progress after the
    first call with new work, since the time before includes compilation.
    """
    console, first, start = Console(), done, 0.0

    def time_left(now: int, uncounted: float) -> str:
        nonlocal first, start
        if first == done:
            first, start = now, time.monotonic()
            return ""
        start += uncounted
        if now == first:
            return ""
        seconds = (time.monotonic() - start) * (total - now) / (now - first)
        return f"{datetime.timedelta(seconds=round(seconds))} left"

    if not console.is_terminal:
        shown = 10 * done // max(total, 1)

        def show_plain(done: int, text: str | None = "", log: bool | None = None, uncounted: float = 0) -> None:
            nonlocal shown
            before, shown = shown, 10 * done // max(total, 1)
            parts = [f"{title} {done}/{total}", text or "", time_left(done, uncounted)]
            if shown > before if log is None else log:
                print("  ".join(filter(None, parts)), flush=True)

        yield show_plain
        return
    columns = TextColumn(title), BarColumn(20), TextColumn("{task.completed}/{task.total}  {task.fields[text]}")
    with Progress(*columns, TextColumn("{task.fields[left]}"), console=console) as bar:
        task = bar.add_task(title, total=total, completed=done, text="", left="")

        last = ""

        def show(done: int, text: str | None = None, log: bool | None = None, uncounted: float = 0) -> None:
            nonlocal last
            last = last if text is None else text
            bar.update(task, completed=done, left=time_left(done, uncounted), text=last)

        yield show
