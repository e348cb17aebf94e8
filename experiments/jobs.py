"""The missing runs of tables as commands, in the order in which they can run. Without JAX."""

import shlex
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from deepconv.run.preemption import EXIT_CODE as STOPPED
from experiments import cells, entry
from experiments.entry import Run, Table
from experiments.measurements import Results

Arguments = Sequence[str]  # the module and its arguments, after `python -m`
MAIN = "deepconv.main"
CRASHED = (134, 137, 138, 143)  # exit codes: SIGABRT (also if another process is lost), SIGKILL, SIGUSR1, SIGTERM
EMPTY: Mapping[str, Iterable[str]] = {}


@dataclass(frozen=True)
class Job:
    """Commands to run one after the other, once the jobs it needs are finished."""

    commands: Sequence[Arguments]
    needs: Sequence[str] = ()


def missing_runs(chosen: Mapping[str, Table], done: Mapping[str, Results]) -> list[tuple[Run, str]]:
    """Returns the runs and tests the entries still need, given their results."""
    return [pair for name, table in chosen.items() for pair in cells.missing(table, done[name])]


def missing(
    chosen: Mapping[str, Table], done: Mapping[str, Results], runs: str, flags: Sequence[str] = ()
) -> dict[str, Job]:
    """Returns {name: job} for the entries' missing runs, the sources of these, and the commands that read runs.

    `runs` is the folder of all runs; `flags` are added to every command.
    """
    extra: dict[str, dict[str, None]] = {}  # ordered sets
    for name, table in chosen.items():
        for run, _ in cells.missing(table, done[name]):
            lines = [run.format_command(line, runs) for line in table.extra_commands]
            extra.setdefault(run.name, {}).update(dict.fromkeys(lines))
    todo = for_runs(missing_runs(chosen, done), runs, flags, extra)
    for name, table in chosen.items():
        for command in cells.missing_commands(table, done[name]):
            needs = dict.fromkeys(run.name for run, _ in command.pairs())
            todo[command.name] = Job([[*command.line(runs), *flags]], tuple(needs))
    return todo


def for_runs(
    pairs: Iterable[tuple[Run, str]], runs: str, flags: Sequence[str] = (), extra: Mapping[str, Iterable[str]] = EMPTY
) -> dict[str, Job]:
    """Returns {run's name: job} for runs with tests, and the sources of these.

    `runs` is the folder of all runs; `flags` are added to every command; extra: {run's name: further commands}.
    """
    todo = {}
    for name, (run, tests) in entry.jobs(pairs).items():
        main = [MAIN, *run.arguments(tests, runs), f"--workdir={runs}/{name}", *flags]
        after_main = [[*shlex.split(line), *flags] for line in extra.get(name, ())]
        todo[name] = Job([main, *after_main], tuple(source.name for source in run.sources))
    return todo


def run_all(
    todo: Mapping[str, Job],
    max_running: int,
    start: Callable[[str, Arguments], Callable[[], int | None]],
    report: Callable[[str, int, float], None] = lambda name, code, seconds: None,
) -> dict[str, int]:
    """Runs all jobs, each after the jobs it needs, and returns the nonzero exit codes.

    start(name, command) starts a command and returns a function that polls its exit code, None while it runs. A job
    that needs a failed job does not start, and no job starts after one was stopped (exit code 75).
    """
    waiting, running, ended = dict(todo), {}, {}
    while waiting or running:
        for name, job in list(waiting.items()):
            failed = [ended[need] for need in job.needs if ended.get(need)]
            if failed or STOPPED in ended.values():
                ended[name] = failed[0] if failed else STOPPED
                del waiting[name]
            elif len(running) < max_running and all(need not in todo or need in ended for need in job.needs):
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
