"""Features and linear support vector machines on other data sets."""

import dataclasses
import functools
import io
import json
import shutil
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import answers, narrow, real_data, shell, tiny_task
from ml_collections import ConfigDict
from PIL import Image
from sklearn.svm import LinearSVC
from test_evaluate import Stop, literal_convolution, literal_pool

from deepconv import distributed, models, train
from deepconv.data import decode
from deepconv.data.images import DataError, Encoded, Record
from deepconv.data.sources import voc
from deepconv.data.statistics import Input
from deepconv.evaluation import dense
from deepconv.evaluation.net import Net, Trained
from deepconv.models import resnet, vgg
from deepconv.objective import Classification
from deepconv.run import preemption
from deepconv.run.files import write_json
from deepconv.state import TrainState
from deepconv.transfer import benchmarks, descriptors, drawing, measure, metrics, svm
from deepconv.transfer.benchmarks import Part

DATA = ConfigDict(dict(name="photos", image_size=16, test_scale=16))
SIZES = [(20, 31), (21, 32), (31, 20)]  # at a scale of 21, the second has a smaller map than its padded shape
SCALES = (16, 21)
SPLITS = ("train", "val", "test")


@dataclasses.dataclass(frozen=True)
class Pictures(Encoded):
    files: tuple

    def read(self, indices):
        return [Record(self.files[i], 0, f"picture {i}") for i in indices]


def as_part(images):
    """A part whose images are these arrays, each described by one row."""
    files = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        files.append(file.getvalue())
    return Part(Pictures(tuple(files)), len(files), np.arange(len(files)), "")


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), np.uint8) for size in SIZES]


def trained(name, changes, mesh_devices=2, batch_size=16):
    """A small net with random weights; its classes do not matter."""
    model = models.create(ConfigDict(dict(name=name, **changes)), 3)
    mean = np.random.default_rng(0).uniform(80, 160, (1, 1, 1, 3)).astype(np.float32)
    mesh = distributed.make_mesh(devices=jax.devices()[:mesh_devices])
    variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    net = Net(model, Classification(3), Input(mean), 16, False, batch_size, mesh)
    state = TrainState(jnp.array(7), variables["params"], variables.get("batch_stats", {}), ())
    return Trained(DATA, net, state, "abc")


@pytest.fixture(scope="module")
def nets():
    """A VGG of three convolutions, and a ResNet of one block a stage."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(vgg.CONFIGURATIONS, "A", ("3-5", "3-7 1-8"))
        narrow(patch, vgg, 12)
        patch.setitem(resnet.BASIC, 18, (1, 1, 1, 1))
        patch.setattr(resnet, "FILTERS", (4, 5, 6, 7))
        yield {"vgg": trained("vgg", {"configuration": "A"}), "resnet": trained("resnet", {"depth": 18})}


def literal_vgg(net, image):
    """The mean of fc7 after its rectifier, by loops over the windows of one image."""
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), net.state.params)
    x = literal_pool(literal_convolution(image, params["conv1_1"]))
    x = literal_pool(literal_convolution(literal_convolution(x, params["conv2_1"]), params["conv2_2"]))
    found = []
    for i in range(x.shape[0] - 3):
        for j in range(x.shape[1] - 3):
            y = x[i : i + 4, j : j + 4].reshape(-1)
            for layer in ("fc6", "fc7"):
                y = np.maximum(y @ params[layer]["kernel"].reshape(len(y), -1) + params[layer]["bias"], 0)
            found.append(y)
    return np.mean(found, 0)


def literal_resnet(net, image):
    """The mean over the last block's map of one image without padding."""
    variables = {"params": net.state.params, "batch_stats": net.state.batch_stats}
    captured = dict(capture_intermediates=True, mutable=["intermediates"])
    _, found = jax.jit(functools.partial(net.net.model.apply, train=False, **captured))(variables, image[None])
    return np.asarray(found["intermediates"]["conv5_1"]["__call__"][0]).mean((0, 1, 2))


@pytest.mark.parametrize(
    "name, literal, layer, scales",
    [("vgg", literal_vgg, "fc7", (16, 21)), ("resnet", literal_resnet, "conv5_1", (18,))],
)
def test_descriptors_are_means_over_windows_and_mirror_images(nets, pictures, tmp_path, name, literal, layer, scales):
    net = nets[name]
    if name == "resnet":  # padded to the same shape, with last maps of one place and of two
        pictures = [np.concatenate([pictures[0], pictures[0]], 1)[:18, :width] for width in (34, 35)]
        assert dense.bucket_shape(18, 34) == dense.bucket_shape(18, 35)
    found = descriptors.describer("net", net, scales)
    tables = descriptors.describe(found, as_part(pictures), tmp_path, "title")
    assert found.layer == layer and found.step == 7 and len(tables) == len(scales)
    for scale, table in zip(scales, tables, strict=True):
        small = [decode.rescale(image, scale) - net.net.input.mean[0] for image in pictures]
        expected = [(literal(net, image) + literal(net, image[:, ::-1])) / 2 for image in small]
        np.testing.assert_allclose(table, expected, rtol=1e-4, atol=1e-4)
        assert np.std(table, 0).max() > 0.1  # images differ
    averaged, stacked = (descriptors.combine(tables, how) for how in (False, True))
    mean = np.mean(tables, 0)
    np.testing.assert_allclose(averaged, mean / np.linalg.norm(mean, axis=1)[:, None], rtol=1e-5)
    both = np.concatenate(tables, 1)
    np.testing.assert_allclose(stacked, both / np.linalg.norm(both, axis=1)[:, None], rtol=1e-5)
    assert stacked.dtype == averaged.dtype == np.float32


def test_descriptors_do_not_depend_on_batches_devices_and_mirroring(nets, pictures, tmp_path):
    net = nets["vgg"]
    small = [decode.rescale(image, 16) for image in pictures]
    (expected,) = descriptors.describe(descriptors.describer("net", net, [16]), as_part(small), tmp_path / "a", "")
    one = dataclasses.replace(net.net, batch_size=1, mesh=distributed.make_mesh(devices=jax.devices()[:1]))
    alone = descriptors.describer("net", dataclasses.replace(net, net=one), [16])
    (found,) = descriptors.describe(alone, as_part([image[:, ::-1] for image in small]), tmp_path / "b", "")
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_net_without_a_dense_test_describes_ten_crops(pictures, tmp_path):
    net = trained("resnet_cifar", {"depth": 8})
    found = descriptors.describer("net", net, [18])
    (table,) = descriptors.describe(found, as_part(pictures), tmp_path, "")
    assert found.layer == "conv4_1" and found.tests[0].kind == "ten_crop"
    variables = {"params": net.state.params, "batch_stats": net.state.batch_stats}
    captured = dict(capture_intermediates=True, mutable=["intermediates"])
    forward = jax.jit(functools.partial(net.net.model.apply, train=False, **captured))
    for image, row in zip(pictures, table, strict=True):
        small, views = decode.rescale(image, 18), []
        bottom, right = small.shape[0] - 16, small.shape[1] - 16
        for top, left in ((0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)):
            crop = small[top : top + 16, left : left + 16]
            views += [crop, crop[:, ::-1]]
        _, maps = forward(variables, np.stack(views) - net.net.input.mean)
        np.testing.assert_allclose(row, maps["intermediates"]["conv4_1"]["__call__"][0].mean((0, 1, 2)), rtol=1e-3)


def test_nets_that_cannot_describe_are_refused(nets):
    with pytest.raises(ValueError, match="a with --scales=12: .* 12 is less than config.data.image_size=16"):
        descriptors.describer("a", nets["vgg"], [12])
    with pytest.raises(ValueError, match="a: CudaConvnet has no layer for descriptors; take an AlexNet, VGG or ResNet"):
        descriptors.describer("a", trained("alexnet_cifar", {}), [16])


def test_descriptors_go_on_after_a_stop_and_belong_to_one_net(nets, pictures, tmp_path, monkeypatch):
    net = nets["vgg"]
    net = dataclasses.replace(net, net=dataclasses.replace(net.net, batch_size=1))
    describer, part = descriptors.describer("net", net, SCALES), as_part(pictures)
    with monkeypatch.context() as patch:
        patch.setattr(distributed, "put_batch", Stop())
        with pytest.raises(preemption.Preempted):
            descriptors.describe(describer, part, tmp_path, "")
    left = {scale: np.load(tmp_path / f"q{scale}.npy") for scale in SCALES}
    done = sum(table["done"].sum() for table in left.values())
    assert 0 < done < 6
    first = np.flatnonzero(left[16]["done"])[0]
    left[16]["output"][first] = 0  # a page that never reached the disk
    left[21]["output"][left[21]["done"]] += 1  # kept as it is
    for scale, table in left.items():
        np.save(tmp_path / f"q{scale}.npy", table)
    tables = descriptors.describe(describer, part, tmp_path, "")
    expected = descriptors.describe(describer, part, tmp_path / "again", "")
    np.testing.assert_array_equal(tables[0], expected[0])
    np.testing.assert_allclose(tables[1], expected[1] + left[21]["done"][:, None], rtol=1e-6)
    other = dataclasses.replace(net, state=net.state.replace(params=jax.tree.map(lambda x: 2 * x, net.state.params)))
    assert descriptors.describer("net", other, SCALES).digest != describer.digest


# support vector machines


def problem(images=40, length=100, classes=3):
    rng = np.random.default_rng(0)
    numbers = np.arange(images) % classes
    x = rng.normal(size=(images, length)) + 0.5 * rng.normal(size=(classes, length))[numbers]
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    return x, np.where(numbers[:, None] == np.arange(classes), 1, -1).astype(np.int8)


@pytest.mark.parametrize("length", [10, 100])
def test_machines_are_those_of_scikit_learn(length):
    """Its dual form, with and without a rotation into fewer dimensions."""
    x, labels = problem(length=length)
    labels[3, 0] = labels[4, 0] = 0  # difficult only
    rows, others = np.arange(30), np.arange(30, 40)
    y = svm.rotated(x, rows)
    assert y.shape == (40, min(length, 30)) and y.dtype == np.float64
    machines = svm.train(y[rows], labels[rows], 4.0)
    assert machines.trained.all()
    for number in range(3):
        known = rows[labels[rows, number] != 0]
        assert len(known) == (28 if number == 0 else 30)
        expected = LinearSVC(C=4.0, dual=True, tol=1e-8, max_iter=100_000, random_state=0)
        expected.fit(x[known].astype(np.float64), labels[known, number])
        np.testing.assert_allclose(
            machines.scores(y[others])[:, number], expected.decision_function(x[others]), atol=1e-3
        )


def test_c_is_the_best_on_the_validation_rows():
    x, labels = problem()
    fit, validation = np.arange(20), np.arange(20, 40)
    labels[fit, 2] = np.abs(labels[fit, 2])  # no negative example: the class does not count

    def values(scores, labels):
        return metrics.class_values("area", scores, labels)

    c, means = svm.choose_c(x, labels, fit, validation, values)
    assert [*means] == [2.0**k for k in (-4, -2, 0, 2, 4, 6, 8)]
    for tried, mean in means.items():
        machines = svm.train(x[fit], labels[fit], tried)
        assert machines.trained.tolist() == [True, True, False] and not machines.weights[:, 2].any()
        assert mean == values(machines.scores(x[validation]), labels[validation])[:2].mean()
    assert means[c] == max(means.values()) and c == min(k for k in means if means[k] == means[c])
    with pytest.raises(ValueError, match="no class has images in both parts"):
        svm.choose_c(x, -np.abs(labels), fit, validation, values)


# values


def test_recalls_and_precisions_by_hand():
    labels = np.array([[1, -1, -1], [1, -1, -1], [1, -1, -1], [-1, 1, -1]], np.int8)
    scores = np.array([[3, 2, 1], [1, 2, 0], [-1, -2, -3], [0, -1, -2.0]])
    np.testing.assert_allclose(metrics.class_values("recall", scores, labels), [200 / 3, 0, np.nan])
    # by falling score: right, difficult, wrong, right, wrong: precision 1 at recall 1/2, 2/3 at recall 1
    labels, scores = np.array([[1], [0], [-1], [1], [-1]], np.int8), np.array([[9.0], [8], [7], [6], [5]])
    assert metrics.class_values("area", scores, labels)[0] == pytest.approx(100 * (1 + 2 / 3) / 2)
    assert metrics.class_values("eleven_point", scores, labels)[0] == pytest.approx(100 * (6 + 5 * 2 / 3) / 11)


def test_means_and_deviations_by_hand():
    benchmark = benchmarks.Benchmark("x", ("a", "b"), np.zeros((0, 2)), (), {}, "recall", True, (16,), "", ())
    splits = [{"values": v, "c": 1.0, "validation": {}, "images": {}} for v in ([60.0, 80.0], [70, 90], [80, 97])]
    found = measure.summary(benchmark, splits)
    assert found["classes"] == {"a": 70, "b": 89} and found["mean_class_recall"] == pytest.approx(79.5)
    assert found["mean_class_recall_std"] == pytest.approx(np.sqrt((9.5**2 + 0.5**2 + 9**2) / 2))
    benchmark = dataclasses.replace(benchmark, measure="area")
    found = measure.summary(benchmark, [splits[0] | {"values": [50.0, None]}])
    assert found["mean_average_precision"] == 50 and found["classes"] == {"a": 50, "b": None}


# data sets


def class_folders(root, counts):
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            (root / name / f"{number:03}.jpg").write_bytes(bytes([number % 251]))
    return root


def test_random_splits_of_folders(tmp_path):
    folder = class_folders(tmp_path / "101_ObjectCategories", {"BACKGROUND_Google": 90, "ant": 42, "wild_cat": 31})
    (folder / "ant" / "notes.txt").touch()
    found = benchmarks.find("caltech101", str(tmp_path))
    assert found.classes == ("BACKGROUND_Google", "ant", "wild_cat") and len(found.labels) == 163 and found.stacked
    assert found.scales == (256, 384, 512) and len(found.splits) == len(found.seeds) == 3
    numbers = found.labels.argmax(1)
    assert ((found.labels == 1).sum(1) == 1).all() and (found.labels != 0).all()
    for split in found.splits:
        assert np.bincount(numbers[split.train]).tolist() == [30] * 3
        assert np.bincount(numbers[split.test]).tolist() == [50, 12, 1]
        assert np.bincount(numbers[split.validation]).tolist() == [6] * 3
        assert sorted([*split.fit, *split.validation]) == split.train.tolist()
        assert not {*split.train} & {*split.test}
    assert not np.array_equal(found.splits[0].train, found.splits[1].train)
    again = benchmarks.find("caltech101", str(folder))  # DATA_DIR may be the folder itself
    assert all((a.test == b.test).all() for a, b in zip(found.splits, again.splits, strict=True))
    (record,) = found.parts["image"].images.read([131])
    assert record.name.startswith("ant/041.jpg") and record.data == bytes([41])
    (folder / "ant" / "000.jpg").write_bytes(b"another size")
    assert benchmarks.find("caltech101", str(tmp_path)).parts["image"].digest != found.parts["image"].digest

    folder = class_folders(tmp_path / "256_ObjectCategories", {"001.ak47": 61, "257.clutter": 200})
    found = benchmarks.find("caltech256", str(tmp_path))
    assert [(len(split.train), len(split.test)) for split in found.splits] == [(120, 141)] * 3
    shutil.rmtree(folder / "257.clutter")
    class_folders(folder, {"002.x": 60, "003.y": 0})
    with pytest.raises(DataError, match="002.x holds 60 images .*\n.*003.y holds 0 images .* 60 are needed"):
        benchmarks.find("caltech256", str(tmp_path))


def test_splits_of_a_data_set_are_put_together(tmp_path):
    for split, count in (("train", 20), ("val", 15)):
        class_folders(tmp_path / "own" / split, {"a": count, "b": count + 1})
    found = benchmarks.find("own", str(tmp_path))
    assert found.classes == ("a", "b") and len(found.labels) == 72 and found.measure == "recall"


def test_places_of_data_sets(tmp_path):
    for place in ("VOCdevkit/VOC2007", "VOC2007", "voc2007/VOCdevkit/VOC2007", "voc2007"):
        root = tmp_path / place.replace("/", "_")
        (root / place).mkdir(parents=True)
        assert benchmarks.locate("voc2007", str(root)) == root / place
    with pytest.raises(
        FileNotFoundError, match="--data=voc2008 is not in .*: there is no voc2008.*caltech256; any other"
    ):
        benchmarks.locate("voc2008", str(tmp_path))


def test_voc_splits_and_rules():
    root = real_data("boxes") / "voc-layout"
    found = benchmarks.find("voc2007", str(root))
    names = [(root / f"VOC2007/ImageSets/Main/{split}.txt").read_text().split() for split in SPLITS]
    records = found.parts["image"].images.read(range(30))
    assert [record.name.split(" ")[0] for record in records] == [f"JPEGImages/{name}.jpg" for name in sum(names, [])]
    (split,) = found.splits
    assert [len(rows) for rows in (split.fit, split.validation, split.train, split.test)] == [10, 10, 20, 10]
    assert split.train.tolist() == [*split.fit, *split.validation] and found.measure == "eleven_point"
    np.testing.assert_array_equal(found.labels[split.test], voc.image_labels(root / "VOC2007", "test"))
    assert not found.stacked and found.scales == (256, 384, 512, 640, 768) and found.test == "test"
    with pytest.raises(DataError, match="_train.txt cannot be read|_val.txt cannot be read"):
        benchmarks.find("BCCD", str(root))


def test_a_folder_in_the_layout_of_voc_may_have_some_of_its_classes(tmp_path):
    shutil.copytree(real_data("boxes") / "voc-layout/VOC2007", tmp_path / "pets")
    for file in (tmp_path / "pets/ImageSets/Main").glob("*_*.txt"):
        if file.stem.partition("_")[0] not in ("cat", "dog"):
            file.unlink()
    found = benchmarks.find("pets", str(tmp_path))
    assert found.classes == ("cat", "dog")
    nets = [SimpleNamespace(name="a", step=1, digest="d", layer="fc7", tests=())]
    before = measure.settings(found, nets)
    measure.claim(tmp_path, before)
    test = tmp_path / "pets/ImageSets/Main/cat_test.txt"
    test.write_text(test.read_text().replace(" -1", "  1", 1))
    after = measure.settings(benchmarks.find("pets", str(tmp_path)), nets)
    assert {name for name in after if after[name] != before[name]} == {"labels_and_splits"}
    with pytest.raises(ValueError, match="holds another measurement"):
        measure.claim(tmp_path, after)
    content = {name: value for name, value in before.items() if name != "labels_and_splits"}
    (tmp_path / "settings.json").write_text(json.dumps(content))  # of version 0.2.0
    measure.claim(tmp_path, after)


def test_voc_2012_is_tested_on_val(tmp_path):
    source = real_data("boxes") / "voc-layout/VOC2007"
    shutil.copytree(source, tmp_path / "VOC2012")
    found = benchmarks.find("voc2012", str(tmp_path))
    (split,) = found.splits
    assert found.measure == "area" and found.test == "val" and len(found.labels) == 20 and found.seeds == (0,)
    assert split.train.tolist() == [*range(10)] and split.test.tolist() == [*range(10, 20)]
    assert len(split.validation) == 2 and sorted([*split.fit, *split.validation]) == split.train.tolist()
    (tmp_path / "VOC2012/JPEGImages" / f"{(source / 'ImageSets/Main/val.txt').read_text().split()[0]}.jpg").unlink()
    with pytest.raises(DataError, match="is missing, but has annotations"):
        benchmarks.find("voc2012", str(tmp_path))


def action_folder(root):
    """Persons of four images in VOC 2012's layout, each with one action, and the boxes of `train` and `val`."""
    folder, people = root / "VOCdevkit/VOC2012", {"train": [], "val": []}
    for part in ("Annotations", "JPEGImages", "ImageSets/Action"):
        (folder / part).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i, split in enumerate(["train"] * 12 + ["val"] * 8):
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), np.uint8)).save(folder / f"JPEGImages/{i}.jpg", quality=100)
        objects = ""
        for number in (1, 2):
            box = (number, 2, 30 + i, 39)
            people[split].append((i, number, box))
            corners = "".join(f"<{n}>{v}</{n}>" for n, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
            objects += f"<object><name>person</name><bndbox>{corners}</bndbox></object>"
        size = "<size><width>60</width><height>40</height><depth>3</depth></size>"
        (folder / f"Annotations/{i}.xml").write_text(f"<annotation>{size}{objects}</annotation>")
    for split, persons in people.items():
        for column, action in enumerate(voc.ACTIONS):
            lines = [f"{i} {number} {1 if (i + number) % 10 == column else -1}" for i, number, _ in persons]
            (folder / f"ImageSets/Action/{action}_{split}.txt").write_text("\n".join(lines))
    return folder, people


def test_persons_are_described_by_their_box_and_their_image(tmp_path):
    folder, people = action_folder(tmp_path)
    found = benchmarks.find("voc2012_action", str(tmp_path))
    persons = people["train"] + people["val"]
    assert [*found.parts] == ["image", "box"] and found.classes == voc.ACTIONS and found.measure == "area"
    assert [len(found.splits[0].train), len(found.splits[0].test)] == [24, 16]
    image, box = found.parts["image"], found.parts["box"]
    assert image.count == 20 and box.count == len(found.labels) == 40
    decoded = {i: decode.decode((folder / f"JPEGImages/{i}.jpg").read_bytes()) for i in range(20)}
    crops = box.images.test_batch(np.arange(40), np.asarray)["image"]
    wholes = image.images.test_batch(image.rows, np.asarray)["image"]
    for row, (i, number, (left, top, right, bottom)) in enumerate(persons):
        np.testing.assert_array_equal(crops[row], decoded[i][top - 1 : bottom, left - 1 : right])
        np.testing.assert_array_equal(wholes[row], decoded[i])
        assert found.labels[row].argmax() == (i + number) % 10
    assert [*benchmarks.find("voc2012_action", str(tmp_path), ["box"]).parts] == ["box"]
    Image.new("RGB", (50, 40)).save(folder / "JPEGImages/3.jpg")
    with pytest.raises(DataError, match="3.jpg .* has 50 x 40 pixels, but its annotation states 60 x 40"):
        box.images.test_batch(np.arange(40), np.asarray)


# the command


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The directory of a run of a tiny net, with another beside it."""
    folder = tmp_path_factory.mktemp("transfer")
    task = tiny_task(optimizer__learning_rate=0.01, total_steps=2)
    train.train(task, folder / "a")
    write_json(folder / "a" / "config.json", json.loads(task.config.to_json()))
    write_json(folder / "a" / "classes.json", task.eval_source.classes)
    shutil.copytree(folder / "a", folder / "b,seed=2")
    return folder


def call(folder, *arguments):
    return shell().run([*arguments], folder, module="deepconv.transfer").ends(0)


@pytest.mark.slow
def test_photographs_from_the_command_to_the_file(run):
    arguments = "--run=a", "--data=photos", f"--data_dir={real_data('photos').parent}", "--scales=18", "--workdir=p"
    out = call(run, *arguments).out
    result = json.loads((run / "p/transfer.json").read_text())
    assert len(result["classes"]) == 12 and result["images"] == {"train": 360, "test": 540} and result["scales"] == [18]
    mean = np.mean([*result["classes"].values()])
    assert result["mean_class_recall"] == pytest.approx(mean) and mean > 20  # chance is 8.3
    assert f"{mean:.2f} ± {result['mean_class_recall_std']:.2f}" in out and "Motorbikes" in out
    (recorded,) = result["runs"]
    assert recorded["directory"] == "a" and recorded["step"] == 2 and recorded["layer"] == "conv4_1"
    assert set(result) >= {
        "c",
        "stacked",
        "seconds",
        "seeds",
        "commit",
        "versions",
        "device_kind",
        "time",
        "validation",
    }
    before = (run / "p/transfer.json").stat().st_mtime_ns
    again = call(run, *arguments).out
    assert again.count("│") == out.count("│") and "split 1" not in again and (run / "p/transfer.json").exists()
    assert before == (run / "p/transfer.json").stat().st_mtime_ns
    # tables of the net are used again: one that is changed shows
    (table,) = run.glob("descriptors/photos*/q18.npy")
    assert np.load(table)["done"].all()
    (run / "p/transfer.json").unlink()
    shutil.copytree(run / "a", run / "c")
    answer = shell().run(["--run=c", *arguments[1:3], "--scales=20", "--workdir=p"], run, module="deepconv.transfer")
    assert answer.ends(2).err.splitlines()[0] == "deepconv: p holds another measurement; give another --workdir:"
    assert "  run 1.directory: a there, c now" in answer.err and "  scales: [18] there, [20] now" in answer.err


def test_voc_from_the_command_to_the_file(run):
    """The machines of scikit-learn, trained on the stored tables, have the same average precision."""
    root = real_data("boxes") / "voc-layout"
    arguments = "--run=a", "--run=b,seed=2", "--data=voc2007", f"--data_dir={root}", "--scales=16,18"
    out = call(run, *arguments, "--plot=classes.png").out
    assert out.endswith("\ndrawn to classes.png\n") and (run / "classes.png").read_bytes().startswith(b"\x89PNG")
    workdir = run / "runs/transfer_voc2007,run=a+b,seed=2,scales=16+18"
    result = json.loads((workdir / "transfer.json").read_text())
    assert [net["directory"] for net in result["runs"]] == ["a", "b,seed=2"] and not result["stacked"]
    assert result["classes"]["sheep"] is None and "sheep" in out and "no images" in out
    nets = []
    for name in ("a", "b,seed=2"):
        (folder,) = run.glob(f"runs/descriptors/*run={name}")
        mean = np.mean([np.load(folder / f"q{scale}.npy")["output"] for scale in (16, 18)], 0)
        nets.append(mean / np.linalg.norm(mean, axis=1)[:, None])
    x, labels = np.concatenate(nets, 1), np.concatenate([voc.image_labels(root / "VOC2007", s) for s in SPLITS])
    values = {}
    for number, name in enumerate(voc.CLASSES):
        known = np.flatnonzero(labels[:20, number])
        if (labels[:20, number] > 0).any() and (labels[20:, number] > 0).any():
            machine = LinearSVC(C=result["c"][0], dual=True, tol=1e-8, max_iter=10**6, random_state=0)
            scores = machine.fit(x[known], labels[known, number]).decision_function(x[20:])[:, None]
            (values[name],) = metrics.class_values("eleven_point", scores, labels[20:, number : number + 1])
    found = {name: value for name, value in result["classes"].items() if value is not None}
    assert found == pytest.approx(values, abs=1e-6) and len(found) > 5
    assert result["mean_average_precision"] == pytest.approx(np.mean([*values.values()]))


def test_a_drawing_has_a_bar_for_each_class_with_images_and_the_mean():
    result = {"classes": {"cat": 40.0, "sheep": None, "$dog$": 90.0}, "mean_average_precision": 65.0}
    (axes,) = drawing.draw(result, "mean_average_precision", "average precision, %").axes
    assert [bar.get_width() for bar in axes.patches] == [90, 40]
    assert [text.get_text() for text in axes.texts] == ["$dog$  90.0", "cat  40.0"]
    assert set(axes.lines[0].get_xdata()) == {65} and axes.get_xlabel() == "average precision, %"


MISTAKES = [
    ([], "--run=RUN_DIR and --data=NAME are needed"),
    (["--run=a", "--data=good", "--data_dir=.", "--plot=nowhere/a.png"], "--plot=nowhere/a.png: its folder does not"),
    (["--run=nowhere", "--data=photos"], "nowhere is not the directory of a run"),
    (["--run=a", "--run=nowhere", "--data=photos"], "nowhere is not the directory of a run"),
    (["--run=a", "--data=photo", "--data_dir=."], "--data=photo is not in .: there is no photo"),
    (["--run=a", "--data=x", "--data_dir=.", "--scales=18,big"], "--scales=big is not a number of pixels"),
    (["--run=a", "--data=few", "--data_dir=."], "few/b holds 3 images"),
    (["--run=a", "--data=few", "--data_dir=.", "--regions=box"], "--regions is for voc2012_action"),
    (["--run=a", "--data=voc2012_action", "--data_dir=.", "--regions=face"], "--regions=face is unknown"),
    (["--run=a", "--data=good", "--data_dir=.", "--scales=12"], "12 is less than config.data.image_size=16"),
    (["--run=a", "--data=good", "--data_dir=.", "--scales=18,18"], "has the scale 18 twice"),
    (["--run=a", "extra"], "unknown argument 'extra'"),
]


def test_mistakes_are_answered_in_one_line(run):
    class_folders(run / "few", {"a": 31, "b": 3})
    class_folders(run / "good", {"a": 31, "b": 31})
    for code, out, err, named in answers(run, "deepconv.transfer", MISTAKES):
        assert code == 2 and named in err and len(err.strip().splitlines()) == 1 and not out, err
    answer = shell().run(["--run=a", "--data=good", "--data_dir=.", "--workdir=g"], run, module="deepconv.transfer")
    answer.ends(1).says("a/000.jpg in good) cannot be decoded")
    without = "import sys; sys.modules['sklearn'] = None"
    answer = shell().run(["--run=a", "--data=good"], run, module="deepconv.transfer", inject=without)
    answer.ends(2).says("scikit-learn is missing; install it with pip install 'deepconv[transfer]'")
