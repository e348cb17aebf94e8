"""Predictions on files, features, and means of saved probabilities."""

import contextlib
import csv
import dataclasses
import io
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from conftest import ROOT, STATISTICS, answers, shell, tiny_task
from jax import lax
from PIL import Image, ImageOps
from tensorflow_datasets.core import tfds_path

from deepconv import models, predict, train
from deepconv.config import recipes
from deepconv.data import decode, sources, statistics, synsets
from deepconv.data.images import DataError
from deepconv.evaluation import drawing, ensemble, photographs, predictions, responses
from deepconv.evaluation.net import assemble, load_run
from deepconv.run.files import write_json
from deepconv.state import TrainState
from deepconv.weights import convert, files

NO_IMAGE = "not an image in a supported format: JPEG, PNG, GIF, BMP, WEBP, TIFF"
PHOTOS = [(40, 40), (31, 50), (60, 20)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A trained run with what main leaves in its directory, and photographs beside it."""
    folder = tmp_path_factory.mktemp("predict")
    task, workdir = tiny_task(model__depth=20, optimizer__learning_rate=0.01), folder / "run"
    state, computed = train.train(task, workdir)
    write_json(workdir / "config.json", json.loads(task.config.to_json()))
    write_json(workdir / "classes.json", task.eval_source.classes)
    for i, size in enumerate(PHOTOS):
        small = np.random.default_rng(i).integers(0, 256, (4, 4, 3), np.uint8)
        Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    (folder / "bad.jpg").write_text("no picture")
    (folder / "empty").mkdir()
    return folder, task, state, computed


def by_hand(run, **options):
    """The net on the photographs' central squares, without anything of evaluate."""
    _, task, state, _ = run
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    return task.model.apply(variables, crops_by_hand(run), train=False, **options)


def crops_by_hand(run):
    folder, task, _, computed = run
    images = [decode.decode((folder / f"{i}.png").read_bytes()) for i in range(len(PHOTOS))]
    crops = np.stack([decode.rescale(image, 16, square=True) for image in images])
    return crops.astype(np.float32) - computed.mean(task.config.data.mean, 16)


def conv1_by_hand(run):
    folder, task, state, computed = run
    seen = jnp.asarray(crops_by_hand(run))
    kernel = state.params["conv1"]["kernel"]
    return lax.conv_general_dilated(seen, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def conv3_3_by_hand(run):
    """What the first block of the next stage is given."""
    _, found = by_hand(run, mutable=["given"], method=given_to_conv4_1)
    return found["given"]["x"][0]


def given_to_conv4_1(model, images, train):
    def keep(call, arguments, options, context):
        if context.module.path == ("conv4_1",) and context.method_name == "__call__":
            model.sow("given", "x", arguments[0])
        return call(*arguments, **options)

    with nn.intercept_methods(keep):
        return model(images, train)


def call(folder, *arguments, module="predict"):
    answer = shell().run(arguments, folder, module=f"deepconv.{module}")
    return answer.code, answer.out, answer.err


def test_the_five_likeliest_classes_are_printed_and_drawn(run):
    folder, task, *_ = run
    expected = np.asarray(jax.nn.softmax(by_hand(run)))
    trained = load_run(folder / "run")
    probs = photographs.classify(trained, [str(folder / f"{i}.png") for i in range(3)], "center")
    np.testing.assert_allclose(probs, expected, rtol=1e-4, atol=1e-5)
    code, out, err = call(folder, "--run=run", "0.png", "bad.jpg", "1.png", "2.png", "none.jpg", "--plot=top5.png")
    assert code == 1 and "bad.jpg cannot be decoded" in err and "none.jpg cannot be read: No such file" in err
    lines = out.splitlines()
    assert [line for line in lines if line.endswith(".png")][:3] == ["0.png", "1.png", "2.png"] and len(lines) == 19
    for i in range(3):
        for line, number in zip(lines[6 * i + 1 : 6 * i + 6], np.argsort(-expected[i])[:5], strict=True):
            assert line.endswith(f"  {task.eval_source.classes[number]}")
            assert float(line.split()[0]) == pytest.approx(expected[i, number], abs=0.0051)
            assert line.count("█") == pytest.approx(30 * expected[i, number], abs=0.51)
    with Image.open(folder / "top5.png") as image:
        assert image.width > 500


def test_folders_and_patterns_are_printed_as_json_and_csv(run):
    folder, task, *_ = run
    expected, names = np.asarray(jax.nn.softmax(by_hand(run))), task.eval_source.classes
    (folder / "album" / "deep").mkdir(parents=True)
    for file in ("album/1.PNG", "album/deep/2.png", "album/.hidden.png", "album/notes.txt"):
        shutil.copy(folder / f"{2 if '2' in file else 1}.png", folder / file)
    code, out, err = call(folder, "--run=run", "--json", "--top=2", "0.png", "bad.jpg", "album", "0.png")
    assert code == 1 and err.splitlines() == [f"deepconv: bad.jpg cannot be decoded: {NO_IMAGE}"]
    records = [json.loads(line) for line in out.splitlines()]
    assert [record["file"] for record in records] == ["0.png", "album/1.PNG", "album/deep/2.png"]
    for record, row in zip(records, expected, strict=True):
        assert [found["class"] for found in record["classes"]] == [names[i] for i in np.argsort(-row)[:2]]
        np.testing.assert_allclose(
            [found["probability"] for found in record["classes"]], np.sort(row)[:-3:-1], atol=1e-4
        )
    code, out, err = call(folder, "--run=run", "--csv", "--top=99", "[01].png", "album/**/2.png")
    assert code == 0 and not err
    rows = [*csv.DictReader(io.StringIO(out))]
    assert [*rows[0]] == ["file", "rank", "class", "words", "probability"] and len(rows) == 3 * len(names)
    assert rows[0]["file"] == "0.png" and rows[-1]["file"] == "album/deep/2.png"
    found = [float(row["probability"]) for row in rows if row["class"] == names[3]]
    np.testing.assert_allclose(found, expected[:, 3], atol=1e-4)


def test_many_photographs_of_which_some_are_damaged(run, tmp_path):
    """More than a batch and more than one chunk of decoding; each photograph is shown once, with its own numbers."""
    folder, expected = run[0], np.asarray(jax.nn.softmax(by_hand(run)))
    files = [str(folder / f"{i % 3}.png") for i in range(80)]
    files[7] = files[41] = str(folder / "bad.jpg")
    files[50] = str(tmp_path / "none.png")
    unread, shown = {}, {}

    def show(number, row):
        assert number not in shown
        shown[number] = row.copy()

    probs = photographs.classify(load_run(folder / "run"), files, unread=unread, show=show)
    assert {*unread} == {7, 41, 50} and "cannot be read: No such file" in unread[50] and {*shown} == {*range(80)}
    for number in range(80):
        known = np.full(expected.shape[1], np.nan) if number in unread else expected[number % 3]
        np.testing.assert_allclose(shown[number], known, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(probs[number], shown[number])
    with pytest.raises(DataError, match=r"bad.jpg\) cannot be decoded"):
        photographs.classify(load_run(folder / "run"), files[:8])


def test_a_file_of_weights_gives_the_classes_of_its_net(run):
    """A file has no mean and no names of classes; --input gives the mean."""
    folder, task, state, computed = run
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    safetensors.numpy.save_file(convert.to_torch(variables, task.model), folder / "net.safetensors")
    mean = ",".join(map(str, computed.channel_mean))
    crops = crops_by_hand(run) + computed.mean(task.config.data.mean, 16) - computed.channel_mean
    expected = np.asarray(jax.nn.softmax(task.model.apply(variables, crops, train=False)))
    recipe = [f"--config={ROOT}/configs/resnet_cifar.py", "--smoke", "--config.model.depth=20"]
    given = ["--weights=net.safetensors", *recipe, "--config.data.image_size=16", f"--input={mean}"]
    code, out, err = call(folder, *given, "--json", "0.png", "1.png", "2.png")
    assert code == 0 and not err
    for line, row in zip(out.splitlines(), expected, strict=True):
        found = json.loads(line)["classes"]
        assert [each["class"] for each in found] == [str(i) for i in np.argsort(-row)[:5]]
        np.testing.assert_allclose([each["probability"] for each in found], np.sort(row)[:-6:-1], atol=1e-4)
    wrong = [
        (given[:-1], "--config.data.mean=channel", "give --library or --input, which describe the images"),
        (given[:3], "--config.model.depth=8", "net.safetensors: 60 tensors are not in this net"),
        (["--weights=none.safetensors", *given[1:]], "--top=3", "--weights=none.safetensors does not exist"),
        (["--weights=run", *given[1:]], "--top=3", "--weights=run is a directory; --run takes"),
        (["--weights=net.safetensors"], "--top=3", "--config is missing"),
        (["--run=run", "--library=timm"], "--top=3", "--library describes a file of --weights; run is a run"),
    ]
    commands = [([*arguments, more, "0.png"], named) for arguments, more, named in wrong]
    for code, out, err, named in answers(folder, "deepconv.predict", commands):
        assert code == 2 and named in err and len(err.strip().splitlines()) == 1 and not out, err


def test_words_of_synsets():
    assert [*synsets.imagenet_words()] == Path(tfds_path("datasets/imagenet2012/labels.txt")).read_text().split()
    assert synsets.label("n02012849") == "crane (n02012849)" and synsets.label("n03126707") == "crane (n03126707)"
    assert synsets.label("cat") == "cat"
    row = np.zeros(2, np.float32) + [0.25, 0.75]
    text = predictions.classes_as_text("a.jpg", row, ["n01440764", "x"], 2)
    assert text.splitlines()[2].endswith("  tench (n01440764)")
    (record,) = json.loads(predictions.classes_as_json("a.jpg", row, ["x", "n01440764"], 1))["classes"]
    assert record == {"class": "n01440764", "words": "tench, Tinca tinca", "probability": 0.75}
    assert predictions.classes_as_csv("a,b\x1b", row, ["x", "n01440764"], 1) == (
        r'"a,b\x1b",1,n01440764,"tench, Tinca tinca",0.750000' "\n"
    )


def test_ten_crops_of_a_photograph_are_another_mean(run):
    trained = load_run(run[0] / "run")
    trained.data.test_scale = 20
    center, ten, both = (
        photographs.classify(trained, [str(run[0] / "1.png")], name)
        for name in ("center", "ten_crop", "multi_crop_q16_20")
    )
    assert ten.sum() == pytest.approx(1, abs=1e-5) and not np.allclose(ten, center, atol=1e-3)
    parts = [photographs.classify(trained, [str(run[0] / "1.png")], f"multi_crop_q{scale}") for scale in (16, 20)]
    np.testing.assert_allclose(both, np.mean(parts, 0), atol=1e-6)


@pytest.mark.parametrize("layer", ["conv1", "conv3_3", "fc"])
def test_features_are_what_a_layer_puts_out(run, layer):
    folder = run[0]
    expected = {"conv1": conv1_by_hand, "conv3_3": conv3_3_by_hand, "fc": by_hand}[layer](run)
    photos = [folder / f"{i}.png" for i in range(3)]
    code, _, err = call(folder, "--run=run", f"--features={layer}", f"--out={layer}.npy", *photos)
    assert code == 0, err
    features = np.load(folder / f"{layer}.npy")
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-3)


def test_features_of_a_split_come_with_its_labels(run):
    folder, task, *_ = run
    code, out, err = call(folder, "--run=run", "--features=bn1", "--rectify", "--out=split.npy", "--split=test[10:40]")
    assert code == 0 and "[30, 16, 16, 16]" in out, err
    features, labels = np.load(folder / "split.npy"), np.load(folder / "split.labels.npy")
    source = sources.find("shapes", "test[10:40]", None, 16)
    assert (labels == source.open().labels).all() and features.min() == 0 < features.max()
    assert not list(folder.glob("*.partial"))


MISTAKES = [
    ([], "--run=RUN_DIR is missing"),
    (["--run=run"], "give the files of photographs"),
    (["--run=run", "--weights=x", "0.png"], "--run and --weights each give a net"),
    (["--run=run", "--json", "--csv", "0.png"], "--json and --csv are two formats"),
    (["--run=run", "--top=0", "0.png"], "--top"),
    (["--run=run", "empty"], "empty holds no images (.jpeg, .jpg,"),
    (["--run=run", "*.tiff"], "no file matches *.tiff"),
    (["--run=run", "--features=conv1", "--rectify", "--out=x.npy", "0.png"], "bn1 by the rectifier; give bn1"),
    (["--run=run", "--features=fc", "--rectify", "--out=x.npy", "0.png"], "fc gives the net's scores, without a"),
    (["--run=run", "--features=fc", "--out=x.npy", "--top=3", "0.png"], "written to --out; leave out --top"),
    (["--run=run", "--classes_from=run", "0.png"], "--classes_from is for a net with boxes of each class, unlike"),
    (["--run=run", "0.png", "--plot=nowhere/x.png"], "--plot=nowhere/x.png: its folder does not exist"),
    (["--run=run", "0.png", "--plot=empty"], "--plot=empty is a folder; give a file in it"),
    (["--run=run", "0.png", "--plot=x.top5"], "--plot=x.top5 must end in .png, .pdf, .svg"),
    (["--run=run", "0.png", "--rectify"], "--rectify is for --features; leave it out"),
    (["--run=run", "--features=fc", "--out=empty", "0.png"], "--out=empty is a folder; give a file in it"),
    (["--run=nowhere", "0.png"], "nowhere is not the directory of a run"),
    (["--run=run", "--features=fc9", "--out=x.npy", "0.png"], "--features=fc9 is not a layer of this net; it has"),
    (["--run=run", "--features=fc", "0.png"], "--features=LAYER and --out=FILE.npy need each other"),
    (["--run=run", "--protocol=dense", "0.png"], "dense: CifarResNet has no dense test"),
    (["--run=run", "--protocol=five_crop", "0.png"], "five_crop is not a protocol; choose from"),
]


def test_folders_are_searched_with_their_links_but_not_in_circles(tmp_path):
    for file in ("a/1.png", "b/c/2.JPG", "b/.hidden/3.png", "b/notes.txt"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    (tmp_path / "a/linked").symlink_to(tmp_path / "b")
    (tmp_path / "b/c/up").symlink_to(tmp_path / "b")
    (tmp_path / "a/up").symlink_to(tmp_path / "a")
    found = predict._find_photos([str(tmp_path / "a")])
    assert [file.removeprefix(f"{tmp_path}/") for file in found] == ["a/1.png", "a/linked/c/2.JPG"]


def test_mistakes_are_answered_in_one_line(run):
    for code, out, err, named in answers(run[0], "deepconv.predict", MISTAKES):
        assert code == 2 and named in err and len(err.strip().splitlines()) == 1 and not out, err


DAMAGED = {
    "classes.json": ("[]", '["a"]', "[1,2,3,4,5,6,7,8,9,10]", "{", "{}"),
    "config.json": ("[]", "{}"),
    "statistics.npz": ("", "PK"),
}


def test_damaged_files_of_a_run_are_named(run):
    wanted = []
    for name, texts in DAMAGED.items():
        for i, text in enumerate(texts):
            shutil.copytree(run[0] / "run", run[0] / f"{name}{i}")
            (run[0] / f"{name}{i}" / name).write_text(text)
            wanted.append(([f"--run={name}{i}", "0.png"], f"{name}{i}/{name} "))
    for code, out, err, named in answers(run[0], "deepconv.predict", wanted):
        assert code == 2 and named in err and len(err.strip().splitlines()) == 1 and not out, err


def test_names_of_any_kind_are_printed_and_drawn(run):
    folder = run[0]
    shutil.copytree(folder / "run", folder / "odd")
    names = ["a$x_{$", "b\x1b[31m\n", "ç", "犬", *"efghij"]
    (folder / "odd" / "classes.json").write_text(json.dumps(names))
    photo = "c$x_{$\x1b\n.png"
    shutil.copy(folder / "0.png", folder / photo)
    arguments, ascii_only = ["--run=odd", "0.png", photo, "--plot=odd.png"], {"PYTHONIOENCODING": "ascii"}
    for run_command, variables, bar in ((shell().run, {}, "█"), (shell().run_fresh, ascii_only, "#")):
        out = run_command(arguments, folder, module="deepconv.predict", **variables).ends(0).out
        assert bar in out and r"c$x_{$\x1b\x0a.png" in out and "\x1b" not in out and len(out.splitlines()) == 13
    trained = load_run(folder / "odd")
    probs = np.eye(10, dtype=np.float32)[:4]
    figure = drawing.draw_classes([str(folder / photo)] * 4, probs, trained.classes)
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert r"b\x1b[31m\x0a  1.00" in texts and "a$x_{$  1.00" in texts


def test_responses_of_a_run_without_checkpoints_are_refused_in_one_line(run):
    shutil.copytree(run[0] / "run", run[0] / "gone", ignore=shutil.ignore_patterns("checkpoints"))
    ((code, out, err, named),) = answers(
        run[0], "experiments.responses", [(["--run=gone"], "there is no checkpoint in gone")]
    )
    assert code == 2 and named in err and len(err.strip().splitlines()) == 1 and not out, err


def test_features_of_files_are_all_or_none(run):
    code, _, err = call(run[0], "--run=run", "--features=fc", "--out=none.npy", "0.png", "bad.jpg")
    assert code == 2 and "bad.jpg cannot be decoded" in err and "no features were written: 1 files" in err
    assert not (run[0] / "none.npy").exists()


def test_a_photograph_of_a_camera_held_sideways_is_turned(tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8))
    exif = Image.Exif()
    exif[274] = 6  # to be turned by 90 degrees clockwise
    image.save(tmp_path / "sideways.png", exif=exif)
    (record,) = photographs.Files([str(tmp_path / "sideways.png")]).read([0])
    assert (decode.decode(record.data) == np.rot90(np.asarray(image), -1)).all()
    for orientation in range(2, 9):
        exif[274] = orientation
        image.save(tmp_path / "turned.png", exif=exif)
        with Image.open(tmp_path / "turned.png") as turned:
            expected = np.asarray(ImageOps.exif_transpose(turned))
        image.save(tmp_path / "turned.tif", exif=exif)
        for name in ("turned.png", "turned.tif"):
            assert (decode.decode(photographs.upright(tmp_path / name)) == expected).all(), name
    whole = (tmp_path / "turned.png").read_bytes()
    broken = io.BytesIO()
    image.save(broken, "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    for name, data in (
        ("broken.jpg", broken.getvalue()),
        ("not_a_tiff.jpg", broken.getvalue().replace(b"MM\0*", b"none")),
    ):
        (tmp_path / name).write_bytes(data)
        assert photographs.upright(tmp_path / name) == data and len(data) != len(whole)
    image.save(tmp_path / "cut_off.jpg", exif=exif)
    data = (tmp_path / "cut_off.jpg").read_bytes()[:-100]
    (tmp_path / "cut_off.jpg").write_bytes(data)
    assert photographs.upright(tmp_path / "cut_off.jpg") == data  # a test names the file when it decodes it
    image.save(tmp_path / "upright.png")
    assert photographs.upright(tmp_path / "upright.png") == (tmp_path / "upright.png").read_bytes()


def test_imported_weights_of_imagenet_need_no_data(tmp_path):
    """1000 classes and a mean colour are published."""
    task = tiny_task(data__mean="channel")
    model = type(task.model)(classes=1000, depth=8)
    variables = jax.jit(lambda: model.init(jax.random.key(0), np.zeros((1, 16, 16, 3)), train=False))()
    safetensors.numpy.save_file(convert.to_torch(variables, model), tmp_path / "net.safetensors")
    files.import_file(task.config, tmp_path / "net.safetensors", tmp_path / "run")
    trained = load_run(tmp_path / "run")
    assert (trained.net.input.mean == statistics.PUBLISHED.channel_mean).all()
    assert trained.classes[:2] == ["n01440764", "n01443537"] and len(trained.classes) == 1000


def test_photographs_are_seen_at_the_scale_of_the_mean_image():
    """cuda-convnet's nets are trained on crops of 24 of images of 32 pixels."""
    config = recipes.load(ROOT / "configs" / "alexnet_cifar_13pct.py")
    model = models.create(config.model, 10)
    variables = jax.jit(lambda: model.init(jax.random.key(0), np.zeros((1, 24, 24, 3)), train=False))()
    averages = dataclasses.replace(STATISTICS, pixel_mean=np.zeros((32, 32, 3), np.float32))
    trained = assemble(config, variables, averages, [str(number) for number in range(10)])
    assert (trained.data.image_size, trained.data.test_scale) == (24, 32)
    config.data.mean = "125,123,114"  # without a mean image, it is the data set that has 32 pixels
    trained = assemble(
        config, variables, dataclasses.replace(STATISTICS, pixel_mean=None), [str(number) for number in range(10)]
    )
    assert (trained.data.image_size, trained.data.test_scale) == (24, 32)


@pytest.mark.parametrize(
    ("recipe", "layer", "named"),
    [
        ("alexnet_code", "conv1", "conv1 of this net is followed by lrn"),
        ("alexnet_code", "conv5", ""),
        ("alexnet", "conv1", ""),
    ],
)
def test_only_what_the_net_computes_is_rectified(recipe, layer, named):
    model = models.create(recipes.load(ROOT / "configs" / f"{recipe}.py").model, 10)
    state = TrainState(0, {name: {} for name in model.convolutions()}, {}, ())
    trained = SimpleNamespace(state=state, net=SimpleNamespace(model=model))
    with pytest.raises(ValueError, match=named) if named else contextlib.nullcontext():
        photographs.check_layer(trained, layer, rectify=True)
    photographs.check_layer(trained, layer, rectify=False)


@pytest.fixture
def saved(tmp_path):
    """Two runs' probabilities of three classes, of the same four images, and one of others."""
    rng = np.random.default_rng(0)
    for name, labels in (("a", [0, 1, 2, 0]), ("b", [0, 1, 2, 0]), ("c", [0, 1, 2, 1])):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "probs.center.npy", rng.dirichlet([1] * 3, 4).astype(np.float32))
        np.save(tmp_path / name / "labels.npy", np.array(labels, np.int32))
    return tmp_path


def test_ensembles_are_weighted_means(saved):
    files = [f"{name}/probs.center.npy" for name in "ab"]
    code, out, err = call(saved, *files, "--weights=3,1", "--out=ensemble", module="evaluation.ensemble")
    assert code == 0, err
    a, b = (np.load(saved / file) for file in files)
    mean = np.load(saved / "ensemble" / "probs.ensemble.npy")
    np.testing.assert_allclose(mean, (3 * a + b) / 4, rtol=1e-6)
    error = 100 * (mean.argmax(1) != [0, 1, 2, 0]).mean()
    record = json.loads((saved / "ensemble" / "eval.ensemble.json").read_text())
    assert record["top1_error"] == error and f"{error:.2f} %" in out and record["weights"] == [3, 1]
    code, _, err = call(saved, "a/probs.dense.npy", module="evaluation.ensemble")
    assert code == 2 and "a/probs.dense.npy is missing" in err and len(err.splitlines()) == 1
    code, _, err = call(saved, *files, "c/probs.center.npy", module="evaluation.ensemble")
    assert code == 2 and "c/probs.center.npy and a/probs.center.npy were not computed from the same test images" in err


def test_a_run_s_directory_stands_for_its_only_probabilities(saved):
    np.save(saved / "a" / "probs.dense.partial.npy", np.zeros(3))
    np.save(saved / "c" / "probs.dense.npy", np.zeros((4, 3), np.float32))
    (saved / "empty").mkdir()
    shutil.copytree(saved / "b", saved / "damaged")
    (saved / "damaged" / "probs.center.npy").write_bytes(b"\x93NUMPY")
    shutil.copytree(saved / "b", saved / "short")
    np.save(saved / "short" / "probs.center.npy", np.full((3, 3), 1 / 3, np.float32))
    for name, array in (("boxes", np.full((4, 4), 9, np.float32)), ("table", np.zeros(4, [("done", bool)]))):
        shutil.copytree(saved / "b", saved / name)
        np.save(saved / name / "probs.center.npy", array)
    shutil.copytree(saved / "b", saved / "nan")
    np.save(saved / "nan" / "probs.center.npy", np.full((4, 3), np.nan, np.float32))
    for name in ("cats", "dogs"):
        shutil.copytree(saved / "b", saved / name)
        (saved / name / "classes.json").write_text(json.dumps([name, "bird", "fish"]))
    wanted = [
        (["a", "b/probs.center.npy"], ""),
        (["c"], "c is a directory and has probs.center.npy, probs.dense.npy; choose one, such as c/probs.center.npy"),
        (["empty"], "empty is a directory and has no probs.<protocol>.npy"),
        (["damaged"], "damaged/probs.center.npy is damaged"),
        (["short"], "short/probs.center.npy holds an array of shape (3, 3); 4 rows of 3 probabilities are needed"),
        (["boxes"], "boxes/probs.center.npy does not hold probabilities: the numbers of an image do not add up to 1"),
        (["table"], "table/probs.center.npy holds [('done', '?')] [4]; probabilities are numbers, [images, classes]"),
        (["a", "b", "--weights=1e308,1e308"], "--weights=1e308,1e308: needs 2 numbers"),
        (["a", "nan"], "nan/probs.center.npy holds numbers that are not finite; test that net again"),
        (["cats", "dogs"], "dogs/classes.json and cats/classes.json differ: these nets have other classes"),
    ]
    whole, *wrong = answers(saved, "deepconv.evaluation.ensemble", wanted)
    assert whole[0] == 0 and "a/probs.center.npy" in whole[1], whole
    for code, out, err, named in wrong:
        assert code == 2 and named in err and len(err.strip().splitlines()) == 1 and not out, err


@pytest.mark.parametrize(("weights", "count"), [(["1"], 2), (["1", "x"], 2), (["1", "-1"], 2), (["0", "0"], 2)])
def test_weights_that_are_none(weights, count):
    with pytest.raises(ValueError, match="2 numbers of 0 or more"):
        ensemble._numbers(weights, count)


def test_responses_by_hand(run):
    """The first layer's standard deviation over all images, places and channels of the test split."""
    folder, task, state, computed = run
    trained = load_run(folder / "run")
    responses.write(trained, task.eval_source, folder / "responses.json")
    content = json.loads((folder / "responses.json").read_text())
    images = task.eval_source.open().images[: task.eval_source.examples]
    seen = jnp.asarray(images.astype(np.float32) - computed.mean(task.config.data.mean, 16))
    kernel = state.params["conv1"]["kernel"]
    x = lax.conv_general_dilated(seen, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    stats, learned = state.batch_stats["bn1"], state.params["bn1"]
    x = (x - stats["mean"][None, None, None]) / np.sqrt(stats["var"] + 1e-5)[None, None, None]
    x = x * learned["scale"][None, None, None] + learned["bias"][None, None, None]
    assert content["std"][0] == pytest.approx(float(np.asarray(x, np.float64).std()), rel=1e-4)
    assert content["examples"] == len(images) == 50
    stages = [f"conv{part}_{block}.conv{conv}" for part in (2, 3, 4) for block in (1, 2, 3) for conv in (1, 2)]
    assert content["layers"] == ["conv1", *stages] and len(content["std"]) == 19
