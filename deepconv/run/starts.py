"""environment.json: the code, versions and devices of each start of training."""

import datetime
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from deepconv import processes, repository
from deepconv.ops import forms
from deepconv.run.files import read_json, write_json

VERSIONS = ("deepconv", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
VERSIONS += ("opencv-python-headless", "pillow", "simplejpeg")  # they decode and rescale images
# results are bit-exact only if these stay the same
FIXED = ("versions", "device_kind", "devices", "cpus", "xla_flags", "matmul_precision")
DIVISION = ("processes", "model_parallel", "accumulate")  # likewise; 1 in starts that do not record them


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
    # earlier versions recorded fewer libraries
    now = {**now, "versions": {name: now["versions"][name] for name in before["versions"] if name in now["versions"]}}
    changes = [f"{key}: {before[key]} before, {now[key]} now" for key in FIXED if before[key] != now[key]]
    old: dict[str, Any] = {"forms": now["forms"], **dict.fromkeys(DIVISION, 1), **before}
    changes += [f"{key}: {old[key]} before, {now[key]} now" for key in ("forms", *DIVISION) if old[key] != now[key]]
    return changes


def read_starts(workdir: Path, *keys: str) -> list[Environment]:
    """Reads environment.json, one entry per start. Raises OSError if it is damaged or a key is missing."""
    path = workdir / "environment.json"
    remedy = "restore it, or move it away"
    starts = read_json(path, list, remedy=remedy)
    if not starts or not all(isinstance(start, dict) and {*keys} <= {*start} for start in starts):
        wanted = f"with {', '.join(keys)}"
        raise OSError(f"{path} is damaged: it does not hold one entry per start {wanted}; {remedy}")
    return starts


def versions() -> dict[str, str]:
    """Returns the versions of the libraries on which results depend."""
    return {name: _version(name) for name in VERSIONS}


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:  # as where OpenCV comes from another distribution
        return "unknown"


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
        "versions": versions(),
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
