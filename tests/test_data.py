import io
import itertools
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from deepconv.data import augment, pipeline, shapes, sources, statistics

IMAGES = np.arange(50 * 2 * 2 * 3, dtype=np.uint8).reshape(50, 2, 2, 3)
LABELS = np.arange(50, dtype=np.int32)


def take(count, **options):
    options = dict(batch_size=8, seed=3) | options
    return list(itertools.islice(pipeline.train_batches(IMAGES, LABELS, **options), count))


def test_every_epoch_shows_every_image_once_in_another_order():
    labels = np.concatenate([batch["label"] for batch in take(25)])
    first, second = labels[:50], labels[50:100]
    assert sorted(first) == sorted(second) == list(range(50)) and (first != second).any()


def test_images_stay_with_their_labels():
    for batch in take(3):
        assert (batch["image"] == IMAGES[batch["label"]]).all()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("first", [0, 5, 9])
def test_the_batch_of_a_step_depends_on_seed_and_step_only(first, workers):
    expected = take(12)[first:]
    for ours, reference in zip(take(12 - first, first_step=first, workers=workers), expected, strict=True):
        assert (ours["label"] == reference["label"]).all() and (ours["image"] == reference["image"]).all()


def test_another_seed_gives_another_order():
    assert (take(1)[0]["label"] != take(1, seed=4)[0]["label"]).any()


def test_evaluation_sees_every_image_once_and_masks_the_rest():
    batches = list(pipeline.eval_batches(IMAGES, 16))
    assert [len(images) for images, _ in batches] == [16] * 4
    assert (np.concatenate([images[mask] for images, mask in batches]) == IMAGES).all()
    assert batches[-1][1].sum() == 2


def test_pad_crop_flip_gives_crops_of_the_padded_image_and_their_mirrors():
    images = jax.random.normal(jax.random.key(0), (64, 8, 8, 3))
    crops = np.asarray(augment.pad_crop_flip(jax.random.key(1), images, pad=2))
    seen = set()
    for image, crop in zip(np.asarray(images), crops, strict=True):
        padded = np.pad(image, ((2, 2), (2, 2), (0, 0)))
        matches = {
            (top, left, flip)
            for top, left, flip in itertools.product(range(5), range(5), (1, -1))
            if (padded[top : top + 8, left : left + 8][:, ::flip] == crop).all()
        }
        assert len(matches) == 1
        seen |= matches
    assert {top for top, _, _ in seen} == {left for _, left, _ in seen} == set(range(5))
    assert {flip for _, _, flip in seen} == {1, -1}
    assert (crops == np.asarray(augment.pad_crop_flip(jax.random.key(1), images, pad=2))).all()
    assert (crops != np.asarray(augment.pad_crop_flip(jax.random.key(2), images, pad=2))).any()


def test_means_are_exact():
    images = np.random.default_rng(0).integers(0, 256, (1000, 4, 4, 3), np.uint8)
    np.testing.assert_allclose(statistics.pixel_mean(images)[0], images.astype(np.float64).mean(0), rtol=1e-7)
    np.testing.assert_allclose(
        statistics.channel_mean(images)[0, 0, 0], images.astype(np.float64).mean((0, 1, 2)), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("train", (0, 50_000)),
        ("train[:45000]", (0, 45_000)),
        ("train[45000:]", (45_000, 50_000)),
        ("test[:90%]", (0, 9_000)),
        ("test[-10%:]", (9_000, 10_000)),
        ("train[10:20]", (10, 20)),
    ],
)
def test_splits(split, expected):
    assert sources.parse_split(split, {"train": 50_000, "test": 10_000}) == expected


@pytest.mark.parametrize("split", ["val", "train[", "train[5:5]", "train[a:]", "", "train[50000:]"])
def test_wrong_splits_are_named(split):
    with pytest.raises(ValueError, match="split"):
        sources.parse_split(split, {"train": 50_000, "test": 10_000})


def test_unknown_data_set_and_wrong_size_are_named():
    with pytest.raises(ValueError, match="cifar11"):
        sources.find("cifar11", "train", None, 32)
    with pytest.raises(ValueError, match="image_size=24"):
        sources.find("cifar10", "train", None, 24)


def test_missing_data_set_says_where_and_how(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        sources.find("cifar10", "train", str(tmp_path), 32)
    assert str(tmp_path / "cifar10") in str(error.value)
    assert f"tfds.builder('cifar10', data_dir={str(tmp_path)!r}, file_format='array_record')" in str(error.value)


def test_a_data_set_in_other_files_says_so(tmp_path, cifar_dir):
    there, here = Path(cifar_dir) / "cifar10" / "3.0.2", tmp_path / "cifar10" / "3.0.2"
    here.mkdir(parents=True)
    for file in ("features.json", "label.labels.txt"):
        (here / file).write_bytes((there / file).read_bytes())
    info = json.loads((there / "dataset_info.json").read_text()) | {"fileFormat": "tfrecord"}
    (here / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(FileNotFoundError, match="tfrecord files, and array_record is needed"):
        sources.find("cifar10", "train", str(tmp_path), 32)


def test_data_dir_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "elsewhere"))
    with pytest.raises(FileNotFoundError, match="elsewhere"):
        sources.find("cifar10", "train", None, 32)


def test_cifar10_is_the_real_one(cifar_dir):
    source = sources.find("cifar10", "test", cifar_dir, 32)
    images, labels = source.read()
    assert images.shape == (10_000, 32, 32, 3) and images.dtype == np.uint8
    assert np.bincount(labels).tolist() == [1_000] * 10
    assert source.classes[:3] == ("airplane", "automobile", "bird")
    part = sources.find("cifar10", "test[9000:]", cifar_dir, 32)
    assert part.examples == 1_000 and (part.read()[0] == images[9000:]).all()


def test_shapes_are_a_function_of_seed_and_index():
    image, label, box = shapes.draw(7, 32, 48)
    again = shapes.draw(7, 32, 48)
    assert image.shape == (32, 48, 3) and (image == again[0]).all() and (label, box) == again[1:]
    assert (image != shapes.draw(8, 32, 48)[0]).any() and (image != shapes.draw(7, 32, 48, seed=1)[0]).any()


def test_boxes_hold_the_shapes():
    for index in range(100):
        _, _, (top, left, bottom, right) = shapes.draw(index, 60, 90)
        assert 0 <= top < bottom <= 60 and 0 <= left < right <= 90
        assert 10 <= max(bottom - top, right - left) <= 52  # the shape fills most of a circle of radius 16 to 25


def test_shapes_as_jpeg_of_varying_size():
    sizes = set()
    for index in range(8):
        data, label, (_, _, bottom, right) = shapes.draw_jpeg(index, (40, 80))
        image = Image.open(io.BytesIO(data))
        assert image.format == "JPEG" and bottom <= image.height <= 80 and right <= image.width <= 80
        assert label in range(len(shapes.CLASSES))
        sizes.add(image.size)
    assert len(sizes) > 4


def test_shapes_are_too_hard_for_a_linear_classifier_on_pixels():
    (train, labels), (test, test_labels) = shapes.draw_many(0, 4000, 24), shapes.draw_many(10**9, 10**9 + 1000, 24)

    def features(images):
        flat = images.reshape(len(images), -1) / 255.0 - 0.5
        return np.concatenate([flat, np.ones((len(flat), 1))], 1)

    x, targets = features(train), np.eye(10)[labels]
    errors = []
    for ridge in (1.0, 10.0, 100.0, 1000.0):
        weights = np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ targets)
        errors.append((np.argmax(features(test) @ weights, 1) != test_labels).mean())
    assert 0.4 < min(errors) < 0.92  # 0.9 is chance


def test_splits_of_shapes_do_not_overlap():
    train, test = (sources.find("shapes", split, None, 16).read()[0] for split in ("train[:50]", "test[:50]"))
    assert not any((image == other).all() for image in train for other in test)
