"""Test protocols, against loops over images, crops, windows and pixels."""

import dataclasses
import functools
import io
import json
import types
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import narrow, tiny_task
from ml_collections import ConfigDict
from PIL import Image

from deepconv import distributed, models, resume, train
from deepconv.data import augment, decode
from deepconv.data.images import DataError, Encoded, Record
from deepconv.data.statistics import Input
from deepconv.evaluation import batch_stats, probabilities, protocols
from deepconv.evaluation import run as evaluate
from deepconv.evaluation.batches import batches
from deepconv.evaluation.crops import crop_probabilities
from deepconv.evaluation.dense import bucket_shape, dense_probabilities
from deepconv.evaluation.net import Net
from deepconv.evaluation.table import new_table
from deepconv.models import vgg
from deepconv.objective import Classification
from deepconv.ops import pooling
from deepconv.ops.padding import CEIL, windows
from deepconv.run import preemption
from deepconv.state import TrainState
from deepconv.task import net_for

SIZES = [(30, 30), (37, 30), (9, 25), (200, 20), (31, 64), (1, 30)]
CLASSES = 6
DATA = ConfigDict(dict(name="photos", image_size=16, test_scale=18))


@dataclasses.dataclass(frozen=True)
class Photos(Encoded):
    function: Callable

    def read(self, indices):
        return self.function(indices)


@pytest.fixture(scope="module")
def photos():
    """Pictures of odd sizes, some smaller than a crop, as PNG."""
    records = []
    for i, size in enumerate(SIZES):
        small = np.random.default_rng(i).integers(0, 256, (5, 5, 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC).save(file, "PNG")
        records.append(Record(file.getvalue(), i % CLASSES, f"photo {i}"))
    return Photos(lambda indices: [records[i] for i in indices])


@pytest.fixture(scope="module")
def net():
    """A VGG of three convolutions with images of 16 pixels, and a mean image that is not flat."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(vgg.CONFIGURATIONS, "A", ("3-5", "3-7 1-8"))
        narrow(patch, vgg)
        model = models.create(ConfigDict(dict(name="vgg", configuration="A")), CLASSES)
        mean = np.random.default_rng(0).uniform(80, 160, (1, 16, 16, 3)).astype(np.float32)
        yield Net(model, Classification(CLASSES), Input(mean), 16, False, 8, distributed.make_mesh())


@pytest.fixture(scope="module")
def state(net):
    variables = jax.jit(functools.partial(net.model.init, train=False))(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    return TrainState(jnp.array(3), jax.tree.map(lambda x: 1.3 * x, variables["params"]), {}, ())


def literal_convolution(x, layer):
    kernel, bias = layer["kernel"], layer["bias"]
    reach = kernel.shape[0] // 2
    padded = np.pad(x, ((reach, reach), (reach, reach), (0, 0)))
    out, matrix = np.zeros((*x.shape[:2], kernel.shape[-1])), kernel.reshape(-1, kernel.shape[-1])
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            window = padded[i : i + kernel.shape[0], j : j + kernel.shape[1]]
            out[i, j] = window.reshape(-1) @ matrix + bias
    return np.maximum(out, 0)


def literal_pool(x):
    height, width = -(-x.shape[0] // 2), -(-x.shape[1] // 2)
    return np.array(
        [[x[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].max((0, 1)) for j in range(width)] for i in range(height)]
    )


def literal_scores(params, image):
    """Of every view, [views, classes]; one, of an image of 16 x 16 pixels."""
    x = literal_pool(literal_convolution(image, params["conv1_1"]))
    x = literal_pool(literal_convolution(literal_convolution(x, params["conv2_1"]), params["conv2_2"]))
    scores = []
    for i in range(x.shape[0] - 3):
        for j in range(x.shape[1] - 3):
            y = x[i : i + 4, j : j + 4].reshape(-1)
            for name in ("fc6", "fc7", "fc8"):
                y = y @ params[name]["kernel"].reshape(len(y), -1) + params[name]["bias"]
                y = y if name == "fc8" else np.maximum(y, 0)
            scores.append(y)
    return np.array(scores)


def softmax(scores):
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def literal_crops(params, image, mean, corners, mirrored):
    probs = []
    for top, left in corners:
        crop = image[top : top + 16, left : left + 16].astype(np.float64)
        for seen in (crop, crop[:, ::-1]) if mirrored else (crop,):
            probs.append(softmax(literal_scores(params, seen - mean[0]))[0])
    return np.mean(probs, 0)


def literal_dense(params, image, mean, posteriors):
    stretched = literal_stretch(mean[0], image.shape[:2])
    probs = []
    for seen in (image, image[:, ::-1]):
        scores = literal_scores(params, seen.astype(np.float64) - stretched)
        probs.append(softmax(scores).mean(0) if posteriors else softmax(scores.mean(0)))
    return np.mean(probs, 0)


def literal_stretch(mean, shape):
    """Bilinear, by the pixels' centres."""

    def along(x, length):
        places = np.clip((np.arange(length) + 0.5) * len(x) / length - 0.5, 0, len(x) - 1)
        low = np.minimum(places.astype(int), len(x) - 2)
        return x[low] + (places - low)[:, None, None] * (x[low + 1] - x[low])

    return along(along(mean, shape[0]).transpose(1, 0, 2), shape[1]).transpose(1, 0, 2)


def literal(name, params, image, mean):
    """By hand, of one protocol that is no mean of others."""
    kind, scale = name.split("_q")[0], int(name.split("_q")[1].split("_")[0])
    small = decode.rescale(image, scale)
    if kind == "dense":
        return literal_dense(params, small, mean, name.endswith("_posteriors"))
    low, right = small.shape[0] - 16, small.shape[1] - 16
    middle = low // 2, right // 2
    if kind == "center":
        return literal_crops(params, small, mean, [middle], mirrored=False)
    if kind == "ten_crop":
        corners = [(0, 0), (0, right), (low, 0), (low, right), middle]
        return literal_crops(params, small, mean, corners, mirrored=True)
    grid = [(int(low * i / 4), int(right * j / 4)) for i in range(5) for j in range(5)]
    return literal_crops(params, small, mean, grid, mirrored=True)


PROTOCOLS = {
    "center_q16": ["center_q16"],
    "ten_crop_q18": ["ten_crop_q18"],
    "dense_q16": ["dense_q16"],
    "dense_q21": ["dense_q21"],
    "dense_q18_posteriors": ["dense_q18_posteriors"],
    "dense_q16_21": ["dense_q16", "dense_q21"],
    "multi_crop_q16_21": ["multi_crop_q16", "multi_crop_q21"],
    "multi_crop_dense_q16_21": ["multi_crop_q16", "multi_crop_q21", "dense_q16", "dense_q21"],
}


def test_protocols_are_those_of_loops(net, state, photos, tmp_path):
    """Of a tall picture, a wide one and one that is smaller than a crop."""
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), state.params)
    chosen = [1, 2, 4]
    three, by_hand = Photos(lambda indices: photos.read([chosen[i] for i in indices])), {}
    for name, of in PROTOCOLS.items():
        parts = protocols.parts(name, DATA, None, net.model, batch_norm=False)
        evaluate.run(net, [(part, state) for part in parts], three, tmp_path, examples=len(chosen), classes=CLASSES)
        if len(parts) > 1:
            probabilities.average(tmp_path, name, [part.name for part in parts])
        for one in set(of) - set(by_hand):
            images = [decode.decode(record.data) for record in photos.read(chosen)]
            by_hand[one] = np.array([literal(one, params, image, net.input.mean) for image in images])
        probs, record = (
            np.load(tmp_path / f"probs.{name}.npy"),
            json.loads((tmp_path / f"eval.{name}.json").read_text()),
        )
        np.testing.assert_allclose(probs, np.mean([by_hand[one] for one in of], 0), atol=1e-5)
        labels = np.array(chosen) % CLASSES
        assert (np.load(tmp_path / "labels.npy") == labels).all() and record["examples"] == len(chosen)
        assert record["top1_error"] == pytest.approx(100 * (probs.argmax(1) != labels).mean())
        places = np.argsort(-probs)[:, :5]
        assert record["top5_error"] == pytest.approx(100 - 100 * (places == labels[:, None]).any(1).mean())
        assert set(record) >= {"views", "seconds", "images_per_second", "commit", "devices", "step", "protocol"}
    assert np.std([probs for probs in by_hand.values()]) > 0.02  # not all alike
    assert not list(tmp_path.glob("*partial*"))


def outputs(net, state, photos, name, **changes):
    (part,) = protocols.parts(name, DATA, None, net.model, batch_norm=False)
    net = dataclasses.replace(net, **changes)
    table = new_table(len(SIZES), CLASSES)
    (shapes,) = evaluate.fill_tables(net, [evaluate.Test(part, evaluate.jit(net, part), state, table)], photos)
    return table["output"], shapes


@pytest.mark.parametrize("name", ["center", "ten_crop", "multi_crop_q20", "dense"])
def test_nothing_depends_on_batches_and_devices(net, state, photos, name):
    expected, _ = outputs(net, state, photos, name)
    one = jax.sharding.Mesh(np.asarray(jax.devices()[:1]), ("data",))
    for changes in ({"batch_size": 1}, {"mesh": one, "batch_size": 300}):
        np.testing.assert_allclose(outputs(net, state, photos, name, **changes)[0], expected, rtol=1e-4, atol=1e-6)


def test_a_dense_test_of_a_square_as_large_as_a_crop_is_the_central_crop_and_its_mirror(net, state):
    image = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), np.uint8)
    dense = dense_probabilities(state, {"image": image, "extent": jnp.array([[16, 16]])}, net=net, posteriors=False)
    crops = crop_probabilities(state, {"image": image[:, None]}, net=net, mirrored=True)
    np.testing.assert_allclose(dense, crops, atol=1e-6)


def test_ten_crops_are_ten_forwards(net, state, photos):
    (image,) = [decode.rescale(decode.decode(record.data), 18) for record in photos.read([2])]
    right = image.shape[1] - 16
    probs = []
    for top, left in [(0, 0), (0, right), (2, 0), (2, right), (1, right // 2)]:
        for flip in (1, -1):
            crop = image[None, top : top + 16, left : left + 16][:, :, ::flip]
            scores = net.model.apply({"params": state.params}, crop - net.input.mean, train=False)
            probs.append(jax.nn.softmax(scores)[0])
    np.testing.assert_allclose(outputs(net, state, photos, "ten_crop")[0][2], np.mean(probs, 0), atol=1e-6)


def test_few_shapes_hold_all_images_with_less_than_an_eighth_added():
    for shorter in (224, 256, 640, 16):
        shapes = set()
        for longer in range(shorter, 8 * shorter + 1):
            height, width = bucket_shape(shorter, longer)
            assert height == shorter and longer <= width < longer * 1.126 + 1
            assert bucket_shape(longer, shorter) == (width, height)
            shapes |= {(height, width), (width, height)}
        assert len(shapes) == 49 and (shorter, 8 * shorter) in shapes


def test_images_without_end_are_cut_and_shapes_are_counted(net, state, photos):
    probs, shapes = outputs(net, state, photos, "dense")
    assert np.isfinite(probs).all()
    seen = [decode.rescale(decode.decode(record.data), 18).shape[:2] for record in photos.read(range(len(SIZES)))]
    assert max(max(shape) for shape in seen) == 8 * 18 and shapes == len({bucket_shape(*shape) for shape in seen})


def test_a_test_that_was_stopped_goes_on(net, state, photos, tmp_path, monkeypatch):
    (part,) = protocols.parts("dense", DATA, None, net.model, batch_norm=False)
    size = dict(examples=len(SIZES), classes=CLASSES)
    monkeypatch.setattr(distributed, "put_batch", Stop())
    with pytest.raises(preemption.Preempted):
        evaluate.run(net, [(part, state)], photos, tmp_path, **size)
    (partial,) = tmp_path.glob("probs.dense.partial.npy")
    left = np.load(partial)
    assert 0 < left["done"].sum() < len(SIZES) and not (tmp_path / "eval.dense.json").exists()
    asked = []

    def counted(indices):
        asked.extend(map(int, indices))
        return photos.read(indices)

    left["output"][np.flatnonzero(left["done"])[0]] = 0  # a page that never reached the disk
    np.save(partial, left)
    left["done"] &= left["output"].any(1)
    evaluate.run(net, [(part, state)], Photos(counted), tmp_path, **size)
    assert sorted(asked) == np.flatnonzero(~left["done"]).tolist()
    np.testing.assert_array_equal(np.load(tmp_path / "probs.dense.npy"), outputs(net, state, photos, "dense")[0])
    record = json.loads((tmp_path / "eval.dense.json").read_text())
    assert not partial.exists() and record["seconds"] > left["seconds"][left["done"]].sum() > 0
    assert record["images_per_second"] == pytest.approx(len(SIZES) / record["seconds"])


class Stop:
    """Stands in for distributed.put_batch, and stops a test before its fourth batch."""

    def __init__(self):
        self.put, self.calls = distributed.put_batch, 0

    def __call__(self, batch, mesh):
        self.calls += 1
        if self.calls == 4:
            raise preemption.Preempted("SIGTERM")
        return self.put(batch, mesh)


def test_several_tests_share_one_pass_and_give_the_bits_of_each_alone(net, state, photos, tmp_path, monkeypatch):
    names, jitted = ["center", "ten_crop", "dense", "multi_crop_q21"], {}
    jit = lambda net, part, compiled=evaluate.jit: jitted.setdefault(part, compiled(net, part))  # noqa: E731
    monkeypatch.setattr(evaluate, "jit", jit)
    other = state.replace(params=jax.tree.map(lambda x: 1.1 * x, state.params))  # such as that of precise averages
    states = {name: other if name == "ten_crop" else state for name in names}
    tests = [(part, states[name]) for name in names for part in protocols.parts(name, DATA, None, net.model, False)]
    read, decoded, rescaled = [], [], []
    by = {"decode": decoded, "rescale": rescaled}
    originals = {name: getattr(decode, name) for name in by}
    for name, calls in by.items():
        counted = lambda *args, name=name, calls=calls: calls.append(args) or originals[name](*args)  # noqa: E731
        monkeypatch.setattr(decode, name, counted)
    data, size = Photos(lambda rows: read.extend(map(int, rows)) or photos.read(rows)), {"examples": len(SIZES)}
    with monkeypatch.context() as patch:
        patch.setattr(distributed, "put_batch", Stop())
        with pytest.raises(preemption.Preempted):
            evaluate.run(net, tests, data, tmp_path, classes=CLASSES, **size)
    done = [np.load(tmp_path / f"probs.{name}.partial.npy")["done"] for name in names]
    assert 0 < np.sum(done) < np.size(done) and not all((rows == done[0]).all() for rows in done)
    assert sorted(read) == [*range(len(SIZES))] and len(decoded) == len(SIZES)
    assert len(rescaled) == 2 * len(SIZES)  # to 18 and 21 pixels
    read.clear()
    evaluate.run(net, tests, data, tmp_path, classes=CLASSES, **size)
    assert sorted(read) == np.flatnonzero(~np.all(done, 0)).tolist()
    (tmp_path / "at_once").mkdir()
    evaluate.run(net, tests, data, tmp_path / "at_once", classes=CLASSES, **size)
    for name in names:
        alone, shapes = outputs(net, states[name], photos, name)
        np.testing.assert_array_equal(np.load(tmp_path / "at_once" / f"probs.{name}.npy"), alone)
        np.testing.assert_allclose(np.load(tmp_path / f"probs.{name}.npy"), alone, rtol=1e-5)
        record = json.loads((tmp_path / "at_once" / f"eval.{name}.json").read_text())
        assert record["compiled_shapes"] == shapes and (np.load(tmp_path / "labels.npy") == np.arange(6)).all()
    assert not list(tmp_path.glob("**/*partial*"))
    rows = [[] for _ in tests]
    for batch in batches(net, [part for part, _ in tests], [~mask for mask in done], photos):
        rows[batch.test] += batch.rows
    assert [sorted(found) for found in rows] == [np.flatnonzero(~mask).tolist() for mask in done]


def test_an_image_that_was_not_tested_and_a_number_that_is_none_are_noticed(net, state, photos, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "batches", lambda *args: iter(()))
        with pytest.raises(RuntimeError, match="6 of 6 images were not tested"):
            outputs(net, state, photos, "center")
    broken = state.replace(params=jax.tree.map(lambda x: x * np.nan, state.params))
    probs, _ = outputs(net, broken, photos, "center")
    with pytest.raises(FloatingPointError, match="center"):
        probabilities.write(tmp_path, "center", probs, np.zeros(len(SIZES), np.int32), 0, {})


def test_an_image_that_cannot_be_decoded_is_named(net, state, photos):
    def damaged(indices):
        return [
            record if i else record._replace(data=record.data[:40])
            for i, record in zip(indices, photos.read(indices), strict=True)
        ]

    with pytest.raises(DataError, match=r"record 0 \(photo 0\) cannot be decoded.*a test does not replace images"):
        outputs(net, state, Photos(damaged), "dense")


NAMES = {
    "center": ["center None"],
    "ten_crop_q384": ["ten_crop_q384 384"],
    "dense_q256_384_512": ["dense_q256 256", "dense_q384 384", "dense_q512 512"],
    "dense_posteriors_precise_batch_stats": ["dense_posteriors_precise_batch_stats None"],
    "multi_crop": ["multi_crop_q256 256", "multi_crop_q384 384", "multi_crop_q512 512"],
    "multi_crop_dense_q300_posteriors": ["multi_crop_q300 300", "dense_q300_posteriors 300"],
    "dense_q224_256_precise_batch_stats": ["dense_q224_precise_batch_stats 224", "dense_q256_precise_batch_stats 256"],
}


@pytest.mark.parametrize("name", NAMES)
def test_names_of_protocols(name):
    data = ConfigDict(dict(name="photos", image_size=224, test_scale=None))
    parts = protocols.parts(name, data, None, models.create(ConfigDict(dict(name="resnet")), 10), batch_norm=True)
    assert [f"{part.name} {part.scale}" for part in parts] == NAMES[name]
    assert all(part.precise == ("precise" in name) for part in parts)
    assert [part.posteriors for part in parts] == ["posteriors" in part.name for part in parts]
    views = {"center": 1, "ten_crop": 10, "dense": 2, "multi_crop": 50}
    assert [part.views for part in parts] == [views[part.kind] for part in parts]


@pytest.mark.parametrize(
    ("name", "mistake"),
    [
        ("tencrop", "tencrop is not a protocol; did you mean ten_crop"),
        ("dense_q256_q384", "not a protocol"),
        ("dense_precise_batch_stats", "needs a net with BatchNorm"),
        ("ten_crop_posteriors", "ten_crop has none"),
        ("dense_q15", "15 is less than config.data.image_size=16"),
        ("dense_q18_18", "the scale 18 twice"),
        ("dense_q018", "not a protocol"),
    ],
)
def test_names_that_are_no_protocol_of_a_net(net, name, mistake):
    with pytest.raises(ValueError, match=mistake):
        protocols.parts(name, DATA, None, net.model, batch_norm=False)


def test_images_of_one_size_are_tested_as_they_are(net):
    (part,) = protocols.parts("ten_crop_q32", DATA, (32, 32), net.model, batch_norm=False)
    assert part.scale is None and [p.name for p in protocols.parts("multi_crop", DATA, (32, 32), net.model, False)] == [
        "multi_crop"
    ]
    with pytest.raises(ValueError, match="have 32 x 32 pixels and are tested at that size, not at 40"):
        protocols.parts("ten_crop_q40", DATA, (32, 32), net.model, batch_norm=False)
    alexnet = models.create(ConfigDict(dict(name="alexnet")), 10)
    with pytest.raises(ValueError, match="AlexNet has no dense test"):
        protocols.parts("multi_crop_dense", DATA, None, alexnet, batch_norm=False)


def test_precise_batch_stats_are_means_over_an_epoch_of_training_batches(tmp_path):
    task = tiny_task(model__bn_group=8, data__train_split="train[:50]")
    data = task.train_source.open()
    computed, state = resume.statistics_for(task, data), resume.initial_state(task)()
    net, file = net_for(task, computed), tmp_path / "stats.npz"
    exact = batch_stats.precise(net, state, train.images_of_an_epoch(task, computed, state.step, tmp_path), 3, file)
    prepare, key = (
        augment.for_training(task.config.data, computed, task.lighting_steps),
        jax.random.fold_in(jax.random.key(0), 1),
    )
    moments = {"bn1": [], "conv3_1": []}
    for count, batch in zip(range(50 // 16), train.batches(task, data, 0), strict=False):
        images = prepare(jax.random.fold_in(key, count), 0, batch)["image"]
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        options = dict(train=True, mutable=["batch_stats", "intermediates"], capture_intermediates=True)
        _, found = task.model.apply(variables, images, **options)
        for layer in moments:
            module = found["intermediates"]
            module = module["conv1"] if layer == "bn1" else module[layer]["conv2"]
            groups = np.asarray(module["__call__"][0], np.float64).reshape(2, -1, module["__call__"][0].shape[-1])
            moments[layer].append((groups.mean(1), groups.var(1)))
    for layer, measured in moments.items():
        stats = exact.batch_stats["bn1"] if layer == "bn1" else exact.batch_stats[layer]["bn2"]
        assert len(measured) == 3
        for name, arrays in zip(("mean", "var"), zip(*measured, strict=True), strict=True):
            np.testing.assert_allclose(stats[name], np.mean(arrays, (0, 1)), rtol=1e-4, atol=1e-5)
    again = batch_stats.precise(net, state, iter(()), 3, file)  # the second time, they are in the file
    for a, b in zip(jax.tree.leaves(again.batch_stats), jax.tree.leaves(exact.batch_stats), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(jax.tree.leaves(exact.params), jax.tree.leaves(state.params), strict=True):
        np.testing.assert_array_equal(a, b)


def test_windows_are_counted_as_they_are_taken():
    for size, stride, padding in [(2, 2, CEIL), (3, 2, CEIL), (3, 2, 1), (7, 2, 3), (1, 2, 0)]:
        for side in range(7, 20):
            x = jnp.zeros((1, side, side, 1))
            pooled = jax.eval_shape(lambda x: pooling.max_pool(x, size, stride, padding), x).shape[1]  # noqa: B023
            assert windows(side, size, stride, padding) == pooled
            assert windows(np.array([side]), size, stride, padding)[0] == pooled


def test_averages_that_cannot_be_used_are_refused(tmp_path):
    """Those that are not finite are not kept; a net whose averages are constant has no others."""
    task = tiny_task()
    computed, state = resume.statistics_for(task, task.train_source.open()), resume.initial_state(task)()
    images = jnp.full((16, 16, 16, 3), jnp.nan)
    with pytest.raises(FloatingPointError, match="BatchNorm's .* not finite .*, averaged over the training set"):
        batch_stats.precise(net_for(task, computed), state, iter([images]), 1, tmp_path / "stats.npz")
    assert not [*tmp_path.iterdir()]
    fixed = models.create(ConfigDict(dict(name="resnet", depth=18, bn_fixed=True)), 10)
    with pytest.raises(ValueError, match="_precise_batch_stats is not for nets with config.model.bn_fixed=True"):
        protocols.parts("center_precise_batch_stats", DATA, None, fixed, batch_norm=True)


def test_the_logged_error_is_that_of_the_probabilities():
    """In tables of more rows than are sorted at a time, with ties."""
    rng = np.random.default_rng(0)
    probs, labels = rng.integers(0, 4, (25_000, 7)).astype(np.float32), rng.integers(0, 7, 25_000).astype(np.int32)
    best = np.array([sorted(range(7), key=lambda k: (-row[k], k)) for row in probs])
    table = np.zeros(25_000, [("output", np.float32, (1,))])
    batch = types.SimpleNamespace(labels=labels.tolist())
    table["output"] = probabilities.Hits().rows(batch, probs)
    expected = 100 * (best[:, 0] != labels).mean()
    assert probabilities.Hits().error(table) == pytest.approx(expected)
    assert probabilities.top_k_error(probs, labels, 1) == pytest.approx(expected)
    broken = np.where(np.arange(25_000)[:, None] < 5, np.nan, probs)  # misses, whatever the first class is
    table["output"] = probabilities.Hits().rows(batch, broken)
    assert not table["output"][:5].any() and (table["output"][5:, 0] == (best[5:, 0] == labels[5:])).all()
    among_three = (best[:, :3] == labels[:, None]).any(1)
    assert probabilities.top_k_error(probs, labels, 3) == pytest.approx(100 - 100 * among_three.mean())
