"""Region proposals for each class: anchors, the draw of eight, the loss, and nets that are trained with it."""

import functools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT, answers, shell

from deepconv import distributed, models, objective, resume, train
from deepconv import task as task_lib
from deepconv.boxes import anchors, geometry, localization_error, matching
from deepconv.config import recipes
from deepconv.data import decode
from deepconv.data.sources import shape_drawing
from deepconv.data.sources.shape_boxes import read_shape_boxes
from deepconv.evaluation import run as evaluate
from deepconv.evaluation.net import load_run
from deepconv.evaluation.table import new_table
from deepconv.localization.proposals import class_proposals
from deepconv.objective import ClassRegionProposal
from deepconv.ops import parts
from deepconv.run import checkpoint
from deepconv.run.files import write_json
from deepconv.state import TrainState

KIND = ClassRegionProposal(classes=3, size=64, stride=16)  # maps of 4x4 places with 9 anchors: 144
COUNT = 144


def images(count=6, seed=0, size=64):
    """Labels and boxes of images: two objects of the class, one of another and padding, some outside the crop."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(-20, 40, (count, 4, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(8, 45, (count, 4, 2))], -1).astype(np.float32)
    labels = rng.integers(0, 3, count).astype(np.int32)
    classes = np.stack([labels, labels, (labels + 1) % 3, np.full(count, -1)], 1).astype(np.int32)
    return {"label": labels, "boxes": boxes, "classes": classes}


def outputs_of(count=6, seed=1, scale=1.0):
    shape = count, 4, 4, KIND.outputs
    return scale * np.random.default_rng(seed).normal(size=shape).astype(np.float32)


measured = jax.jit(KIND)


def test_anchors_are_those_of_224_pixels():
    """The layout of a map is that of `read`: row by row, and at each place the nine anchors of a cell."""
    paper = ClassRegionProposal(1000, 224, 32)
    found = paper.anchors_of_map(7, 7).reshape(7, 7, 9, 4)
    assert paper.outputs == 45_000 and len(found.reshape(-1, 4)) == 441
    np.testing.assert_array_equal(found[0, 0, 3:6], [[16 - s, 16 - s, 16 + s, 16 + s] for s in (32, 64, 128)])
    np.testing.assert_array_equal(found[2, 5], found[0, 0] + [160, 64, 160, 64])
    np.testing.assert_array_equal(found[0, 0], anchors.cell(32, (64, 128, 256)))
    height, width = found[0, 0, :, 3] - found[0, 0, :, 1], found[0, 0, :, 2] - found[0, 0, :, 0]
    np.testing.assert_allclose(height / width, np.repeat([0.5, 1, 2], 3), rtol=0.03)


def literal_match(places, boxes, own, inside):
    """Which anchors are objects and background, and the box of each object, by loops over one image."""
    overlaps = geometry.iou(places.astype(np.float64), boxes.astype(np.float64))
    is_object, is_background, target = np.zeros(len(places), bool), np.zeros(len(places), bool), {}
    for n in range(len(places)):
        mine = [m for m in range(len(boxes)) if own[m]]
        to_find = [m for m in mine if inside[m]]
        best = [m for m in to_find if overlaps[n, m] == overlaps[:, m].max() > 0]
        if best or any(overlaps[n, m] >= 0.7 for m in to_find):
            is_object[n], target[n] = True, boxes[max(to_find, key=lambda m: overlaps[n, m])]
        elif mine and max(overlaps[n, m] for m in mine) < 0.3:
            is_background[n] = True
    return is_object, is_background, target


def test_objects_and_background_are_those_of_a_literal_loop():
    batch, places = images(40), KIND.anchors_of_map(4, 4)
    own = batch["classes"] == batch["label"][:, None]
    own[7] = False  # an image without a box of its class
    shares = geometry.share_inside(batch["boxes"], np.tile(np.float32([[0, 0, 64, 64]]), (40, 1)))
    inside = own & (shares >= 0.5)
    batch["boxes"][9, 0], inside[9, 0] = (900, 900, 940, 940), True  # a box that no anchor overlaps
    tiled = np.tile(places[None], (40, 1, 1))
    found = [np.asarray(x) for x in jax.jit(matching.match)(tiled, batch["boxes"], own, inside)]
    for i in range(40):
        is_object, is_background, target = literal_match(places, batch["boxes"][i], own[i], inside[i])
        np.testing.assert_array_equal(found[0][i], is_object)
        np.testing.assert_array_equal(found[1][i], is_background)
        for n, box in target.items():
            np.testing.assert_array_equal(found[2][i, n], box)
    assert 0 < (found[0].sum(1) == 0).sum() < 40 and found[0].sum() > 60 and not found[1][7].any()


def test_a_draw_takes_what_it_is_asked_for_and_no_more():
    mask = np.zeros((3, 50), bool)
    mask[0, 10:30], mask[1, :3] = True, True
    counts, drawn = np.array([5, 5, 5]), np.zeros((3, 50))
    draw = jax.jit(lambda key: matching.draw(mask, jax.random.uniform(key, (3, 50)), counts))
    for key in jax.random.split(jax.random.key(0), 400):
        found = np.asarray(draw(key))
        assert not (found & ~mask).any() and found.sum(1).tolist() == [5, 3, 0]
        drawn += found
    assert abs(drawn[0, 10:30] - 100).max() < 45  # each equally often: 100 with a standard deviation of 9


def literal_loss(outputs, batch, numbers):
    """The mean loss by loops over images and their anchors; numbers order the anchors of the draw."""
    places, losses = KIND.anchors_of_map(4, 4).astype(np.float64), []
    for i, label in enumerate(batch["label"]):
        own = batch["classes"][i] == label
        crop = np.float32([0, 0, 64, 64])
        inside = own & (geometry.share_inside(batch["boxes"][i], crop) >= 0.5)
        is_object, is_background, target = literal_match(KIND.anchors_of_map(4, 4), batch["boxes"][i], own, inside)
        order = np.argsort(numbers[i])
        objects = [n for n in order if is_object[n]][:4]
        background = [n for n in order if is_background[n]][: 8 - len(objects)]
        total = 0.0
        for n in objects + background:
            row, column, anchor = np.unravel_index(n, (4, 4, 9))
            logit, *code = outputs[i, row, column].astype(np.float64).reshape(9, 3, 5)[anchor, label]
            total += math.log1p(math.exp(-logit if n in objects else logit))
            if n in objects:
                (x1, y1, x2, y2), (a1, b1, a2, b2) = target[n].astype(np.float64), places[n]
                wanted = ((x1 + x2 - a1 - a2) / 2 / (a2 - a1), (y1 + y2 - b1 - b2) / 2 / (b2 - b1))
                wanted += (math.log((x2 - x1) / (a2 - a1)), math.log((y2 - y1) / (b2 - b1)))
                for one, other in zip(code, wanted, strict=True):
                    distance = abs(one - other)
                    total += 4.5 * distance**2 if distance < 1 / 9 else distance - 0.5 / 9
        losses.append(total / max(1, len(objects + background)))
    return np.mean(losses)


@pytest.mark.parametrize("scale", [0.01, 1.0])
def test_the_loss_is_that_of_a_literal_loop(scale):
    batch, outputs, key = images(), outputs_of(scale=scale), jax.random.key(3)
    loss, _ = measured(outputs, batch, key)
    assert float(loss) == pytest.approx(literal_loss(outputs, batch, jax.random.uniform(key, (6, COUNT))), rel=1e-4)


def test_padding_and_objects_of_other_classes_change_nothing():
    batch, outputs, key = images(), outputs_of(), jax.random.key(0)
    more = {name: np.concatenate([batch[name], batch[name][:, 2:]], 1) for name in ("boxes", "classes")}
    more["boxes"][:, 3:] += 1
    for found, expected in zip(measured(outputs, batch | more, key), measured(outputs, batch, key), strict=True):
        assert float(found) == float(expected)


def test_only_eight_anchors_of_the_class_have_gradients_and_they_are_finite_differences():
    batch, outputs, key = images(), outputs_of(scale=0.3), jax.random.key(5)
    loss = jax.jit(lambda x: KIND(x, batch, key)[0])
    gradient = np.asarray(jax.grad(loss)(outputs)).reshape(6, COUNT, 3, 5)
    used = np.abs(gradient).max(-1) > 0
    assert (used.sum((1, 2)) == 8).all() and used.sum(1)[np.arange(6), batch["label"]].tolist() == [8] * 6
    boxes = np.abs(gradient[..., 1:]).max(-1) > 0
    assert 0 < boxes.sum((1, 2)).max() <= 4
    direction = np.random.default_rng(0).normal(size=outputs.shape).astype(np.float32)
    for mask in (1.0, used.reshape(6, COUNT, 3, 1) * np.eye(5)[0], used.reshape(6, COUNT, 3, 1) * np.eye(5)[3]):
        along = (direction.reshape(6, COUNT, 3, 5) * mask).astype(np.float32)
        step = 1e-2 * along.reshape(outputs.shape)
        difference = (float(loss(outputs + step)) - float(loss(outputs - step))) / 2e-2
        assert difference == pytest.approx(float((gradient * along).sum()), rel=2e-2, abs=1e-4)


def test_a_box_that_is_not_a_number_is_an_error():
    batch, outputs = images(), outputs_of(scale=0.2)
    assert float(measured(np.full_like(outputs, np.nan), batch, jax.random.key(0))[1]) == 100


def test_the_box_is_that_of_the_highest_score_of_the_class():
    batch, outputs = images(), outputs_of(scale=0.2)
    _, error = measured(outputs, batch, jax.random.key(0))
    boxes, found = map(np.asarray, KIND.proposals(jnp.asarray(outputs), batch["label"][:, None]))
    logits = outputs.reshape(6, COUNT, 3, 5)[np.arange(6), :, batch["label"], 0]
    np.testing.assert_array_equal(found[:, 0], logits)
    best = boxes[np.arange(6), 0, logits.argmax(1)]
    np.testing.assert_array_equal(KIND.boxes_of(jnp.asarray(outputs), batch["label"]), best)
    certain = outputs.reshape(6, COUNT, 3, 5) + np.array([30, 0, 0, 0, 0], np.float32)  # probabilities of exactly 1
    np.testing.assert_array_equal(KIND.boxes_of(jnp.asarray(certain.reshape(outputs.shape)), batch["label"]), best)
    own = batch["classes"] == batch["label"][:, None]
    counted = np.ones(6, bool)
    truth = np.where(own, batch["classes"], -1), batch["boxes"], counted
    assert float(error) == pytest.approx(localization_error.error_of_true_class(batch["label"], best, *truth))


def task():
    """A run of small steps, whose BatchNorm is constant."""
    changes = {"model.depth": 8, "data.image_size": 16, "data.std": "channel", "total_epochs": 1, "batch_size": 16}
    config = recipes.load(ROOT / "configs/shapes_proposals.py", changes, smoke=True).copy_and_resolve_references()
    with config.unlocked():
        config.model.bn_fixed = True
    return task_lib.prepare(config.lock(), None)


def leaves(tree):
    return [np.asarray(x) for x in jax.tree.leaves(tree)]


def test_the_loss_of_a_batch_is_that_of_its_parts():
    """The anchors of each image are drawn as in the full batch."""
    batch, key, mesh = images(8) | {"outputs": outputs_of(8)}, jax.random.key(2), distributed.make_mesh()
    loss = jax.jit(
        lambda count: parts.mean(lambda part: KIND(part["outputs"], part, key), batch, count, mesh), static_argnums=0
    )
    np.testing.assert_allclose(loss(2), loss(1), rtol=1e-5)


def test_a_step_with_fixed_batch_norm_and_a_test():
    """Averages, scales and shifts keep their bits; the test is that of the net's outputs for whole images."""
    made = task()
    data = made.train_source.open()
    state = resume.initial_state(made)()
    before = jax.tree.map(np.array, (state.params, state.batch_stats))
    computed = resume.statistics_for(made, data)
    after, _ = train.jit_step(made, computed)(state, next(train.batches(made, data, 0)))
    for one, other in zip(*map(leaves, (after.batch_stats, before[1])), strict=True):
        np.testing.assert_array_equal(one, other)
    for (path, one), other in zip(jax.tree.leaves_with_path(after.params), leaves(before[0]), strict=True):
        assert bool((np.asarray(one) != other).any()) != any("bn" in part.key for part in path), path

    net = task_lib.net_for(made, computed)
    (center,) = made.protocols["center"]
    images = made.eval_source.open()
    measure = evaluate.measure(center, net, images, 10)
    table = new_table(len(images.ids), measure.width)
    test = evaluate.Test(center, evaluate.jit(net, center), after, table, measure.rows)
    evaluate.fill_tables(net, [test], images)
    shown = images.test_batch(np.arange(len(images.ids)), np.asarray)["image"]
    normalized = (np.stack(shown).astype(np.float32) - net.input.mean) / net.input.std
    variables = {"params": after.params, "batch_stats": after.batch_stats}
    outputs = jax.jit(lambda variables, x: net.model.apply(variables, x, train=False))(variables, normalized)
    expected = net.objective.boxes_of(outputs, images.classes[:, 0])
    assert outputs.shape == (50, 4, 4, 450)
    np.testing.assert_allclose(table["output"], expected, rtol=1e-3, atol=1e-3)


def test_nets_and_objectives_that_do_not_fit_are_refused():
    config = recipes.load(ROOT / "configs/shapes_localization.py", {"objective": "class_region_proposal"})
    with pytest.raises(ValueError, match="config.model.name=vgg has no outputs at each place of its last map") as error:
        task_lib.prepare(config, None)
    assert "choose resnet or resnet_cifar" in str(error.value)


@pytest.mark.parametrize(("name", "depth", "size"), [("resnet", 18, 64), ("resnet_cifar", 8, 16)])
def test_places_are_a_stride_apart(name, depth, size):
    config = recipes.load(ROOT / "configs/quickstart.py").model.copy_and_resolve_references().unlock()
    config.update(name=name, depth=depth)
    model = models.create(config, 7, per_place=True)
    found = jax.eval_shape(
        lambda: model.init_with_output(jax.random.key(0), jnp.zeros((1, size, 2 * size, 3)), train=False)[0]
    )
    stride = objective.STRIDES[name]
    assert found.shape == (1, size // stride, 2 * size // stride, 7)


# full images

SIDE, CLASSES = 16, 10
SPLIT = "test[55:58]"  # of few shapes, to compile little


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The directory of a net with random weights, and probabilities of ten classes."""
    folder = tmp_path_factory.mktemp("proposals")
    changes = {"model.depth": 8, "data.image_size": SIDE, "data.mean": "90,120,130", "data.std": "60,60,60"}
    changes |= {"data.eval_split": SPLIT, "batch_size": 16}
    config = recipes.load(ROOT / "configs/shapes_proposals.py", changes, smoke=True).copy_and_resolve_references()
    with config.unlocked():
        config.data.update(train_scale=(20, 24), test_scale=20, central_square=False)
    goal = objective.create(config, CLASSES)
    model = models.create(config.model, goal.outputs, goal.per_place)
    variables = jax.jit(lambda key: model.init(key, jnp.zeros((1, SIDE, SIDE, 3)), train=False))(jax.random.key(0))
    variables["params"]["fc"]["kernel"] *= 4  # for outputs of about 1
    for name in ("rpn", "pcr", "net"):
        (folder / name).mkdir()
    write_json(folder / "rpn/config.json", json.loads(config.to_json()))
    write_json(folder / "rpn/classes.json", [*shape_drawing.CLASSES])
    manager = checkpoint.open_manager(folder / "rpn/checkpoints", 0)
    state = TrainState(jnp.array(7), variables["params"], variables["batch_stats"], {"none": jnp.zeros(1)})
    checkpoint.save(manager, state)
    checkpoint.close(manager)
    labels = read_shape_boxes(SPLIT, (20, 36)).classes[:, 0]
    np.save(folder / "net/probs.dense.npy", np.random.default_rng(0).dirichlet(np.ones(CLASSES), 3).astype(np.float32))
    np.save(folder / "net/labels.npy", labels)
    write_json(folder / "net/eval.dense.json", {"step": 3})
    return folder


def literal_proposals(trained, image, label):
    """All boxes of a class on one image, [n, 5] with their scores, by the net without padding and loops over places."""
    net, state = trained.net, trained.state
    normalized = (image[None].astype(np.float32) - net.input.mean) / net.input.std
    outputs = np.asarray(forward(net.model, {"params": state.params, "batch_stats": state.batch_stats}, normalized))[0]
    found = []
    for i, j in np.ndindex(*outputs.shape[:2]):
        numbers = outputs[i, j].reshape(9, CLASSES, 5)[:, label]
        for (logit, dx, dy, log_width, log_height), (x1, y1, x2, y2) in zip(
            numbers.astype(np.float64), anchors.cell(4, [SIDE * 2 / 7, SIDE * 4 / 7, SIDE * 8 / 7]), strict=True
        ):
            x, y = (x1 + x2) / 2 + 4 * j + dx * (x2 - x1), (y1 + y2) / 2 + 4 * i + dy * (y2 - y1)
            width, height = (x2 - x1) * math.exp(log_width), (y2 - y1) * math.exp(log_height)
            box = x - width / 2, y - height / 2, x + width / 2, y + height / 2
            found.append([*box, 1 / (1 + math.exp(-logit))])
    return np.array(found)


@functools.partial(jax.jit, static_argnums=0)
def forward(model, variables, images):
    return model.apply(variables, images, train=False)


def test_proposals_of_a_broken_net_are_not_numbers(run):
    """The test then ends with an error; zeros would count as a class without proposals."""
    trained = load_run(run / "rpn")
    params = jax.tree.map(lambda x: x * np.nan, trained.state.params)
    batch = {"image": np.zeros((1, 16, 16, 3), np.uint8), "extent": np.array([[16, 16]]), "classes": np.array([[0, 5]])}
    propose = jax.jit(functools.partial(class_proposals, net=trained.net, count=3))
    assert np.isnan(propose((trained.state.replace(params=params),), batch)[0]).all()


def test_proposals_are_those_of_a_literal_loop_and_padding_changes_nothing(run):
    trained, rng = load_run(run / "rpn"), np.random.default_rng(0)
    sizes = [(20, 27), (16, 16)]
    chosen = np.array([[0, 5], [3, 3]], np.int32)
    batch = {"image": np.full((2, 24, 32, 3), 200, np.uint8), "extent": np.array(sizes, np.int32), "classes": chosen}
    for place, (height, width) in enumerate(sizes):
        batch["image"][place, :height, :width] = rng.integers(0, 256, (height, width, 3))
    found, sides = jax.jit(functools.partial(class_proposals, net=trained.net, count=40))((trained.state,), batch)
    assert found.shape == (2, 40, 1, 2, 5) and sides.tolist() == [[40, 1]] * 2
    for i, (height, width) in enumerate(sizes):
        for k in range(2):
            left = literal_proposals(trained, batch["image"][i, :height, :width], chosen[i, k])
            expected = []
            while len(left) and len(expected) < 40:
                best = left[left[:, 4].argmax()]
                expected.append(best)
                left = left[geometry.iou(best[None, :4], left[:, :4])[0] <= 0.7]
            np.testing.assert_allclose(found[i, : len(expected), 0, k], expected, rtol=2e-3, atol=2e-3)
            assert not np.any(found[i, len(expected) :, 0, k]) and len(expected) > 20


def test_the_command_takes_the_box_of_the_highest_score_over_all_scales(run):
    flags = ["--run=rpn", "--scales=16,20", "--classes_from=net:dense", "--workdir=out"]
    answer = shell().run(flags, cwd=run, module="deepconv.localization").ends(0)
    assert "top-5 localisation error" in answer.out and "--scores_from" not in answer.out
    trained, images = load_run(run / "rpn"), read_shape_boxes(SPLIT, (20, 36))
    rows, record = np.load(run / "out/boxes.npy"), json.loads((run / "out/localization.json").read_text())
    assert record["objective"] == "class_region_proposal" and "threshold" not in record and record["scores_from"] == []
    right = 0
    for i in range(3):
        image, label = decode.decode(images.images.read([i])[0].data), images.classes[i, 0]
        found = []
        for scale in (16, 20):
            small = decode.rescale(image, scale)
            found.append(literal_proposals(trained, small, label))
            found[-1][:, 0:4:2] *= image.shape[1] / small.shape[1]
            found[-1][:, 1:4:2] *= image.shape[0] / small.shape[0]
        best = max(np.concatenate(found), key=lambda row: row[4])
        assert rows["classes"][i, -1] == label
        np.testing.assert_allclose([*rows["boxes"][i, -1], rows["scores"][i, -1]], best, rtol=2e-3, atol=2e-3)
        right += geometry.iou(best[None, :4], images.boxes[i].astype(np.float64))[0, 0] >= 0.5
    assert record["true_class_localization_error"] == pytest.approx(100 * (3 - right) / 3)


def test_mistakes_of_the_command_are_told_in_a_line(run):
    config = json.loads((run / "rpn/config.json").read_text()) | {"objective": "per_class_regression"}
    write_json(run / "pcr/config.json", config)
    few = ["--classes_from=net:dense", "--workdir=w"]
    mistakes = [
        (["--run=rpn", "--scores_from=pcr", "--scales=16", *few], "the net of rpn scores its boxes itself; leave out"),
        (["--run=rpn", "--run=pcr", "--scales=16/16", *few], "pcr and rpn have different kinds of boxes"),
    ]
    for code, out, err, named in answers(run, "deepconv.localization", mistakes):
        assert (code, out) == (2, "") and named in err and len(err.splitlines()) == 1, (named, err)
