"""What a run writes down about itself, and what it shows while it goes on."""

import contextlib
import datetime
import errno
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

VERSIONS = ("deepconv", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
FIXED = ("versions", "device_kind", "devices", "cpus", "xla_flags", "matmul_precision")  # if bits are to be the same
Content = TypeVar("Content", dict, list)


@contextlib.contextmanager
def lock(workdir: Path, stays: bool = True) -> Iterator[None]:
    """Hold a run's directory, made if need be; raises BlockingIOError while another process holds it.

    The lock belongs to this process and dies with it, however it dies. Raises FileNotFoundError, when it is left, if
    the directory was removed or replaced meanwhile; where stays is false, its holder may do so.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / "lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(f"{path} is a symbolic link, and a lock has to be a file; remove it") from None
        raise
    with os.fdopen(descriptor, "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = file.read().strip() or "unknown"
            raise BlockingIOError(
                f"{workdir} is in use by another process ({holder}); wait for it, or give another --workdir"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {os.uname().nodename}")
        file.flush()
        try:
            yield
        finally:
            if stays and not (path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno()))):
                raise FileNotFoundError(
                    f"{workdir} was removed or replaced while this run used it; give another --workdir"
                )


def expanded(path: str | Path) -> Path:
    """The path with ~ or ~user written out. Raises ValueError where that home directory is unknown."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ValueError(f"the home directory in {path} is unknown; write the path without ~") from None


def printable(text: str) -> str:
    """The text on one line: control characters, and bytes that are not text, become \\xNN or \\uNNNN."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" if c < "\u0100" else f"\\u{ord(c):04x}" for c in text)


def write_json(path: Path, content: Any) -> None:
    """Whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w") as file:
        file.write(json.dumps(content, indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_json(path: Path, kind: type[Content], *keys: str, remedy: str = "remove it, and start again") -> Content:
    """What a JSON file holds. Raises OSError, with the file's name, where it is damaged or a key is missing."""
    try:
        content = json.loads(path.read_bytes())
        if not isinstance(content, kind):
            raise ValueError(f"it holds a {type(content).__name__}, not a {kind.__name__}")
        if missing := [key for key in keys if key not in content]:
            raise ValueError(f"it has no {missing[0]!r}")
    except (RecursionError, ValueError) as error:  # of JSON, or of UTF-8
        raise OSError(f"{path} is damaged: {error}; {remedy}") from None
    return content


def read_eval(file: Path, *keys: str) -> dict[str, Any]:
    """The record of a test. Raises OSError where it is damaged, or a key is missing."""
    numbers, remedy = ("top1_error", "top5_error", "examples"), "remove it, and test again"
    record = read_json(file, dict, *numbers, *keys, remedy=remedy)
    for name in numbers:
        if type(record[name]) not in (int, float):
            raise OSError(f"{file} is damaged: {name} is {record[name]!r}, not a number; {remedy}")
    return record


def read_starts(workdir: Path, *keys: str) -> list[dict[str, Any]]:
    """The entries of environment.json, one a start. Raises OSError where it is damaged or a key is missing."""
    path = workdir / "environment.json"
    remedy = "restore it, or move it away"
    starts = read_json(path, list, remedy=remedy)
    if not starts or not all(isinstance(start, dict) and {*keys} <= {*start} for start in starts):
        wanted = f"with {', '.join(keys)}"
        raise OSError(f"{path} is damaged: it does not hold one record a start {wanted}; {remedy}")
    return starts


def record_start(workdir: Path, from_step: int = 0) -> list[str]:
    """Append this start of training, from a step, to environment.json; tests say in their own files where they ran.

    Returns what differs from the start before in ways that change bits.
    """
    path = workdir / "environment.json"
    starts = read_starts(workdir, *FIXED) if path.exists() else []
    starts.append(environment() | {"from_step": from_step})
    write_json(path, starts)
    if len(starts) == 1:
        return []
    return [
        f"{key}: {starts[-2][key]} before, {starts[-1][key]} now" for key in FIXED if starts[-2][key] != starts[-1][key]
    ]


def environment() -> dict[str, Any]:
    """Where, when and with what this process runs."""
    import jax  # here, so that reading what a run has written down does not wait for it

    commit = _git("rev-parse", "HEAD")
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "argv": sys.argv,
        "commit": commit,
        "dirty": commit and _git("status", "--porcelain", "--untracked-files=no") != "",
        "python": sys.version.split()[0],
        "versions": {name: metadata.version(name) for name in VERSIONS},
        "device_kind": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "cpus": len(os.sched_getaffinity(0)),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "matmul_precision": jax.config.jax_default_matmul_precision,
    }


@contextlib.contextmanager
def tensorboard(workdir: Path) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Gives write(record); a disk that is full is an OSError there, and not the end of a thread."""
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.summary import scalar

    writer = EventsWriter(str(workdir / "events"))

    def write(record: dict[str, Any]) -> None:
        for name, value in ((name, value) for name, value in record.items() if name != "step"):
            event = Event(wall_time=time.time(), step=record["step"], summary=scalar(name, value))
            writer.write_event(event)
        writer.flush()

    with contextlib.closing(writer):
        yield write


def append_metrics(workdir: Path, record: dict[str, Any]) -> None:
    """One line in metrics.jsonl; a line that a crash cut off stays a line of its own."""
    with (workdir / "metrics.jsonl").open("ab+") as file:
        if size := file.tell():
            file.seek(size - 1)
            torn = file.read() != b"\n"
            file.write(b"\n" * torn)
        file.write(json.dumps(record).encode() + b"\n")


def corrupt_list(file: Path) -> Callable[[list[str]], None]:
    """Gives report(messages): says once of each image that it was replaced, and writes it to the file."""
    known = set(file.read_text("utf-8").splitlines()) if file.exists() else set()

    def report(messages: list[str]) -> None:
        for message in map(printable, messages):
            if message not in known:
                known.add(message)
                print(f"replaced by the next image: {message}", flush=True)
                with file.open("a", encoding="utf-8") as out:
                    out.write(message + "\n")

    return report


def read_metrics(workdir: Path) -> list[dict[str, Any]]:
    """One record a step, in order; what was written later wins (after a crash, steps are taken and logged again).

    A line that is not such a record, such as one that the crash cut off, is left out.
    """
    by_step: dict[int, dict[str, Any]] = {}
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


@contextlib.contextmanager
def progress(title: str, total: int, done: int = 0) -> Iterator[Callable[..., None]]:
    """Gives show(done, text, log): moves a line in a terminal; elsewhere prints a line where log is true.

    Where log is not given, it is so for each tenth of the total.
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

        def show(done: int, text: str | None = None, log: bool | None = None) -> None:
            bar.update(task, completed=done, left=time_left(done), **({} if text is None else {"text": text}))

        yield show


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git, or not a checkout
        return None
