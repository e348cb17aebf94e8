"""The smoke test: every run of an entry and every command that reads runs, shrunk, from training to the page."""

import multiprocessing
import os
import runpy
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments import cells, commands, entry, jobs, smoke_data
from experiments.entry import Command, Row, Run, Table

SIZES = {"vgg": 32, "resnet": 32, "resnet_cifar": 16, "alexnet_cifar": 16}  # image size in pixels by model; default 64
KEPT_SCALES = 2  # of each list of a command's --scales


def run(chosen: Mapping[str, Table], folder: Path) -> int:
    """Trains and tests every run of the entries, shrunk, writes the page to `folder`, and returns an exit code."""
    small = {name: shrunk(table) for name, table in chosen.items()}
    no_results = {name: {"counted": {row.label: {} for row in table.rows}} for name, table in small.items()}
    todo = jobs.missing(small, no_results, str(folder / "runs"), [f"--data_dir={folder / 'data'}"])
    (folder / "logs").mkdir()
    smoke_data.write(folder / "data")
    # Compilation and imports take most of the time.
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder / "cache"))
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"
    os.environ.setdefault("PYTHONWARNINGS", "ignore:os.fork() was called")  # no thread of JAX runs yet
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(
        ["deepconv.evaluation.batch_stats", "deepconv.curves", "deepconv.evaluation.features", "tensorboardX"]
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
        if cells.state(table, row, results[name]) == "missing"
    ]
    for line in missing:
        print(f"not measured: {line}", file=sys.stderr)
    return 1 if failed or missing else 0


def run_command(command: Sequence[str], log: Path) -> None:
    """Runs a command in this forked process, whose imports are done.

    The process ends with the smoke test, even if that is killed.
    """
    if parent := multiprocessing.parent_process():
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    with log.open("a") as out:
        for stream in (1, 2):
            os.dup2(out.fileno(), stream)
    sys.argv = list(command)
    runpy.run_module(command[0], run_name="__main__", alter_sys=True)


def _end_with(process: multiprocessing.process.BaseProcess) -> None:
    """Waits for the end of another process, then ends this one at once."""
    process.join()
    os._exit(jobs.STOPPED)


def shrunk(table: Table) -> Table:
    """Returns the entry with runs that take seconds and test scales that fit the small images."""

    def shrunk_run(run: Run) -> Run:
        config = run.load()
        model = config.model.name
        changes = {"data.image_size": SIZES.get(model, 64), "checkpoint_every_steps": 100}
        if "total_steps" in config:
            changes |= {"data.train_split": "train[:32]", "data.eval_split": "test[:2]"}
            # BatchNorm's averages lag behind the net. After fewer than 30 steps, 110 plain layers would overflow, and
            # so would deep nets that start with the averages of another net; their weights must hardly change, too.
            plain = model == "resnet_cifar" and not config.model.residual
            deep = model == "resnet" and config.model.depth > 50
            changes |= {"total_steps": 30 if plain or (deep and not config.model.get("bn_fixed")) else 2}
            changes |= {"optimizer.learning_rate": 1e-8} if deep else {}
        else:  # two steps per epoch; alexnet/fig1_rates needs two epochs
            changes |= {"batch_size": 80, "data.eval_split": "test[:8]"}
            changes |= {"total_epochs": 2} if model == "alexnet_cifar" else {}
        source, proposer = (before and shrunk_run(before) for before in (run.init_from, run.proposals_from))
        return replace(run.shrunk(changes), init_from=source, proposals_from=proposer)

    def side_of(run: Run) -> int:
        return run.load().data.image_size

    def shrunk_command(command: Command) -> Command:
        runs, arguments = {}, dict(command.arguments)
        for flag, pairs in command.runs.items():
            small = [(shrunk_run(run), run, test) for run, test in pairs]
            runs[flag] = [(run, entry.shrink_test(test, side_of(before), side_of(run))) for run, before, test in small]
            if "scales" in arguments and flag == "run":
                run, before, _ = small[0]
                arguments["scales"] = shrunk_scales(arguments["scales"], side_of(before), side_of(run))
        return replace(command, runs=runs, arguments=arguments, examples={})

    def shrunk_row(row: Row) -> Row:
        runs, tests = [shrunk_run(run) for run in row.runs], []
        for (run, test), small in zip(row.pairs(), runs, strict=True):
            tests.append(entry.shrink_test(test, side_of(run), side_of(small)))
        baseline = row.baseline and shrunk_run(row.baseline)
        small_commands = [shrunk_command(command) for command in row.commands]
        return replace(row, runs=runs, tests=tests or row.tests, baseline=baseline, commands=small_commands)

    return replace(table, rows=[shrunk_row(row) for row in table.rows])


def shrunk_scales(scales: Sequence[Any], before: int, after: int) -> tuple[Any, ...]:
    """Returns the first scales, or those of each list, changed for crops of `after` pixels instead of `before`."""
    if scales and isinstance(scales[0], Sequence):
        return tuple(shrunk_scales(part, before, after) for part in scales)
    return tuple(scale * after // before for scale in scales[:KEPT_SCALES])
