"""Classify your own photographs with a trained net, or extract its features.

python -m deepconv.predict --run=RUN_DIR photo.jpg ...
python -m deepconv.predict --run=RUN_DIR --protocol=dense_q256_384_512 --plot=top5.png photo.jpg ...
python -m deepconv.predict --run=RUN_DIR --features=fc7 --rectify --out=fc7.npy photo.jpg ...
python -m deepconv.predict --run=RUN_DIR --features=fc7 --rectify --out=fc7.npy --split=train --data_dir=DIR
"""

if __name__ == "__main__":
    from deepconv.run import preemption

    preemption.install()  # before the imports, which take seconds

import functools
import hashlib
import io
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from absl import flags
from matplotlib.figure import Figure
from PIL import ExifTags, Image
from PIL.Image import Transpose as Turn

from deepconv import cli
from deepconv.data import decode, sources
from deepconv.data.images import Encoded, Record
from deepconv.evaluation import features, protocols
from deepconv.evaluation import run as evaluate
from deepconv.evaluation.net import Trained, load_run
from deepconv.evaluation.table import new_table
from deepconv.ops import repeat
from deepconv.run.directory import expanded, printable

FLAGS = flags.FLAGS
TURNS = dict(enumerate((Turn.FLIP_LEFT_RIGHT, Turn.ROTATE_180, Turn.FLIP_TOP_BOTTOM, Turn.TRANSPOSE), 2))  # by EXIF
TURNS |= dict(enumerate((Turn.ROTATE_270, Turn.TRANSVERSE, Turn.ROTATE_90), 6))


@dataclass(frozen=True)
class Files(Encoded):
    """Photographs, turned upright, as records with label 0."""

    paths: Sequence[str]

    def read(self, indices: Iterable[int]) -> list[Record]:
        return [Record(upright(self.paths[i]), 0, self.paths[i]) for i in indices]


def upright(photo: str) -> bytes:
    """Reads an image file; one taken with the camera held sideways (EXIF) is turned upright, as BMP.

    EXIF that cannot be read is ignored.
    """
    data, turned = Path(photo).read_bytes(), io.BytesIO()
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", *decode.FORMATS)) as image:
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Pillow's EXIF reader raises many kinds; the pixels may be undamaged
        return data
    if orientation not in TURNS:
        return data
    Image.fromarray(decode.decode(data)).transpose(TURNS[orientation]).save(turned, "BMP")
    return turned.getvalue()


def main(arguments: list[str]) -> int:
    """Classifies photographs, or writes features."""
    photos = arguments[1:]
    try:
        _check_flags(photos)
        trained = load_run(expanded(FLAGS.run))
        layers = repeat.names(trained.state.params)
        if FLAGS.features and FLAGS.features not in layers:
            raise ValueError(f"--features={FLAGS.features} is not a layer of this net; it has {', '.join(layers)}")
        readable = [photo for photo in photos if _is_readable(photo)]
        if FLAGS.features:
            if readable != photos:
                raise ValueError(f"no features were written: {len(photos) - len(readable)} files cannot be read")
            write_features(trained, readable)
        elif readable:
            probs = predict(trained, readable, FLAGS.protocol)
            show(readable, probs, trained.classes)
            if FLAGS.plot:
                draw(readable, probs, trained.classes).savefig(FLAGS.plot)
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


def _is_readable(photo: str) -> bool:
    try:
        decode.decode(Path(photo).read_bytes())
    except OSError as error:
        cli.refuse(f"{photo} cannot be read: {error.strerror}")
    except decode.CorruptImage as error:
        cli.refuse(f"{photo} cannot be decoded: {error}")
    else:
        return True
    return False


def predict(trained: Trained, photos: Sequence[str], protocol: str) -> np.ndarray:
    """Returns class probabilities, float32 [N, classes]. Raises ValueError for a protocol that the net cannot have."""
    net = trained.net
    parts = protocols.parts(protocol, trained.data, None, net.model, bool(trained.state.batch_stats))
    if any(part.precise for part in parts):
        raise ValueError(f"--protocol={protocol}: _precise_batch_stats is only for tests by deepconv.main")
    total = np.zeros((len(photos), len(trained.classes)), np.float32)
    for part in parts:
        crops = len(photos) * max(1, part.views // 2)  # without their mirror images
        small = replace(net, batch_size=min(net.batch_size, crops))  # no full batch for one photograph
        table = new_table(*total.shape)
        evaluate.probabilities(small, part, evaluate.jit(small, part), trained.state, Files(photos), table)
        total += table["output"] / len(parts)
    return total


def show(photos: Sequence[str], probs: np.ndarray, classes: Sequence[str]) -> None:
    """Prints each photograph's five likeliest classes, with bars as in Krizhevsky et al. 2012, Fig. 4."""
    bar = "█" if "utf" in (sys.stdout.encoding or "").lower() else "#"
    for photo, row in zip(photos, probs, strict=True):
        print(printable(photo))
        for number in np.argsort(-row, kind="stable")[:5]:
            print(f"  {row[number]:4.2f}  {bar * round(30 * row[number]):30}  {printable(classes[number])}")


def draw(photos: Sequence[str], probs: np.ndarray, classes: Sequence[str]) -> Figure:
    """Draws photographs with bars below them, four in a row."""
    columns = min(4, len(photos))
    rows = math.ceil(len(photos) / columns)
    figure = Figure(figsize=(3 * columns, 4 * rows), layout="constrained")
    axes = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=[3, 2] * rows)
    for place in axes.flat:
        place.set_axis_off()
    for i, (photo, row) in enumerate(zip(photos, probs, strict=True)):
        above, below = axes[2 * (i // columns) :, i % columns][:2]
        above.imshow(decode.decode(upright(photo)))
        above.set_title(printable(Path(photo).name), fontsize=8, parse_math=False)
        best = np.argsort(-row, kind="stable")[:5]
        below.barh(range(len(best)), row[best], height=0.9, color="lightsteelblue")
        for place, number in enumerate(best):
            text = f"{printable(classes[number])}  {row[number]:.2f}"
            below.text(0.02, place, text, va="center", fontsize=8, parse_math=False)
        below.set(xlim=(0, 1), ylim=(4.5, -0.5))
    return figure


def write_features(trained: Trained, photos: Sequence[str]) -> None:
    """Writes features of photographs, or of a split with its labels; continues where an earlier start stopped."""
    data, out = trained.data, Path(FLAGS.out)
    if FLAGS.split:
        scale = tuple(data.train_scale) if "train_scale" in data else None
        source = sources.find(data.name, FLAGS.split, cli.DATA_DIR.value, data.image_size, scale)
        images, examples, size = source.open(), source.examples, source.size
        content = [source.split, source.fingerprint]
    else:
        images, examples, size = Files(photos), len(photos), None
        content = [(photo, Path(photo).stat().st_mtime_ns) for photo in photos]
    (center,) = protocols.parts("center", data, size, trained.net.model, batch_norm=False)
    content += [FLAGS.run, int(trained.state.step), FLAGS.features, FLAGS.rectify]
    partial = out.with_name(f"{out.name}.{hashlib.sha256(repr(content).encode()).hexdigest()[:16]}.partial")
    net = replace(trained.net, batch_size=min(trained.net.batch_size, examples))
    forward = functools.partial(features.output, net=net, layer=FLAGS.features, rectify=FLAGS.rectify)
    table, shape = features.fill(net, trained.state, images, examples, center, forward, FLAGS.features, partial)
    with out.open("wb") as file:
        np.save(file, table["output"].reshape(examples, *shape))
    if FLAGS.split:
        np.save(out.with_name(f"{out.stem}.labels.npy"), table["label"])
    partial.unlink()
    print(f"{out} holds float32 {[examples, *shape]}")


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
