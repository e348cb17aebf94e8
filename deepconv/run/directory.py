"""A run's directory: who holds it, what its JSON files say, and what each start leaves there."""

import contextlib
import datetime
import errno
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from deepconv.ops import forms

VERSIONS = ("deepconv", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
# What has to stay, if the last bits of results are to be the same
FIXED = ("versions", "device_kind", "devices", "cpus", "xla_flags", "matmul_precision", "forms")
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
    older = read_starts(workdir, *FIXED[:-1]) if path.exists() else []
    starts = [{"forms": ""} | start for start in older]  # before 0.2.0, forms could not be chosen
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
        "forms": forms.chosen(),
    }


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git, or not a checkout
        return None
