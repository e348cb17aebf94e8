"""The smoke test: every run of an entry, shrunk, from training to the page."""

import multiprocessing
import os
import runpy
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from experiments import commands, entry, jobs
from experiments.entry import Row, Run, Table

SIZES = {"vgg": 32, "resnet": 32, "resnet_cifar": 16, "alexnet_cifar": 16}  # image size in pixels by model; default 64


def run(chosen: Mapping[str, Table], folder: Path) -> int:
    """Trains and tests every run of the entries, shrunk, writes the page to `folder`, and returns an exit code."""
    small = {name: shrunk(table) for name, table in chosen.items()}
    no_results = {name: {"counted": {row.label: {} for row in table.rows}} for name, table in small.items()}
    todo = jobs.missing(small, no_results, str(folder / "runs"))
    (folder / "logs").mkdir()
    # Compilation and imports take most of the time.
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder / "cache"))
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"
    os.environ.setdefault("PYTHONWARNINGS", "ignore:os.fork() was called")  # no thread of JAX runs yet
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(
        ["deepconv.evaluation.batch_stats", "deepconv.run.curves", "deepconv.evaluation.features", "tensorboardX"]
    )
    done = 0

    def start(name: str, command: Sequence[str]) -> Callable[[], int | None]:
        process = server.Process(target=run_command, args=(command, folder / "logs" / f"{name}.txt"))
        process.start()
        return lambda: process.exitcode

    def report(name: str, code: int, seconds: float) -> None:
        nonlocal done
        done += 1
        print(f"{done}/{len(todo)} {name}: {f'exit code {code}' if code else 'done'} in {seconds:.0f} s", flush=True)

    failed = jobs.run_all(todo, 2, start, report)
    for name in failed:
        if (log := folder / "logs" / f"{name}.txt").exists():
            print(f"\n{name}:\n{log.read_text()[-2000:]}", file=sys.stderr)
    commands.collect(small, folder / "runs", folder / "results")
    commands.render(small, folder / "results", folder / "README.md")
    results = commands.read(small, folder / "results")
    missing = [
        f"{name}, {row.label}"
        for name, table in small.items()
        for row in table.rows
        if entry.state(table, row, results[name]) == "missing"
    ]
    for line in missing:
        print(f"not measured: {line}", file=sys.stderr)
    return 1 if failed or missing else 0


def run_command(command: Sequence[str], log: Path) -> None:
    """Runs a command in this forked process, whose imports are done."""
    with log.open("a") as out:
        for stream in (1, 2):
            os.dup2(out.fileno(), stream)
    sys.argv = list(command)
    runpy.run_module(command[0], run_name="__main__", alter_sys=True)


def shrunk(table: Table) -> Table:
    """Returns the entry with runs that take seconds and test scales that fit the small images."""

    def shrunk_run(run: Run) -> Run:
        config = run.load()
        model = config.model.name
        changes = {"data.image_size": SIZES.get(model, 64), "checkpoint_every_steps": 100}
        if "total_steps" in config:
            changes |= {"data.train_split": "train[:32]", "data.eval_split": "test[:2]"}
            # After fewer steps, BatchNorm's averages would let 110 plain layers overflow.
            plain = model == "resnet_cifar" and not config.model.residual
            changes |= {"total_steps": 30 if plain else 2}
        else:  # two steps per epoch; alexnet/fig1_rates needs two epochs
            changes |= {"batch_size": 80, "data.eval_split": "test[:8]"}
            changes |= {"total_epochs": 2} if model == "alexnet_cifar" else {}
        return run.shrunk(changes)

    def shrunk_row(row: Row) -> Row:
        runs, tests = [shrunk_run(run) for run in row.runs], []
        for (run, test), small in zip(row.pairs(), runs, strict=True):
            tests.append(entry.shrink_test(test, run.load().data.image_size, small.load().data.image_size))
        baseline = row.baseline and shrunk_run(row.baseline)
        return replace(row, runs=runs, tests=tests or row.tests, baseline=baseline)

    return replace(table, rows=[shrunk_row(row) for row in table.rows])
