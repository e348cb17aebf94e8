"""A run's directory: its lock, its JSON files, and the record of each start."""

import contextlib
import datetime
import errno
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import IO, Any, NotRequired, TypedDict, TypeVar

from deepconv import processes, repository
from deepconv.ops import forms
from deepconv.run import preemption

VERSIONS = ("deepconv", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
# results are bit-exact only if these stay the same
FIXED = ("versions", "device_kind", "devices", "cpus", "xla_flags", "matmul_precision")
DIVISION = ("processes", "model_parallel", "accumulate")  # likewise; 1 in starts that do not record them
# names of a test's errors
CLASS_ERRORS = ("top1_error", "top5_error")
BOX_ERROR = "true_class_localization_error"
FAILURE = "failure.txt"
Content = TypeVar("Content", dict, list)


class Environment(TypedDict):
    """The time, code, versions and devices of a process; one entry of environment.json."""

    time: str
    argv: list[str]
    commit: str | None
    dirty: bool | None
    python: str
    versions: dict[str, str]
    device_kind: str
    devices: int
    cpus: int
    xla_flags: str
    matmul_precision: str | None
    processes: NotRequired[int]
    forms: NotRequired[dict[str, str]]  # of operations
    from_step: NotRequired[int]  # the step at which a start of training began
    model_parallel: NotRequired[int]  # devices that share a net
    accumulate: NotRequired[int]  # parts of a batch that a step computes in sequence


class Procedure(TypedDict, total=False):
    """The part of a test's record that describes how its probabilities were computed."""

    scales: list[int | None]
    views: int
    compiled_shapes: int
    seconds: float
    images_per_second: float
    mean_of: list[str]
    weights: list[float]


class Evaluation(Procedure):
    """The record of a test, eval.<test>.json; it also has fields of an Environment."""

    protocol: str
    examples: int
    top1_error: NotRequired[float]  # percent
    top5_error: NotRequired[float]
    true_class_localization_error: NotRequired[float]  # of a net that predicts boxes, in place of the two above
    true_class_localization_error_without_blacklisted: NotRequired[float]
    step: int | None


@contextlib.contextmanager
def lock(workdir: Path, stays: bool = True, patience: float = 0) -> Iterator[None]:
    """Locks a run's directory, which is created if missing; raises BlockingIOError if another process has locked it.

    It waits up to `patience` seconds for the other process to end. The lock ends with this process, even if that is
    killed. On exit, raises FileNotFoundError if the directory was removed or replaced; with stays=False, the block
    itself may remove it.
    """
    path = workdir / "lock"
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "it is a file" if isinstance(error, FileExistsError) else error.strerror
        raise OSError(f"the directory {workdir} cannot be created: {reason}; give another --workdir") from None
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(f"{path} is a symbolic link, but must be a file; remove it") from None
        raise
    with os.fdopen(descriptor, "r+") as file:
        end, waits = time.monotonic() + patience, False
        while not _try_lock(file):
            file.seek(0)
            in_use = f"{workdir} is in use by another process ({file.read().strip() or 'unknown'})"
            if time.monotonic() >= end:
                raise BlockingIOError(f"{in_use}; wait for it, or give another --workdir")
            if not waits:
                print(f"{in_use}; waiting up to {patience:.0f} seconds for it to end", flush=True)
            waits = True
            time.sleep(0.5)
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


@contextlib.contextmanager
def failure_noted(workdir: Path) -> Iterator[None]:
    """Writes an error of this block to failure.txt, and removes that of an earlier start.

    A stop is no error, nor is the loss of another process, after which a run continues.
    """
    file = workdir / FAILURE
    processes.agree(lambda: file.unlink(missing_ok=True))  # before any process may fail
    try:
        yield
    except preemption.Preempted:
        raise
    except Exception as error:
        if processes.lost_another(error):
            raise
        with contextlib.suppress(OSError):  # the error may be that of a full disk
            file.write_text(printable(str(error) or type(error).__name__) + "\n", "utf-8")
        raise


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def expanded(path: str | Path) -> Path:
    """Expands ~ and ~user in a path. Raises ValueError if that home directory is unknown."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ValueError(f"the home directory in {path} is unknown; write the path without ~") from None


def printable(text: str) -> str:
    """Escapes control characters and undecodable bytes as \\xNN or \\uNNNN, which leaves one line."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" if c < "\u0100" else f"\\u{ord(c):04x}" for c in text)


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file atomically."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w") as file:
        file.write(json.dumps(content, indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_json(path: Path, kind: type[Content], *keys: str, remedy: str = "remove it, and start again") -> Content:
    """Reads a JSON file. Raises OSError with the file's name if it is damaged or a key is missing."""
    try:
        content = json.loads(path.read_bytes())
        if not isinstance(content, kind):
            raise ValueError(f"it holds a {type(content).__name__}, not a {kind.__name__}")
        if missing := [key for key in keys if key not in content]:
            raise ValueError(f"it has no {missing[0]!r}")
    except (RecursionError, ValueError) as error:  # not JSON, or not UTF-8
        raise OSError(f"{path} is damaged: {error}; {remedy}") from None
    return content


def read_eval(file: Path, *keys: str) -> Evaluation:
    """Reads the record of a test. Raises OSError if it is damaged or a key is missing."""
    remedy = "remove it, and test again"
    record = read_json(file, dict, "examples", *keys, remedy=remedy)
    if BOX_ERROR not in record:
        read_json(file, dict, *CLASS_ERRORS, remedy=remedy)
    for name in ("examples", *errors_of(record)):
        if type(record[name]) not in (int, float):
            raise OSError(f"{file} is damaged: {name} is {record[name]!r}, not a number; {remedy}")
    return Evaluation(**record)


def errors_of(record: Mapping[str, Any]) -> dict[str, float]:
    """Returns the errors in the record of a test, in percent; the first is the main one."""
    return {
        name: record[name] for name in (*CLASS_ERRORS, BOX_ERROR, f"{BOX_ERROR}_without_blacklisted") if name in record
    }


def read_starts(workdir: Path, *keys: str) -> list[Environment]:
    """Reads environment.json, one entry per start. Raises OSError if it is damaged or a key is missing."""
    path = workdir / "environment.json"
    remedy = "restore it, or move it away"
    starts = read_json(path, list, remedy=remedy)
    if not starts or not all(isinstance(start, dict) and {*keys} <= {*start} for start in starts):
        wanted = f"with {', '.join(keys)}"
        raise OSError(f"{path} is damaged: it does not hold one entry per start {wanted}; {remedy}")
    return starts


def record_start(workdir: Path, from_step: int = 0, model_parallel: int = 1, accumulate: int = 1) -> list[str]:
    """Appends this start of training to environment.json; tests record their environment in their own files.

    Returns the differences from the previous start that can change the last bits of results. With several processes,
    process 0 does this.
    """
    if not processes.primary():
        return []
    path = workdir / "environment.json"
    starts = read_starts(workdir, *FIXED) if path.exists() else []
    settings = {"from_step": from_step, "model_parallel": model_parallel, "accumulate": accumulate}
    starts.append(Environment(**environment(), **settings))
    write_json(path, starts)
    if len(starts) == 1:
        return []
    before, now = starts[-2:]
    changes = [f"{key}: {before[key]} before, {now[key]} now" for key in FIXED if before[key] != now[key]]
    old: dict[str, Any] = {"forms": now["forms"], **dict.fromkeys(DIVISION, 1), **before}
    changes += [f"{key}: {old[key]} before, {now[key]} now" for key in ("forms", *DIVISION) if old[key] != now[key]]
    return changes


def environment() -> Environment:
    """Returns the time, code, versions and devices of this process."""
    import jax  # here, since reading a run's files does not need it

    commit = _git("rev-parse", "HEAD") if repository.is_checkout() else None
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "argv": sys.argv,
        "commit": commit,
        "dirty": None if commit is None else _git("status", "--porcelain", "--untracked-files=no") != "",
        "python": sys.version.split()[0],
        "versions": {name: metadata.version(name) for name in VERSIONS},
        "device_kind": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "processes": jax.process_count(),
        "cpus": len(os.sched_getaffinity(0)),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "matmul_precision": jax.config.jax_default_matmul_precision,  # pyrefly: ignore[missing-attribute], set by JAX
        "forms": forms.current_forms(),
    }


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git, or not a checkout
        return None
