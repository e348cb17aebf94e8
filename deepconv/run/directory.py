"""A run's directory: its lock, and the failure of its last start."""

import contextlib
import errno
import fcntl
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from deepconv import processes
from deepconv.run import preemption
from deepconv.run.files import printable

FAILURE = "failure.txt"
# After the failure of a node, Slurm starts its jobs elsewhere while their old processes may still run. A job waits this
# long for them; then it exits with code 75, and Slurm queues it again.
PATIENCE_SECONDS = 60
LAUNCHED = "DEEPCONV_LAUNCHED"  # set in the environment of runs that launch.local starts


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
                raise BlockingIOError(f"{in_use}; wait for it, or use another directory")
            if not waits:
                print(f"{in_use}; waiting up to {patience:.0f} seconds for it to end", flush=True)
            waits = True
            time.sleep(0.5)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {os.uname().nodename}")
        file.flush()
        locked = workdir.stat()
        try:
            yield
        finally:
            if stays and not _is(workdir, locked):
                raise FileNotFoundError(
                    f"{workdir} was removed or replaced while this run used it; give another --workdir"
                )
            if stays and not _is(path, os.fstat(file.fileno())):
                print(f"WARNING: {path} was removed; another start could have used the directory", file=sys.stderr)


def job_patience() -> float:
    """Returns how long a command waits for a directory that is in use, in seconds: not at all outside Slurm."""
    return PATIENCE_SECONDS if _in_slurm() else 0


def code_of(error: Exception, code: int) -> int:
    """Returns the exit code for an error: 75 in a Slurm job whose directory is in use, else the given one.

    A run that `launch.local` starts in such a job fails alone: Slurm would queue all runs again.
    """
    queued_again = _in_slurm() and LAUNCHED not in os.environ
    return preemption.EXIT_CODE if queued_again and isinstance(error, BlockingIOError) else code


def _in_slurm() -> bool:
    return "SLURM_JOB_ID" in os.environ


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


def _is(path: Path, expected: os.stat_result) -> bool:
    return path.exists() and os.path.samestat(path.stat(), expected)


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
