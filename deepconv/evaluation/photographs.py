"""Classes and features of the user's photographs, by a trained net."""

import functools
import hashlib
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import ExifTags, Image
from PIL.Image import Transpose as Turn

from deepconv.data import decode
from deepconv.data.images import Encoded, Record
from deepconv.data.sources.source import Source
from deepconv.evaluation import features, protocols
from deepconv.evaluation import run as evaluate
from deepconv.evaluation.net import Trained
from deepconv.evaluation.table import new_table
from deepconv.run.directory import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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


def classify(trained: Trained, photos: Sequence[str], protocol: str) -> np.ndarray:
    """Returns class probabilities, float32 [N, classes]. Raises ValueError if the net does not support the protocol."""
    net = trained.net
    parts = protocols.parts(protocol, trained.data, None, net.model, bool(trained.state.batch_stats))
    if any(part.precise for part in parts):
        raise ValueError(f"--protocol={protocol}: _precise_batch_stats is only for tests by deepconv.main")
    total = np.zeros((len(photos), len(trained.classes)), np.float32)
    for part in parts:
        crops = len(photos) * max(1, part.views // 2)  # without their mirror images
        small = replace(net, batch_size=min(net.batch_size, crops))  # no full batch for one photograph
        table = new_table(*total.shape)
        test = evaluate.Test(part, evaluate.jit(small, part), trained.state, table)
        evaluate.probabilities(small, [test], Files(photos))
        total += table["output"] / len(parts)
    return total


def draw(photos: Sequence[str], probs: np.ndarray, classes: Sequence[str]) -> "Figure":
    """Draws photographs with bars below them, four in a row."""
    from matplotlib.figure import Figure  # takes a second, which other calls need not wait for

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


def write_features(
    trained: Trained, photos: Sequence[str], source: Source | None, layer: str, rectify: bool, out: Path, run: str
) -> None:
    """Writes features of photographs, or of a source with its labels; continues where an earlier start stopped.

    run is the name of the net's directory, which distinguishes the features of different nets.
    """
    if source:
        images, examples, size = source.open(), source.examples, source.size
        content = [source.split, source.fingerprint]
    else:
        images, examples, size = Files(photos), len(photos), None
        content = [(photo, Path(photo).stat().st_mtime_ns) for photo in photos]
    (center,) = protocols.parts("center", trained.data, size, trained.net.model, batch_norm=False)
    content += [run, int(trained.state.step), layer, rectify]
    partial = out.with_name(f"{out.name}.{hashlib.sha256(repr(content).encode()).hexdigest()[:16]}.partial")
    net = replace(trained.net, batch_size=min(trained.net.batch_size, examples))
    forward = functools.partial(features.output, net=net, layer=layer, rectify=rectify)
    table, shape = features.fill(net, trained.state, images, examples, center, forward, layer, partial)
    with out.open("wb") as file:
        np.save(file, table["output"].reshape(examples, *shape))
    if source:
        np.save(out.with_name(f"{out.stem}.labels.npy"), table["label"])
    partial.unlink()
    print(f"{out} holds float32 {[examples, *shape]}")
