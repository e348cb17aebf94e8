"""Test a run that is trained, or the weights in a file.

    python -m deepconv.evaluate --run=runs/resnet50 --tests=center,ten_crop --data_dir=DIR
    python -m deepconv.evaluate --weights=resnet50.safetensors --library=torchvision --config=resnet50 --data_dir=DIR

The results are those of `python -m deepconv.main --evals=...`, in the same files. Those of a run lie in its directory,
those of a file in runs/<recipe>,init_from=<file>,train=False. Repeating the command continues a stopped test.
"""

if __name__ == "__main__":
    from deepconv.run import preemption

    preemption.install()  # before the imports, which take seconds

from absl import flags

from deepconv import cli, settings, train_and_test
from deepconv.run.files import expanded
from deepconv.settings import Settings
from deepconv.start import from_flags
from deepconv.weights import inputs

FLAGS = flags.FLAGS
NOT_FOR_RUNS = ("config", "smoke", "shorten", "library", "input", "workdir", "accumulate", "model_parallel")


def main(arguments: list[str]) -> int:
    """Tests the net that the flags describe, in the directory of its results."""
    return train_and_test.run(lambda: _settings(arguments), _announcement)


def _settings(arguments: list[str]) -> Settings:
    """Resolves the flags. Raises ValueError and OSError, with a line for each mistake."""
    if len(arguments) > 1:
        raise ValueError(f"unknown argument {arguments[1]!r}; flags are written --name=value")
    if bool(FLAGS.run) == bool(FLAGS.weights):
        raise ValueError("give either --run=RUN_DIR or --weights=FILE, the net to test")
    if not FLAGS.tests:
        raise ValueError("--tests is empty; choose from center, ten_crop, dense, multi_crop, multi_crop_dense")
    if FLAGS.run:
        if given := [name for name in NOT_FOR_RUNS if FLAGS[name].present]:
            raise ValueError(f"--{given[0]} has no effect with --run; {FLAGS.run} has its own config and images")
        return settings.of_run(expanded(FLAGS.run), FLAGS.tests)
    start = from_flags(FLAGS.weights, [], FLAGS.library or "", FLAGS.input)
    return settings.of_recipe(arguments, start, FLAGS.workdir, FLAGS.tests, train=False)


def _announcement(chosen: Settings) -> list[str]:
    return [f"the net of {FLAGS.run or FLAGS.weights} is tested; results are in {chosen.workdir}"]


def define_flags() -> None:
    """Defines the flags of this command only."""
    flags.DEFINE_string("run", "", "The directory of a run that is trained.")
    flags.DEFINE_string("weights", "", "A safetensors file, or imported weights; --config gives its net and data.")
    flags.DEFINE_enum("library", None, [*inputs.LIBRARIES], inputs.LIBRARY_HELP)
    flags.DEFINE_string("input", "", inputs.INPUT_HELP)
    flags.DEFINE_list(
        "tests",
        ["center"],
        "Test protocols: center, ten_crop, dense, multi_crop, multi_crop_dense; with scales, as in "
        "dense_q256_384_512, and then _posteriors, _precise_batch_stats; docs/testing.md explains them.",
    )
    flags.DEFINE_string("workdir", "", "Directory of the results of --weights.")
    train_and_test.define_flags(__name__)


if __name__ == "__main__":
    define_flags()
    cli.run(main, in_several=True)
