"""Classes, boxes and features of the user's photographs, by a trained net."""

import functools
import hashlib
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image
from PIL.Image import Transpose as Turn

from deepconv.data import decode
from deepconv.data.images import Encoded, EvalBatch, Images, Record
from deepconv.data.sources.source import Source
from deepconv.evaluation import features, protocols
from deepconv.evaluation import run as evaluate
from deepconv.evaluation.batches import TestBatch
from deepconv.evaluation.crops import in_file
from deepconv.evaluation.net import Net, Trained
from deepconv.evaluation.protocols import Protocol
from deepconv.evaluation.table import new_table
from deepconv.models.layers import LAST_LAYERS
from deepconv.objective import BoxRegression, ClassBoxRefinement, Classification
from deepconv.ops import repeat
from deepconv.run.files import replacing

Unread = dict[int, str]  # why photographs cannot be used, by their numbers
Show = Callable[[int, np.ndarray], None]  # takes a photograph's number and its results
TURNS = dict(enumerate((Turn.FLIP_LEFT_RIGHT, Turn.ROTATE_180, Turn.FLIP_TOP_BOTTOM, Turn.TRANSPOSE), 2))  # by EXIF
TURNS |= dict(enumerate((Turn.ROTATE_270, Turn.TRANSVERSE, Turn.ROTATE_90), 6))


@dataclass(frozen=True)
class Files(Encoded):
    """Photographs, turned upright, as records with label 0 or the classes that are given.

    With `unread`, a black square stands in for a photograph that cannot be read, and `unread` receives the reason.
    """

    paths: Sequence[str | Path]
    unread: Unread | None = None
    classes: Sequence[int] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.paths, str | Path):
            raise ValueError(f"{self.paths!r} is one path; give a list of photographs")

    def read(self, indices: Iterable[int]) -> list[Record]:
        return [Record(self._content(self.paths[i]), self._label(i), str(self.paths[i])) for i in indices]

    def _content(self, path: str | Path) -> bytes:
        try:
            return upright(path)
        except OSError as error:
            raise OSError(reason(path, error)) from None

    def test_batch(self, indices: np.ndarray, view: Callable[[np.ndarray], Any]) -> EvalBatch:
        if self.unread is None:
            return super().test_batch(indices, view)
        images = [view(self._image(int(i), self.unread)) for i in indices]
        labels = np.array([self._label(int(i)) for i in indices], np.int32)
        return {"image": images, "label": labels, "index": indices}

    def _label(self, index: int) -> int:
        return 0 if self.classes is None else int(self.classes[index])

    def _image(self, index: int, unread: Unread) -> np.ndarray:
        try:
            return decode.decode(upright(self.paths[index]))
        except (OSError, decode.CorruptImage) as error:
            unread[index] = reason(self.paths[index], error)
            return np.zeros((8, 8, 3), np.uint8)


def reason(photo: str | Path, error: Exception) -> str:
    """Returns a line that says why a photograph cannot be used."""
    if isinstance(error, OSError):
        return f"{photo} cannot be read: {error.strerror}"
    return f"{photo} cannot be decoded: {error}"


def upright(photo: str | Path) -> bytes:
    """Reads an image file; one taken with the camera held sideways (EXIF) is turned upright, as BMP.

    EXIF that cannot be read is ignored.
    """
    data, turned = Path(photo).read_bytes(), io.BytesIO()
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", *decode.FORMATS)) as image:
            oriented = image.format == "TIFF"  # Pillow turns TIFF files itself
            orientation = 1 if oriented else image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Pillow's EXIF reader raises many kinds; the pixels may be undamaged
        return data
    if orientation not in TURNS:
        return data
    try:
        Image.fromarray(decode.decode(data)).transpose(TURNS[orientation]).save(turned, "BMP")
    except decode.CorruptImage:  # found again, and reported, when it is decoded
        return data
    return turned.getvalue()


def classify(
    trained: Trained,
    photos: Sequence[str | Path],
    protocol: str = "center",
    unread: Unread | None = None,
    show: Show = lambda number, row: None,
) -> np.ndarray:
    """Returns class probabilities, float32 [N, classes], of image files of any size, whose pixels the net normalises.

    protocol is a test's name, such as "ten_crop" or "dense_q256_384_512". show(i, probabilities) is called once for
    each photograph, as soon as its probabilities are known. With `unread`, an empty dict, a photograph that cannot be
    read has NaN in place of probabilities, and unread[i] says why; without it, DataError or OSError is raised. Raises
    ValueError if the net predicts boxes, or does not support the protocol.
    """
    if not isinstance(trained.net.objective, Classification):
        raise ValueError("the net predicts boxes, not classes; use find_boxes")
    parts = protocols.parts(protocol, trained.data, None, trained.net.model, bool(trained.state.batch_stats))
    if any(part.precise for part in parts):
        raise ValueError(
            f"{protocol}: _precise_batch_stats is for tests of runs, by deepconv.main or deepconv.evaluate"
        )
    return _outputs(trained, photos, parts, len(trained.classes), unread, show)


def find_boxes(
    trained: Trained,
    photos: Sequence[str | Path],
    unread: Unread | None = None,
    show: Show = lambda number, row: None,
    classes: Sequence[int] | None = None,
) -> np.ndarray:
    """Returns the box that a net predicts on each photograph, float32 [N, 4].

    A box is x1, y1, x2, y2 in pixels of the upright photograph, right and bottom exclusive, found on its central crop.
    A net with boxes of each class needs `classes`, the number of each photograph's class; region proposals give the box
    of the class with the highest score. The other arguments, and the errors, are those of `classify`. Raises ValueError
    if the net predicts no boxes, refines those of another net, or needs other classes than are given.
    """
    goal = trained.net.objective
    if isinstance(goal, Classification):
        raise ValueError("the net gives scores of classes, not boxes; use classify")
    if isinstance(goal, ClassBoxRefinement):
        raise ValueError("the net refines the proposals of another net; find the boxes of that one")
    one_box = isinstance(goal, BoxRegression) and goal.boxes == 1
    if classes is None and not one_box:
        raise ValueError("the net has boxes of each class; give the class of each photograph")
    if classes is not None:
        if len(classes) != len(photos):
            raise ValueError(f"{len(classes)} classes are given for {len(photos)} photographs; give one for each")
        if wrong := [number for number in classes if not 0 <= number < len(trained.classes)]:
            raise ValueError(f"there is no class {wrong[0]}; the net's are 0 to {len(trained.classes) - 1}")
    (center,) = protocols.parts("center", trained.data, None, trained.net.model, batch_norm=False, boxes=True)
    rows = functools.partial(_boxes, net=trained.net, center=center)
    return _outputs(trained, photos, (center,), 4, unread, show, rows, classes)


def _boxes(batch: TestBatch, output: np.ndarray, *, net: Net, center: Protocol) -> np.ndarray:
    """Returns boxes [B, 4] in pixels of photographs, from boxes in pixels of their crops."""
    return np.stack([in_file(box, size, net, center) for size, box in zip(batch.sizes, output, strict=True)])


def _outputs(
    trained: Trained,
    photos: Sequence[str | Path],
    parts: Sequence[Protocol],
    width: int,
    unread: Unread | None,
    show: Show,
    rows: Callable[[TestBatch, np.ndarray], np.ndarray] = evaluate.as_computed,
    classes: Sequence[int] | None = None,
) -> np.ndarray:
    """Returns the mean results of tests, float32 [N, width]; the other arguments are those of `find_boxes`."""
    files, shown = Files(photos, unread, classes), np.zeros(len(photos), bool)
    tables = {part: new_table(len(photos), width) for part in parts}
    result = np.full((len(photos), width), np.nan, np.float32)

    def show_new(_: int) -> None:
        done = np.all([table["done"] for table in tables.values()], 0)
        for number in np.flatnonzero(done & ~shown):
            if not (unread and number in unread):
                result[number] = np.mean([table["output"][number] for table in tables.values()], 0)
            shown[number] = True
            show(int(number), result[number])

    crops = len(photos) * max(1, parts[0].views // 2)  # without their mirror images
    small = replace(trained.net, batch_size=min(trained.net.batch_size, crops))  # no full batch for one photograph
    tests = [evaluate.Test(part, evaluate.jit(small, part), trained.state, tables[part], rows) for part in parts]
    evaluate.fill_tables(small, tests, files, show_new)
    return result


def extract_features(trained: Trained, photos: Sequence[str | Path], layer: str, rectify: bool = False) -> np.ndarray:
    """Returns the output of a layer, such as "fc7", for the central crop of each photograph, float32 [N, ...].

    The nonlinearity after the layer is left out; with `rectify`, negative values become zero. The output of a ResNet's
    block, such as "conv4_1", includes its last rectifier. Raises ValueError for an unknown layer, DataError or OSError
    if a photograph cannot be read.
    """
    check_layer(trained, layer, rectify)
    table, shape = _fill_features(trained, Files(photos), len(photos), None, layer, rectify, title=None)
    return table["output"].reshape(len(photos), *shape)


def check_layer(trained: Trained, layer: str, rectify: bool) -> None:
    """Raises ValueError if the net has no layer of this name or, with `rectify`, no rectifier right after it."""
    layers = repeat.names(trained.state.params)
    if layer not in layers:
        raise ValueError(f"{layer} is not a layer of this net; it has {', '.join(layers)}")
    if rectify and layer in LAST_LAYERS:
        raise ValueError(f"{layer} gives the net's scores, without a rectifier; leave out --rectify")
    if rectify and (activation := getattr(trained.net.model, "activation", "relu")) != "relu":
        raise ValueError(f"{layer} of this net is followed by {activation}, not by a rectifier; leave out --rectify")
    table = getattr(trained.net.model, "convolutions", dict)()  # of nets that list what follows each convolution
    # maximum pooling before the rectifier gives the same as after it
    harmless = {"pool"} if getattr(trained.net.model, "lrn", True) else {"pool", "lrn", "spatial"}
    then = [step for step in table[layer].then if step not in harmless] if layer in table else ["act"]
    if rectify and then[:1] != ["act"]:
        raise ValueError(
            f"{layer} of this net is followed by {then[0]}, and only then by the rectifier; leave out --rectify"
        )
    if rectify and layer == "conv1" and "bn1" in layers:
        raise ValueError("conv1 of this net is followed by bn1, and bn1 by the rectifier; give bn1")


def write_features(
    trained: Trained,
    photos: Sequence[str | Path],
    source: Source | None,
    layer: str,
    rectify: bool,
    out: Path,
    origin: str,
) -> None:
    """Writes features of photographs, or of a source with its labels; continues where an earlier start stopped.

    origin names the net's directory or file, which distinguishes the features of different nets.
    """
    if source:
        images, examples, size = source.open(), source.examples, source.size
        content = [source.split, source.fingerprint]
    else:
        images, examples, size = Files(photos), len(photos), None
        content = [(photo, Path(photo).stat().st_mtime_ns) for photo in photos]
    content += [origin, int(trained.state.step), layer, rectify, trained.net.model, trained.data.to_json()]
    partial = out.with_name(f"{out.name}.{hashlib.sha256(repr(content).encode()).hexdigest()[:16]}.partial")
    table, shape = _fill_features(trained, images, examples, size, layer, rectify, layer, partial)
    arrays = {out: table["output"].reshape(examples, *shape)}
    if source:
        arrays[out.with_name(f"{out.stem}.labels.npy")] = table["label"]
    for path, array in arrays.items():
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.save(file, array)
    partial.unlink()
    print(f"{out} holds float32 {[examples, *shape]}")


def _fill_features(
    trained: Trained,
    images: Images,
    examples: int,
    size: tuple[int, int] | None,
    layer: str,
    rectify: bool,
    title: str | None,
    file: Path | None = None,
) -> tuple[np.ndarray, tuple[int, ...]]:
    """Returns a table of features, on disk if a file is given, and their shape; size is that of all images."""
    (center,) = protocols.parts("center", trained.data, size, trained.net.model, batch_norm=False)
    net = replace(trained.net, batch_size=min(trained.net.batch_size, examples))
    forward = functools.partial(features.output, net=net, layer=layer, rectify=rectify)
    return features.fill(net, trained.state, images, examples, center, forward, title, file)
