"""The state and the progress of a run, read from its directory. Without JAX."""

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepconv.config import durations
from deepconv.run import log as runlog
from deepconv.run.directory import FAILURE
from deepconv.run.evaluations import errors_of, read_eval
from deepconv.run.files import printable

# waiting: not begun; queued: in a cluster's queue; stopped: it continues when its command is repeated
STATES = ("running", "queued", "stopped", "waiting", "failed", "finished")


@dataclass(frozen=True)
class Progress:
    """The progress of a run that has begun."""

    step: int
    total_steps: int  # 0 if weights are tested without training
    test_error: float | None  # percent; of the last test, top-1 or, of nets that predict boxes, localisation
    seconds_left: int | None  # of training; of a stopped run, once it continues


def read(workdir: Path, config: Mapping[str, Any], tests: Sequence[Path]) -> Progress:
    """Reads the progress of a run with this config.json. Raises OSError.

    Its error is that of the last of these tests or, without one, the last in its log.
    """
    total = durations.total_steps(config)
    if tests:
        return Progress(total, total, next(iter(errors_of(read_eval(tests[-1])).values())), None)
    step, error, speed = 0, None, None
    for record in runlog.newest_metrics(workdir):
        step = step or int(record["step"])
        error = runlog.error_of(record, "test") if error is None else error
        speed = speed or record.get("images_per_second")
        if error is not None and speed:
            break
    left = round((total - step) * config["batch_size"] / speed) if speed else None
    return Progress(step, total, error, left)


def failure(workdir: Path) -> str:
    """Returns the error of the last start that began to work, "" if it did not fail. Raises OSError."""
    try:
        text = (workdir / FAILURE).read_text("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    return printable(text.strip()) or f"{FAILURE} is empty"  # as on a full disk


def state(workdir: Path, tested: bool) -> tuple[str, str]:
    """Returns the state of a run that has begun, and its process or error. Raises OSError.

    tested: every result that the run is to give exists.
    """
    if process := holder(workdir):
        return "running", f"process {process}"
    if error := failure(workdir):
        return "failed", error
    # a kill may leave the table of a test that is done
    tables = {path.name.removeprefix("probs.").removesuffix(".partial.npy") for path in workdir.glob("*.partial.npy")}
    begun = [name for name in tables if not (workdir / f"eval.{name}.json").exists()]
    return ("finished" if tested and not begun else "stopped"), ""


def counts(states: Sequence[str]) -> str:
    """Returns the number of runs in each state, as in "1 running, 3 finished"."""
    return ", ".join(f"{states.count(state)} {state}" for state in STATES if state in states)


def last_holder(workdir: Path) -> tuple[int, str] | None:
    """Returns the process that last had a run's lock, and its machine; it may have ended. None if it is unknown."""
    try:
        process, host = re.findall(r"process (\d+) on (\S+)", (workdir / "lock").read_text())[0]
    except (OSError, IndexError, UnicodeDecodeError):
        return None
    return int(process), host


def holder(workdir: Path) -> int | None:
    """Returns the process of this machine that has a run's lock; trying the lock would get in the way of a start."""
    process, host = last_holder(workdir) or (0, "")
    if host != os.uname().nodename:
        return None
    try:
        lock = (workdir / "lock").stat()
    except OSError:  # removed meanwhile
        return None
    try:
        open_files = [*Path(f"/proc/{process}/fd").iterdir()]
    except PermissionError:  # the process of another user
        locks = Path("/proc/locks").read_text().splitlines()
        return process if any(f" {process} " in line and f":{lock.st_ino} " in line for line in locks) else None
    except OSError:  # the process has ended
        return None
    for file in open_files:
        with contextlib.suppress(OSError):  # closed by now
            if os.path.samestat(lock, file.stat()):
                return process
    return None
