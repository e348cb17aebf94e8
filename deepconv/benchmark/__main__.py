"""Measure a recipe's speed: python -m deepconv.benchmark --config=configs/resnet_cifar.py --data_dir=DIR

There are four measurements: start to first step, the input pipeline alone, the step alone, and training with both.

    python -m deepconv.benchmark --input --config=configs/resnet50.py --data_dir=DIR

compares the input pipeline with decoding and rescaling on one core and, if torch is installed, with torch's DataLoader
and Pillow doing the same work; the three take turns.

    python -m deepconv.benchmark --dense=256 --config=configs/resnet50.py --smoke --config.data.image_size=224

compares central crops with dense tests of images of several shapes with that shorter side, by time per pixel.

    python -m deepconv.benchmark --collectives --config=configs/alexnet_code.py --model_parallel=2 --smoke

lists what the devices exchange in a training step, and the memory it takes, both read from the compiled program.
"""

import time

from deepconv.run import preemption

START = time.perf_counter()  # before the imports, which count as part of the start
if __name__ == "__main__":
    preemption.install()

from absl import flags

from deepconv import cli
from deepconv import task as task_lib
from deepconv.benchmark.collectives import show_collectives
from deepconv.benchmark.dense import show_dense
from deepconv.benchmark.input import show_input
from deepconv.benchmark.step import show_training

_INPUT = flags.DEFINE_bool("input", False, "Measure only the input pipeline, compared with others.")
_DENSE = flags.DEFINE_integer("dense", None, "Measure only dense tests at this scale, compared with central crops.")
_COLLECTIVES = flags.DEFINE_bool("collectives", False, "Only list what the devices exchange in a compiled step.")
_STEPS = flags.DEFINE_integer("steps", 30, "Steps per measurement; the first five are not counted.", lower_bound=10)


def main(arguments: list[str]) -> int:
    """Measures and prints speeds."""
    try:
        config, _ = cli.load_config(arguments)
        evals = [f"dense_q{_DENSE.value}"] if _DENSE.value else ["center"]  # raises if the net has no dense test
        task = task_lib.prepare(
            config,
            cli.DATA_DIR.value,
            cli.WORKERS.value,
            evals,
            model_parallel=cli.MODEL_PARALLEL.value,
            accumulate=cli.ACCUMULATE.value,
        )
    except (ValueError, OSError) as error:
        return cli.refuse(str(error), code=2)
    try:
        if _COLLECTIVES.value:
            return show_collectives(task)
        if _INPUT.value:
            return show_input(task, _STEPS.value)
        return (
            show_dense(task, _DENSE.value, _STEPS.value) if _DENSE.value else show_training(task, _STEPS.value, START)
        )
    except OSError as error:  # such as an image that cannot be decoded
        return cli.refuse(str(error))


if __name__ == "__main__":
    cli.run(main)
