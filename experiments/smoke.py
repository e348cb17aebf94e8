"""The smoke test: every run of entries, shrunk, from training to the page."""

import multiprocessing
import os
import runpy
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from experiments import commands, entry, jobs
from experiments.entry import Row, Run, Table

SIZES = {"vgg": 32, "resnet": 32, "resnet_cifar": 16, "alexnet_cifar": 16}  # of images in pixels, by models; others 64


def run(chosen: Mapping[str, Table], folder: Path) -> int:
    """Every run of the entries, shrunk, from training to the page, in a folder; gives an exit code."""
    small = {name: shrunk(table) for name, table in chosen.items()}
    nothing = {name: {"counted": {row.label: {} for row in table.rows}} for name, table in small.items()}
    todo = jobs.missing(small, nothing, str(folder / "runs"))
    (folder / "logs").mkdir()
    # what counts here is the time to compile, and to import
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder / "cache"))
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"
    os.environ.setdefault("PYTHONWARNINGS", "ignore:os.fork() was called")  # by JAX, none of whose threads runs yet
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(
        ["deepconv.evaluation.batch_stats", "deepconv.run.curves", "deepconv.evaluation.features", "tensorboardX"]
    )
    done = 0

    def start(name: str, command: Sequence[str]) -> Callable[[], int | None]:
        process = server.Process(target=give, args=(command, folder / "logs" / f"{name}.txt"))
        process.start()
        return lambda: process.exitcode

    def tell(name: str, code: int, seconds: float) -> None:
        nonlocal done
        done += 1
        print(f"{done}/{len(todo)} {name}: {f'exit code {code}' if code else 'done'} in {seconds:.0f} s", flush=True)

    failed = jobs.follow(todo, 2, start, tell)
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


def give(command: Sequence[str], log: Path) -> None:
    """A command in this process, which has imported what it needs already."""
    with log.open("a") as out:
        for stream in (1, 2):
            os.dup2(out.fileno(), stream)
    sys.argv = list(command)
    runpy.run_module(command[0], run_name="__main__", alter_sys=True)


def shrunk(table: Table) -> Table:
    """The entry with runs of seconds, and tests whose scales fit their images."""

    def small(run: Run) -> Run:
        config = run.load()
        model = config.model.name
        changes = {"data.image_size": SIZES.get(model, 64), "checkpoint_every_steps": 100}
        if "total_steps" in config:
            changes |= {"data.train_split": "train[:32]", "data.eval_split": "test[:2]"}
            # after fewer steps, the averages in BatchNorm are such that 110 plain layers overflow
            plain = model == "resnet_cifar" and not config.model.residual
            changes |= {"total_steps": 30 if plain else 2}
        else:  # two steps an epoch, of which alexnet/fig1_rates needs two
            changes |= {"batch_size": 80, "data.eval_split": "test[:8]"}
            changes |= {"total_epochs": 2} if model == "alexnet_cifar" else {}
        return run.shrunk(changes)

    def smaller(row: Row) -> Row:
        pairs = [
            (small(run), entry.shrink_test(test, run.load().data.image_size, small(run).load().data.image_size))
            for run, test in row.pairs()
        ]
        less = row.less and small(row.less)
        return replace(row, runs=[run for run, _ in pairs], tests=[test for _, test in pairs] or row.tests, less=less)

    return replace(table, rows=[smaller(row) for row in table.rows])
