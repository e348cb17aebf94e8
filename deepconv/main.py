"""Train and test one recipe: python -m deepconv.main --config=configs/quickstart.py

Repeating the command continues a stopped run, and does nothing for a finished one.
"""

if __name__ == "__main__":
    from deepconv.run import preemption

    preemption.install()  # before the imports, which take seconds

import shlex

from absl import flags

from deepconv import cli, settings, start, train_and_test
from deepconv.config.fields import predicts_boxes
from deepconv.settings import Settings
from deepconv.weights import inputs

_WORKDIR = flags.DEFINE_string("workdir", "", "Directory of the run [runs/<recipe>,<changes>].")
_INIT_FROM = flags.DEFINE_string("init_from", "", "Start from the weights of this run, or of a safetensors file.")
_INIT_LAYERS = flags.DEFINE_list(
    "init_layers", [], "Layers to take from --init_from, or all_but_head for all but the last; the rest are random."
)
_PROPOSALS_FROM = flags.DEFINE_string(
    "proposals_from", "", "Train R-CNN on the proposals that the net of this run makes; docs/localization.md."
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
_WANDB = flags.DEFINE_bool("wandb", False, "Record the training with Weights & Biases, too.")
_MLFLOW = flags.DEFINE_bool("mlflow", False, "Record the training with MLflow, too.")
train_and_test.define_flags(__name__)
_EXPECT_DEVICES = flags.DEFINE_integer(
    "expect_devices", None, "Number of devices that the run must have, over all processes.", lower_bound=1
)
_VERIFY_DATA = flags.DEFINE_bool(
    "verify_data", False, "Check every photograph read from a folder against the sum written by `prepare statistics`."
)
_DRY_RUN = flags.DEFINE_bool(
    "dry_run", False, "Check everything, time the training step, estimate the time of training, and write no files."
)


def main(arguments: list[str]) -> int:
    """Trains and tests the run that the flags describe, in its directory."""
    return train_and_test.run(lambda: _settings(arguments), _announcement, _advice, dry=_DRY_RUN.value)


def _settings(arguments: list[str]) -> Settings:
    """Resolves the flags. Raises ValueError and OSError, with a line for each mistake."""
    return settings.of_recipe(
        arguments,
        start.from_flags(_INIT_FROM.value, _INIT_LAYERS.value, _LIBRARY.value or "", _INPUT.value),
        _WORKDIR.value,
        _EVALS.value,
        _TRAIN.value,
        tests_given=not flags.FLAGS["evals"].using_default_value,
        expect_devices=_EXPECT_DEVICES.value,
        verify_data=_VERIFY_DATA.value,
        proposals_from=_PROPOSALS_FROM.value,
        use_trackers=[flag.name for flag in (_WANDB, _MLFLOW) if flag.value],
    )


def _announcement(chosen: Settings) -> list[str]:
    """Returns what the run will do, a line for each part."""
    from deepconv import report  # imports JAX

    task, workdir = chosen.task, chosen.workdir
    changes = cli.changes(task.config, shrunk=True)
    lines = [report.recipe(cli.recipe(), changes), report.net(task), report.data(task, cli.DATA_DIR.value)]
    if not task.total_steps:
        lines.append(f"the net of {_INIT_FROM.value} is tested without training; --train trains it first")
    else:
        lines.append(report.schedule(task, workdir, chosen.tests))
    return [*lines, f"run directory: {workdir}"]


def _advice(chosen: Settings) -> list[str]:
    """Returns what a person may do with the results."""
    lines, run = [], shlex.quote(str(chosen.workdir))
    if chosen.task.total_steps:
        lines.append(f"curves:        {chosen.workdir / 'curves.png'}")
    changes = f"--config.seed={chosen.task.config.seed + 1} or --config.optimizer.momentum=0.8"
    apart = "another --workdir and " if _WORKDIR.value else ""
    next_steps = [f"the same command with {apart}a change, such as {changes};"]
    if not predicts_boxes(chosen.task.config):
        next_steps.insert(0, f"python -m deepconv.predict --run={run} PHOTO.jpg;")
    next_steps.append(f"tensorboard --logdir={run if _WORKDIR.value else 'runs'} (after pip install tensorboard);")
    next_steps.append("python -m deepconv lists the recipes")
    return [*lines, "next:          " + "\n               ".join(next_steps)]


if __name__ == "__main__":
    cli.run(main, in_several=True)
