"""Submits the missing runs of tables, or the runs of a grid, to Slurm as job arrays.

    python -m launch.slurm resnet/table6 --partition=gpu --time=12:00:00 --data_dir=DIR
    python -m launch.slurm grid.py --config=resnet_cifar --partition=gpu --data_dir=DIR

A grid is a Python file with a function sweep() that yields dicts of changes, as in {"optimizer.learning_rate": 0.1}.
The scripts are kept in runs/slurm, with the logs. A run waits for those that give its weights or its proposals, and a
command that reads runs waits for these. Runs that are finished, queued or running are not submitted. A job that is
stopped is queued again and continues.
"""

if __name__ == "__main__":
    from deepconv.run import preemption

    preemption.install()  # before the imports, which take seconds

import contextlib
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from absl import flags

from deepconv import cli
from deepconv.run.directory import lock
from deepconv.run.files import printable
from experiments.jobs import Job
from launch import queue, script, selection, state
from launch.selection import RUNS, Selection

_PARTITION = flags.DEFINE_string("partition", None, "Slurm's partition.")
_NODES = flags.DEFINE_integer("nodes", 1, "Nodes of each run, with one process on each.", lower_bound=1)
_GPUS = flags.DEFINE_integer("gpus_per_node", 8, "GPUs of each node; 0 for CPUs only.", lower_bound=0)
_CPUS = flags.DEFINE_integer("cpus_per_node", None, "CPU cores of each node [the partition's default].", lower_bound=1)
_PARALLEL = flags.DEFINE_integer("parallel", None, "Runs of a job array at once, at most [no limit].", lower_bound=1)
_TIME = flags.DEFINE_string("time", "", "Time limit: minutes, HH:MM:SS or DAYS-HH:MM:SS [the partition's].")
_RETRIES = flags.DEFINE_integer(
    "retries",
    5,
    "Number of restarts after which a job that crashes is not queued again; see docs/cluster.md.",
    lower_bound=0,
)
_SBATCH = flags.DEFINE_multi_string("sbatch", [], "Another option of sbatch, as in --sbatch=account=me")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print the scripts and submit nothing.")
NO_SBATCH = "sbatch is not installed here; submit from a login node of the cluster, or print the scripts with --dry_run"


def main(arguments: list[str]) -> int:
    """Submits the job arrays."""
    submitted = 0
    try:
        if not _PARTITION.value:
            raise ValueError("--partition is missing; sinfo lists the partitions")
        if not (_DRY_RUN.value or shutil.which("sbatch")):
            raise ValueError(NO_SBATCH)
        options = script.Options(
            partition=_PARTITION.value,
            nodes=_NODES.value,
            gpus_per_node=_GPUS.value,
            cpus_per_node=_CPUS.value or 0,
            parallel=_PARALLEL.value or 0,
            time=_TIME.value,
            retries=_RETRIES.value,
            further=_SBATCH.value,
        )
        selected = selection.select(arguments)
        trained = [run for name, run in selected.runs.items() if name in selected.jobs]
        selection.check_division(trained, options.nodes, options.gpus_per_node)
        selection.check_data(selected)
        # Locked, since two commands at the same time would both find the runs in no queue.
        with contextlib.nullcontext() if _DRY_RUN.value else lock(Path(RUNS, queue.FOLDER)):
            tasks = (queue.known_tasks(Path(RUNS)) or {}) if _DRY_RUN.value else queue.tasks(Path(RUNS))
            todo = pending(selected, tasks)
            ids = {name: task.id for name, task in tasks.items()}
            arrays = script.arrays(todo, ids)
            for array, name in zip(arrays, new_names(arguments[1], len(arrays)), strict=True):
                submit(array, options, name, ids)
                submitted += len(array.todo)
    except (ValueError, OSError) as error:
        return cli.refuse(str(error), code=1 if submitted else 2)
    if not _DRY_RUN.value:
        print(
            f"{submitted} runs were submitted; their state: deepconv launch.status {selection.command_line(arguments)}"
        )
    return 0


def pending(selected: Selection, tasks: Mapping[str, queue.Task]) -> dict[str, Job]:
    """Returns the jobs that are neither finished, nor in Slurm's queue, nor running on this machine; prints the latter.

    Jobs that need another test of a queued run than its job does are left out, too.
    """
    todo, postponed = {}, set()
    for name, job in selected.jobs.items():
        found = state.of_job(Path(RUNS, name), selected.files[name])
        if task := tasks.get(name):
            more = not _words(job) <= _words(task)
            later = "; it does not do all that is asked for now: repeat this command when it has ended" if more else ""
            print(f"not submitted again: {name} (job {task.id}, {task.state}){later}", file=sys.stderr)
            postponed |= {name} if more else set()
        elif len(job.commands) == 1 and found.state == "finished":
            continue
        elif found.state == "running":
            print(f"not submitted: {name}, which is running on this machine ({found.details})", file=sys.stderr)
            postponed.add(name)
        elif needed := [need for need in job.needs if need in postponed]:
            print(f"not submitted yet: {name}, which needs {needed[0]}", file=sys.stderr)
            postponed.add(name)
        else:
            todo[name] = job
    return todo


def _words(work: Job | queue.Task) -> set[str]:
    """Returns the arguments of the commands of a job, with each test of --evals by itself."""
    arguments = [argument for command in work.commands for argument in command]
    return {word for argument in arguments for word in argument.removeprefix("--evals=").split(",")}


def new_names(argument: str, count: int) -> list[str]:
    """Returns names for jobs that no earlier job of the folder of runs has: resnet_table6.1, ..."""
    stem = Path(argument).stem if argument.endswith(".py") else argument
    stem = re.sub(r"\W+", "_", stem)
    files = Path(RUNS, queue.FOLDER).glob(f"{stem}.*.sh")
    last = max((int(match[1]) for file in files if (match := re.search(r"\.(\d+)\.sh$", file.name))), default=0)
    return [f"{stem}.{last + number}" for number in range(1, count + 1)]


def submit(array: script.Array, options: script.Options, name: str, ids: dict[str, str]) -> None:
    """Writes the script of an array and submits it as the job `name`; adds the ids of its tasks to `ids`."""
    folder = Path(RUNS, queue.FOLDER)
    content = script.text(name, array.todo, options, sys.executable, array.dependency(ids))
    if _DRY_RUN.value:
        print(content)
        ids |= {run: f"<id of {name}>_{index}" for index, run in enumerate(array.todo)}
        return
    file, record = folder / f"{name}.sh", folder / f"{name}.json"
    file.write_text(content)
    queue.write_submission(Path(RUNS), name, array.todo, "")  # before sbatch: the job is found by its name
    try:
        job = queue.call("sbatch", "--parsable", str(file)).strip().partition(";")[0]
    except OSError as error:
        if not isinstance(error, TimeoutError):  # a timeout leaves open whether there is a job
            file.unlink()
            record.unlink()
        raise
    queue.write_submission(Path(RUNS), name, array.todo, job)
    ids |= {run: f"{job}_{index}" for index, run in enumerate(array.todo)}
    for index, run in enumerate(array.todo):
        print(f"job {job}_{index}: {printable(run)}")
    print(f"script: {file}; logs: {folder / name}.<task>.log", flush=True)


if __name__ == "__main__":
    cli.run(main)
