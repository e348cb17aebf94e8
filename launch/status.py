"""Shows the state of the runs of tables, of a grid, or of a folder of runs.

    python -m launch.status resnet/table6
    python -m launch.status runs

A run is waiting (not begun), queued, running, stopped (it continues when its command is repeated), failed, or finished.
States come from the runs' directories, their logs and, where it is installed, Slurm.
"""

if __name__ == "__main__":
    from deepconv.run import preemption

    preemption.install()  # before the imports, which take seconds

import dataclasses
import json
import sys
from pathlib import Path

from absl import flags
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from deepconv import cli, progress
from deepconv.config import recipes
from launch import queue, selection, state
from launch.state import State

_JSON = flags.DEFINE_bool("json", False, "Print the states as JSON.")

UNFOLDED = 240  # columns, where no terminal limits them


def main(arguments: list[str]) -> int:
    """Prints a line for each run."""
    try:
        states = read(arguments)
    except (ValueError, OSError) as error:
        return cli.refuse(str(error), code=2)
    if _JSON.value:
        print(json.dumps([dataclasses.asdict(state) for state in states.values()], indent=1))
        return 0
    if not states:
        print("no runs")
        return 0
    columns = (Column("run", overflow="fold"), "state", Column("step", justify="right"))
    columns += (Column("test error", justify="right"), Column("time left", justify="right"))
    grid = Table(*columns, Column("", overflow="fold"), box=SIMPLE_HEAD, pad_edge=False)
    for found in states.values():
        grid.add_row(*map(escape, state.row(found)))
    Console(width=None if sys.stdout.isatty() else UNFOLDED).print(grid)
    print(progress.counts([found.state for found in states.values()]))
    return 0


def read(arguments: list[str]) -> dict[str, State]:
    """Returns {run: its state} for the runs that the arguments name. Raises ValueError and OSError."""
    folder = Path(arguments[1]) if len(arguments) == 2 else Path()
    if len(arguments) == 2 and folder.is_dir():
        runs, measured = folder, {}
        tasks = queue.known_tasks(runs)
        found = sorted(file.parent for file in runs.glob("*/config.json") if not _is_imported(file.parent))
        queued = [runs / name for name in tasks or () if not (runs / name / "config.json").exists()]
        files = {path.name: _tests(path) or ["eval.center.json"] for path in [*found, *queued]}
    else:
        selected, runs = selection.select(arguments, starts=False), Path(selection.RUNS)
        files, measured = selected.files, selected.measured
        tasks = queue.known_tasks(runs)
    logs, endings = state.log_files(runs), queue.endings(runs)
    states = {}
    for name, names in files.items():
        task, ending = (tasks or {}).get(name), endings.get(name, "")
        states[name] = state.of_job(runs / name, names, logs.get(name), task, ending, tasks is not None)
        if name in measured and states[name].state == "waiting":
            states[name] = State(name, "finished", "in the committed results", test_error=measured[name])
    return states


def _tests(workdir: Path) -> list[str]:
    """Returns the files of a run's tests; that of `center`, whose error is shown, comes first."""
    names = [file.name for file in workdir.glob("eval.*.json")]
    return sorted(names, key=lambda name: (name != "eval.center.json", name))


def _is_imported(workdir: Path) -> bool:
    """Returns whether a directory holds imported weights, which are no run; not if its files are damaged."""
    try:
        return "train_data" not in recipes.read_run(workdir)
    except OSError:
        return False


if __name__ == "__main__":
    cli.run(main)
