"""The state of runs, from their directories, their logs and Slurm's queue. Without JAX."""

import dataclasses
import datetime
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from deepconv import progress
from deepconv.config import recipes
from deepconv.run import preemption
from deepconv.run.files import printable
from launch import queue

LOCAL = "local"  # the folder of launch.local's logs, in the folder of runs
ENDED = "launch: exit code"  # begins the line with which launchers end a log
ORDERLY = re.compile(rf"{ENDED} ({preemption.EXIT_CODE}|0)$|deepconv: stopped by ")
WITHOUT_NEWS = re.compile(r"srun: (launch|Job step|Force)|srun: error: .*: Exited with exit code")


@dataclass(frozen=True)
class State:
    """The state of a run: one of progress.STATES, with details, its progress, and its error."""

    run: str
    state: str
    details: str = ""  # Slurm's job, the process, or why the run failed
    step: int | None = None
    total_steps: int | None = None
    test_error: float | None = None  # percent; of the last test, top-1 or, of nets that predict boxes, localisation
    seconds_left: int | None = None  # of training; of a stopped run, once it continues


def log_files(runs: Path) -> dict[str, Path]:
    """Returns {run: its newest log} for the runs that a launcher has started. Raises OSError."""
    files = [(file.name.removesuffix(".log"), file) for file in runs.glob(f"{LOCAL}/*.log")]
    for name, submission in queue.submissions(runs).items():
        files += [(run, runs / queue.FOLDER / f"{name}.{index}.log") for index, run in enumerate(submission.runs)]
    existing = [(run, file) for run, file in files if file.exists()]
    return dict(sorted(existing, key=lambda pair: pair[1].stat().st_mtime))


def tail(log: Path) -> list[str]:
    """Returns the last lines of a log, with only the last state of a progress bar."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 10_000))
        lines = file.read().decode(errors="replace").split("\n")
    return [printable(line.rstrip().rpartition("\r")[2]) for line in lines]


def of_job(
    workdir: Path,
    files: Sequence[str],
    log: Path | None = None,
    task: queue.Task | None = None,
    ending: str = "",
    queue_known: bool = True,
) -> State:
    """Returns the state of a run, or of a command that reads runs. files: its results, in its directory.

    A job in the queue decides; without one, the directory does. The log only tells that a run without an error in its
    directory has failed. ending: sacct's word for the end of the last job. queue_known: whether Slurm's queue was read.
    """
    found = State(workdir.name, "waiting")
    begun = any((workdir / file).exists() for file in ("config.json", "lock"))  # commands that read runs have no config
    try:
        if (workdir / "config.json").exists():
            tests = [workdir / file for file in files if (workdir / file).exists()]
            found = replace(found, **dataclasses.asdict(progress.read(workdir, recipes.read_run(workdir), tests[:1])))
        tested = all((workdir / file).exists() for file in files)
        state, details = progress.state(workdir, tested) if begun or tested else ("waiting", "")
    except OSError as error:
        return State(workdir.name, "failed", printable(str(error)))
    if task:
        running = task.state in ("RUNNING", "COMPLETING")
        reason = "" if task.reason == "None" else f": {task.reason}"
        details = f"job {task.id}" if running else f"job {task.id}, {task.state}{reason}"
        return replace(found, state="running" if running else "queued", details=details)
    started = workdir / "environment.json"
    if log and started.exists() and log.stat().st_mtime < started.stat().st_mtime:
        log = None  # the log of an earlier start
    lines = tail(log) if log else []
    end = next((line for line in reversed(lines) if line), "")
    # after a run, another command may have failed, such as predict; the log says nothing of results written after it
    later_failed = False
    if log and state == "finished" and end.startswith(ENDED) and not ORDERLY.match(end):
        later_failed = all((workdir / file).stat().st_mtime <= log.stat().st_mtime for file in files)
    if log and state in ("stopped", "waiting") and not end.startswith(ENDED):
        _, host = progress.last_holder(workdir) or (0, "")
        if log.parent.name == LOCAL and host not in ("", os.uname().nodename):
            log, details = None, f"or running on {host}"  # which only that machine knows
        elif log.parent.name == queue.FOLDER and not queue_known:
            log, details = None, "or running: Slurm's queue is unknown"
    if log and (state in ("stopped", "waiting") or later_failed) and (last := _failure(lines)):
        state, details = "failed", last
    if state in ("running", "finished"):
        ending = ""
    left = None if state == "finished" else found.seconds_left
    return replace(found, state=state, details=": ".join(filter(None, [ending, details])), seconds_left=left)


def _failure(lines: Sequence[str]) -> str:
    """Returns the last informative line of a log; empty if the run finished, or was stopped by a signal."""
    news = [line for line in lines if line and not WITHOUT_NEWS.match(line)]
    ends = [index for index, line in enumerate(news) if ORDERLY.match(line)]
    after = news[ends[-1] + 1 :] if ends else news
    if ends and all(line.startswith("slurmstepd:") for line in after):
        return ""
    return next((line for line in reversed(news) if not line.startswith(ENDED)), "the log is empty")


def row(state: State) -> tuple[str, ...]:
    """Returns the cells of a table: run, state, steps, test error, time left, details."""
    steps = "" if state.step is None else f"{state.step}/{state.total_steps}"
    error = "" if state.test_error is None else f"{state.test_error:.2f} %"
    left = "" if state.seconds_left is None else str(datetime.timedelta(seconds=state.seconds_left))
    return state.run, state.state, steps, error, left, state.details
