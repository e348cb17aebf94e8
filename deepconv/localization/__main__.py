"""Test localisation nets on full images, with predicted classes (VGG's appendix A, ResNet's appendix C).

    python -m deepconv.localization --run=LOC --scales=384 --scores_from=D --classes_from=D:multi_crop_dense
        --data_dir=DIR --workdir=DIR
    python -m deepconv.localization --run=LOC256 --run=LOC384 --scales=256/352,384 --scores_from=D256
        --scores_from=D384 --classes_from=D:multi_crop_dense --classes_from=E:multi_crop_dense ...
    python -m deepconv.localization --run=RPN --scales=224,256,384,480,640 --classes_from=RESNET:TEST ...
    python -m deepconv.localization --run=RPN --refined_by=RCNN --scales=224,256,384,480,640
        --classes_from=RESNET:TEST ...

Each image gets a box for each of its five likeliest classes, by the mean of saved probabilities (RUN:TEST stands for
RUN/probs.TEST.npy). The boxes that all nets give a class at all windows and scales are merged; the answer is the merged
box whose windows have the highest sum of the classification net's scores. Region proposals are not merged: the box is
the one with the highest score, with --refined_by the score that R-CNN gives. Writes localization.json and boxes.npy to
--workdir; see docs/localization.md. A repeated command continues, or prints the result.
"""

if __name__ == "__main__":
    from deepconv.run import preemption

    preemption.install()  # before the imports, which take seconds

from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from deepconv import cli
from deepconv.run.directory import code_of, job_patience, lock
from deepconv.run.files import expanded, write_json

if TYPE_CHECKING:
    import numpy as np

    from deepconv.data.sources.annotated import AnnotatedImages
    from deepconv.localization import run
    from deepconv.localization.settings import Settings

FLAGS = flags.FLAGS


def main(arguments: list[str]) -> int:
    """Tests localisation nets and prints the errors."""
    from deepconv.localization import settings as settings_lib  # imports NumPy, which --help need not wait for

    code = 2
    try:
        if len(arguments) > 1:
            raise ValueError(f"unknown argument {arguments[1]!r}; flags are written --name=value")
        settings = settings_lib.parse(FLAGS.run, FLAGS.scales, FLAGS.classes_from, FLAGS.scores_from, FLAGS.refined_by)
        _check_flags()
        with lock(workdir := expanded(FLAGS.workdir), patience=job_patience()):
            inputs, images, test = _set_up(settings, workdir)
            code = 1  # from here on, failures are failures during work
            _measure(workdir, inputs, images, test)
    except (ValueError, OSError, FloatingPointError) as error:
        return cli.refuse(str(error), code_of(error, code))
    return 0


def _check_flags() -> None:
    if not FLAGS.workdir:
        raise ValueError("--workdir=DIR is missing: the directory for the results")
    cli.check_file("plot", picture=True)


def _set_up(settings: "Settings", workdir: Path) -> tuple[dict[str, Any], "AnnotatedImages", "run.Test | None"]:
    """Returns what the results depend on, the images, and the test, unless its results are there."""
    # Imported here, since `--help` and mistakes need not wait for JAX.
    from deepconv.localization import results, run, truth

    record = results.read_record(workdir / results.RECORD)
    scales = [scale for member in settings.members for scale in member.scales]
    images = truth.open_images(settings.data, cli.DATA_DIR.value, scales)
    inputs = run.describe_inputs(settings, images)
    if record:
        run.check_same(record, inputs, workdir)
    return inputs, images, None if record else run.prepare(settings, images, inputs)


def _measure(workdir: Path, inputs: dict[str, Any], images: "AnnotatedImages", test: "run.Test | None") -> None:
    """Tests the nets or reads the results, and prints them."""
    from deepconv.localization import results, run, truth

    if test:
        rows, seconds = run.run(test, workdir)
        record = run.write_record(workdir, inputs, rows, images, seconds)
    else:
        record = results.read_record(workdir / results.RECORD)
        assert record  # `_set_up` read it, and the directory is locked
        rows = results.read_boxes(workdir / results.BOXES, len(images.ids))
        now = record if images.blacklisted is None else results.with_errors(record, rows, images)
        if now != record:  # ILSVRC's blacklist was added or changed
            record = now
            write_json(workdir / results.RECORD, record)
    print("\n".join(results.describe(record)))
    if truth.lacks_blacklist(images):
        print("note: ILSVRC's list of images that do not count is missing beside the boxes; see docs/localization.md")
    if FLAGS.plot:
        _plot(images, rows, FLAGS.plot)


def _plot(images: "AnnotatedImages", rows: "np.ndarray", file: str) -> None:
    from deepconv.localization import drawing

    drawing.draw(images, rows[: FLAGS.images], images.class_names).savefig(expanded(file))
    print(f"drawn to {file}")


def define_flags() -> None:
    """Defines the flags of this command only."""
    # absl adds that these flags may be repeated
    flags.DEFINE_multi_string(
        "run", [], "The directory of a localisation net; boxes of several are merged, region proposals put together"
    )
    flags.DEFINE_string("scales", None, "The shorter sides of images in pixels, a list per run: 256/352,384.")
    flags.DEFINE_multi_string(
        "classes_from", [], "RUN:TEST, the saved probabilities that decide the classes; those of several are averaged"
    )
    flags.DEFINE_multi_string(
        "scores_from",
        [],
        "The directory of a classification net, which scores windows, for each --run in order; without the flag, a "
        "window's score is the image's probability of the class",
    )
    flags.DEFINE_multi_string(
        "refined_by", [], "The directory of an R-CNN net, which gives region proposals new scores and boxes"
    )
    flags.DEFINE_string("workdir", None, "The directory for the results.")
    flags.DEFINE_string("plot", None, "Draw the first images with true and predicted boxes to this file.")
    flags.DEFINE_integer("images", 8, "The number of images to draw.", lower_bound=1, upper_bound=100)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
