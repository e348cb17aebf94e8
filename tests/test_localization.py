"""Boxes at all windows of full images, merged, and the localisation errors they give."""

import dataclasses
import functools
import json
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import NARROW, ROOT, answers, narrow, shell
from ml_collections import ConfigDict
from PIL import Image

from deepconv import distributed, models
from deepconv.boxes import geometry, merging
from deepconv.config import recipes
from deepconv.data import decode
from deepconv.data.images import DataError, Encoded, Record
from deepconv.data.sources.annotated import Found, arrange
from deepconv.data.sources.shape_boxes import read_shape_boxes
from deepconv.data.statistics import Input
from deepconv.evaluation import photographs
from deepconv.evaluation.net import Net, Trained, load_run
from deepconv.localization import classes as classes_lib
from deepconv.localization import dense, merge, results, truth
from deepconv.localization import run as run_lib
from deepconv.localization.dense import Guesses
from deepconv.localization.window_table import append, open_windows, read_windows
from deepconv.localization.windows import Localizer, check_windows, window_boxes
from deepconv.models import vgg
from deepconv.objective import BoxRegression, Classification
from deepconv.run import checkpoint
from deepconv.run.files import write_json
from deepconv.state import TrainState, held_shapes

SIZE, STRIDE, CLASSES = 16, 4, 6
# convolutions of one pixel: a window of the map then depends on its own pixels only, and can be cut out of the image
LAYERS = ("1-5", "1-7 1-8")
MEAN = np.array([90, 120, 130], np.float32).reshape(1, 1, 1, 3)


@pytest.fixture(scope="module", autouse=True)
def small_nets():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(vgg.CONFIGURATIONS, "A", LAYERS)
        narrow(patch, vgg)
        yield


def trained(outputs, seed=0, mean=MEAN, configuration="A"):
    """A net with random weights, whose outputs are about 1."""
    model = models.create(ConfigDict(dict(name="vgg", configuration=configuration)), outputs)
    variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(seed), jnp.zeros((1, SIZE, SIZE, 3)))
    goal = Classification(CLASSES) if outputs == CLASSES else BoxRegression(outputs // 4, SIZE)
    net = Net(model, goal, Input(mean), SIZE, False, 16, distributed.make_mesh())
    params, names = variables["params"], tuple(f"class {number}" for number in range(CLASSES))
    params["fc8"]["kernel"] *= 0.02
    return Trained(ConfigDict(), net, TrainState(jnp.array(3), params, {}, ()), names)


def middle_half(outputs):
    """A net that sees a box in the middle of every window, half as wide and a quarter as high."""
    found = trained(outputs)
    last = found.state.params["fc8"]
    params = found.state.params | {
        "fc8": {"kernel": 0 * last["kernel"], "bias": jnp.tile(jnp.array([0, 0, 0.5, 0.25]), outputs // 4)}
    }
    return dataclasses.replace(found, state=found.state.replace(params=params))


# literal forms


def in_whole_strides(image):
    """An image whose last windows are complete: what lies beyond its edge repeats what max pooling finds there."""
    for axis in (0, 1):
        for block in (1, 2):
            if image.shape[axis] // block % 2:
                last = np.take(image, range(image.shape[axis] - block, image.shape[axis]), axis)
                image = np.concatenate([image, last], axis)
    return image


def cut_windows(image):
    """The windows of an image, row by row, and their top left corners."""
    whole = in_whole_strides(image)
    corners = [
        (top, left)
        for top in range(0, whole.shape[0] - SIZE + 1, STRIDE)
        for left in range(0, whole.shape[1] - SIZE + 1, STRIDE)
    ]
    return np.array([whole[top : top + SIZE, left : left + SIZE] for top, left in corners]), corners


@functools.partial(jax.jit, static_argnums=0)
def forward(model, params, images):
    return model.apply({"params": params}, images, train=False)


def outputs_of(net, cut):
    rows = np.zeros((-(-len(cut) // 64) * 64, SIZE, SIZE, 3), np.float32)
    rows[: len(cut)] = cut - net.net.input.mean
    return np.asarray(forward(net.net.model, net.state.params, rows))[: len(cut)]


def literal_windows(net, scorer, image, chosen):
    """x1, y1, x2, y2 and score [n, K, 5] of chosen classes in pixels of an image."""
    cut, corners = cut_windows(image)
    outputs, scores = outputs_of(net, cut), outputs_of(scorer, cut)
    found = np.zeros((len(cut), len(chosen), 5))
    for i, (top, left) in enumerate(corners):
        for k, number in enumerate(chosen):
            x, y, width, height = outputs[i, 4 * number : 4 * number + 4] if outputs.shape[1] > 4 else outputs[i]
            x, y = left + (x + 0.5) * SIZE, top + (y + 0.5) * SIZE
            width, height = width * SIZE, height * SIZE
            score = np.exp(scores[i, number]) / np.exp(scores[i]).sum()
            found[i, k] = x - width / 2, y - height / 2, x + width / 2, y + height / 2, score
    return found


def literal_best(found):
    """The merged box with the highest sum of scores, of windows [n, 5]."""
    boxes, scores = [*found[:, :4].astype(np.float64)], [*found[:, 4]]
    while len(boxes) > 1:
        distances = 1 - geometry.iou(np.array(boxes), np.array(boxes))
        distances[np.tril_indices(len(boxes))] = np.inf
        i, j = divmod(int(distances.argmin()), len(boxes))
        if distances[i, j] > 0.5:
            break
        boxes[i], scores[i] = (boxes[i] + boxes[j]) / 2, scores[i] + scores[j]
        del boxes[j], scores[j]
    best = int(np.argmax(scores))
    return np.array([*boxes[best], scores[best]])


# windows


def test_boxes_are_those_of_windows_cut_out_and_padding_changes_nothing():
    net, scorer = trained(4 * CLASSES), trained(CLASSES, seed=1, mean=MEAN + 20)
    rng = np.random.default_rng(0)
    sizes = [(20, 28), (16, 16), (18, 21), (24, 32)]
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
    chosen = np.array([[0, 5], [3, 3], [1, 2], [4, 0]], np.int32)
    predict = jax.jit(functools.partial(window_boxes, net=net.net, scorer=scorer.net))
    states = net.state, scorer.state
    counts = [(2, 4), (1, 1), (2, 3), (3, 5)]
    batch = {"image": np.zeros((4, 24, 32, 3), np.uint8), "extent": np.array(sizes, np.int32), "classes": chosen}
    batch["image"] += 200  # padding that would be noticed
    for place, image in enumerate(images):
        batch["image"][place, : image.shape[0], : image.shape[1]] = image
    batch["probabilities"] = np.zeros(chosen.shape, np.float32)
    padded, sides = map(np.asarray, predict(states, batch))
    np.testing.assert_array_equal(sides, counts)
    for i in range(4):
        expected = literal_windows(net, scorer, images[i], chosen[i])
        height, width = counts[i]
        found = padded[i, :height, :width].reshape(-1, 2, 5)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
        if i == 2:
            alone = {name: value[i : i + 1] for name, value in batch.items()} | {"image": images[i][None]}
            np.testing.assert_allclose(np.asarray(predict(states, alone)[0])[0].reshape(-1, 2, 5), expected, atol=1e-4)


def test_a_net_with_one_box_for_all_classes_and_scores_of_the_image():
    net = trained(4)
    image = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    probabilities = np.array([[0.25, 0.5]], np.float32)
    batch = {"image": image[None], "extent": np.array([[20, 20]]), "classes": np.array([[0, 4]])}
    predict = jax.jit(functools.partial(window_boxes, net=net.net, scorer=None))
    windows, _ = predict((net.state,), batch | {"probabilities": probabilities})
    windows = np.asarray(windows).reshape(4, 2, 5)
    expected = literal_windows(net, trained(CLASSES), image, [0, 4])[..., :4]
    np.testing.assert_allclose(windows[..., :4], expected, atol=1e-4)
    np.testing.assert_array_equal(windows[:, :, 4], np.tile(probabilities, (4, 1)))


def test_vggs_windows_are_32_pixels_apart():
    model = vgg.VGG(4 * CLASSES, configuration="D")
    state = TrainState(0, held_shapes(model, 224)["params"], {}, ())
    net = Net(model, BoxRegression(CLASSES, 224), Input(MEAN), 224, False, 8, distributed.make_mesh())
    for side, windows in ((224, 1), (256, 2), (352, 5), (384, 6)):  # 4, 25 and 36 windows at the paper's scales
        batch = {"image": jax.ShapeDtypeStruct((1, side, side, 3), jnp.uint8), "extent": jnp.array([[side, side]])}
        batch |= {"classes": jnp.zeros((1, 6), jnp.int32), "probabilities": jnp.zeros((1, 6))}
        found, _ = jax.eval_shape(functools.partial(window_boxes, net=net, scorer=None), (state,), batch)
        assert found.shape == (1, windows, windows, 6, 5)


def test_nets_with_other_windows_are_refused(monkeypatch):
    net = trained(4)
    monkeypatch.setitem(vgg.CONFIGURATIONS, "B", ("1-5", "1-7", "1-8"))
    with pytest.raises(ValueError, match="different windows, 4 and 8 pixels apart"):
        check_windows(Localizer(net, trained(CLASSES, configuration="B")))
    other = dataclasses.replace(net, net=dataclasses.replace(net.net, size=32))
    with pytest.raises(ValueError, match="takes images of 32 pixels and the localisation net images of 16"):
        check_windows(Localizer(net, other))


@dataclasses.dataclass(frozen=True)
class Pictures(Encoded):
    function: Callable

    def read(self, indices):
        return [self.function(int(i)) for i in indices]


def annotated(sizes, read=None, stated=None, scaled=False, ids=None):
    """Pictures of noise with one object each, which covers the image."""
    count, stated = len(sizes), np.array(stated or sizes)

    def noise(i):
        image = np.random.default_rng(i).integers(0, 256, (*sizes[i], 3), np.uint8)
        return Record(decode.as_jpeg(image, 95), i % CLASSES, f"picture {i}")

    boxes = np.concatenate([np.zeros((count, 2)), stated[:, ::-1]], -1).astype(np.float32)
    none = np.zeros(count, bool)
    found = Found(np.arange(count), boxes, np.arange(count) % CLASSES, none, none)
    names = tuple(f"class {number}" for number in range(CLASSES))
    ids = np.arange(count) if ids is None else np.array(ids)
    return arrange(Pictures(read or noise), ids, stated, found, names, scaled)


def guesses(count, k=2):
    rng = np.random.default_rng(5)
    return Guesses(rng.integers(0, CLASSES, (count, k)).astype(np.int32), rng.random((count, k)).astype(np.float32))


def test_boxes_are_in_pixels_of_the_annotated_image(tmp_path):
    sizes = [(32, 40), (100, 50), (10, 99)]  # the last is longer than eight times its height: its middle is tested
    stated = [(32, 40), (200, 100), (10, 99)]
    data = annotated(sizes, stated=stated, scaled=True)
    tables = [open_windows(tmp_path / f"q{scale}", 3, 2) for scale in (16, 24)]
    dense.fill(Localizer(middle_half(4 * CLASSES), None), [16, 24], tables, data, guesses(3))
    windows = [read_windows(table, np.arange(3)) for table in tables]
    assert [[len(found) for found in table] for table in windows] == [[2, 5, 29], [3 * 5, 3 * 9, 3 * 45]]
    # 16 x 20 pixels of 32 x 40: window (0, 1) sees columns 4 to 19, of which the middle half is 8 to 15
    np.testing.assert_allclose(windows[0][0][1, :, :4], [[16, 12, 32, 20]] * 2, rtol=1e-6)
    # 32 x 16 pixels of 200 x 100: window (4, 0) sees rows 16 to 31, of which the middle quarter is 22 to 25
    np.testing.assert_allclose(windows[0][1][4, :, :4], [[25, 137.5, 75, 162.5]] * 2, rtol=1e-6)
    # 24 x 192 pixels of 10 x 80, from column 9: window (2, 44) sees rows 8 to 23 and columns 176 to 191
    expected = [9 + 180 / 2.4, 14 / 2.4, 9 + 188 / 2.4, 18 / 2.4]
    np.testing.assert_allclose(windows[1][2][-1, :, :4], [expected] * 2, rtol=1e-6)
    np.testing.assert_array_equal(windows[1][2][7, :, 4], guesses(3).probabilities[2])


def test_an_image_of_another_shape_than_stated_and_a_net_without_numbers_are_noticed(tmp_path):
    data = annotated([(32, 40), (32, 40)], stated=[(32, 40), (40, 32)])
    with pytest.raises(DataError, match="image 1 has 40 x 32 pixels, but its annotation states 32 x 40"):
        table = open_windows(tmp_path / "a", 2, 2)
        dense.fill(Localizer(middle_half(4), None), [16], [table], data, guesses(2))
    net = middle_half(4)
    net.state.params["fc8"]["bias"] = jnp.full(4, jnp.nan)
    with pytest.raises(FloatingPointError, match="image 0 at 16 pixels"):
        table = open_windows(tmp_path / "b", 1, 2)
        dense.fill(Localizer(net, None), [16], [table], annotated([(32, 40)]), guesses(1))


def test_boxes_on_photographs_are_in_their_pixels(tmp_path):
    """The crop is the middle of a photograph of 40 x 60 pixels rescaled to 16 x 24; its longer side may be vertical."""
    data = ConfigDict(dict(name="photos", image_size=SIZE, test_scale=SIZE))
    net, files = dataclasses.replace(middle_half(4), data=data), [str(tmp_path / f"{name}.png") for name in "ab"]
    for file, shape in zip(files, ((40, 60, 3), (60, 40, 3)), strict=True):
        Image.fromarray(np.zeros(shape, np.uint8)).save(file)
    boxes = photographs.find_boxes(net, files)
    np.testing.assert_allclose(boxes, [[20, 15, 40, 25], [10, 25, 30, 35]], atol=1e-3)


def test_the_box_of_a_class_on_a_photograph_is_that_of_the_dense_test(tmp_path):
    """A square picture has one window at the scale of the net: its central crop."""
    data, chosen = annotated([(16, 16), (32, 32), (16, 16)]), [4, 0, 3]
    settings = ConfigDict(dict(name="photos", image_size=SIZE, test_scale=SIZE))
    net, files = (
        dataclasses.replace(trained(4 * CLASSES), data=settings),
        [str(tmp_path / f"{i}.png") for i in range(3)],
    )
    for file, record in zip(files, data.images.read(range(3)), strict=True):
        Image.fromarray(decode.decode(record.data)).save(file)
    table = open_windows(tmp_path / "q16", 3, 1)
    dense.fill(Localizer(net, None), [SIZE], [table], data, Guesses(np.array(chosen)[:, None], np.ones((3, 1))))
    expected = np.stack([found[0, 0, :4] for found in read_windows(table, np.arange(3))])
    np.testing.assert_allclose(photographs.find_boxes(net, files, classes=chosen), expected, rtol=1e-4, atol=1e-4)
    away = np.abs(photographs.find_boxes(net, files, classes=[0, 0, 0]) - expected).max(1)
    assert away[1] < 1e-4 < 0.01 < away[[0, 2]].min()
    with pytest.raises(ValueError, match="the net has boxes of each class; give the class of each photograph"):
        photographs.find_boxes(net, files)
    with pytest.raises(ValueError, match="1 classes are given for 3 photographs; give one for each"):
        photographs.find_boxes(net, files, classes=[0])
    for wrong in (-1, CLASSES):
        with pytest.raises(ValueError, match=f"there is no class {wrong}; the net's are 0 to {CLASSES - 1}"):
            photographs.find_boxes(net, files, classes=[0, wrong, 0])
    with pytest.raises(ValueError, match="the net gives scores of classes, not boxes; use classify"):
        photographs.find_boxes(trained(CLASSES), files)
    with pytest.raises(ValueError, match="the net predicts boxes, not classes; use find_boxes"):
        photographs.classify(net, files)


def test_windows_of_an_earlier_start_are_kept(tmp_path):
    sizes = [(20, 20 + i % 2 * 8) for i in range(70)]
    whole, read = annotated(sizes), []

    def broken(i):
        if i == 40:
            raise DataError("gone")
        return whole.images.function(i)

    def counting(i):
        read.append(i)
        return whole.images.function(i)

    localizer, chosen = Localizer(trained(4 * CLASSES), None), guesses(70)
    tables = {name: lambda name=name: [open_windows(tmp_path / f"{name}{q}", 70, 2) for q in (16, 20)] for name in "ab"}
    dense.fill(localizer, [16, 20], tables["a"](), whole, chosen)
    with pytest.raises(DataError, match="gone"):
        dense.fill(localizer, [16, 20], tables["b"](), annotated(sizes, broken), chosen)
    with (tmp_path / "b16.bin").open("ab") as file:
        file.write(b"half a row")
    done = [table.rows["done"].copy() for table in tables["b"]()]
    assert all(0 < found.sum() < 70 for found in done)
    dense.fill(localizer, [16, 20], tables["b"](), annotated(sizes, counting), chosen)
    assert sorted(read) == np.flatnonzero(~(done[0] & done[1])).tolist()
    for a, b in zip(tables["a"](), tables["b"](), strict=True):
        for one, other in zip(read_windows(a, np.arange(70)), read_windows(b, np.arange(70)), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5)


# merging


def scattered(rng, *shape):
    """Boxes and scores [..., 5] around an object, as windows give them."""
    center, size = rng.uniform(90, 130, (*shape, 2)), rng.uniform(60, 110, (*shape, 2))
    return np.concatenate([center - size / 2, center + size / 2, rng.random((*shape, 1))], -1).astype(np.float32)


def test_the_best_box_is_that_of_a_literal_loop():
    rng = np.random.default_rng(0)
    windows, counts = scattered(rng, 3, 65, 2), np.array([65, 40, 1], np.int32)
    windows[0, 33:] = windows[0, :32]  # ties
    best = np.asarray(jax.jit(merge.best_boxes)(windows, counts))
    for image, count in enumerate(counts):
        expected = [literal_best(windows[image, :count, k]) for k in range(2)]
        np.testing.assert_allclose(best[image], expected, rtol=1e-5)
    boxes, scores = merging.merge(windows[1, :, 0, :4], windows[1, :, 0, 4])
    assert np.isfinite(boxes).all() and 1 < (np.asarray(scores) > -np.inf).sum() < 40


def test_a_net_fused_with_itself_or_with_nothing_is_the_net(tmp_path):
    rng, mesh = np.random.default_rng(1), distributed.make_mesh()
    counts = [9, 10, 10, 9, 10]
    windows = [scattered(rng, count, 2) for count in counts]
    tables = [open_windows(tmp_path / name, len(counts), 2) for name in ("net", "nothing")]
    append(tables[0], [3, 0], [windows[3], windows[0]], 1.0)
    append(tables[0], [1, 2, 4], [windows[1], windows[2], windows[4]], 1.0)
    append(tables[1], [0], [windows[0]], 1.0)  # no windows of the others
    alone = merge.merge_images(tables[:1], mesh)
    expected = [[literal_best(found[:, k]) for k in range(2)] for found in windows]
    np.testing.assert_allclose(alone, expected, rtol=1e-5)
    twice = merge.merge_images([tables[0], tables[0]], mesh)
    np.testing.assert_allclose(twice, alone * [1, 1, 1, 1, 2], rtol=1e-5)
    np.testing.assert_array_equal(merge.merge_images(tables, mesh)[1:], alone[1:])


def test_windows_are_padded_by_a_quarter_at_most():
    found = {count: merge.padded_count(count) for count in range(1, 2000)}
    assert all(count <= padded <= 1.25 * count for count, padded in found.items()) and len({*found.values()}) < 45


# classes and errors


def saved(folder, probs, labels, names=None):
    folder.mkdir()
    np.save(folder / "probs.dense.npy", np.asarray(probs, np.float32))
    np.save(folder / "labels.npy", np.array(labels))
    write_json(folder / "classes.json", names or [f"class {number}" for number in range(np.shape(probs)[1])])
    return folder / "probs.dense.npy"


def test_classes_are_the_likeliest_by_the_mean_of_saved_probabilities(tmp_path):
    labels = np.array([6, 0])
    a = saved(tmp_path / "a", [[0.3, 0.0, 0.2, 0.1, 0.1, 0.3, 0.0], [0.2, 0.2, 0.2, 0.2, 0.2, 0.0, 0.0]], labels)
    b = saved(tmp_path / "b", [[0.1, 0.0, 0.6, 0.0, 0.2, 0.1, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0, 0.4, 0.6]], labels)
    names = [f"class {number}" for number in range(7)]
    chosen = classes_lib.choose([a, b], names, labels)
    np.testing.assert_array_equal(chosen.classes, [[2, 0, 5, 4, 3, 6], [6, 5, 0, 1, 2, 0]])  # ties: the lower class
    expected = [[0.4, 0.2, 0.2, 0.15, 0.05, 0], [0.3, 0.2, 0.1, 0.1, 0.1, 0.1]]
    np.testing.assert_allclose(chosen.probabilities, expected, atol=1e-6)
    mistakes = {
        "others, or in another order": ([a], names, labels[::-1]),
        "its images are 2, not 3": ([a], names, np.array([6, 0, 1])),
        "has other classes than the localisation net": ([a], names[::-1], labels),
        "7 probabilities are needed": ([saved(tmp_path / "c", np.ones((2, 3)) / 3, labels, names)], names, labels),
        "their labels differ": ([a, saved(tmp_path / "d", np.ones((2, 7)) / 7, [1, 2])], names, labels),
    }
    for message, arguments in mistakes.items():
        with pytest.raises(ValueError, match=message):
            classes_lib.choose(*arguments)


def test_errors_by_hand_with_and_without_blacklisted_images(tmp_path):
    numbers = [36, 50, 51, 77]
    images = annotated([(10, 10)] * 4, ids=[f"ILSVRC2012_val_{number:08}" for number in numbers])
    merged = np.zeros((4, 3, 5), np.float32)
    merged[..., :4] = 0, 0, 10, 10
    chosen = np.array([[0, 5, 0], [5, 1, 1], [5, 4, 2], [3, 5, 3]])  # labels 0 to 3; the third is not guessed
    merged[0, 0, :4] = 0, 0, 10, 4.9  # the right class with a wrong box
    merged[0, 2, :4] = 0, 0, 10, 5.0  # and with a right one, where the true class is given
    merged[3, :, :4] = 8, 8, 20, 20
    rows = results.write_boxes(tmp_path / results.BOXES, chosen, merged)
    np.testing.assert_array_equal(results.read_boxes(tmp_path / results.BOXES, 4), rows)
    (tmp_path / "windows.x.bin").touch()
    inputs = {"split": "val", "threshold": 0.5, "runs": [], "scores_from": [{"directory": "d"}]}
    every = {"top5_localization_error": 75.0, "true_class_localization_error": 25.0}
    assert results.errors(rows, images) == every and truth.lacks_blacklist(images)
    listed = dataclasses.replace(images, blacklisted=np.array([True, False, True, False]))
    record = run_lib.write_record(tmp_path, inputs, rows, listed, {})
    left = {f"{name}_without_blacklisted": 50.0 for name in every}
    assert {name: record[name] for name in [*every, *left, "blacklisted"]} == every | left | {"blacklisted": 2}
    assert record["images"] == {"val": 4} and not truth.lacks_blacklist(listed)
    without = results.with_errors(record, rows, images)  # the list was removed, and is found again
    assert not any("blacklisted" in name for name in without) and results.with_errors(without, rows, listed) == record
    assert results.read_record(tmp_path / results.RECORD) == json.loads(json.dumps(record))
    assert not [*tmp_path.glob("windows.*")] and len(results.describe(record)) == 2
    record["scores_from"] = []
    assert "without --scores_from" in results.describe(record)[2]
    with pytest.raises(ValueError, match="threshold: 0.5 in the run, 0.4 now; give another --workdir"):
        run_lib.check_same(record, {"threshold": 0.4}, tmp_path)
    new = {"directory": "d", "step": 7, "sha256": "x"}
    run_lib.check_same({"runs": [new], "scores_from": [new]}, {"runs": [new], "scores_from": [new]}, tmp_path)
    with pytest.raises(ValueError, match="another test"):
        run_lib.check_same({"runs": [new | {"sha256": "y"}]}, {"runs": [new]}, tmp_path)
    (tmp_path / results.BOXES).write_bytes(b"\x93NUMPY")
    with pytest.raises(OSError, match=r"boxes.npy is damaged: .*; remove it and localization.json"):
        results.read_boxes(tmp_path / results.BOXES, 4)


# the command

INJECTED = NARROW + f"vgg.CONFIGURATIONS['A'] = {LAYERS}\n"
SPLIT = "test[:3]"


def write_run(folder, name, outputs, seed, **changes):
    """A run of a net whose boxes are large and in the middle, more or less."""
    overrides = {"data.image_size": SIZE, "data.mean": "90,120,130", "data.train_scale": (20, 24)}
    overrides |= {"data.eval_split": SPLIT, "batch_size": 16, **changes}
    config = recipes.load(ROOT / "configs" / "vgg11.py", overrides, smoke=True).copy_and_resolve_references().unlock()
    if outputs != 10:
        config.objective = "single_class_regression" if outputs == 4 else "per_class_regression"
    params = trained(outputs, seed).state.params
    if outputs % 4 == 0:
        bias = np.tile([0.0, 0.0, 0.7, 0.7], outputs // 4).astype(np.float32)
        params["fc8"] = {"kernel": 0.15 * params["fc8"]["kernel"], "bias": bias}
    write_json(folder / name / "config.json", json.loads(config.to_json()))
    write_json(folder / name / "classes.json", [*read_shape_boxes(SPLIT, (20, 36)).class_names])
    manager = checkpoint.open_manager(folder / name / "checkpoints", 0)
    checkpoint.save(manager, TrainState(jnp.array(7), params, {}, {"none": jnp.zeros(1)}))
    checkpoint.close(manager)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two localisation nets, two classification nets and saved probabilities, for ten shapes."""
    folder = tmp_path_factory.mktemp("localization")
    for seed, (name, outputs) in enumerate({"pcr": 40, "scr": 4, "d": 10, "e": 10}.items()):
        (folder / name).mkdir()
        write_run(folder, name, outputs, seed)
    images = read_shape_boxes(SPLIT, (20, 36))
    rng = np.random.default_rng(0)
    for name in "de":
        probs = rng.dirichlet(np.ones(10), len(images.ids)) + np.eye(10)[images.classes[:, 0]] * 0.05
        probs[1, images.classes[1, 0]] = 0  # not guessed
        np.save(folder / name / "probs.dense.npy", (probs / probs.sum(1, keepdims=True)).astype(np.float32))
        np.save(folder / name / "labels.npy", images.classes[:, 0])
        write_json(folder / name / "eval.dense.json", {"step": 7})
    return folder


CASES = [  # localisation nets, the classification nets that score their windows, scales of each
    (["pcr"], ["d"], [[16]]),
    pytest.param(["pcr", "scr"], ["d", "e"], [[16], [16, 20]], marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("names", "scored_by", "scales"), CASES)
def test_the_command_gives_the_errors_of_a_literal_evaluation(runs, names, scored_by, scales):
    lists = "/".join(",".join(map(str, sizes)) for sizes in scales)
    flags = [
        f"--scales={lists}",
        *(f"--run={name}" for name in names),
        *(f"--scores_from={name}" for name in scored_by),
    ]
    flags += ["--classes_from=d:dense", "--classes_from=e:dense", f"--workdir=of_{len(names)}"]
    out = runs / f"of_{len(names)}"
    call = functools.partial(shell().run, cwd=runs, module="deepconv.localization", inject=INJECTED)
    first = call(flags).ends(0)
    images = read_shape_boxes(SPLIT, (20, 36))
    nets = [load_run(runs / name) for name in names]
    scorers = [load_run(runs / name) for name in scored_by]
    probs = (np.load(runs / "d/probs.dense.npy") + np.load(runs / "e/probs.dense.npy")) / 2
    rows, misses, of_class = np.load(out / "boxes.npy"), 0, 0
    for i in range(3):
        image, label = decode.decode(images.images.read([i])[0].data), images.classes[i, 0]
        chosen = [*np.argsort(-probs[i], kind="stable")[:5], label]
        found = []
        for net, scorer, sizes in zip(nets, scorers, scales, strict=True):
            for scale in sizes:
                small = decode.rescale(image, scale)
                windows = literal_windows(net, scorer, small, chosen)
                windows[..., 0:4:2] *= image.shape[1] / small.shape[1]
                windows[..., 1:4:2] *= image.shape[0] / small.shape[0]
                found.append(windows)
        best = np.array([literal_best(np.concatenate(found)[:, k]) for k in range(6)])
        np.testing.assert_array_equal(rows["classes"][i], chosen)
        np.testing.assert_allclose(rows["boxes"][i], best[:, :4], rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(rows["scores"][i], best[:, 4], rtol=1e-3)
        right = geometry.iou(best[:, :4], images.boxes[i].astype(np.float64))[:, 0] >= 0.5
        misses += not any(right[k] and chosen[k] == label for k in range(5))
        of_class += not right[5]
    record = json.loads((out / "localization.json").read_text())
    found = record
    assert 0 < misses and found["top5_localization_error"] == pytest.approx(100 * misses / 3)
    assert of_class <= misses and found["true_class_localization_error"] == pytest.approx(100 * of_class / 3)
    runs_of = {"runs": names, "scores_from": scored_by, "classes_from": ["d", "e"]}
    for field, expected in runs_of.items():
        assert [(run["directory"], run["step"]) for run in record[field]] == [(name, 7) for name in expected]
    assert [run["test"] for run in record["classes_from"]] == ["dense", "dense"] and record["scales"] == scales
    assert record["versions"]["jax"] == jax.__version__ and record["images"] == {SPLIT: 3}
    assert [part["scale"] for part in record["seconds"]["windows"]] == sum(scales, []) and "blacklisted" not in record
    assert {path.name for path in out.iterdir()} == {"boxes.npy", "localization.json", "lock"}

    before = (out / "localization.json").stat().st_mtime_ns
    again = call([*flags, "--plot=plot.png", "--images=5"]).ends(0)
    assert again.out.splitlines()[0] == first.out.splitlines()[-1] and "top-5 localisation error" in again.out
    assert (out / "localization.json").stat().st_mtime_ns == before
    sums = runs / names[0] / "checkpoints/7/SHA256SUMS.json"
    text = sums.read_text()
    sums.write_text(text + "\n")  # as of another training of the same name and length
    call(flags).ends(2).says("holds the result of another test")
    sums.write_text(text)
    with Image.open(runs / "plot.png") as drawn:
        assert drawn.width >= 900 and drawn.height > 400  # three in a row


def test_mistakes_are_told_in_a_line(runs):
    (runs / "damaged").mkdir()
    (runs / "damaged/localization.json").write_text("{")
    (runs / "done").mkdir()
    errors = dict(top5_localization_error=1, true_class_localization_error=1)
    write_json(runs / "done/localization.json", dict(runs=[], scores_from=[], images={}, **errors))
    for name, changes in {
        "other_split": {"data.eval_split": "test[:2]"},
        "fewer": {"data.eval_split": "test[:2]"},
    }.items():
        (runs / name).mkdir()
        write_run(runs, name, 40, 0, **changes)
    few = ["--classes_from=d:dense", "--workdir=w"]
    mistakes = [
        (["--scales=16"], "--run=LOC is missing"),
        (["--run=pcr", *few], "--scales is missing"),
        (["--run=pcr", "--scales=16x", *few], "'16x' is not a number of pixels"),
        (["--run=pcr", "--scales=16,16", *few], "a scale twice"),
        (["--run=pcr", "--scales=15", *few], "15 is less than the 16 pixels that the net of pcr takes"),
        (["--run=pcr", "--scales=16/20", *few], "holds 2 lists for 1 runs"),
        (["--run=pcr", "--scales=16", "--scores_from=d", "--scores_from=e", *few], "--scores_from names 2 runs for 1"),
        (["--run=pcr", "--scales=16", "--workdir=w"], "--classes_from=RUN:TEST is missing"),
        (["--run=pcr", "--scales=16", "--classes_from=d", "--workdir=w"], "--classes_from=d is not RUN:TEST"),
        (["--run=pcr", "--scales=16", "--classes_from=d:center", "--workdir=w"], "d/probs.center.npy is missing"),
        (["--run=pcr", "--scales=16", "--classes_from=d:dense"], "--workdir=DIR is missing"),
        (["--run=nowhere", "--scales=16", *few], "nowhere is not the directory of a run"),
        (["--run=pcr", "--run=other_split", "--scales=16/16", *few], "other_split is tested on other images than pcr"),
        (["--run=fewer", "--scales=16", *few], "its images are 3, not 2"),
        (["--run=d", "--scales=16", *few], "the net of d predicts scores of classes; give one that predicts boxes"),
        (
            ["--run=pcr", "--scales=16", "--scores_from=scr", *few],
            "the net of scr predicts boxes; give one that predicts scores of classes",
        ),
        (["--run=pcr", "--scales=16", "--plot=none/x.png", *few], "its folder does not exist"),
        (["--run=pcr", "--scales=16", few[0], "--workdir=damaged"], "localization.json is damaged"),
        (["--run=pcr", "--scales=16", few[0], "--workdir=done"], "holds the result of another test"),
        (["pcr"], "unknown argument 'pcr'"),
    ]
    for code, out, err, named in answers(runs, "deepconv.localization", mistakes, INJECTED):
        assert (code, out) == (2, "") and named in err and len(err.splitlines()) == 1, (named, err)
