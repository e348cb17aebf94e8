"""The missing runs of tables, on this machine, one after the other.

    python -m launch.local resnet/table6 --data_dir=DIR

A run begins when the one whose weights it starts from is done. The same command again goes on where it was stopped, as
every run does. Flags of deepconv.main may follow the entries.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from deepconv import results, tables
from experiments import entries, pages

STOPPED = 75  # the exit code of a run that was told to stop, and saved its state
Command = Sequence[str]  # what follows `python -m`


@dataclass(frozen=True)
class Job:
    """Commands to be given one after the other, when those of another job are done."""

    commands: Sequence[Command]
    needs: str = ""


def jobs(
    chosen: Mapping[str, tables.Table], done: Mapping[str, Mapping], runs: str, flags: Sequence[str]
) -> dict[str, Job]:
    """By the names of runs: what entries lack, given their results, and what that begins with; runs: a folder."""
    found: dict[str, tuple[tables.Run, list[str]]] = {}
    after: dict[str, list[str]] = {}
    for name, table in chosen.items():
        missing = tables.missing(table, done[name])
        for run, tests in table.jobs(missing).values():
            known = found.setdefault(run.name, (run, []))[1]
            known += [test for test in tests if test not in known]
        for run, _ in missing if table.after else ():
            after.setdefault(run.name, []).extend(pages.after(line, run, runs) for line in table.after)
    todo = {}
    for name, (run, tests) in found.items():
        main = ["deepconv.main", *run.arguments(tests, runs), f"--workdir={runs}/{name}", *flags]
        data = [flag for flag in flags if flag.startswith(("--data_dir=", "--workers="))]
        others = [
            [*line.replace("python -m ", "").replace(" --data_dir=DIR", "").split(), *data]
            for line in dict.fromkeys(after.get(name, ()))
        ]
        todo[name] = Job([main, *others], run.init_from.name if run.init_from else "")
    return todo


def start(name: str, command: Command) -> Callable[[], int | None]:
    """Give a command; the function says its exit code, None while it runs."""
    print(f"== {name}: python -m {' '.join(command)}", flush=True)
    return subprocess.Popen([sys.executable, "-m", *command]).poll


def follow(
    todo: Mapping[str, Job],
    at_once: int = 1,
    start: Callable[[str, Command], Callable[[], int | None]] = start,
    tell: Callable[[str, int, float], None] = lambda name, code, seconds: None,
) -> dict[str, int]:
    """Run all jobs, each after what it needs; gives the exit codes that are not 0.

    What needs a job that failed is not begun, and nothing is after one was told to stop.
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


def main(arguments: list[str]) -> int:
    """Run what the entries lack."""
    names = [argument for argument in arguments if not argument.startswith("--")]
    flags = [argument for argument in arguments if argument.startswith("--")]
    if not names:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        chosen = entries.load(names)
    except ValueError as error:
        print(f"launch: {error}", file=sys.stderr)
        return 2
    done = {name: results.read(entries.RESULTS / f"{name}.json") for name in chosen}
    todo = jobs(chosen, done, "runs", flags)
    failed = follow(todo)
    for name, code in failed.items():
        print(f"launch: not done: {name} (exit code {code})", file=sys.stderr)
    print(f"{len(todo) - len(failed)} of {len(todo)} runs are done; python -m experiments collect reads them")
    return STOPPED if STOPPED in failed.values() else int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
