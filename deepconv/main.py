"""Train and evaluate one recipe: python -m deepconv.main --config=configs/quickstart.py

Running the same command again goes on where it stopped, and does nothing where all is done.
"""

import json
from pathlib import Path
from typing import Any

from absl import app, flags
from rich.console import Console
from rich.table import Table

from deepconv import cli
from deepconv import config as config_lib

_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run [runs/<recipe>,<what is changed in it>].")
_INIT_FROM = flags.DEFINE_string("init_from", None, "Start from the weights of this run, or of a safetensors file.")
_INIT_LAYERS = flags.DEFINE_list("init_layers", [], "Of these, take only the layers named; the others are random.")
_EVALS = flags.DEFINE_list("evals", ["center"], "Test protocols to run after training.")


def main(arguments: list[str]) -> int:
    """Flags -> claim the directory -> train -> evaluate."""
    # Here and not above: `--help` and mistakes in the config are answered without waiting for JAX.
    from deepconv import checkpoint, evaluate, preemption, runlog, train, weights

    preemption.install()
    try:
        config, name = cli.load_config(arguments)
        origin = {"init_from": _INIT_FROM.value, "init_layers": _INIT_LAYERS.value} if _INIT_FROM.value else {}
        name += f",init_from={Path(_INIT_FROM.value).name}" if origin else ""
        workdir = Path(_WORKDIR.value or Path("runs", name)).expanduser()
        if _INIT_LAYERS.value and not origin:
            raise ValueError("--init_layers says which layers to take from --init_from=RUN_DIR, which is missing")
        if not _EVALS.value:
            raise ValueError(f"--evals is empty; choose from {sorted(evaluate.PROTOCOLS)}")
        if unknown := sorted(set(_EVALS.value) - set(evaluate.PROTOCOLS)):
            raise ValueError(f"--evals={','.join(unknown)} is not a protocol; choose from {sorted(evaluate.PROTOCOLS)}")
        task = train.prepare(config, cli.DATA_DIR.value, cli.WORKERS.value)
        start = {}
        if origin and not checkpoint.steps(workdir / "checkpoints"):  # later, the run goes on without its source
            source = Path(_INIT_FROM.value).expanduser()
            start = weights.take(source, task.model, config.data.image_size, _INIT_LAYERS.value)
    except (ValueError, OSError, checkpoint.CheckpointError) as error:
        return cli.refuse(str(error), code=2)

    try:
        with runlog.lock(workdir):
            data = {"train_data": _identity(task.train_source), "eval_data": _identity(task.eval_source)}
            _claim(workdir, json.loads(config.to_json()) | origin | data)
            for change in runlog.record_start(workdir):
                print(f"changed since the last start, so the last bits of results may be others: {change}", flush=True)
            print(f"run directory: {workdir}", flush=True)
            _run(task, workdir, start)
    except preemption.Preempted as signal:
        print(f"\nstopped by {signal}; the same command goes on from here: {workdir}", flush=True)
        return preemption.EXIT_CODE
    except (OSError, FloatingPointError, checkpoint.CheckpointError) as error:
        return cli.refuse(str(error))
    return 0


def _run(task: Any, workdir: Path, start: dict[str, Any]) -> None:
    from deepconv import curves, evaluate, train

    evals = {name: workdir / f"eval.{name}.json" for name in _EVALS.value}
    if missing := [name for name, file in evals.items() if not file.exists()]:
        state, mean = train.train(task, workdir, start)
        data = task.eval_source.open()
        for name in missing:
            predict = evaluate.jit(name, task.model, mean, task.config.data.image_size, task.mesh)
            batches = train.test_batches(task, data)
            probs, labels = evaluate.probabilities(predict, state, batches, task.config.batch_size, task.mesh)
            evaluate.write(workdir, name, probs, labels, int(state.step))
        curves.draw(workdir)
    _summary(task, workdir, [json.loads(file.read_text()) for file in evals.values()])


def _identity(source: Any) -> str:
    return f"{source.examples} examples, {source.fingerprint[:16] or 'built in'}"


def _claim(workdir: Path, new: dict[str, Any]) -> None:
    """config.json is written once; the directory of another config is refused."""
    from deepconv import runlog

    path = workdir / "config.json"
    if not path.exists():
        runlog.write_json(path, new)
    elif changes := config_lib.differences(json.loads(path.read_text()), new):
        lines = "\n  ".join(changes)
        raise FileExistsError(
            f"{workdir} holds a run of another config, or on other data; give another --workdir.\n  {lines}"
        )


def _summary(task: Any, workdir: Path, evals: list[dict[str, Any]]) -> None:
    classes = len(task.eval_source.classes)
    table = Table(
        "protocol", "images", "top-1 error", "top-5 error", "by chance", title=f"after {evals[0]['step']} steps"
    )
    for record in evals:
        errors = f"{record['top1_error']:.2f} %", f"{record['top5_error']:.2f} %"
        table.add_row(record["protocol"], str(record["examples"]), *errors, f"{100 - 100 / classes:.0f} %")
    Console().print(table)
    corrupt = workdir / "corrupt.txt"
    if corrupt.exists():
        print(f"{len(corrupt.read_text().splitlines())} images could not be decoded and were replaced: see {corrupt}")
    print(f"run directory: {workdir}\ncurves:        {workdir / 'curves.png'}")
    print("next:          the same command with a change, such as --config.seed=1 or --config.optimizer.momentum=0.8;")
    print("               tensorboard --logdir=runs (after pip install tensorboard); configs/ for the papers' recipes")


if __name__ == "__main__":
    app.run(main, flags_parser=cli.parse)
