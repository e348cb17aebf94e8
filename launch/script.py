"""The batch script of a job array: one task per run, for people to read and edit."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from experiments.jobs import CRASHED, MAIN, Job
from launch import queue
from launch.selection import RUNS
from launch.state import ENDED

GPU_PLATFORM = "cuda"  # without it, or with "cuda,cpu", JAX works on the CPU where it finds no GPU
LONGEST_ARRAY = 1000  # tasks; Slurm's own default limit is 1001
LEAD_SECONDS = 180  # at most, from the signal to the time limit
RESERVED = (
    "array chdir cpus-per-task dependency error gpus-per-node job-name kill-on-invalid-dep no-requeue nodes".split()
)
RESERVED += "ntasks ntasks-per-node open-mode output parsable partition requeue signal time wrap".split()
TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::([0-5]\d))?(?::([0-5]\d))?")

TEMPLATE = """#!/bin/bash
# {count}, written by launch.slurm. To submit it by hand: sbatch {runs}/{folder}/{name}.sh
{directives}

# Runs a command. Slurm's signal before the time limit goes on to it, and it saves and exits with code 75.
run() {{
  [ -z "$signalled" ] || {{ code=75; return 1; }}
  {srun} "$@" &
  while wait $!; kill -0 $! 2>/dev/null; do :; done  # a signal ends `wait`, but not srun
  wait $!; code=$?
  [ $code = 0 ]
}}
signalled=
trap 'signalled=yes; [ -z "$!" ] || kill -USR1 $! 2>/dev/null' USR1
python={python}
{environment}retries={retries}  # after this many restarts, a crash ends the job

case $SLURM_ARRAY_TASK_ID in
{cases}
  *) echo "{name} has no task $SLURM_ARRAY_TASK_ID"; exit 2 ;;
esac

echo "{ended} $code"  # launch.status reads this line
case $code in
  75) scontrol requeue $SLURM_JOB_ID ;;  # stopped
  {crashed})  # ended by a signal, or by the loss of another process
    [ ${{SLURM_RESTART_COUNT:-0}} -ge $retries ] || scontrol requeue $SLURM_JOB_ID ;;
esac
exit $code
"""


@dataclass(frozen=True)
class Options:
    """The resources and options of every job array."""

    partition: str
    nodes: int = 1
    gpus_per_node: int = 1
    cpus_per_node: int = 0  # 0: the partition's default
    parallel: int = 0  # tasks of an array at once; 0: no limit
    time: str = ""  # "": the partition's limit
    retries: int = 5
    further: Sequence[str] = field(default_factory=tuple)  # KEY=VALUE or KEY

    def __post_init__(self) -> None:
        """Raises ValueError for values that sbatch would refuse or misread."""
        if self.time and not TIME.fullmatch(self.time):
            raise ValueError(f"--time={self.time} is not a time; give minutes, HH:MM:SS or DAYS-HH:MM:SS")
        for option in self.further:
            key = option.partition("=")[0]
            if not re.fullmatch(r"[a-z][a-z-]+", key) or not _plain(option):
                raise ValueError(
                    f"--sbatch={option} is not an option; write --sbatch=KEY=VALUE, as in --sbatch=account=me"
                )
            if key in RESERVED:
                raise ValueError(f"--sbatch={option}: launch.slurm sets {key} itself; see --help, or edit the script")
        if not _plain(self.partition):
            raise ValueError(f"--partition={self.partition} is not a name; sinfo lists the partitions")


def _plain(text: str) -> bool:
    """Returns whether a text can stand in a line of sbatch's options: without spaces, quotes and the like."""
    return re.fullmatch(r"[\w.,:=@%+/&|*\[\]-]+", text) is not None


@dataclass(frozen=True)
class Array:
    """Jobs of one job array, and the jobs that all of them need, as far as these are not finished."""

    needs: Sequence[str]
    todo: dict[str, Job] = field(default_factory=dict)

    def dependency(self, ids: Mapping[str, str]) -> str:
        """Returns what the array waits for, such as "afterok:17_3:18_0"; ids: of the jobs in Slurm."""
        return ":".join(["afterok", *(ids[need] for need in self.needs)]) if self.needs else ""


def arrays(todo: Mapping[str, Job], ids: Mapping[str, str]) -> list[Array]:
    """Groups jobs by the jobs they need, in an order in which they can be submitted. ids: of jobs in Slurm's queue."""
    found: dict[Sequence[str], list[Array]] = {}
    for name, job in todo.items():
        needs = tuple(need for need in job.needs if need in todo or need in ids)
        group = found.setdefault(needs, [Array(needs)])
        if len(group[-1].todo) == LONGEST_ARRAY:
            group.append(Array(needs))
        group[-1].todo[name] = job
    return [array for group in found.values() for array in group]


def seconds(time: str) -> int:
    """Returns a time limit of Slurm in seconds: minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM or D-HH:MM:SS."""
    match = TIME.fullmatch(time)
    if match is None:
        raise ValueError(f"{time!r} is not a time of Slurm")
    days, *numbers = match.groups()
    values = [int(number) for number in numbers if number]
    if days is not None:
        hours, minutes, rest = [*values, 0, 0][:3]
    elif len(values) == 3:
        hours, minutes, rest = values
    else:
        hours, (minutes, rest) = 0, [*values, 0][:2]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + rest


def text(name: str, todo: Mapping[str, Job], options: Options, python: str, dependency: str = "") -> str:
    """Returns the script of an array of jobs. dependency: tasks to be finished before, as "afterok:17_3:18_0"."""
    limit_seconds = seconds(options.time) if options.time else 0  # 0: the partition's limit, or none
    lead = min(LEAD_SECONDS, limit_seconds // 2) or LEAD_SECONDS
    limit = f"%{options.parallel}" if options.parallel else ""
    directives = [f"job-name={name}", f"array=0-{len(todo) - 1}{limit}", f"partition={options.partition}"]
    trains = any(job.commands[0][0] == MAIN for job in todo.values())  # other commands work on one node
    directives += [f"nodes={options.nodes if trains else 1}", "ntasks-per-node=1"]
    directives += [f"gpus-per-node={options.gpus_per_node}"] if options.gpus_per_node else []
    directives += [f"cpus-per-task={options.cpus_per_node}"] if options.cpus_per_node else []
    directives += [f"time={options.time}"] if options.time else []
    directives += [*options.further, f"signal=B:USR1@{lead}", "requeue"]
    directives += ["open-mode=append", f"output={RUNS}/{queue.FOLDER}/%x.%a.log"]
    directives += [f"dependency={dependency}", "kill-on-invalid-dep=yes"] if dependency else []
    environment = f"export JAX_PLATFORMS={GPU_PLATFORM}\n" if options.gpus_per_node else ""
    srun = "srun --kill-on-bad-exit=1"
    if options.cpus_per_node:
        srun += f" --cpus-per-task={options.cpus_per_node}"  # srun does not take sbatch's
    return TEMPLATE.format(
        count=f"{len(todo)} run{'s' * (len(todo) > 1)}",
        directives="\n".join(f"#SBATCH --{directive}" for directive in directives),
        cases="\n".join(_case(index, run, job, options) for index, (run, job) in enumerate(todo.items())),
        **dict(name=name, runs=RUNS, folder=queue.FOLDER, srun=srun, python=shlex.quote(python)),
        **dict(environment=environment, ended=ENDED, retries=options.retries, crashed=" | ".join(map(str, CRASHED))),
    )


def _case(index: int, run: str, job: Job, options: Options) -> str:
    """Returns the commands of a task. Commands other than training work in one process, on the first node."""
    lines = []
    devices = options.nodes * options.gpus_per_node
    for command in job.commands:
        trains = command[0] == MAIN
        expected = [f"--expect_devices={devices}"] if trains and devices else []
        placement = "" if trains else "--nodes=1 --ntasks=1 "
        lines.append(f'{placement}"$python" -m {shlex.join([*command, *expected])}')
    return f"  {index})  # {run}\n    run " + " &&\n    run ".join(lines) + "\n    ;;"
