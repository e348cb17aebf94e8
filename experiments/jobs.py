"""The missing runs of tables as commands, in the order in which they can run. Without JAX."""

import shlex
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from deepconv.run.preemption import EXIT_CODE as STOPPED
from experiments import entry
from experiments.entry import Run, Table
from experiments.measurements import Results

Command = Sequence[str]  # the module and its arguments, after `python -m`
MAIN = "deepconv.main"
CRASHED = (134, 137, 138, 143)  # exit codes: SIGABRT (also if another process is lost), SIGKILL, SIGUSR1, SIGTERM
EMPTY: Mapping[str, Iterable[str]] = {}


@dataclass(frozen=True)
class Job:
    """Commands to run one after the other, once the job it needs is done."""

    commands: Sequence[Command]
    needs: str = ""


def missing_runs(chosen: Mapping[str, Table], done: Mapping[str, Results]) -> list[tuple[Run, str]]:
    """Returns the runs and tests the entries still need, given their results."""
    return [pair for name, table in chosen.items() for pair in entry.missing(table, done[name])]


def missing(
    chosen: Mapping[str, Table], done: Mapping[str, Results], runs: str, flags: Sequence[str] = ()
) -> dict[str, Job]:
    """Returns {run's name: job} for the entries' missing runs and the runs they start from.

    `runs` is the folder of all runs; `flags` are added to every command.
    """
    extra: dict[str, dict[str, None]] = {}  # ordered sets
    for name, table in chosen.items():
        for run, _ in entry.missing(table, done[name]):
            lines = [run.format_command(line, runs) for line in table.extra_commands]
            extra.setdefault(run.name, {}).update(dict.fromkeys(lines))
    return for_runs(missing_runs(chosen, done), runs, flags, extra)


def for_runs(
    pairs: Iterable[tuple[Run, str]], runs: str, flags: Sequence[str] = (), extra: Mapping[str, Iterable[str]] = EMPTY
) -> dict[str, Job]:
    """Returns {run's name: job} for runs with tests, and the runs they start from.

    `runs` is the folder of all runs; `flags` are added to every command; extra: {run's name: further commands}.
    """
    todo = {}
    for name, (run, tests) in entry.jobs(pairs).items():
        main = [MAIN, *run.arguments(tests, runs), f"--workdir={runs}/{name}", *flags]
        after_main = [[*shlex.split(line), *flags] for line in extra.get(name, ())]
        todo[name] = Job([main, *after_main], run.init_from.name if run.init_from else "")
    return todo


def run_all(
    todo: Mapping[str, Job],
    max_running: int,
    start: Callable[[str, Command], Callable[[], int | None]],
    report: Callable[[str, int, float], None] = lambda name, code, seconds: None,
) -> dict[str, int]:
    """Runs all jobs, each after the job it needs, and returns the nonzero exit codes.

    start(name, command) starts a command and returns a function that polls its exit code, None while it runs. A job
    that needs a failed job does not start, and no job starts after one was stopped (exit code 75).
    """
    waiting, running, ended = dict(todo), {}, {}
    while waiting or running:
        for name, job in list(waiting.items()):
            if ended.get(job.needs) or STOPPED in ended.values():
                ended[name] = ended.get(job.needs) or STOPPED
                del waiting[name]
            elif len(running) < max_running and (job.needs not in todo or job.needs in ended):
                del waiting[name]
                running[name] = time.monotonic(), list(job.commands[1:]), start(name, job.commands[0])
        for name, (start_time, remaining, poll) in list(running.items()):
            if (code := poll()) is None:
                continue
            if code == 0 and remaining:
                running[name] = start_time, remaining[1:], start(name, remaining[0])
                continue
            del running[name]
            ended[name] = code
            report(name, code, time.monotonic() - start_time)
        time.sleep(0.05)
    return {name: code for name, code in ended.items() if code}
