"""Train and test one recipe: python -m deepconv.main --config=configs/quickstart.py

Repeating the command continues a stopped run, and does nothing for a finished one.
"""

if __name__ == "__main__":
    from deepconv.run import preemption

    preemption.install()  # before the imports, which take seconds

import contextlib
import dataclasses
import functools
import json
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags
from rich.console import Console
from rich.table import Column, Table

from deepconv import cli, processes
from deepconv.config import recipes
from deepconv.config.mistakes import collecting, raise_all
from deepconv.run import preemption
from deepconv.run.directory import Evaluation, expanded, lock, read_eval, write_json
from deepconv.start import Origin, Start
from deepconv.weights import inputs

if TYPE_CHECKING:
    from deepconv.data.sources.source import Source
    from deepconv.task import Task

_WORKDIR = flags.DEFINE_string("workdir", "", "Directory of the run [runs/<recipe>,<changes>].")
_INIT_FROM = flags.DEFINE_string("init_from", "", "Start from the weights of this run, or of a safetensors file.")
_INIT_LAYERS = flags.DEFINE_list(
    "init_layers", [], "Layers to take from --init_from, or all_but_head for all but the last; the rest are random."
)
_LIBRARY = flags.DEFINE_enum("library", None, [*inputs.LIBRARIES], inputs.LIBRARY_HELP)
_INPUT = flags.DEFINE_string("input", "", inputs.INPUT_HELP)
_EVALS = flags.DEFINE_list(
    "evals",
    ["center"],
    "Test protocols, run after training or when the command is repeated: center, ten_crop, dense, multi_crop, "
    "multi_crop_dense; with scales, as in dense_q256_384_512, and then _posteriors, _precise_batch_stats; "
    "docs/testing.md explains them.",
)
_TRAIN = flags.DEFINE_bool("train", None, "Train before testing [yes, except with a safetensors file and --evals].")
_COORDINATOR = flags.DEFINE_string(
    "coordinator", "", "Host and port of process 0, for a run of several processes; not needed with Slurm's srun."
)
_PROCESSES = flags.DEFINE_integer("processes", 0, "Number of processes of this run.", lower_bound=0)
_PROCESS = flags.DEFINE_integer("process", None, "Number of this process, from 0.", lower_bound=0)
_EXPECT_DEVICES = flags.DEFINE_integer(
    "expect_devices", None, "Number of devices that the run must have, over all processes.", lower_bound=1
)
_VERIFY_DATA = flags.DEFINE_bool(
    "verify_data", False, "Check every photograph read from a folder against the sum written by `prepare statistics`."
)


# After the failure of a node, Slurm starts its jobs elsewhere while their old processes may still run. A job waits this
# long for them; then it exits with code 75, and Slurm queues it again.
PATIENCE_SECONDS = 60
# the fields of a test that the summary needs apart from its errors and number of images
SUMMARY = "protocol", "step", "views"


@dataclass(frozen=True)
class Setup:
    """The checked settings of a run, before its work begins."""

    task: "Task"
    workdir: Path
    record: dict[str, Any]  # the content of config.json
    weights: dict[str, Any]  # to start from, by layer; empty for a resumed run and for random weights
    untrained: bool  # test the weights without training


def main(arguments: list[str]) -> int:
    """Trains and tests the run that the flags describe, in its directory."""
    try:
        if address := processes.address(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value):
            processes.join(address, cli.HEARTBEAT_SECONDS.value)
        setup = _set_up(arguments)
        from deepconv import distributed  # imported here, as JAX is in _set_up

        task, workdir = setup.task, setup.workdir
        devices = distributed.describe_devices()
        settings = {"--evals": _EVALS.value} | distributed.settings(task.mesh, task.accumulate)
        processes.check_same(setup.record | settings)  # all processes are ready: from here on, process 0 may write
    except (ValueError, OSError) as error:
        return cli.refuse(str(error), code=2)

    code = 2
    in_slurm = "SLURM_JOB_ID" in os.environ
    try:
        patience = PATIENCE_SECONDS if in_slurm else 0
        with lock(workdir, patience=patience) if processes.primary() else contextlib.nullcontext():
            processes.agree(lambda: _claim(workdir, setup.record, task.train_source.classes))
            print(*devices, f"run directory: {workdir}", sep="\n", flush=True)
            if setup.untrained:
                print(f"the net of {_INIT_FROM.value} is tested without training; --train trains it first", flush=True)
            code = 1  # from here on, failures are failures during work
            _run(task, workdir, setup.weights)
    except preemption.Preempted as signal:
        preemption.stop(str(signal), collective=True)
    except (OSError, FloatingPointError) as error:
        in_use = in_slurm and isinstance(error, BlockingIOError)
        return cli.refuse(str(error), preemption.EXIT_CODE if in_use else code)
    return 0


def _set_up(arguments: list[str]) -> Setup:
    """Resolves the flags. Raises ValueError and OSError, with a line for each mistake."""
    mistakes: list[str] = []
    start = Start(_INIT_FROM.value, _INIT_LAYERS.value, _LIBRARY.value or "", _INPUT.value)
    fields_of_source = functools.partial(start.fields, workdir=_WORKDIR.value)
    config, name = cli.load_config(arguments, start.init_from, fields_of_source, start.init_layers)
    from deepconv.data import sources

    sources.check_exists(config.data.name, cli.DATA_DIR.value)
    # Imported here, since `--help` and mistakes in the config need not wait for JAX.
    from deepconv import distributed
    from deepconv import task as task_lib
    from deepconv.data.sources import checksums
    from deepconv.evaluation import protocols

    workdir = expanded(_WORKDIR.value or Path("runs", name))
    origin = start.record() if start.init_from else Origin()
    if start.init_layers and not origin:
        mistakes.append("--init_layers needs --init_from=RUN_DIR, the run to take layers from")
    if not _EVALS.value:
        mistakes.append(f"--evals is empty; choose from {protocols.CHOICES}")
    tests_given = not flags.FLAGS["evals"].using_default_value
    untrained = start.is_untrained(workdir, _TRAIN.value, tests_given)
    if untrained:
        workdir = workdir if _WORKDIR.value else workdir.with_name(f"{workdir.name},train=False")
        origin["train"] = False
    given = start.saved_statistics(workdir) if untrained else None
    if _EXPECT_DEVICES.value:
        with collecting(mistakes):
            distributed.check_devices(_EXPECT_DEVICES.value)
    with collecting(mistakes):
        flag_values = cli.DATA_DIR.value, cli.WORKERS.value, _EVALS.value, untrained, given
        task = task_lib.prepare(config, *flag_values, cli.MODEL_PARALLEL.value, cli.ACCUMULATE.value)
    raise_all(mistakes)
    if _VERIFY_DATA.value:
        train_source, eval_source = (checksums.verified(source) for source in (task.train_source, task.eval_source))
        task = dataclasses.replace(task, train_source=train_source, eval_source=eval_source)
    data = {"train_data": _identity(task.train_source), "eval_data": _identity(task.eval_source)}
    record = json.loads(config.to_json()) | origin | data
    return Setup(task, workdir, record, start.weights(task, workdir) if origin else {}, untrained)


def _run(task: "Task", workdir: Path, weights: dict[str, Any]) -> None:
    from deepconv import resume, train
    from deepconv import task as task_lib
    from deepconv.evaluation import batch_stats, probabilities
    from deepconv.evaluation import run as evaluate
    from deepconv.run import curves

    evals = {name: workdir / f"eval.{name}.json" for name in _EVALS.value}
    if missing := processes.agree(lambda: [name for name, file in evals.items() if not file.exists()]):
        if task.total_steps:
            state, computed = train.train(task, workdir, weights, keep_test="center" in missing)
        else:
            state, computed = resume.leave_untrained(task, workdir, weights)
        net, data = task_lib.net_for(task, computed), task.eval_source.open()
        size = dict(examples=task.eval_source.examples, classes=len(task.train_source.classes))
        tests = {part.name: part for name in missing for part in task.protocols[name]}
        precise_state = state
        if any(part.precise for part in tests.values()):
            file = workdir / "precise_batch_stats.npz"
            images = train.images_of_an_epoch(task, computed, state.step, workdir)
            count = max(1, task.train_source.examples // task.config.batch_size)
            precise_state = batch_stats.precise(net, state, images, count, file)
        states = [precise_state if part.precise else state for part in tests.values()]
        evaluate.run(net, [*zip(tests.values(), states, strict=True)], data, workdir, **size)
        if not processes.primary():
            return
        for name in missing:
            if name not in tests:
                probabilities.average(workdir, name, [part.name for part in task.protocols[name]])
        if task.total_steps:
            curves.draw(workdir)
    if not processes.primary():
        return
    _summary(task, workdir, [read_eval(file, *SUMMARY) for file in evals.values()])


def _identity(source: "Source") -> str:
    return f"{source.examples} examples, {source.fingerprint[:16] or 'built in'}"


def _claim(workdir: Path, new: dict[str, Any], classes: Sequence[str]) -> None:
    """Writes config.json once, and the classes. Raises FileExistsError if it is the directory of another run."""
    path = workdir / "config.json"
    old = recipes.read_run(workdir) if path.exists() else new
    if "init_from" in new and "init_sha256" not in new:  # the file is gone, and no longer needed
        new |= {key: old[key] for key in ("init_sha256",) if key in old}
    if not path.exists():
        write_json(path, new)
    elif changes := recipes.differences(old, new):
        raise FileExistsError(
            f"{workdir} holds a run of another config or other data; give another --workdir. {'; '.join(changes)}"
        )
    write_json(workdir / "classes.json", classes)


def _summary(task: "Task", workdir: Path, evals: list[Evaluation]) -> None:
    classes = len(task.eval_source.classes)
    title = f"after {evals[0]['step']} steps" if task.total_steps else None
    columns = "images", "views", "top-1 error", "top-5 error", "by chance"
    table = Table(Column("protocol", overflow="fold"), *columns, title=title)
    for record in evals:
        counts = str(record["examples"]), str(record["views"])
        errors = f"{record['top1_error']:.2f} %", f"{record['top5_error']:.2f} %", f"{100 - 100 / classes:.0f} %"
        table.add_row(record["protocol"], *counts, *errors)
    Console().print(table)
    corrupt = workdir / "corrupt.txt"
    if corrupt.exists():
        print(f"{len(corrupt.read_text().splitlines())} images could not be decoded and were replaced: see {corrupt}")
    print(f"run directory: {workdir}")
    if task.total_steps:
        print(f"curves:        {workdir / 'curves.png'}")
    print(f"next:          python -m deepconv.predict --run={shlex.quote(str(workdir))} PHOTO.jpg;")
    print("               the same command with a change, such as --config.seed=1 or --config.optimizer.momentum=0.8;")
    print("               tensorboard --logdir=runs (after pip install tensorboard); configs/ for the papers' recipes")


if __name__ == "__main__":
    cli.run(main, in_several=True)
