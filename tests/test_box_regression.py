"""Images with boxes from files to the loss, and nets that are trained to predict them."""

import dataclasses
import io
import json
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT, narrow, shell
from ml_collections import ConfigDict
from PIL import Image

from deepconv import curves, distributed, report, resume, train
from deepconv import task as task_lib
from deepconv.boxes import codes, geometry, localization_error
from deepconv.config import recipes
from deepconv.data import augment, decode, pipeline, sources, statistics
from deepconv.data.decode import Geometry
from deepconv.data.images import Encoded, Record
from deepconv.data.prepare import image_statistics
from deepconv.data.sources import folders, shape_drawing, shapes
from deepconv.data.sources.annotated import Found, arrange
from deepconv.data.sources.shape_boxes import read_square_shape_boxes
from deepconv.evaluation import batches, protocols
from deepconv.evaluation import run as evaluate
from deepconv.evaluation.net import Net
from deepconv.evaluation.true_class import TrueClassBoxes
from deepconv.models import vgg
from deepconv.objective import BoxRegression
from deepconv.run import log as runlog
from deepconv.run.evaluations import errors_of, read_eval

# Boxes on their way from the file to the net


@dataclass(frozen=True)
class Files(Encoded):
    files: list

    def read(self, indices):
        return [Record(self.files[i], int(i) % 3, f"file {i}") for i in indices]


def rectangles(count, seed=0, scaled=False, largest=140):
    """White rectangles on black images of many sizes, with their boxes; scaled: as if on images twice as wide."""
    rng = np.random.default_rng(seed)
    files, sizes, boxes = [], rng.integers(70, 140, (count, 2)), []
    for height, width in sizes.tolist():
        left, top = rng.integers(0, width - 30), rng.integers(0, height - 30)
        right = left + rng.integers(25, min(width - left, largest))
        bottom = top + rng.integers(25, min(height - top, largest))
        pixels = np.zeros((height, width, 3), np.uint8)
        pixels[top:bottom, left:right] = 255
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        files.append(file.getvalue())
        boxes.append((left, top, right, bottom))
    boxes, none = np.array(boxes, np.float32), np.zeros(count, bool)
    if scaled:
        sizes, boxes = sizes * (1, 2), boxes * np.float32([2, 1, 2, 1])
    found = Found(np.arange(count), boxes, np.arange(count) % 3, none, none)
    return arrange(Files(files), np.arange(count), sizes, found, ("a", "b", "c"), scaled)


def seen_box(image):
    """The box around an image's white pixels, [4]; None if there are none."""
    rows, columns = (np.flatnonzero(image[..., 0].max(axis) > 127) for axis in (1, 0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) if len(rows) else None


def prepared(batch, size, key=0, kind="crop_flip"):
    data = ConfigDict(dict(image_size=size, augment=kind, mean="0,0,0"))
    prepare = augment.for_training(data, statistics.NOT_NEEDED, augment.ALWAYS)
    return jax.tree.map(np.asarray, prepare(jax.random.key(key), 0, batch))


@pytest.mark.parametrize(
    ("square", "scaled", "kind"),
    [(False, False, "crop_flip"), (False, True, "crop_flip"), (True, False, "crop_flip"), (True, False, "none")],
)
def test_boxes_stay_on_their_rectangles(square, scaled, kind):
    """Crops of the host (not square: at random) and of the device (square: at random), and mirror images."""
    data = rectangles(90, scaled=scaled)
    where = Geometry((60, 60), 60, True, False) if square else Geometry((50, 80), 40, False, True)
    loader = pipeline.train_batches(data, 90, batch_size=90, seed=0, geometry=where)
    batch = next(loader)
    assert batch["boxes"].dtype == np.float32 and batch["classes"].dtype == np.int32
    np.testing.assert_array_equal(batch["classes"][:, 0], batch["label"])
    after = prepared(batch, 40, kind=kind)
    assert after["image"].shape == (90, 40, 40, 3) and after["boxes"].shape == (90, 1, 4)
    inside = geometry.clip(after["boxes"], 40, 40)[:, 0]
    visible = np.flatnonzero((inside[:, 2:] - inside[:, :2]).min(1) > 2)
    assert len(visible) > 60
    for i in visible:
        np.testing.assert_allclose(seen_box(after["image"][i]), inside[i], atol=1.3)  # pixels of the edge are mixed
    assert (after["boxes"] < 0).any() and (after["boxes"] > 40).any()  # boxes are not clipped


def test_batches_without_boxes_and_with_them_have_the_same_pixels():
    data, where = rectangles(20), Geometry((50, 80), 40, False, True)
    options = dict(batch_size=20, seed=3, geometry=where)
    with_boxes, without = (next(pipeline.train_batches(images, 20, **options)) for images in (data, data.images))
    assert set(without) == {"image", "label"}
    for name in without:
        np.testing.assert_array_equal(with_boxes[name], without[name])
    after, plain = prepared(with_boxes, 32), prepared(without, 32)
    np.testing.assert_array_equal(after["image"], plain["image"])


def test_the_box_of_an_image_that_is_replaced_is_replaced_too():
    data = rectangles(6)
    files = [b"damaged" if i == 2 else file for i, file in enumerate(data.images.files)]
    damaged = dataclasses.replace(data, images=Files(files))
    where, messages = Geometry((60, 60), 60, True, False), []
    options = dict(batch_size=6, seed=0, geometry=where)
    (batch,) = (next(pipeline.train_batches(damaged, 6, **options, report=messages.extend)),)
    assert "record 2 (file 2) cannot be decoded" in messages[0]
    for image, box in zip(batch["image"], batch["boxes"][:, 0], strict=True):
        if (found := seen_box(image)) is not None:
            np.testing.assert_allclose(found, geometry.clip(box, 60, 60), atol=1.3)
    assert sorted(batch["classes"][:, 0].tolist()) == [0, 0, 0, 1, 1, 2]  # that of record 3 twice


def test_difficult_objects_and_crowds_are_not_trained_on():
    data = rectangles(3)
    data = dataclasses.replace(data, difficult=np.array([[True], [False], [False]]), crowd=np.eye(3, dtype=bool)[1:2].T)
    where = Geometry((60, 60), 60, True, False)
    batch = next(pipeline.ordered_batches(data, 3, 3, where))
    assert batch["classes"].tolist() == [[-1], [-1], [2]]
    assert not batch["boxes"][:2].any() and batch["boxes"][2].any()


def test_shapes_of_one_size_have_the_boxes_of_their_drawings():
    data = read_square_shape_boxes("test[5:9]", 40)
    for i in range(4):
        image, label, (top, left, bottom, right) = shape_drawing.draw(shapes.OFFSETS["test"] + 5 + i, 40, 40)
        np.testing.assert_array_equal(data.images.images[i], image)
        assert data.boxes[i].tolist() == [[left, top, right, bottom]] and data.classes[i] == [label]
    batch = next(pipeline.ordered_batches(data, 4, 4, decode.central_square(40)))
    np.testing.assert_array_equal(batch["boxes"], data.boxes)


# The loss


@jax.jit
def measured(outputs, batch):
    kind = BoxRegression(outputs.shape[1] // 4, size=100)
    assert kind.outputs == outputs.shape[1]
    return kind(outputs, batch, jax.random.key(0))


def regression(outputs, boxes, classes, labels):
    """The loss and the error of outputs [B, 4 * boxes] for crops of 100 pixels."""
    types = {"boxes": np.float32, "classes": np.int32, "label": np.int32}
    batch = {
        name: np.asarray(values, types[name]) for name, values in zip(types, (boxes, classes, labels), strict=True)
    }
    return measured(outputs, batch)


def test_target_and_loss_by_hand():
    # centre (40, 30), 40 wide and 20 high, in a crop of 100 pixels
    box = [[20, 20, 60, 40]]
    target = np.array([-0.1, -0.2, 0.4, 0.2], np.float32)
    loss, error = regression(target[None], [box], [[0]], [0])
    assert (float(loss), float(error)) == (pytest.approx(0, abs=1e-12), 0)
    off = target + np.array([0.1, 0, 0, 0.2], np.float32)
    loss, error = regression(np.stack([off, target]), [box, box], [[0], [0]], [0, 0])
    assert float(loss) == pytest.approx((0.1**2 + 0.2**2) / (2 * 2), rel=1e-5)
    # 40 wide and 40 high, moved by 10 to the right: 30 * 20 of 800 + 1600 - 600
    assert geometry.iou(np.array([[30, 10, 70, 50.0]]), np.array(box, float)) == 600 / 1800 and float(error) == 50


def test_per_class_regression_reads_the_numbers_of_the_true_class_only():
    rng = np.random.default_rng(0)
    outputs, boxes = rng.normal(size=(5, 12)).astype(np.float32), rng.uniform(0, 40, (5, 1, 2))
    boxes = np.concatenate([boxes, boxes + 30], -1)
    labels = np.array([0, 1, 2, 2, 1], np.int32)
    loss, _ = regression(outputs, boxes, labels[:, None], labels)
    own = np.stack([row[4 * label : 4 * label + 4] for row, label in zip(outputs, labels, strict=True)])
    squares = np.square(own - codes.encode_in_crop(boxes[:, 0], 100)).sum()
    assert float(loss) == pytest.approx(squares / 10, rel=1e-5)
    shared, _ = regression(own, boxes, labels[:, None], labels)  # one box for all classes, whatever the class
    assert float(shared) == pytest.approx(squares / 10, rel=1e-5)
    gradient = jax.grad(lambda x: regression(x, boxes, labels[:, None], labels)[0])(outputs).reshape(5, 3, 4)
    used = np.abs(gradient).max(-1) > 0
    assert used.sum() == 5 and used[np.arange(5), labels].all()


def test_the_target_is_the_box_with_the_largest_share_inside():
    half, most = [-10, 0, 10, 20], [60, 60, 110, 90]  # half and four fifths of them are inside
    other = [0, 0, 50, 50]  # of another class
    target = codes.encode_in_crop(np.array([most], np.float32), 100)
    loss, error = regression(target, [[half, most, other]], [[1, 1, 0]], [1])
    assert (float(loss), float(error)) == (pytest.approx(0, abs=1e-12), 0)
    # a box of the class that is not the target is right, too
    assert (
        float(regression(codes.encode_in_crop(np.array([half], np.float32), 100), [[half, most]], [[1, 1]], [1])[1])
        == 0
    )
    assert (
        float(regression(codes.encode_in_crop(np.array([other], np.float32), 100), [[half, other]], [[1, 0]], [1])[1])
        == 100
    )


@pytest.mark.parametrize(
    ("box", "kind", "counts"),
    [
        ([-10, 0, 10, 20], 0, True),  # half of it
        ([-11, 0, 10, 20], 0, False),
        ([200, 200, 240, 230], 0, False),
        ([0, 0, 50, 50], 1, False),  # of another class
        ([0, 0, 0, 0], -1, False),  # no box
    ],
)
def test_an_image_without_half_of_its_object_adds_nothing(box, kind, counts):
    """It counts in N."""
    outputs = np.full((2, 4), 0.3, np.float32)
    boxes, classes = [[[20, 20, 60, 40]], [box]], [[0], [kind]]
    alone, _ = regression(outputs[:1], boxes[:1], classes[:1], [0])
    loss, gradient = jax.value_and_grad(lambda x: regression(x, boxes, classes, [0, 0])[0])(outputs)
    assert (float(loss) == pytest.approx(float(alone) / 2, rel=1e-6)) != counts
    assert bool(np.any(gradient[1])) == counts and np.isfinite(gradient).all()


def test_gradients_are_finite_differences():
    rng = np.random.default_rng(1)
    weights = rng.normal(size=(6, 12)).astype(np.float32) / 10
    features = rng.normal(size=(7, 6)).astype(np.float32)
    corner = rng.uniform(-30, 60, (7, 2, 2))
    boxes, labels = np.concatenate([corner, corner + 40], -1), rng.integers(0, 3, 7)
    classes = np.stack([labels, rng.integers(0, 3, 7)], 1)
    loss = jax.jit(lambda weights: regression(jnp.asarray(features) @ weights, boxes, classes, labels)[0])
    gradient, step = np.asarray(jax.grad(loss)(weights)), 0.1  # the loss is a parabola: central differences are exact
    for i, j in np.ndindex(*weights.shape):
        change = np.zeros_like(weights)
        change[i, j] = step
        difference = (float(loss(weights + change)) - float(loss(weights - change))) / (2 * step)
        assert gradient[i, j] == pytest.approx(difference, rel=1e-3, abs=1e-5)
    assert np.abs(gradient).max() > 0.01


# Training


def boxes_task(accumulate=1):
    """A run of six small steps on shapes with boxes, as JPEG files of many sizes."""
    changes = {"model.narrow": 32, "data.image_size": 32, "total_epochs": 1, "data.train_split": "train[:96]"}
    changes |= {"objective": "per_class_regression", "optimizer.drop_at_epochs": ()}
    config = recipes.load(ROOT / "configs/shapes_localization.py", changes, smoke=True).copy_and_resolve_references()
    with config.unlocked():
        config.data.update(train_scale=(40, 48), test_scale=40, central_square=False)
    return task_lib.prepare(config.lock(), None, accumulate=accumulate)


@pytest.fixture(autouse=True, scope="module")
def a_task_is_compiled_once():
    with pytest.MonkeyPatch.context() as patch:
        for module, name in ((train, "jit_step"), (evaluate, "jit"), (resume, "initial_state")):
            original, made = getattr(module, name), {}

            def known(*arguments, original=original, made=made):
                key = repr(arguments)
                if key not in made:
                    made[key] = original(*arguments)
                return made[key]

            patch.setattr(module, name, known)
        yield


def leaves(state):
    return [np.asarray(x) for x in jax.tree.leaves(state)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    task, workdir = boxes_task(), tmp_path_factory.mktemp("trained")
    state, _ = train.train(task, workdir, keep_test=True)
    return task, state, workdir


def test_a_run_logs_and_tests_its_localisation_error(trained, capsys):
    task, state, workdir = trained
    records = runlog.read_metrics(workdir)
    name = "true_class_localization_error"
    assert task.model.classes == 40 and f"train_{name}" in records[-1] and f"test_{name}" in records[-1]
    assert not any("top1" in field for record in records for field in record)
    found, data = read_eval(workdir / "eval.center.json"), task.eval_source.open()
    boxes, labels = np.load(workdir / "boxes.center.npy"), np.load(workdir / "labels.npy")
    assert boxes.shape == (50, 4) and found["examples"] == 50 and "top1_error" not in found
    counted = np.ones(50, bool)
    again = localization_error.error_of_true_class(labels, boxes, data.classes, data.boxes, counted)
    assert errors_of(found) == {name: again} and records[-1][f"test_{name}"] == again
    assert curves.draw(workdir).exists()


def test_a_crashed_and_resumed_run_is_bit_identical(trained, tmp_path, monkeypatch):
    task, state, workdir = trained
    original = train.batches

    def crash(*arguments):
        for number, batch in enumerate(original(*arguments)):
            if number == 4:
                raise MemoryError
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(train, "batches", crash)
        with pytest.raises(MemoryError):
            train.train(task, tmp_path)
    again, _ = train.train(task, tmp_path)
    assert all((a == b).all() for a, b in zip(leaves(again), leaves(state), strict=True))


def test_the_loss_of_a_batch_is_that_of_its_parts():
    losses = []
    for accumulate in (1, 4):
        task = boxes_task(accumulate)
        data = task.train_source.open()
        step = train.jit_step(task, resume.statistics_for(task, data))
        _, metrics = step(resume.initial_state(task)(), next(train.batches(task, data, 0)))
        losses.append([float(metrics["train_loss"]), float(metrics["train_true_class_localization_error"])])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


def test_frozen_convolutions_keep_their_bits(monkeypatch):
    narrow(monkeypatch, vgg)
    changes = {"data.image_size": 32, "batch_size": 4, "total_steps": 2, "data.train_split": "train[:8]"}
    config = recipes.load(ROOT / "configs/vgg16_localization_fc.py", changes, smoke=True)
    task = task_lib.prepare(config, None)
    assert task.config.optimizer.weight_decay > 0 and task.model.classes == 40
    data = task.train_source.open()
    before = resume.initial_state(task)()
    params = jax.tree.map(np.array, before.params)
    step, loader = train.jit_step(task, resume.statistics_for(task, data)), train.batches(task, data, 0)
    after = before
    for _ in range(2):
        after, _ = step(after, next(loader))
    for layer, arrays in after.params.items():
        same = [(a == b).all() for a, b in zip(leaves(arrays), leaves(params[layer]), strict=True)]
        assert all(same) == layer.startswith("conv"), layer


@pytest.mark.slow
def test_a_run_from_the_command_line(tmp_path):
    """From a classifier with another last layer; the boxes of a run are not shown as classes."""
    net = ["--config.model.narrow=32", "--config.data.image_size=32", "--config.data.eval_split=test[:20]"]
    recipe = [f"--config={ROOT}/configs/shapes_localization.py", "--smoke", *net]
    first = [*recipe, "--config.objective=classification", "--workdir=classifier"]
    shell().run(first, tmp_path).ends(0)
    start = ["--init_from=classifier", "--init_layers=all_but_head", "--workdir=boxes"]
    answer = shell().run([*recipe, *start], tmp_path).ends(0)
    assert "fc7: taken" in answer.out and "fc8: at random" in answer.out
    assert "localisation error, true class" in answer.out and "deepconv.predict" not in answer.out
    photo = tmp_path / "photo.png"
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(photo)
    answer = shell().run(["--run=boxes", "--csv", "photo.png", "--plot=box.png"], tmp_path, module="deepconv.predict")
    assert answer.ends(0).out.startswith("file,x1,y1,x2,y2\nphoto.png,") and (tmp_path / "box.png").exists()
    config = json.loads((tmp_path / "boxes" / "config.json").read_text())
    (tmp_path / "pcr").mkdir()
    (tmp_path / "pcr" / "config.json").write_text(json.dumps(config | {"objective": "per_class_regression"}))
    answer = shell().run(["--run=pcr", "photo.png"], tmp_path, module="deepconv.predict").ends(2)
    assert "--run=pcr predicts boxes for given classes" in answer.err
    features = ["--run=boxes", "--features=fc7", "--out=fc7.npy", "photo.png"]
    shell().run(features, tmp_path, module="deepconv.predict").ends(0)
    assert np.load(tmp_path / "fc7.npy").shape == (1, 128)


WRONG = [
    ({"objective": "boxes"}, "config.objective='boxes' is unknown; choose one of classification, single_class_"),
    ({"data.name": "photos"}, "boxes is missing: photos has no boxes, which the recipe's config.objective needs"),
    ({"data.name": "nothing"}, "nothing is not in "),
    ({"data.augment": "pad_crop_flip"}, "pad_crop_flip does not move boxes, which config.objective=single_"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG)
def test_mistakes_are_refused_with_a_line(changes, message, tmp_path):
    (tmp_path / "photos/train/cat").mkdir(parents=True)
    config = recipes.load(ROOT / "configs/shapes_localization.py", changes)
    with pytest.raises(ValueError, match="^[^\n]*$") as error:
        task_lib.prepare(config, str(tmp_path))
    assert message in str(error.value)


@pytest.mark.parametrize("name", ["ten_crop", "dense_q24", "center_q20_24", "multi_crop"])
def test_only_the_central_crop_has_a_box(name):
    with pytest.raises(ValueError, match=f"^{name}: a net that predicts boxes is tested by center, at one scale"):
        task_lib.prepare(recipes.load(ROOT / "configs/shapes_localization.py", smoke=True), None, evals=[name])


# Tests


@pytest.mark.parametrize("square", [True, False])
@pytest.mark.parametrize("scaled", [True, False])
def test_a_box_of_the_central_crop_is_found_in_its_annotation(square, scaled):
    """The net is replaced by one that sees the rectangle in the crop; wide images are reduced to their middle first."""
    data = rectangles(40, seed=1, scaled=scaled, largest=40)
    net = Net(None, None, None, 40, square, 4, distributed.make_mesh())
    center = protocols.Protocol("center", "center", 50, False, False, boxes=True)
    measure, checked = TrueClassBoxes(center, net, data), 0
    for batch in batches.batches(net, [center], [np.ones(40, bool)], data):
        found = [seen_box(crop[0]) for crop in batch.arrays["image"][: len(batch.rows)]]
        whole = [i for i, box in enumerate(found) if box is not None and box.min() > 0 and box.max() < 40]
        seen = np.array([[0.0] * 4 if box is None else box for box in found], np.float32)
        outputs = np.full((len(seen), 3, 4), np.nan, np.float32)
        outputs[np.arange(len(seen)), batch.labels] = codes.encode_in_crop(seen, 40)
        labels = batch.arrays["label"][: len(seen)]
        boxes = measure.rows(batch, np.asarray(BoxRegression(3, 40).boxes_of(outputs.reshape(len(seen), 12), labels)))
        for i in whole:
            np.testing.assert_allclose(boxes[i], data.boxes[batch.rows[i], 0], atol=4 if scaled else 2)
        checked += len(whole)
    assert checked > 8


def test_a_blacklist_gives_a_second_error():
    data = rectangles(4)
    table = np.zeros(4, [("output", np.float32, (4,)), ("label", np.int32)])
    table["output"], table["label"] = data.boxes[:, 0], np.arange(4) % 3
    table["output"][1] += 1000
    errors = TrueClassBoxes(None, None, data).errors(table)
    assert errors == {"true_class_localization_error": 25.0}
    listed = dataclasses.replace(data, blacklisted=np.array([False, True, False, False]))
    both = TrueClassBoxes(None, None, listed).errors(table)
    assert both == errors | {"true_class_localization_error_without_blacklisted": 0.0}


XML = """<annotation><size><width>{width}</width><height>40</height></size><object><name>x</name>
<bndbox><xmin>11</xmin><ymin>11</ymin><xmax>30</xmax><ymax>30</ymax></bndbox></object></annotation>"""


@pytest.fixture
def imagenet(tmp_path):
    """Three training images, one without a box, and three of the validation set, one of them blacklisted."""
    folder = tmp_path / "imagenet2012"
    synsets = folders.imagenet_synsets()
    names = [f"{synsets[k]}/{synsets[k]}_{k}" for k in range(3)]
    for name in [f"train/{name}" for name in names] + [f"val/ILSVRC2012_val_0000000{n}" for n in (1, 2, 3)]:
        file = folder / f"{name}.JPEG"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((40, 60, 3), 99, np.uint8)).save(file)
        if not name.endswith("_1"):
            xml = folder / f"boxes/{name}.xml"
            xml.parent.mkdir(parents=True, exist_ok=True)
            xml.write_text(XML.format(width=120))
    (folder / "boxes/ILSVRC2015_clsloc_validation_blacklist.txt").write_text("2\n7\n")
    return tmp_path


def test_imagenet_has_its_boxes_beside_it(imagenet):
    source = sources.find_annotated("imagenet2012", "train", str(imagenet), 32)
    data = source.open()
    assert source.examples == 2 and source.is_imagenet and data is source.open()  # XML files are read once
    assert sorted(data.classes[:, 0].tolist()) == [0, 2] and data.blacklisted is None
    np.testing.assert_array_equal(data.boxes_in(0, 40, 60), [[5, 10, 15, 30]])
    val = sources.find_annotated("imagenet2012", "validation", str(imagenet), 32).open()
    assert dict(zip(val.ids.tolist(), val.blacklisted.tolist(), strict=True)) == {
        f"ILSVRC2012_val_0000000{n}": n == 2 for n in (1, 2, 3)
    }
    changed = sources.find_annotated("imagenet2012", "train[:1]", str(imagenet), 32)
    assert changed.fingerprint != source.fingerprint


def test_the_mean_is_that_of_all_training_images(imagenet):
    """It is that of the classification net whose weights are taken, although some images lack boxes."""
    image_statistics.compute_statistics("imagenet2012", imagenet, "train", 40)
    changes = {"model.depth": 18, "data.image_size": 32, "data.train_scale": (40, 40), "data.test_scale": 40}
    config = recipes.load(ROOT / "configs/resnet101_localization.py", changes | {"batch_size": 2})
    task = task_lib.prepare(config, str(imagenet))
    assert task.train_source.examples == 2 and (task.statistics.pixel_mean == 99).all()


def test_a_summary_has_every_error_of_its_tests(trained, capsys):
    task, _, workdir = trained
    record = read_eval(workdir / "eval.center.json")
    more = record | {"protocol": "center_q384", "true_class_localization_error_without_blacklisted": 12.345}
    report.summary(task, workdir, [record, more])
    out = capsys.readouterr().out
    assert "blacklisted" in out and "12.35 %" in out and "–" in out
