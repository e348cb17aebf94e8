"""The state of runs, from their directories, their logs and Slurm's queue. Without JAX."""

import contextlib
import datetime
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from deepconv.config import durations, recipes
from deepconv.run import log as runlog
from deepconv.run import preemption
from deepconv.run.directory import printable, read_eval
from launch import queue

LOCAL = "local"  # the folder of launch.local's logs, in the folder of runs
STATES = ("running", "queued", "saved", "waiting", "failed", "done")
ENDED = "launch: exit code"  # begins the line with which launchers end a log
ORDERLY = re.compile(rf"{ENDED} ({preemption.EXIT_CODE}|0)$|deepconv: stopped by ")
WITHOUT_NEWS = re.compile(r"srun: (launch|Job step|Force)|srun: error: .*: Exited with exit code")


@dataclass(frozen=True)
class State:
    """The state of a run: one of STATES, with details, its progress, and its error."""

    run: str
    state: str
    details: str = ""  # Slurm's job, or the last line of the log
    step: int | None = None
    total_steps: int | None = None
    test_top1_error: float | None = None  # percent; of the last test
    seconds_left: int | None = None  # of training; of a stopped run, once it continues


def log_files(runs: Path) -> dict[str, Path]:
    """Returns {run: its newest log} for the runs that a launcher has started. Raises OSError."""
    files = [(file.name.removesuffix(".log"), file) for file in runs.glob(f"{LOCAL}/*.log")]
    for name, (run_names, _) in queue.submissions(runs).items():
        files += [(run, runs / queue.FOLDER / f"{name}.{index}.log") for index, run in enumerate(run_names)]
    existing = [(run, file) for run, file in files if file.exists()]
    return dict(sorted(existing, key=lambda pair: pair[1].stat().st_mtime))


def tail(log: Path) -> list[str]:
    """Returns the last lines of a log, with only the last state of a progress bar."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 10_000))
        lines = file.read().decode(errors="replace").split("\n")
    return [printable(line.rstrip().rpartition("\r")[2]) for line in lines]


def of_run(
    workdir: Path,
    tests: Sequence[str],
    log: Path | None = None,
    task: queue.Task | None = None,
    ending: str = "",
) -> State:
    """Returns the state of a run with these tests. ending: sacct's word for the end of its last job."""
    try:
        found = _progress(workdir, tests)
    except OSError as error:
        return State(workdir.name, "failed", printable(str(error)))
    if task:
        running = task.state in ("RUNNING", "COMPLETING")
        reason = "" if task.reason == "None" else f": {task.reason}"
        details = f"job {task.id}" if running else f"job {task.id}, {task.state}{reason}"
        return replace(found, state="running" if running else "queued", details=details)
    if all((workdir / f"eval.{test}.json").exists() for test in tests):
        return replace(found, state="done", seconds_left=None)
    if holder := _holder(workdir):
        return replace(found, state="running", details=f"process {holder}")
    if any(path.name.isdigit() for path in (workdir / "checkpoints").glob("*")):
        found = replace(found, state="saved")
    if log and (failure := _failure(tail(log))):
        return replace(found, state="failed", details=f"{ending}: {failure}" if ending else failure)
    return replace(found, details=ending)


def _failure(lines: Sequence[str]) -> str:
    """Returns the last informative line of a log; empty if the run was done, or stopped by a signal."""
    news = [line for line in lines if line and not WITHOUT_NEWS.match(line)]
    ends = [index for index, line in enumerate(news) if ORDERLY.match(line)]
    after = news[ends[-1] + 1 :] if ends else news
    if ends and all(line.startswith("slurmstepd:") for line in after):
        return ""
    return next((line for line in reversed(news) if not line.startswith(ENDED)), "the log is empty")


def _progress(workdir: Path, tests: Sequence[str]) -> State:
    """Returns a run's progress, as the state of a waiting run. Raises OSError."""
    waiting = State(workdir.name, "waiting")
    if not (workdir / "config.json").exists():
        return waiting
    config, metrics = recipes.read_run(workdir), runlog.read_metrics(workdir)
    total, step = durations.total_steps(config), int(metrics[-1]["step"]) if metrics else 0
    errors = [record["test_top1_error"] for record in metrics if "test_top1_error" in record]
    tested = next((file for test in tests if (file := workdir / f"eval.{test}.json").exists()), None)
    error = read_eval(tested)["top1_error"] if tested else errors[-1] if errors else None
    speed = next((record["images_per_second"] for record in reversed(metrics) if record.get("images_per_second")), None)
    left = round((total - step) * config["batch_size"] / speed) if speed else None
    return replace(waiting, step=step, total_steps=total, test_top1_error=error, seconds_left=left)


def _holder(workdir: Path) -> int | None:
    """Returns the process of this machine that has a run's lock; trying the lock would get in the way of a start."""
    try:
        process, host = re.findall(r"process (\d+) on (\S+)", (workdir / "lock").read_text())[0]
        if host != os.uname().nodename:
            return None
        lock = (workdir / "lock").stat()
        open_files = [*Path(f"/proc/{process}/fd").iterdir()]
    except (OSError, IndexError, UnicodeDecodeError):  # no lock, or the process has ended
        return None
    for file in open_files:
        with contextlib.suppress(OSError):  # closed by now
            if os.path.samestat(lock, file.stat()):
                return int(process)
    return None


def row(state: State) -> tuple[str, ...]:
    """Returns the cells of a table: run, state, steps, test error, time left, details."""
    steps = "" if state.step is None else f"{state.step}/{state.total_steps}"
    error = "" if state.test_top1_error is None else f"{state.test_top1_error:.2f} %"
    left = "" if state.seconds_left is None else str(datetime.timedelta(seconds=state.seconds_left))
    return state.run, state.state, steps, error, left, state.details


def counts(states: Mapping[str, State]) -> str:
    """Returns the number of runs in each state, as in "1 running, 3 done"."""
    found = [state.state for state in states.values()]
    return ", ".join(f"{found.count(state)} {state}" for state in STATES if state in found)
