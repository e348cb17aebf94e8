"""Runs that tables lack, as commands in an order in which they can be given. No JAX."""

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from deepconv.run.preemption import EXIT_CODE as STOPPED
from experiments import entry
from experiments.entry import Run, Table
from experiments.measurements import Results

Command = Sequence[str]  # what follows `python -m`


@dataclass(frozen=True)
class Job:
    """Commands to be given one after the other, when those of another job are done."""

    commands: Sequence[Command]
    needs: str = ""


def lacking(chosen: Mapping[str, Table], done: Mapping[str, Results]) -> list[tuple[Run, str]]:
    """The runs with tests that the entries lack, given their results."""
    return [pair for name, table in chosen.items() for pair in entry.missing(table, done[name])]


def missing(
    chosen: Mapping[str, Table], done: Mapping[str, Results], runs: str, flags: Sequence[str] = ()
) -> dict[str, Job]:
    """By the names of runs: what the entries lack, given their results, and what that begins with; runs: a folder.

    flags are added to every command.
    """
    after: dict[str, dict[str, None]] = {}  # a set in order
    for name, table in chosen.items():
        for run, _ in entry.missing(table, done[name]):
            after.setdefault(run.name, {}).update(dict.fromkeys(run.after(line, runs) for line in table.after))
    todo = {}
    for name, (run, tests) in entry.jobs(lacking(chosen, done)).items():
        main = ["deepconv.main", *run.arguments(tests, runs), f"--workdir={runs}/{name}", *flags]
        others = [[*shlex.split(line), *flags] for line in after.get(name, ())]
        todo[name] = Job([main, *others], run.init_from.name if run.init_from else "")
    return todo


def follow(
    todo: Mapping[str, Job],
    at_once: int,
    start: Callable[[str, Command], Callable[[], int | None]],
    tell: Callable[[str, int, float], None] = lambda name, code, seconds: None,
) -> dict[str, int]:
    """Do all jobs, each after what it needs; gives the exit codes that are not 0.

    start(name, command) gives a function that says the command's exit code, None while it runs. What needs a job that
    failed is not begun, and nothing is after one was told to stop.
    """
    waiting, running, ended = dict(todo), {}, {}
    while waiting or running:
        for name, job in list(waiting.items()):
            if ended.get(job.needs) or STOPPED in ended.values():
                ended[name] = ended.get(job.needs) or STOPPED
                del waiting[name]
            elif len(running) < at_once and (job.needs not in todo or job.needs in ended):
                del waiting[name]
                running[name] = time.monotonic(), list(job.commands[1:]), start(name, job.commands[0])
        for name, (began, others, poll) in list(running.items()):
            if (code := poll()) is None:
                continue
            if code == 0 and others:
                running[name] = began, others[1:], start(name, others[0])
                continue
            del running[name]
            ended[name] = code
            tell(name, code, time.monotonic() - began)
        time.sleep(0.05)
    return {name: code for name, code in ended.items() if code}
