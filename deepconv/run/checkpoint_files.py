"""The files of checkpoints, without orbax: SHA-256 sums, damaged and half-written checkpoints, listings."""

import hashlib
import json
import shutil
import sys
import time
from pathlib import Path

from deepconv.run.files import read_json

SUMS = "SHA256SUMS.json"
NOT_SUMMED = (SUMS, "_CHECKPOINT_METADATA")  # orbax adds the time to the latter afterwards; restoring ignores it
LISTING_SECONDS = 120  # NFS keeps the list of a directory for up to 60 seconds (acdirmax)
HALF_WRITTEN = ".orbax-checkpoint-tmp"  # in the name of the directory of an incomplete save


class CheckpointError(OSError):
    """A checkpoint cannot be written, or none can be restored."""


def clean(directory: Path) -> list[int]:
    """Removes half-written checkpoints, moves damaged ones away, and returns the steps of the rest."""
    directory.mkdir(parents=True, exist_ok=True)
    for half_written in directory.glob(f"*{HALF_WRITTEN}"):
        shutil.rmtree(half_written)
    _move_damaged(directory)
    return steps(directory)


def await_listing(directory: Path, expected: list[int]) -> None:
    """Waits until this process sees the checkpoints that process 0 sees; network file systems may show old listings.

    With an old listing, a process would skip a save that the other processes wait for. Raises CheckpointError.
    """
    for _ in range(LISTING_SECONDS):
        if steps(directory) == expected:
            return
        time.sleep(1)
    raise CheckpointError(
        f"{directory} has checkpoints of steps {steps(directory)} here, and of steps {expected} on the machine of "
        "process 0; give all processes the same directory on a file system that they share"
    )


def _move_damaged(directory: Path) -> None:
    """Moves damaged checkpoints that are newer than all undamaged ones. Raises CheckpointError if all are damaged."""
    damaged = directory.with_name(directory.name + ".damaged")
    for step in reversed(steps(directory)):
        if not (reason := damage(directory / str(step))):
            return
        moved = damaged / str(step)
        print(f"CHECKPOINT {step} IS DAMAGED ({reason}); it is moved to {moved}", file=sys.stderr, flush=True)
        shutil.rmtree(moved, ignore_errors=True)
        damaged.mkdir(exist_ok=True)
        (directory / str(step)).rename(moved)
    if damaged.exists():
        raise CheckpointError(
            f"all checkpoints in {directory} are damaged; they are now in {damaged}. "
            "To train again from the start, give another --workdir"
        )


def steps(directory: Path) -> list[int]:
    """Returns the steps that have complete checkpoints, in order."""
    return sorted(int(path.name) for path in directory.glob("*") if path.name.isdigit())


def newest(directory: Path) -> tuple[int | None, str | None]:
    """Returns the newest checkpoint's step and a digest of its sums; None for what is missing."""
    step = max(steps(directory), default=None)
    file = directory / str(step) / SUMS
    return step, hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else None


def damage(checkpoint: Path) -> str | None:
    """Describes the damage of a checkpoint on disk; returns None if it is undamaged."""
    try:
        expected = read_json(checkpoint / SUMS, dict)
    except OSError:
        expected = {}
    if not expected:
        return f"{SUMS} is missing or unreadable"
    actual = sums(checkpoint)
    wrong = sorted(name for name in expected if actual.get(name) != expected[name])
    return f"{wrong[0]} has changed or is gone" if wrong else None


def sums(checkpoint: Path) -> dict[str, str]:
    """Returns the SHA-256 sum of each file of a checkpoint, by its path inside."""
    found = {}
    for path in sorted(checkpoint.rglob("*")):
        if path.is_file() and path.name not in NOT_SUMMED:
            with path.open("rb") as file:
                found[str(path.relative_to(checkpoint))] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def write_sums(directory: Path) -> None:
    """Writes sums of all files; orbax calls this before it renames the directory to a checkpoint."""
    for checkpoint in directory.glob(f"*{HALF_WRITTEN}"):
        (checkpoint / SUMS).write_text(json.dumps(sums(checkpoint), indent=1))
