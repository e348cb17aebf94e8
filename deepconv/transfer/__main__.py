"""Measure a net's features on another data set, with linear support vector machines (VGG, appendix B).

    python -m deepconv.transfer --run=runs/vgg16 --data=voc2007 --data_dir=DIR
    python -m deepconv.transfer --run=runs/vgg16 --run=runs/vgg19 --data=caltech101 --data_dir=DIR
    python -m deepconv.transfer --run=runs/vgg16 --data=FOLDER --data_dir=DIR --scales=256

Data sets are voc2007, voc2012, voc2012_action, caltech101, caltech256, and folders in their layouts. Descriptors of two
nets are stacked. Repeating the command continues a stopped measurement and shows a finished one; docs/transfer.md.
"""

if __name__ == "__main__":
    from deepconv.run import preemption

    preemption.install()  # before the imports, which take seconds

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deepconv import cli
from deepconv.config import recipes
from deepconv.run.directory import code_of, job_patience, lock
from deepconv.run.files import expanded, printable, read_json, write_json
from deepconv.run.starts import environment

if TYPE_CHECKING:
    from deepconv.transfer.benchmarks import Benchmark
    from deepconv.transfer.descriptors import Describer

FLAGS = flags.FLAGS
NAMES = {"mean_average_precision": "average precision, %", "mean_class_recall": "recall, %"}


def main(arguments: list[str]) -> int:
    """Measures what the flags describe, in its directory, and prints the result."""
    code = 2
    try:
        benchmark, nets, workdir = _set_up(arguments)
        from deepconv.transfer import measure  # imported here, as JAX is in _set_up

        with lock(workdir, patience=job_patience()):
            measure.claim(workdir, settings := measure.settings(benchmark, nets))
            code = 1  # from here on, failures are failures during work
            file = workdir / "transfer.json"
            if not file.exists():
                _say(benchmark, nets, workdir)
                result = settings | measure.measure(benchmark, nets, workdir)
                write_json(file, result | {"stacked": benchmark.stacked} | environment())
                (workdir / "splits.json").unlink()
            result = read_json(file, dict, "classes", "c")
            show(result, file)
            if FLAGS.plot:
                from deepconv.transfer import drawing

                (kind,) = NAMES.keys() & result.keys()
                drawing.draw(result, kind, NAMES[kind]).savefig(expanded(FLAGS.plot))
                print(f"drawn to {FLAGS.plot}")
    except (ValueError, OSError, FloatingPointError) as error:
        return cli.refuse(str(error), code_of(error, code))
    return 0


def _set_up(arguments: list[str]) -> "tuple[Benchmark, list[Describer], Path]":
    if len(arguments) > 1:
        raise ValueError(f"unknown argument {arguments[1]!r}; flags are written --name=value")
    if not FLAGS.run or not FLAGS.data:
        raise ValueError("--run=RUN_DIR and --data=NAME are needed: the directory of a run, and a data set")
    if wrong := [scale for scale in FLAGS.scales if not scale.isdecimal()]:
        raise ValueError(f"--scales={wrong[0]} is not a number of pixels; write them as in --scales=256,384")
    cli.check_file("plot", picture=True)
    runs = [expanded(run) for run in FLAGS.run]
    for run in runs:
        recipes.read_run(run)  # raises for a wrong directory
    if importlib.util.find_spec("sklearn") is None:
        raise ValueError("scikit-learn is missing; install it with pip install 'deepconv[transfer]'")
    from deepconv.transfer import benchmarks

    benchmark = benchmarks.find(FLAGS.data, cli.DATA_DIR.value, FLAGS.regions)
    # Imported here, since `--help` and mistakes need not wait for JAX.
    from deepconv.evaluation.net import load_run
    from deepconv.transfer import descriptors, measure

    scales = [int(scale) for scale in FLAGS.scales] or benchmark.scales
    nets = [descriptors.describer(Path(os.path.abspath(run)).name, load_run(run), scales) for run in runs]
    if FLAGS.workdir:
        return benchmark, nets, expanded(FLAGS.workdir)
    changes = {"run": "+".join(net.name for net in nets)}
    given = {"scales": FLAGS.scales, "regions": FLAGS.regions}
    changes |= {flag: "+".join(values) for flag, values in given.items() if values}
    return benchmark, nets, Path("runs", measure.name(f"transfer_{benchmark.name}", changes))


def _say(benchmark: "Benchmark", nets: "list[Describer]", workdir: Path) -> None:
    """Prints what is going to be measured."""
    scales = ", ".join(str(test.scale) for test in nets[0].tests)
    print(f"directory: {workdir}", flush=True)
    print(f"{len(benchmark.labels)} examples of {len(benchmark.classes)} classes; the test is on {benchmark.test}")
    for net in nets:
        views = "full images" if net.tests[0].kind == "dense" else "ten crops"
        print(f"{net.name} at step {net.step}: {net.layer}, {views} at {scales} pixels", flush=True)


def show(result: dict[str, Any], file: Path) -> None:
    """Prints the value of each class, and the mean."""
    (kind,) = NAMES.keys() & result.keys()
    table = Table("class", NAMES[kind])
    table.columns[1].justify = "right"
    for name, value in result["classes"].items():
        table.add_row(escape(printable(name)), "no images" if value is None else f"{value:.2f}")
    spread = f" ± {result['mean_class_recall_std']:.2f}" if kind == "mean_class_recall" else ""
    table.add_section()
    table.add_row("mean", f"{result[kind]:.2f}{spread}")
    Console().print(table)
    images = result["images"]
    print(f"{images['train']} training examples, {images['test']} of {result['test']}; C = {_numbers(result['c'])}")
    print(f"{file} holds the result")


def _numbers(values: list[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def define_flags() -> None:
    """Defines the flags of this command only."""
    # absl adds that the flag may be repeated
    flags.DEFINE_multi_string(
        "run", [], "The directory of a run, or of imported weights; descriptors of several nets are stacked"
    )
    flags.DEFINE_string("data", None, "voc2007, voc2012, voc2012_action, caltech101, caltech256, or another folder.")
    flags.DEFINE_list(
        "scales", [], "Shorter sides of images in pixels [256,384,512,640,768 for VOC, 256,384,512 for Caltech]."
    )
    flags.DEFINE_list("regions", [], "voc2012_action: describe a person's image, box, or both [image,box].")
    flags.DEFINE_string("plot", None, "Draw the value of each class to this file.")
    flags.DEFINE_string("workdir", "", "Directory of the result [runs/transfer_<data>,run=<run>].")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
