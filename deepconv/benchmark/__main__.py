"""Measure speed: python -m deepconv.benchmark [MEASUREMENT] --config=configs/resnet_cifar.py --data_dir=DIR

MEASUREMENT is one of these:

    training     [default] start to first step, the input pipeline alone, the step alone, and training with both
    input        the input pipeline, decoding and rescaling on one core and, if torch is installed, torch's DataLoader
                 and Pillow doing the same work, in turns
    dense        dense tests of images of several shapes whose shorter side is --scale, and central crops, by time per
                 pixel
    collectives  exchanges between devices in a training step, and its memory, read from the compiled program
    compiled     kernels, bytes and memory of a training step compiled for the GPU --target; neither the GPU nor the
                 data is needed, but pip install -e '.[cuda]'
    peers        training steps and tests of four nets in deepconv, plain Flax, PyTorch, torch.compile and Keras on JAX,
                 in turns; takes --nets, --modes, --dtypes, --peers, --rounds, --batch and --starts in place of --config
    forms        the same steps in deepconv, with each form of each operation (deepconv/ops/forms.py), in turns; takes
                 the flags of peers, without --peers
    growth       the cost of training as records, depth, classes, devices and the side of images grow, on a CPU; takes
                 --axes in place of --config
"""

import os
import time

from deepconv.run import preemption

START = time.perf_counter()  # before the imports, which count as part of the start
if __name__ == "__main__":
    preemption.install()
    os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", "false")  # before JAX is imported: compilation is measured

import contextlib
import functools
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from absl import flags

from deepconv import cli
from deepconv.config.mistakes import suggestion
from deepconv.run.files import expanded

if TYPE_CHECKING:
    from deepconv.benchmark.peers.compare import Choice
    from deepconv.benchmark.record import Figures
    from deepconv.task import Task

_STEPS = flags.DEFINE_integer(
    "steps",
    30,
    "Steps of a measurement, of which the first five are not counted; `dense` takes a fifth, and `training` takes more "
    "if more batches are prepared ahead: four for each thread, or fourteen for each loader process.",
    lower_bound=10,
)
_SCALE = flags.DEFINE_integer("scale", 256, "Shorter side of the images of `dense`, in pixels.", lower_bound=1)

_NETS = flags.DEFINE_list(
    "nets", ["alexnet", "vgg16", "resnet50", "resnet_cifar"], "Recipes of `peers` and `forms`: these, or resnet152."
)
_MODES = flags.DEFINE_list("modes", ["train", "inference"], "Modes of `peers` and `forms`: training steps, tests.")
_DTYPES = flags.DEFINE_list("dtypes", ["float32", "bfloat16"], "Types of activations of `peers` and `forms`.")
_PEERS = flags.DEFINE_list("peers", ["deepconv", "flax", "torch", "compile", "keras"], "Libraries of `peers`.")
_ROUNDS = flags.DEFINE_integer("rounds", 7, "Turns of each process of `peers` and `forms`.", lower_bound=1)
_BATCH = flags.DEFINE_integer(
    "batch", None, "Images of a step of `peers` and `forms` [on a CPU 16 to 128, on a GPU the recipe's].", lower_bound=1
)
_STARTS = flags.DEFINE_integer("starts", 1, "Processes of `peers` and `forms` that compile at a time.", lower_bound=1)
_AXES = flags.DEFINE_list("axes", ["records", "depth", "classes", "devices", "side"], "What `growth` varies.")
_TARGET = flags.DEFINE_enum("target", "h200", ["h100", "h200"], "The GPU for which `compiled` compiles.")
_SNAPSHOT = flags.DEFINE_string("snapshot", "", "A JSON file to which `compiled` adds its figures.")
_JSON = flags.DEFINE_string(
    "json", "", "File for the figures with their command, versions and hardware; - prints them in place of tables."
)

Work = Callable[[], "Figures"]  # measures, prints, and returns the figures


def _training(arguments: list[str]) -> Work:
    task = _task(arguments)
    from deepconv.benchmark.step import show_training

    return functools.partial(show_training, task, _STEPS.value, START)


def _input(arguments: list[str]) -> Work:
    task = _task(arguments)
    from deepconv.benchmark.input import show_input

    return functools.partial(show_input, task, _STEPS.value)


def _dense(arguments: list[str]) -> Work:
    task = _task(arguments, evals=[f"dense_q{_SCALE.value}"])  # raises if the net has no dense test
    from deepconv.benchmark.dense import show_dense

    return functools.partial(show_dense, task, _SCALE.value, _STEPS.value)


def _collectives(arguments: list[str]) -> Work:
    task = _task(arguments)
    from deepconv.benchmark.collectives import show_collectives

    return functools.partial(show_collectives, task)


def _compiled(arguments: list[str]) -> Work:
    config, run = cli.load_config(arguments)
    from deepconv.benchmark import compiled

    compiled.prepare()
    snapshot = expanded(_SNAPSHOT.value) if _SNAPSHOT.value else None
    if snapshot and (cli.ACCUMULATE.value > 1 or flags.FLAGS["forms"].present):
        raise ValueError("--snapshot is for a recipe's own step; leave out --accumulate and --forms")
    options = cli.DATA_DIR.value, _TARGET.value, cli.ACCUMULATE.value
    return functools.partial(compiled.show_compiled, config, *options, run=run, snapshot=snapshot)


def _peers(arguments: list[str]) -> Work:
    choice, platform = _choice(arguments, _PEERS.value)
    from deepconv.benchmark.peers import compare

    return functools.partial(compare.show_peers, choice, platform)


def _forms(arguments: list[str]) -> Work:
    choice, platform = _choice(arguments, ["deepconv"])
    from deepconv.benchmark.peers import compare

    return functools.partial(compare.show_forms, choice, platform)


def _choice(arguments: list[str], peers: list[str]) -> "tuple[Choice, str]":
    """Returns what `peers` and `forms` compare, and the platform, which is JAX's default one. Raises ValueError."""
    _no_more(arguments)
    from deepconv.benchmark.peers import compare

    lists = _NETS.value, _MODES.value, _DTYPES.value, peers
    choice = compare.Choice(*lists, rounds=_ROUNDS.value, batch=_BATCH.value, starts=_STARTS.value)
    compare.check(choice)
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # this process shares a GPU with the ones that it starts
    from deepconv import distributed
    from deepconv.ops import forms

    distributed.check_devices()
    if (platform := forms.platform()) not in compare.ROUND_SECONDS:
        raise ValueError(f"a CPU or a GPU can be measured, not a {platform.upper()}; set JAX_PLATFORMS=cpu")
    return choice, platform


def _growth(arguments: list[str]) -> Work:
    _no_more(arguments)
    import jax

    jax.config.update("jax_platforms", "cpu")  # for the record; this process uses no GPU
    from deepconv.benchmark import growth

    growth.check(_AXES.value)
    return functools.partial(growth.show_growth, _AXES.value, _STEPS.value)


# Each function checks the flags, without work on the devices, and raises ValueError or OSError. It imports its module
# after the check of the config, since mistakes there need not wait for JAX.
MEASUREMENTS: dict[str, Callable[[list[str]], Work]] = {
    "training": _training,
    "input": _input,
    "dense": _dense,
    "collectives": _collectives,
    "compiled": _compiled,
    "peers": _peers,
    "forms": _forms,
    "growth": _growth,
}

STEP = ("config", "smoke", "shorten", "data_dir", "accumulate", "forms")
RUN = (*STEP, "workers", "model_parallel")
COMPARISON = ("nets", "modes", "dtypes", "rounds", "batch", "starts")
TAKES: dict[str, Sequence[str]] = {  # the flags of each measurement; all take --json
    "training": (*RUN, "steps"),
    "input": ("config", "smoke", "shorten", "data_dir", "workers", "steps"),
    "dense": (*RUN, "steps", "scale"),
    "collectives": (*STEP, "model_parallel"),
    "compiled": (*STEP, "target", "snapshot"),
    "peers": (*COMPARISON, "peers"),
    "forms": COMPARISON,
    "growth": ("axes", "steps"),
}


def _task(arguments: list[str], evals: Sequence[str] = ("center",)) -> "Task":
    """Returns the task that the flags describe."""
    from deepconv.data import sources

    config, _ = cli.load_config(arguments)
    sources.check_exists(config.data.name, cli.DATA_DIR.value)
    from deepconv import task as task_lib

    return task_lib.prepare(
        config,
        cli.DATA_DIR.value,
        cli.WORKERS.value,
        evals,
        model_parallel=cli.MODEL_PARALLEL.value,
        accumulate=cli.ACCUMULATE.value,
    )


def _no_more(arguments: list[str]) -> None:
    """Raises ValueError for a further argument. Other measurements leave this to the loading of their recipe."""
    if len(arguments) > 1:
        raise ValueError(f"unknown argument {arguments[1]!r}; flags are written --name=value")


def _find(word: str) -> Callable[[list[str]], Work]:
    """Returns the function of a measurement. Raises ValueError for an unknown word, and for flags of other ones."""
    if word not in MEASUREMENTS:
        raise ValueError(f"unknown measurement {word!r}; {suggestion(word, MEASUREMENTS)}")
    others = {"heartbeat_seconds", *(flag for takes in TAKES.values() for flag in takes)} - {*TAKES[word]}
    if given := [flag for flag in sorted(others) if flags.FLAGS[flag].present]:
        raise ValueError(f"`{word}` takes no --{given[0]}; leave it out")
    return MEASUREMENTS[word]


def main(arguments: list[str]) -> int:
    """Measures and prints speeds."""
    from deepconv.benchmark import record

    program, word, *rest = arguments if len(arguments) > 1 else [*arguments, "training"]
    try:
        cli.check_file("json")
        cli.check_file("snapshot")
        work = _find(word)([program, *rest])
    except (ValueError, OSError) as error:
        return cli.refuse(str(error), code=2)
    try:
        with contextlib.redirect_stdout(sys.stderr if _JSON.value == "-" else sys.stdout):
            figures = work()
        if _JSON.value:
            record.write(_JSON.value, record.record(word, figures))
    except preemption.Preempted as signal:
        preemption.stop(str(signal))
    except ValueError as error:  # a mistake that only the work finds, such as a part that cannot be divided
        return cli.refuse(str(error), code=2)
    except OSError as error:  # such as an image that cannot be decoded
        return cli.refuse(str(error))
    return 0


if __name__ == "__main__":
    cli.run(main)
