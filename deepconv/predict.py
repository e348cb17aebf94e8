"""Classify your own photographs with a trained net, or extract its features.

python -m deepconv.predict --run=RUN_DIR photo.jpg ...
python -m deepconv.predict --run=RUN_DIR --protocol=dense_q256_384_512 --plot=top5.png photo.jpg ...
python -m deepconv.predict --run=RUN_DIR --features=fc7 --rectify --out=fc7.npy photo.jpg ...
python -m deepconv.predict --run=RUN_DIR --features=fc7 --rectify --out=fc7.npy --split=train --data_dir=DIR
"""

if __name__ == "__main__":
    from deepconv.run import preemption

    preemption.install()  # before the imports, which take seconds

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from deepconv import cli
from deepconv.config import recipes
from deepconv.run.directory import expanded, printable

if TYPE_CHECKING:
    import numpy as np

    from deepconv.data.sources.source import Source
    from deepconv.evaluation.net import Trained

FLAGS = flags.FLAGS


def main(arguments: list[str]) -> int:
    """Classifies photographs, or writes features."""
    photos = arguments[1:]
    try:
        _check_flags(photos)
        run = expanded(FLAGS.run)
        recipes.read_run(run)  # raises for a wrong directory
        # Imported here, since `--help` and mistakes need not wait for JAX.
        from deepconv.evaluation import photographs
        from deepconv.evaluation.net import load_run
        from deepconv.ops import repeat

        trained = load_run(run)
        layers = repeat.names(trained.state.params)
        if FLAGS.features and FLAGS.features not in layers:
            raise ValueError(f"--features={FLAGS.features} is not a layer of this net; it has {', '.join(layers)}")
        readable = [photo for photo in photos if _is_readable(photo)]
        if FLAGS.features:
            if readable != photos:
                raise ValueError(f"no features were written: {len(photos) - len(readable)} files cannot be read")
            options = FLAGS.features, FLAGS.rectify, Path(FLAGS.out), FLAGS.run
            photographs.write_features(trained, readable, _source(trained), *options)
        elif readable:
            probs = photographs.classify(trained, readable, FLAGS.protocol)
            show(readable, probs, trained.classes)
            if FLAGS.plot:
                photographs.draw(readable, probs, trained.classes).savefig(FLAGS.plot)
                print(f"drawn to {FLAGS.plot}")
    except (ValueError, OSError) as error:
        return cli.refuse(str(error), code=2)
    return 0 if len(readable) == len(photos) else 1


def _check_flags(photos: Sequence[str]) -> None:
    if not FLAGS.run:
        raise ValueError("--run=RUN_DIR is missing: the directory of a run, or of imported weights")
    if bool(photos) == bool(FLAGS.split):
        raise ValueError("give the files of photographs, or --split of the run's data set with --features")
    if bool(FLAGS.features) != bool(FLAGS.out) or (FLAGS.split and not FLAGS.features):
        raise ValueError("--features=LAYER and --out=FILE.npy need each other, and --split needs both")
    if FLAGS.features and (FLAGS.protocol != "center" or FLAGS.plot):
        raise ValueError("--features are those of the central crop and are not drawn; leave out --protocol and --plot")
    for flag in ("plot", "out"):
        file = FLAGS[flag].value
        if file and not Path(file).absolute().parent.is_dir():
            raise ValueError(f"--{flag}={file}: its folder does not exist")


def _source(trained: "Trained") -> "Source | None":
    """Returns the split of the run's data set that --split names, if it names one. Raises ValueError, OSError."""
    from deepconv.data import sources

    data = trained.data
    scale = tuple(data.train_scale) if "train_scale" in data else None
    return sources.find(data.name, FLAGS.split, cli.DATA_DIR.value, data.image_size, scale) if FLAGS.split else None


def _is_readable(photo: str) -> bool:
    from deepconv.data import decode

    try:
        decode.decode(Path(photo).read_bytes())
    except OSError as error:
        cli.refuse(f"{photo} cannot be read: {error.strerror}")
    except decode.CorruptImage as error:
        cli.refuse(f"{photo} cannot be decoded: {error}")
    else:
        return True
    return False


def show(photos: Sequence[str], probs: "np.ndarray", classes: Sequence[str]) -> None:
    """Prints each photograph's five likeliest classes, with bars as in Krizhevsky et al. 2012, Fig. 4."""
    bar = "█" if "utf" in (sys.stdout.encoding or "").lower() else "#"
    for photo, row in zip(photos, probs, strict=True):
        print(printable(photo))
        for number in (-row).argsort(kind="stable")[:5]:
            print(f"  {row[number]:4.2f}  {bar * round(30 * row[number]):30}  {printable(classes[number])}")


def define_flags() -> None:
    """Defines the flags of this command only."""
    flags.DEFINE_string("run", None, "The run's directory.")
    flags.DEFINE_string("protocol", "center", "The test protocol to apply, as in main's --evals.")
    flags.DEFINE_string("plot", None, "Draw the photographs and their five likeliest classes to this file.")
    flags.DEFINE_string("features", None, "Write the output of this layer, such as fc7, instead of classes.")
    flags.DEFINE_bool("rectify", False, "Set negative features to zero, as the layer's rectifier does.")
    flags.DEFINE_string("out", None, "The .npy file for features, float32 [N, ...].")
    flags.DEFINE_string("split", None, "Write features of this split of the run's data set, instead of photographs.")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
