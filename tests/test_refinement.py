"""R-CNN's refinement of proposals: what it is trained on, its loss, and its boxes on full images."""

import ast
import functools
import json
import math
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT, answers, shell
from PIL import Image
from test_box_regression import rectangles, seen_box

from deepconv import models, objective
from deepconv.boxes import geometry
from deepconv.config import recipes
from deepconv.data import decode, pipeline
from deepconv.data.decode import Geometry
from deepconv.data.sources import shape_drawing
from deepconv.data.sources.proposed import area_of, read_proposed
from deepconv.data.sources.shape_boxes import read_shape_boxes
from deepconv.evaluation import photographs, predictions
from deepconv.evaluation.net import load_run
from deepconv.localization import refinement
from deepconv.localization.dense import Guesses
from deepconv.localization.proposals import class_proposals
from deepconv.localization.window_table import append, open_windows
from deepconv.objective import ClassBoxRefinement
from deepconv.run import checkpoint
from deepconv.run.files import write_json
from deepconv.state import TrainState

# Training

KIND = ClassBoxRefinement(classes=3, size=40)
measured = jax.jit(KIND)


def crops_of(count=12):
    """Outputs for crops with two boxes of the class, one of another, and padding."""
    rng = np.random.default_rng(0)
    corner = rng.uniform(-12, 12, (count, 4, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(15, 50, (count, 4, 2))], -1).astype(np.float32)
    labels = rng.integers(0, 3, count).astype(np.int32)
    classes = np.stack([labels, labels, (labels + 1) % 3, np.full(count, -1)], 1).astype(np.int32)
    outputs = rng.normal(size=(count, 15)).astype(np.float32)
    return outputs, {"label": labels, "boxes": boxes, "classes": classes}


def test_the_loss_is_that_of_a_literal_loop_and_only_the_class_has_a_gradient():
    outputs, batch = crops_of()
    loss, error = measured(outputs, batch, jax.random.key(0))
    total, objects, wrong = 0.0, 0, 0
    for values, label, boxes in zip(
        outputs.astype(float).reshape(12, 3, 5), batch["label"], batch["boxes"], strict=True
    ):
        logit, dx, dy, log_width, log_height = values[label]
        overlaps = geometry.iou(np.array([[0, 0, 40.0, 40]]), boxes[:2].astype(float))[0]
        x1, y1, x2, y2 = boxes[overlaps.argmax()].astype(float)
        is_object = overlaps.max() >= 0.5
        total += math.log1p(math.exp(-logit if is_object else logit))
        wanted = ((x1 + x2 - 40) / 80, (y1 + y2 - 40) / 80, math.log((x2 - x1) / 40), math.log((y2 - y1) / 40))
        for one, other in zip((dx, dy, log_width, log_height), wanted, strict=True):
            distance = abs(one - other)
            total += is_object * (distance**2 / 2 if distance < 1 else distance - 0.5)
        objects += is_object
        x, y, width, height = 20 + 40 * dx, 20 + 40 * dy, 40 * math.exp(log_width), 40 * math.exp(log_height)
        box = np.array([[x - width / 2, y - height / 2, x + width / 2, y + height / 2]])
        wrong += geometry.iou(box, boxes[:2].astype(float)).max() < 0.5
    assert 0 < objects < 12 and float(loss) == pytest.approx(total / 12, rel=1e-4)
    assert float(error) == pytest.approx(100 * wrong / 12)
    function = jax.jit(lambda x: KIND(x, batch, jax.random.key(0))[0])
    gradient = np.asarray(jax.grad(function)(outputs))
    used = np.abs(gradient.reshape(12, 3, 5)).max(-1) > 0
    assert used.sum() == 12 and used[np.arange(12), batch["label"]].all()
    step = 1e-2 * np.random.default_rng(1).normal(size=outputs.shape).astype(np.float32)
    difference = float(function(outputs + step)) - float(function(outputs - step))
    assert difference == pytest.approx(2 * float((gradient * step).sum()), rel=2e-2)


def test_crops_of_training_are_proposals_with_their_boxes(tmp_path):
    data, rng = rectangles(300, scaled=True), np.random.default_rng(0)
    near = data.boxes + rng.uniform(-3, 3, (300, 30, 4))  # objects, and boxes somewhere
    corner = rng.uniform(0, 60, (300, 30, 2)) * (2, 1)
    proposals = np.concatenate([near, np.concatenate([corner, corner + rng.uniform(12, 40, (300, 30, 2))], -1)], 1)
    proposals[:, 50:] = 0  # padding
    np.save(tmp_path / "p.npy", proposals.astype(np.float32))
    images = read_proposed(data, tmp_path / "p.npy")
    batch = next(
        pipeline.train_batches(images, 300, batch_size=300, seed=0, geometry=Geometry((50, 50), 40, False, True))
    )
    whole = np.tile(np.float32([[0, 0, 40, 40]]), (300, 1))
    overlaps = geometry.iou(whole[:, None], batch["boxes"])[:, 0, 0]
    assert abs((overlaps >= 0.5).mean() - 0.25) < 0.08 and (overlaps < 0.3).mean() > 0.4
    checked = 0
    for image, box in zip(batch["image"], geometry.clip(batch["boxes"][:, 0], 40, 40), strict=True):
        if (box[2:] - box[:2]).min() > 4:
            np.testing.assert_allclose(seen_box(image), box, atol=3)  # mixed pixels, up to four times enlarged
            checked += 1
    assert checked > 100
    plain = pipeline.ordered_batches(images, 300, 20, Geometry((50, 50), 50, True, False))
    expected = pipeline.ordered_batches(data, 300, 20, Geometry((50, 50), 50, True, False))
    np.testing.assert_array_equal(next(plain)["image"], next(expected)["image"])  # statistics see images


def test_a_file_of_proposals_that_does_not_fit_is_refused_in_a_line(tmp_path):
    np.save(tmp_path / "p.npy", np.zeros((299, 2, 4), np.float32))
    with pytest.raises(OSError, match=r"p.npy holds float32 \[299, 2, 4\], not proposals of 300 images; remove it"):
        read_proposed(rectangles(300), tmp_path / "p.npy")
    for content in (b"", (tmp_path / "p.npy").read_bytes()[:-8]):
        (tmp_path / "p.npy").write_bytes(content)
        with pytest.raises(OSError, match=r"p.npy is damaged: .*; restore it, or remove it and start again"):
            read_proposed(rectangles(300), tmp_path / "p.npy")


def test_training_does_not_parse_the_file_of_proposals_in_threads(tmp_path, monkeypatch):
    """Python 3.11 raises SystemError now and then if threads parse at the same time."""
    data = rectangles(8)
    np.save(tmp_path / "p.npy", np.repeat(data.boxes, 3, 1))
    images = read_proposed(data, tmp_path / "p.npy")
    monkeypatch.setattr(ast, "parse", lambda *args, **options: pytest.fail("it parses"))
    batches = pipeline.train_batches(images, 8, batch_size=8, seed=0, geometry=Geometry((50, 50), 40, False, True))
    assert next(batches)["image"].shape == (8, 40, 40, 3)


def test_areas_have_pixels_of_the_image():
    assert area_of(np.array([1.2, 3.0, 5.0, 7.9]), 20, 30) == (3, 1, 5, 4)
    assert area_of(np.array([-5.0, -1, 40, 21]), 20, 30) == (0, 0, 20, 30)
    assert area_of(np.array([30.0, 20, 30, 20]), 20, 30) == (19, 29, 1, 1)


# Tests on full images

SIDE, CLASSES = 16, 10
COMPARED = ("trained", "classifier", "rpn")
SPLIT = "test[166:169]"  # of few shapes, to compile little


def write_run(folder, name, goal, bias):
    """A run of a net with random weights, whose outputs are about 1."""
    changes = {"model.depth": 8, "data.image_size": SIDE, "data.mean": "90,120,130", "data.std": "60,60,60"}
    changes |= {"data.eval_split": SPLIT, "data.train_split": "train[:4]", "batch_size": 4, "total_epochs": 1}
    config = recipes.load(ROOT / "configs/shapes_proposals.py", changes, smoke=True).copy_and_resolve_references()
    with config.unlocked():
        config.objective = goal
        config.data.update(train_scale=(20, 24), test_scale=20, central_square=False)
    aim = objective.create(config, CLASSES)
    model = models.create(config.model, aim.outputs, aim.per_place)
    variables = jax.jit(lambda key: model.init(key, jnp.zeros((1, SIDE, SIDE, 3)), train=False))(jax.random.key(bias))
    if goal == "class_box_refinement":
        variables["params"]["fc"]["kernel"] *= 0.3
    (folder / name).mkdir()
    write_json(folder / name / "config.json", json.loads(config.to_json()))
    write_json(folder / name / "classes.json", [*shape_drawing.CLASSES])
    manager = checkpoint.open_manager(folder / name / "checkpoints", 0)
    state = TrainState(jnp.array(6), variables["params"], variables["batch_stats"], {"none": jnp.zeros(1)})
    checkpoint.save(manager, state)
    checkpoint.close(manager)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A classification net, one that makes proposals, two that refine them, and probabilities of ten classes."""
    folder = tmp_path_factory.mktemp("refinement")
    write_run(folder, "classifier", "classification", 3)
    write_run(folder, "rpn", "class_region_proposal", 0)
    write_run(folder, "rcnn", "class_box_refinement", 1)
    write_run(folder, "other", "class_box_refinement", 2)
    (folder / "net").mkdir()
    np.save(folder / "net/probs.dense.npy", np.random.default_rng(0).dirichlet(np.ones(CLASSES), 3).astype(np.float32))
    np.save(folder / "net/labels.npy", read_shape_boxes(SPLIT, (20, 36)).classes[:, 0])
    write_json(folder / "net/eval.dense.json", {"step": 3})
    return folder


@functools.partial(jax.jit, static_argnums=0)
def forward(model, variables, images):
    return model.apply(variables, images, train=False)


def literal_refinement(nets, image, proposals, label):
    """The refined box of the highest score, [5], of proposals [n, 4] in pixels of an image, one at a time."""
    found = []
    for x1, y1, x2, y2 in proposals:
        left, top, right, bottom = math.floor(x1), math.floor(y1), math.ceil(x2), math.ceil(y2)
        crop = decode.resize(image[top:bottom, left:right], SIDE, SIDE)
        rows = []
        for trained in nets:
            net, state = trained.net, trained.state
            normalized = (crop[None].astype(np.float32) - net.input.mean) / net.input.std
            outputs = forward(net.model, {"params": state.params, "batch_stats": state.batch_stats}, normalized)
            logit, dx, dy, log_width, log_height = np.asarray(outputs, np.float64).reshape(CLASSES, 5)[label]
            x, y = SIDE * (0.5 + dx), SIDE * (0.5 + dy)
            width, height = SIDE * math.exp(log_width), SIDE * math.exp(log_height)
            box = np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
            box = box * np.tile([right - left, bottom - top], 2) / SIDE + np.tile([left, top], 2)
            rows.append([*box, 1 / (1 + math.exp(-logit))])
        found.append(np.mean(rows, 0))
    return max(found, key=lambda row: row[4])


@pytest.mark.parametrize("names", [["rcnn"], ["rcnn", "other"]])
def test_boxes_are_those_of_a_literal_loop(runs, tmp_path, names):
    """Proposals of two scales that do not overlap; a class that occurs twice; an image that was done before."""
    nets, images = [load_run(runs / name) for name in names], read_shape_boxes(SPLIT, (20, 36))
    classes = np.array([[2, 5, 2], [0, 1, 9], [3, 3, 3]], np.int32)
    tables, proposals = [open_windows(tmp_path / name, 3, 3) for name in "ab"], {}
    for row in range(3):
        height, width = images.sizes[row].tolist()
        corner = np.array([[0, 0], [width - 9, 0], [0, height - 6], [width - 9, height - 6]], np.float32)
        boxes = np.concatenate([corner + 0.25, corner + np.float32([8.5, 5.5])], -1)
        proposals[row] = boxes
        for table, part in zip(tables, (boxes[:2], boxes[2:]), strict=True):
            scored = np.concatenate([part, np.full((2, 1), 0.5, np.float32)], 1)
            scored = np.concatenate([scored, scored[:1] * [1, 1, 1, 1, 0.5], np.zeros((1, 5))])  # an overlap, padding
            append(table, [row], [np.tile(scored[:, None], (1, 3, 1))], 1.0)
    refined = refinement.open_refined(tmp_path / "done.npy", 3, 3)
    refinement.refine(nets, tables, images, Guesses(classes, np.ones((3, 3))), refined)
    found = np.array(refined["output"])
    for row in range(3):
        image = decode.decode(images.images.read([row])[0].data)
        for k, label in enumerate(classes[row]):
            expected = literal_refinement(nets, image, proposals[row], label)
            np.testing.assert_allclose(found[row, k], expected, rtol=2e-3, atol=2e-3)
    assert refined["done"].all() and (refined["seconds"] > 0).all()
    refined["output"][1:], refined["seconds"][1], refined["done"][2] = 7, 8, False
    refined.flush()
    again, shown = refinement.open_refined(tmp_path / "done.npy", 3, 3), []
    refinement.refine(nets, tables, images, Guesses(classes, np.ones((3, 3))), again, shown.append)
    assert (again["output"][1] == 7).all() and again["seconds"][1] == 8 and shown == [3]
    np.testing.assert_array_equal(again["output"][[0, 2]], found[[0, 2]])


def test_the_best_proposals_do_not_overlap():
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 80, (600, 2, 2))
    candidates = np.concatenate([corner, corner + rng.uniform(8, 40, (600, 2, 2)), rng.random((600, 2, 1))], -1)
    candidates[590:] = 0
    found = np.asarray(refinement.best_proposals(candidates.astype(np.float32)))
    assert found.shape == (2, 200, 5)
    for k in range(2):
        left, expected = candidates[:590, k].astype(np.float32), []
        while len(left) and len(expected) < 200:
            expected.append(left[left[:, 4].argmax()])
            left = left[geometry.iou(expected[-1][None, :4], left[:, :4])[0] <= 0.7]
        np.testing.assert_array_equal(found[k, : len(expected)], expected)


def test_from_proposals_to_a_test_by_commands(runs):
    """A run of R-CNN writes its proposals once; the test records both nets."""
    config = json.loads((runs / "rcnn/config.json").read_text())
    config["data"]["train_scale"], config["optimizer"]["drop_at_epochs"] = (20, 24), ()
    lines = ["from ml_collections import ConfigDict", "def get_config():", f"    return ConfigDict({config!r})"]
    (runs / "recipe.py").write_text("\n".join(lines))
    flags = ["--config=recipe.py", "--init_from=classifier", "--init_layers=all_but_head", "--proposals_from=rpn"]
    assert "fc: at random" in shell().run([*flags, "--workdir=trained"], runs).ends(0).out
    record = json.loads((runs / "trained/config.json").read_text())
    assert (record["init_from"], record["proposals_from"]) == ("classifier", "rpn")
    kernels = [np.asarray(load_run(runs / name).state.params["conv1"]["kernel"]) for name in COMPARED]
    trained, *starts = kernels
    assert [bool(abs(trained - kernel).max() < 0.1) for kernel in starts] == [True, False]
    proposals = np.load(runs / "trained/proposals.npy")
    assert proposals.shape == (4, 200, 4) and geometry.area(proposals[:, 0]).min() > 0
    assert not [*(runs / "trained").glob("*.partial*")]
    flags = ["--run=rpn", "--refined_by=trained", "--scales=16,20", "--classes_from=net:dense", "--workdir=out"]
    answer = shell().run(flags, runs, module="deepconv.localization").ends(0)
    record = json.loads((runs / "out/localization.json").read_text())
    assert [run["directory"] for run in record["refined_by"]] == ["trained"] and "refinement" in record["seconds"]
    rows = np.load(runs / "out/boxes.npy")
    assert rows["boxes"].shape == (3, 6, 4) and "top-5 localisation error" in answer.out
    assert not [*(runs / "out").glob("windows.*")]


def test_photographs_get_the_best_proposal_of_their_likeliest_class(runs):
    """It is that of the dense test on a picture of the central crop, which begins at 2, 4 in photographs of 20 x 24."""
    rng = np.random.default_rng(0)
    images = [rng.integers(low, high, (20, 24, 3), np.uint8) for low, high in ((0, 256), (0, 9), (150, 256))]
    names = [f"{number}.png" for number in range(3)]
    for name, image in zip(names, images, strict=True):
        Image.fromarray(image).save(runs / name)
    (runs / "bad.png").write_bytes(b"no image")
    flags = ["--run=rpn", "--classes_from=classifier", "--json", "--plot=drawn.png", *names, "bad.png"]
    answer = shell().run(flags, runs, module="deepconv.predict").ends(1)
    records = [json.loads(line) for line in answer.out.splitlines()]
    assert [record["file"] for record in records] == names and "bad.png cannot be decoded" in answer.err
    classifier, rpn = load_run(runs / "classifier"), load_run(runs / "rpn")
    probs = photographs.classify(classifier, [runs / name for name in names])
    best = probs.argmax(1)
    assert len({*best.tolist()}) > 1
    assert [record["class"] for record in records] == [shape_drawing.CLASSES[k] for k in best]
    np.testing.assert_allclose([record["probability"] for record in records], probs.max(1), atol=1e-6)
    crops = np.stack([image[2:18, 4:20] for image in images])
    batch = {"image": crops, "extent": np.full((3, 2), 16, np.int32), "classes": best[:, None].astype(np.int32)}
    found, _ = jax.jit(functools.partial(class_proposals, net=rpn.net, count=1))((rpn.state,), batch)
    expected = np.asarray(found)[:, 0, 0, 0, :4] + [4, 2, 4, 2]
    np.testing.assert_allclose([record["box"] for record in records], expected, rtol=2e-3, atol=6e-3)
    with Image.open(runs / "drawn.png") as drawn:
        assert drawn.width > 3 * 250
    assert predictions.head("csv", boxes=True, of_classes=True) == "file,x1,y1,x2,y2,class,words,probability\n"
    line = predictions.box_as_csv("a.png", np.array([1, 2, 3, 4.5]), ("n01440764", 0.25))
    assert line == 'a.png,1.00,2.00,3.00,4.50,n01440764,"tench, Tinca tinca",0.250000\n'
    assert (
        predictions.box_as_text("a.png", np.array([1, 2, 3, 4.5]), ("ring", 0.25))
        == "a.png  1.0 2.0 3.0 4.5  0.25  ring\n"
    )


def test_mistakes_about_photographs_are_answered_in_a_line(runs):
    Image.new("RGB", (20, 20)).save(runs / "photo.png")
    shutil.copytree(runs / "classifier", runs / "renamed")
    write_json(runs / "renamed/classes.json", [*reversed(shape_drawing.CLASSES)])
    mistakes = [
        (["--run=rpn"], "--run=rpn predicts boxes for given classes; give --classes_from=RUN"),
        (["--run=rpn", "--classes_from=rpn"], "--classes_from=rpn predicts boxes; give a classification net"),
        (["--run=rpn", "--classes_from=renamed"], "--classes_from=renamed has other classes than --run=rpn"),
        (["--run=rpn", "--classes_from=nowhere"], "nowhere is not the directory of a run"),
        (["--run=rpn", "--classes_from=classifier", "--top=2"], "--run=rpn predicts one box; leave out --top"),
        (
            ["--run=rcnn", "--classes_from=classifier"],
            "--run=rcnn refines the proposals of another net; give --run=RPN",
        ),
        (["--run=rpn", "--classes_from=classifier", "--features=fc", "--out=x.npy"], "--classes_from is for boxes"),
    ]
    mistakes = [([*flags, "photo.png"], named) for flags, named in mistakes]
    for code, out, err, named in answers(runs, "deepconv.predict", mistakes):
        assert (code, out) == (2, "") and named in err and len(err.splitlines()) == 1, (named, err)
    with pytest.raises(ValueError, match="the net refines the proposals of another net"):
        photographs.find_boxes(load_run(runs / "rcnn"), [runs / "photo.png"], classes=[0])


def test_mistakes_are_answered_in_a_line(runs):
    few = ["--classes_from=net:dense", "--workdir=w", "--scales=16"]
    mistakes = [
        (["--run=rcnn", *few], "the net of rcnn refines proposals; give it as --refined_by"),
        (["--run=rpn", "--refined_by=rpn", *few], "--refined_by=rpn: its config.objective is class_region_proposal"),
    ]
    for code, out, err, named in answers(runs, "deepconv.localization", mistakes):
        assert (code, out) == (2, "") and named in err and len(err.splitlines()) == 1, (named, err)
