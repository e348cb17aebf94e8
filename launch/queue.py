"""Slurm's jobs for the runs of a folder: those in its queue, and the outcomes of ended ones.

For each submission, runs/slurm/NAME.json has the job's id, and lists the runs in the order of the array's tasks. NAME
is the job's name, by which lines of squeue are assigned to runs.
"""

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deepconv.run.files import printable, read_json, write_json
from experiments.jobs import Job

FOLDER = "slurm"  # in the folder of runs
ANSWERS_WITHIN_SECONDS = 30


@dataclass(frozen=True)
class Task:
    """A task of a job array."""

    id: str  # such as "17_3"
    state: str  # Slurm's word, such as PENDING
    reason: str  # Slurm's reason for waiting
    commands: Sequence[Sequence[str]]


def call(*command: str) -> str:
    """Returns the output of one of Slurm's commands. Raises OSError with its message in one line."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWERS_WITHIN_SECONDS)
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"{command[0]} does not answer within {ANSWERS_WITHIN_SECONDS} seconds") from None
    if done.returncode:
        message = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise OSError(f"{command[0]}: {message.removeprefix(f'{command[0]}: ')}")
    return done.stdout


@dataclass(frozen=True)
class Submission:
    """A submitted job array."""

    runs: Sequence[str]  # the run of each task
    job: str  # its id; empty until sbatch has answered
    commands: Mapping[str, Sequence[Sequence[str]]]  # of each run


def submissions(runs: Path) -> dict[str, Submission]:
    """Returns {job's name: its submission}, oldest first. Raises OSError."""
    files = sorted(runs.glob(f"{FOLDER}/*.json"), key=lambda file: file.stat().st_mtime)
    remedy = "restore it: without it, its queued runs would be submitted again"
    contents = {file.stem: read_json(file, dict, "runs", "job", "commands", remedy=remedy) for file in files}
    return {
        name: Submission(content["runs"], content["job"], content["commands"]) for name, content in contents.items()
    }


def tasks(runs: Path) -> dict[str, Task]:
    """Returns {run: its task} for the runs of a folder that are queued or running. Raises OSError."""
    found, submitted = {}, submissions(runs)
    if not submitted:
        return {}
    # Others may have submitted runs of this folder, too. %Z, the directory in which a job was submitted, is last, since
    # it may contain the separator.
    answer = call("squeue", "-h", "-r", f"--name={','.join(submitted)}", "-o", "%j|%i|%T|%r|%Z")
    for line in answer.splitlines():
        name, id, state, reason, folder = line.split("|", 4)
        index = id.rpartition("_")[2]
        if name in submitted and Path(folder).resolve() == runs.absolute().parent.resolve() and index.isdigit():
            submission = submitted[name]
            if int(index) < len(submission.runs):
                run = submission.runs[int(index)]
                found[run] = Task(id, state, reason, submission.commands[run])
    return found


def known_tasks(runs: Path) -> dict[str, Task] | None:
    """Returns the tasks, or None where there is no Slurm, or if it does not answer, of which it warns."""
    if shutil.which("squeue") is None:
        return None
    try:
        return tasks(runs)
    except OSError as error:
        print(f"deepconv: Slurm's queue is unknown: {printable(str(error))}", file=sys.stderr)
        return None


def endings(runs: Path) -> dict[str, str]:
    """Returns {run: how its last task ended}, such as TIMEOUT, as far as sacct answers; empty without accounting."""
    by_id = {}
    for submission in submissions(runs).values():
        by_id |= {f"{submission.job}_{index}": run for index, run in enumerate(submission.runs) if submission.job}
    if not by_id or shutil.which("sacct") is None:
        return {}
    ids = sorted({id.partition("_")[0] for id in by_id}, key=int)
    try:
        answer = call("sacct", "-n", "-P", "-X", "-o", "JobID,State", "-j", ",".join(ids))
    except OSError:  # accounting is off in many clusters; run directories and logs say enough
        return {}
    found = (line.split("|") for line in answer.splitlines() if line.count("|") == 1)
    return {by_id[id]: state.split(" ")[0] for id, state in found if id in by_id}


def write_submission(runs: Path, name: str, todo: Mapping[str, Job], job: str) -> None:
    """Records a submission; job is empty until sbatch has answered."""
    commands = {run: job.commands for run, job in todo.items()}
    write_json(runs / FOLDER / f"{name}.json", {"runs": [*todo], "job": job, "commands": commands})
