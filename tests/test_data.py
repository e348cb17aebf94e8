import dataclasses
import io
import itertools
import multiprocessing
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import STATISTICS
from ml_collections import ConfigDict
from PIL import Image

from deepconv.data import augment, pipeline, sources, statistics
from deepconv.data.decode import central_square
from deepconv.data.images import Arrays
from deepconv.data.sources import shape_drawing

IMAGES = np.arange(50 * 2 * 2 * 3, dtype=np.uint8).reshape(50, 2, 2, 3)
LABELS = np.arange(50, dtype=np.int32)


def take(count, **options):
    options = dict(batch_size=8, seed=3, geometry=central_square(2)) | options
    return list(itertools.islice(pipeline.train_batches(Arrays(IMAGES, LABELS), 50, **options), count))


def test_every_epoch_shows_every_image_once_in_another_order():
    labels = np.concatenate([batch["label"] for batch in take(25)])
    first, second = labels[:50], labels[50:100]
    assert sorted(first) == sorted(second) == list(range(50)) and (first != second).any()


def test_images_stay_with_their_labels():
    for batch in take(3):
        assert (batch["image"] == IMAGES[batch["label"]]).all()


@pytest.mark.parametrize(("first", "workers"), [(0, 0), (5, 0), (9, 0), (0, 2), (9, 2)])
def test_the_batch_of_a_step_depends_on_seed_and_step_only(first, workers):
    expected = take(12)[first:]
    for ours, reference in zip(take(12 - first, first_step=first, workers=workers), expected, strict=True):
        assert (ours["label"] == reference["label"]).all() and (ours["image"] == reference["image"]).all()


def test_loader_processes_start_without_jax_and_the_command():
    main, others = sys.modules["__main__"], {child.pid for child in multiprocessing.active_children()}
    before = main.__spec__
    options = dict(batch_size=8, seed=3, geometry=central_square(2), workers=2)
    batches = pipeline.train_batches(Arrays(IMAGES, LABELS), 50, **options)
    next(batches)
    assert main.__spec__ is before
    children = [child.pid for child in multiprocessing.active_children() if child.pid not in others]
    libraries = [Path(f"/proc/{pid}/maps").read_text() for pid in children]
    assert len(libraries) == 2 and all("cv2" in names and "jaxlib" not in names for names in libraries)


def test_another_seed_gives_another_order():
    assert (take(1)[0]["label"] != take(1, seed=4)[0]["label"]).any()


def test_ordered_batches_hold_every_image_once():
    batches = list(pipeline.ordered_batches(Arrays(IMAGES, LABELS), 50, 16, central_square(2)))
    assert [len(batch["image"]) for batch in batches] == [16, 16, 16, 2]
    assert (np.concatenate([batch["image"] for batch in batches]) == IMAGES).all()
    assert (np.concatenate([batch["label"] for batch in batches]) == LABELS).all()


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


def test_random_crop_flip_gives_every_crop_and_its_mirror():
    images = jax.random.randint(jax.random.key(0), (400, 9, 10, 3), 0, 256).astype(np.uint8)
    crops = np.asarray(augment.random_crop_flip(jax.random.key(1), {"image": images}, 7)["image"])
    seen = []
    for image, crop in zip(np.asarray(images), crops, strict=True):
        places = itertools.product(range(3), range(4), (1, -1))
        seen += [(t, x, f) for t, x, f in places if (image[t : t + 7, x : x + 7][:, ::f] == crop).all()]
    assert crops.dtype == np.uint8 and len(seen) == 400 and len(set(seen)) == 24
    counts = [seen.count(place) for place in set(seen)]
    assert min(counts) > 3 and max(counts) < 40  # 16.7 are expected of each


def test_center_crop_is_the_middle():
    image = np.arange(6 * 8 * 3).reshape(1, 6, 8, 3)
    assert (np.asarray(augment.center_crop({"image": image}, 4)["image"]) == image[:, 1:5, 2:6]).all()


@pytest.mark.parametrize(("convention", "power"), [("eigenvalue", 1), ("standard_deviation", 0.5)])
def test_colors_shift_along_the_principal_components(convention, power):
    directions = augment.color_directions(STATISTICS, convention)
    shifted = np.asarray(augment.shift_colors(jax.random.key(2), np.zeros((20_000, 2, 2, 3), np.float32), directions))
    assert (shifted == shifted[:, :1, :1]).all()  # one colour for all pixels of an image
    values, vectors = STATISTICS.eigenvalues.astype(np.float64), STATISTICS.eigenvectors.astype(np.float64)
    expected = vectors @ np.diag((0.1 * 255 * values**power) ** 2) @ vectors.T  # a literal covariance of p @ (a * l)
    np.testing.assert_allclose(np.cov(shifted[:, 0, 0].T), expected, rtol=0.05, atol=0.01 * expected.max())
    # the sheet's figures for the first component, in grey levels
    assert np.linalg.norm(directions[0]) == pytest.approx(
        {"eigenvalue": 5.5, "standard_deviation": 11.9}[convention], 0.01
    )


def test_training_images_are_cropped_lit_and_less_their_mean():
    data = ConfigDict(dict(image_size=4, mean="pixel", augment="crop_flip", lighting="standard_deviation"))
    images = np.random.default_rng(1).integers(0, 256, (3, 6, 6, 3), np.uint8)
    mean = np.random.default_rng(2).normal(120, 20, (6, 6, 3)).astype(np.float32)
    prepare = augment.for_training(data, dataclasses.replace(STATISTICS, pixel_mean=mean), lighting_steps=10)
    key = jax.random.key(3)
    crops = np.asarray(augment.random_crop_flip(jax.random.split(key)[0], {"image": images}, 4)["image"]).astype(
        np.float32
    )
    dark = crops - mean[1:5, 1:5]  # the centre of the mean image, wherever the crop comes from
    lit, unlit = (
        np.asarray(prepare(key, 9, {"image": images})["image"]),
        np.asarray(prepare(key, 10, {"image": images})["image"]),
    )
    np.testing.assert_allclose(unlit, dark, atol=1e-4)
    shifts = lit * 1.1 - dark
    np.testing.assert_allclose(shifts, np.broadcast_to(shifts[:, :1, :1], shifts.shape), atol=1e-3)
    assert (abs(shifts[:, 0, 0]) > 0.05).any(1).all() and not np.allclose(shifts[0], shifts[1])


def test_statistics_are_exact():
    images = np.random.default_rng(0).integers(0, 256, (90, 4, 5, 3), np.uint8)
    images[..., 1] = images[..., 0] // 2 + images[..., 1] // 4
    found = statistics.compute([images[:40], images[40:]])
    pixels = images.reshape(-1, 3).astype(np.float64)
    np.testing.assert_allclose(found.pixel_mean, images.astype(np.float64).mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.channel_mean, pixels.mean(0), rtol=1e-6)
    rebuilt = found.eigenvectors @ np.diag(found.eigenvalues) @ found.eigenvectors.T
    np.testing.assert_allclose(rebuilt, np.cov(pixels.T / 255, bias=True), rtol=1e-4, atol=1e-6)
    assert (np.diff(found.eigenvalues) < 0).all()
    assert found.mean("pixel", 4).shape == (1, 4, 4, 3) and found.mean("channel", 4).shape == (1, 1, 1, 3)


def test_statistics_of_other_data_or_damaged_are_refused(tmp_path):
    file = statistics.path(tmp_path, "train[:90%]", 256)
    statistics.save(file, STATISTICS, "this data")
    again = statistics.load(file, "this data")
    assert all((getattr(again, name) == value).all() for name, value in vars(STATISTICS).items())
    with pytest.raises(OSError, match="from data that has changed"):
        statistics.load(file, "that data")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(OSError, match="is damaged"):
        statistics.load(file, "this data")


def test_shapes_are_a_function_of_seed_and_index():
    image, label, box = shape_drawing.draw(7, 32, 48)
    again = shape_drawing.draw(7, 32, 48)
    assert image.shape == (32, 48, 3) and (image == again[0]).all() and (label, box) == again[1:]
    for index, seed in ((8, 0), (7, 1)):
        assert (image != shape_drawing.draw(index, 32, 48, seed)[0]).any()


def test_boxes_hold_the_shapes():
    for index in range(100):
        _, _, (top, left, bottom, right) = shape_drawing.draw(index, 60, 90)
        assert 0 <= top < bottom <= 60 and 0 <= left < right <= 90
        assert 10 <= max(bottom - top, right - left) <= 52  # the shape fills most of a circle of radius 16 to 25


def test_shapes_as_jpeg_of_varying_size():
    sizes = set()
    for index in range(8):
        data, label, (_, _, bottom, right) = shape_drawing.draw_jpeg(index, (40, 80))
        image = Image.open(io.BytesIO(data))
        assert image.format == "JPEG" and bottom <= image.height <= 80 and right <= image.width <= 80
        assert label in range(len(shape_drawing.CLASSES))
        sizes.add(image.size)
    assert len(sizes) > 4


def test_shapes_are_too_hard_for_a_linear_classifier_on_pixels():
    train, labels = shape_drawing.draw_many(0, 4000, 24)
    test, test_labels = shape_drawing.draw_many(10**9, 10**9 + 1000, 24)

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
    train, test = (sources.find("shapes", split, None, 16).open().images for split in ("train[:50]", "test[:50]"))
    assert not any((image == other).all() for image in train for other in test)


def test_images_less_a_mean_are_divided_by_a_standard_deviation():
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), np.uint8)
    found = statistics.compute([images])
    pixels = images.reshape(-1, 3).astype(np.float64)
    data = ConfigDict(dict(image_size=8, augment="none", mean="channel", std="channel"))
    given = statistics.input_of(data, found)
    np.testing.assert_allclose(given.std.ravel(), pixels.std(0), rtol=1e-5)
    seen = augment.normalize(images, given)
    np.testing.assert_allclose(np.mean(seen, (0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(np.std(seen, (0, 1, 2)), 1, rtol=1e-5)

    data = ConfigDict(dict(image_size=8, augment="none", mean="10,20,30", std="2,4,8"))
    assert not statistics.needed(data, training=True)
    prepare = augment.for_training(data, statistics.NOT_NEEDED, augment.ALWAYS)
    by_hand = (images.astype(np.float32) - [10, 20, 30]) / [2, 4, 8]
    np.testing.assert_allclose(prepare(jax.random.key(0), 0, {"image": images})["image"], by_hand, rtol=1e-6)
    assert statistics.needed(ConfigDict(dict(lighting="eigenvalue", mean="10,20,30")), training=True)


def test_colours_are_shifted_and_borders_are_zero_before_the_division():
    """A border of zeros stays one; a shift of colours is in units of pixels from 0 to 255."""
    images = np.full((64, 8, 8, 3), 200, np.uint8)
    data = ConfigDict(dict(image_size=8, augment="pad_crop_flip", mean="100,100,100", std="50,50,50"))
    seen = np.asarray(
        augment.for_training(data, STATISTICS, augment.ALWAYS)(jax.random.key(0), 0, {"image": images})["image"]
    )
    assert {*np.unique(seen)} == {0.0, 2.0}
    data = ConfigDict(dict(image_size=8, augment="none", lighting="eigenvalue", mean="100,100,100", std="none"))
    plain = augment.for_training(data, STATISTICS, augment.ALWAYS)(jax.random.key(0), 0, {"image": images})["image"]
    data.std = "50,50,50"
    divided = augment.for_training(data, STATISTICS, augment.ALWAYS)(jax.random.key(0), 0, {"image": images})["image"]
    np.testing.assert_allclose(divided, plain / 50, rtol=1e-6)
    assert np.std(plain) > 0.1
