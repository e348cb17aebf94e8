"""Train and evaluate one recipe: python -m deepconv.main --config=configs/quickstart.py

Running the same command again goes on where it stopped, and does nothing where all is done.
"""

import json
import sys
from pathlib import Path
from typing import Any

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags
from rich.console import Console
from rich.table import Table

from deepconv import config as config_lib

_CONFIG = config_flags.DEFINE_config_file("config", None, "The recipe, such as configs/resnet_cifar.py.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run [runs/<recipe>,<what is changed in it>].")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where TFDS data sets lie [TFDS_DATA_DIR, or ~/tensorflow_datasets].")
_WORKERS = flags.DEFINE_integer("workers", 0, "Loader processes beside this one.", lower_bound=0)
_EVALS = flags.DEFINE_list("evals", ["center"], "Test protocols to run after training.")
_SMOKE = flags.DEFINE_bool(
    "smoke", False, "Shrink the recipe to seconds on the built-in data; --config.x=y still wins."
)


def main(arguments: list[str]) -> int:
    """Flags -> claim the directory -> train -> evaluate."""
    # Here and not above: `--help` and mistakes in the config are answered without waiting for JAX.
    from deepconv import checkpoint, evaluate, preemption, runlog, train

    preemption.install()
    try:
        config, workdir = load_config(arguments)
        if not _EVALS.value:
            raise ValueError(f"--evals is empty; choose from {sorted(evaluate.PROTOCOLS)}")
        if unknown := sorted(set(_EVALS.value) - set(evaluate.PROTOCOLS)):
            raise ValueError(f"--evals={','.join(unknown)} is not a protocol; choose from {sorted(evaluate.PROTOCOLS)}")
        task = train.prepare(config, _DATA_DIR.value, _WORKERS.value)
    except (ValueError, OSError) as error:
        return refuse(str(error), code=2)

    try:
        with runlog.lock(workdir):
            _claim(workdir, config)
            for change in runlog.record_start(workdir):
                print(f"changed since the last start, so the last bits of results may be others: {change}", flush=True)
            print(f"run directory: {workdir}", flush=True)
            _run(task, workdir)
    except preemption.Preempted as signal:
        print(f"\nstopped by {signal}; the same command goes on from here: {workdir}", flush=True)
        return preemption.EXIT_CODE
    except (OSError, FloatingPointError, checkpoint.CheckpointError) as error:
        return refuse(str(error))
    return 0


def _run(task: Any, workdir: Path) -> None:
    from deepconv import curves, evaluate, train

    evals = {name: workdir / f"eval.{name}.json" for name in _EVALS.value}
    if missing := [name for name, file in evals.items() if not file.exists()]:
        state, mean = train.train(task, workdir)
        images, labels = task.eval_source.read()
        for name in missing:
            predict = evaluate.jit(name, task.model, mean, task.mesh)
            probs = evaluate.probabilities(predict, state, images, task.config.batch_size, task.mesh)
            evaluate.write(workdir, name, probs, labels, int(state.step))
        curves.draw(workdir)
    _summary(task, workdir, [json.loads(file.read_text()) for file in evals.values()])


def _claim(workdir: Path, config: ConfigDict) -> None:
    """config.json is written once; the directory of another config is refused."""
    from deepconv import runlog

    path, new = workdir / "config.json", json.loads(config.to_json())
    if not path.exists():
        runlog.write_json(path, new)
    elif changes := config_lib.differences(json.loads(path.read_text()), new):
        lines = "\n  ".join(changes)
        raise FileExistsError(f"{workdir} holds a run of another config; give another --workdir.\n  {lines}")


def load_config(arguments: list[str]) -> tuple[ConfigDict, Path]:
    """The config that the flags describe, and the directory of its run. Raises ValueError."""
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.FATAL)  # orbax and TFDS tell a lot, and errors are told here
    if len(arguments) > 1:
        raise ValueError(f"unknown argument {arguments[1]!r}; flags are written --name=value")
    flag, smoke = flags.FLAGS["config"], _SMOKE.value
    if not flag.present:
        raise ValueError("--config is missing; try --config=configs/quickstart.py")
    path, overrides = config_flags.get_config_filename(flag), dict(config_flags.get_override_values(flag))
    workdir = Path(_WORKDIR.value or Path("runs") / config_lib.run_name(path, overrides, smoke)).expanduser()
    return config_lib.load(path, overrides, smoke), workdir


def _summary(task: Any, workdir: Path, evals: list[dict[str, Any]]) -> None:
    classes = len(task.eval_source.classes)
    table = Table(
        "protocol", "images", "top-1 error", "top-5 error", "by chance", title=f"after {evals[0]['step']} steps"
    )
    for record in evals:
        errors = f"{record['top1_error']:.2f} %", f"{record['top5_error']:.2f} %"
        table.add_row(record["protocol"], str(record["examples"]), *errors, f"{100 - 100 / classes:.0f} %")
    Console().print(table)
    print(f"run directory: {workdir}\ncurves:        {workdir / 'curves.png'}")
    print("next:          the same command with a change, such as --config.model.residual=False or --config.seed=1;")
    print("               tensorboard --logdir=runs (after pip install tensorboard); configs/ for the papers' recipes")


def parse(argv: list[str]) -> list[str]:
    """absl's parser, with every mistake answered in one line."""
    try:
        return flags.FLAGS(argv)
    except AttributeError as error:
        mistake = str(error)
        if error.args and isinstance(error.args[0], KeyError):  # ml_collections wraps what it has to say
            mistake = f"the config has no field {error.args[0].args[0]}"
    except (flags.Error, SyntaxError, TypeError, ValueError) as error:
        mistake = str(error)
    sys.exit(refuse(" ".join(mistake.split()), code=2))


def refuse(message: str, code: int = 1) -> int:
    """Say why on standard error; gives the exit code."""
    print(f"deepconv: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
