"""List runs: recipe and changes, state, step, test error, time.

    python -m deepconv.runs
    python -m deepconv.runs runs/resnet --sort=error
    python -m deepconv.runs --json

A run is finished, running, stopped (it continues when its command is repeated) or failed. `launch.status` also shows
runs that are waiting, or queued in a cluster.
"""

if __name__ == "__main__":
    from deepconv.run import preemption

    preemption.install()  # before the imports, which take seconds

import dataclasses
import datetime
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from absl import flags

from deepconv import cli, progress
from deepconv.config import recipes
from deepconv.run.files import expanded, printable
from deepconv.run.starts import read_starts

FLAGS = flags.FLAGS
SORTS = ("when", "run", "state", "step", "error")
# the flags that make a run's name, apart from --config and its fields
WITH_VALUE = ("shorten", "init_from", "init_layers", "proposals_from", "weights")
NAMING = ("smoke", "train", "notrain", *WITH_VALUE)
HEADS = ("run", "state", "step", "test error", "", "when", "")
NUMBERS = ("step", "test error")  # aligned to the right


@dataclass(frozen=True)
class Run:
    """A line of the list."""

    run: str  # the directory
    recipe: str
    changes: Sequence[str]  # such as seed=1
    state: str  # one of progress.STATES, except those that only a launcher knows
    when: str  # the last record or test, ISO 8601
    details: str = ""  # the process that runs it, or why it failed
    step: int | None = None
    total_steps: int | None = None
    test: str = ""  # the protocol of the last test after training
    error: float | None = None  # of that test or of the last test during training, percent
    seconds_left: int | None = None  # of training; of a stopped run, once it continues


def main(arguments: list[str]) -> int:
    """Prints a line for each run below a directory."""
    try:
        if len(arguments) > 2:
            raise ValueError(f"unknown argument {arguments[2]!r}; give one directory, in which the runs lie")
        folder = expanded(arguments[1] if len(arguments) == 2 else "runs")
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is not a directory; give the one in which the runs lie")
        runs = [run for path in sorted(directories(folder)) if (run := read(path))]
    except (ValueError, OSError) as error:
        return cli.refuse(str(error), code=2)
    runs.sort(key=_order(FLAGS.sort))
    if FLAGS.json:
        print(json.dumps([dataclasses.asdict(run) for run in runs], indent=1))
        return 0
    if runs:
        _print_columns([HEADS, *(_row(run, folder) for run in runs)])
    print(progress.counts([run.state for run in runs]) or f"no runs in {printable(str(folder))}")
    return 0


def directories(folder: Path, listed: Path | None = None) -> Iterator[Path]:
    """Yields the directories of runs in a folder, at any depth, or the folder itself; links to runs elsewhere, too."""
    listed = listed or folder.resolve()
    try:
        with os.scandir(folder) as found:
            entries = [*found]
    except OSError as error:  # not readable, or removed meanwhile
        print(f"deepconv: {printable(str(folder))} is left out: {error.strerror}", file=sys.stderr)
        return
    if any(entry.name == "config.json" for entry in entries):
        yield folder
        if folder.resolve() != listed:  # the folder of all runs may have become a run itself
            return
    for entry in entries:
        elsewhere = entry.is_symlink() and not Path(os.path.realpath(entry.path)).is_relative_to(listed)
        linked_run = elsewhere and os.path.exists(os.path.join(entry.path, "config.json"))  # other links may be circles
        if entry.is_dir(follow_symlinks=False) or linked_run:
            yield from directories(Path(entry.path), listed)


def read(workdir: Path) -> Run | None:
    """Reads a line of the list from a run's directory, None for imported weights; damaged files are a failure."""
    when = ""
    try:
        tests = sorted(workdir.glob("eval.*.json"), key=_written)
        files = [file for name in ("config.json", "metrics.jsonl") if (file := workdir / name).exists()]
        when = datetime.datetime.fromtimestamp(max(map(_written, [*files, *tests]))).isoformat(timespec="seconds")
        config = recipes.read_run(workdir)
        if "train_data" not in config:
            return None
        recipe, changes = _recipe_and_changes(workdir)
        found, (state, details) = progress.read(workdir, config, tests), progress.state(workdir, bool(tests))
    except OSError as error:
        return Run(str(workdir), workdir.name.partition(",")[0], [], "failed", when, printable(str(error)))
    test = tests[-1].name.removeprefix("eval.").removesuffix(".json") if tests else ""
    steps = found.step, found.total_steps
    left = None if state == "finished" else found.seconds_left
    return Run(str(workdir), recipe, changes, state, when, details, *steps, test, found.test_error, left)


def _written(file: Path) -> float:
    return file.stat().st_mtime


def _recipe_and_changes(workdir: Path) -> tuple[str, list[str]]:
    """Returns the recipe and the changes in the command of a run's first start, or those in the directory's name."""
    if not (workdir / "environment.json").exists():
        recipe, *changes = workdir.name.split(",")
        return recipe, changes
    recipe, changes = "", []
    argv = [str(part) for part in read_starts(workdir, "argv")[0]["argv"]]
    for place, argument in enumerate(argv):
        name, equals, value = argument.lstrip("-").partition("=")
        if not argument.startswith("-"):
            continue
        if not equals and (name.startswith("config") or name in WITH_VALUE):
            value = next((after for after in argv[place + 1 : place + 2] if not after.startswith("--")), "True")
        if name == "config":
            recipe = Path(value).stem
        elif name.startswith("config."):
            changes.append(f"{name.removeprefix('config.')}={value}")
        elif name.startswith("noconfig."):
            changes.append(f"{name.removeprefix('noconfig.')}=False")
        elif name in NAMING:
            changes.append(f"{name}={value}" if value else name)
    return recipe, changes


def _order(sort: str) -> Any:
    """Returns the key of a sort; runs that lack the value come last."""

    def key(run: Run) -> tuple[Any, ...]:
        value = progress.STATES.index(run.state) if sort == "state" else getattr(run, sort)
        return value is None, value, run.run

    return key


def _row(run: Run, folder: Path) -> tuple[str, ...]:
    name = printable(os.path.relpath(run.run, folder) if Path(run.run) != folder else run.run)
    if not name.rpartition("/")[2].startswith(run.recipe):  # of a run in a --workdir
        name += printable(f" ({', '.join([run.recipe, *run.changes])})")
    step = "" if run.step is None else f"{run.step}/{run.total_steps}"
    error = "" if run.error is None else f"{run.error:.2f} %"
    return name, run.state, step, error, run.test, run.when.replace("T", " "), run.details


def _print_columns(rows: Sequence[Sequence[str]]) -> None:
    """Prints aligned columns; rich's tables take seconds for thousands of rows."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(HEADS, row, widths, strict=True)
        print("  ".join(cell.rjust(w) if head in NUMBERS else cell.ljust(w) for head, cell, w in cells).rstrip())


def define_flags() -> None:
    """Defines the flags of this command only."""
    flags.DEFINE_enum("sort", "when", SORTS, "The column to sort by; the newest run comes last, the best first.")
    flags.DEFINE_bool("json", False, "Print the runs as JSON.")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
