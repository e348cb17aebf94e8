"""Data sets as they lie on disk, whole and otherwise."""

import functools
import itertools
import json
import os
import pickle
import resource
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import real_data
from PIL import Image

from deepconv.data import decode, pipeline, sources
from deepconv.data.decode import Geometry
from deepconv.data.images import DataError
from deepconv.data.sources import checksums, folders, shape_drawing, shapes, tfds
from deepconv.data.sources.source import parse_split

SQUARE = Geometry((32, 32), 24, square=True, random=False)
CROPS = Geometry((32, 48), 24, square=False, random=True)


def find(name, split, data_dir, scale=(32, 32)):
    return sources.find(name, split, data_dir and str(data_dir), 24, scale)


def decoded(source, geometry=SQUARE):
    batches = list(pipeline.ordered_batches(source.open(), source.examples, 7, None if source.size else geometry))
    return tuple(np.concatenate([batch[part] for batch in batches]) for part in ("image", "label"))


def batches(source, count, **options):
    settings = dict(batch_size=8, seed=3, geometry=CROPS) | options
    loader = pipeline.train_batches(source.open(), source.examples, **settings)
    return [next(loader) for _ in range(count)]


def fill(folder, images):
    """{"train/cat/a.jpg": colour}: small pictures of one colour each."""
    for name, colour in images.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (50, 40), colour).save(path, "JPEG")
    return folder


@pytest.fixture
def pets(tmp_path):
    """Two classes, twelve training images that can be told by their red, three of the test."""
    images = {f"train/{name}/{i}.JPEG": (20 * i, 100, 0) for i in range(6) for name in ("cat", "dog")}
    images |= {f"val/{name}/{i}.png": (200, 20 * i, 0) for name, i in (("cat", 0), ("cat", 1), ("dog", 2))}
    return fill(tmp_path / "pets", images)


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
    whole, *bounds = parse_split(split, {"train": 50_000, "test": 10_000})
    assert whole == split.split("[")[0] and tuple(bounds) == expected


@pytest.mark.parametrize("split", ["val", "train[", "train[5:5]", "train[a:]", "", "train[50000:]"])
def test_wrong_splits_are_named(split):
    with pytest.raises(ValueError, match="split"):
        parse_split(split, {"train": 50_000, "test": 10_000})


def test_a_data_set_that_is_not_there_says_where_and_how(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        find("cifar10", "train", tmp_path)
    assert str(tmp_path / "cifar10") in str(error.value)
    assert f"deepconv.data.prepare cifar10 --archives=DIR --data_dir={tmp_path}" in str(error.value)
    with pytest.raises(FileNotFoundError, match="cifar11 .*train/<class>"):
        find("cifar11", "train", tmp_path)


def test_a_data_set_in_other_files_says_so(tmp_path, cifar_dir):
    there, here = Path(cifar_dir) / "cifar10" / "3.0.2", tmp_path / "cifar10" / "3.0.2"
    here.mkdir(parents=True)
    for file in ("features.json", "label.labels.txt"):
        (here / file).write_bytes((there / file).read_bytes())
    info = json.loads((there / "dataset_info.json").read_text()) | {"fileFormat": "tfrecord"}
    (here / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(DataError, match="tfrecord files, not array_record"):
        find("cifar10", "train", tmp_path)


def test_data_dir_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "elsewhere"))
    with pytest.raises(FileNotFoundError, match="elsewhere"):
        sources.find("cifar10", "train", None, 32)


def test_cifar10_is_the_real_one(cifar_dir):
    source = sources.find("cifar10", "test", cifar_dir, 32)
    data = source.open()
    images, labels = data.images, data.labels
    assert images.shape == (10_000, 32, 32, 3) and images.dtype == np.uint8
    assert np.bincount(labels).tolist() == [1_000] * 10
    assert source.classes[:3] == ("airplane", "automobile", "bird")
    part = sources.find("cifar10", "test[9000:]", cifar_dir, 32)
    assert part.examples == 1_000 and (part.open().images == images[9000:]).all()


def test_cifar100_and_others_of_one_size_need_no_list_of_names(tmp_path, cifar_dir):
    """A data set that TFDS's code does not know, of the same form."""
    shutil.copytree(Path(cifar_dir) / "cifar10" / "3.0.2", tmp_path / "mine" / "1.0.0")
    info = tmp_path / "mine" / "1.0.0" / "dataset_info.json"
    info.chmod(0o644)
    info.write_text(info.read_text().replace('"cifar10"', '"mine"').replace("3.0.2", "1.0.0"))
    for file in info.parent.glob("cifar10-*"):
        file.rename(file.with_name(file.name.replace("cifar10", "mine")))
    assert find("mine", "test[:5]", tmp_path).open().images.shape == (5, 32, 32, 3)
    assert find("mine/1.0.0", "test[:5]", tmp_path).examples == 5


@pytest.mark.parametrize("damage", ["cut off", "missing", "short"])
def test_a_shard_that_is_not_whole_is_named(tmp_path, cifar_dir, damage):
    shutil.copytree(Path(cifar_dir) / "cifar10", tmp_path / "cifar10")
    shard = tmp_path / "cifar10" / "3.0.2" / "cifar10-test.array_record-00000-of-00001"
    shard.parent.chmod(0o755)
    if damage == "cut off":
        shard.chmod(0o644)
        os.truncate(shard, shard.stat().st_size // 2)
    elif damage == "missing":
        shard.unlink()
    else:
        info = shard.with_name("dataset_info.json")
        info.chmod(0o644)
        info.write_text(info.read_text().replace('"10000"', '"10001"'))
    source = find("cifar10", "test[:5]", tmp_path)
    expected = {"short": "has 10000 records instead of 10001"}.get(damage, f"is .*{damage}")
    with pytest.raises(DataError, match=f"{shard.name} of cifar10 test .*{expected}.*again"):
        source.open()


def test_labels_outside_the_range_are_named(tmp_path, cifar_dir):
    there, here = Path(cifar_dir) / "cifar10" / "3.0.2", tmp_path / "cifar10" / "3.0.2"
    shutil.copytree(there, here)
    (here / "features.json").chmod(0o644)
    (here / "features.json").write_text((here / "features.json").read_text().replace('"10"', '"5"'))
    (here / "label.labels.txt").chmod(0o644)
    (here / "label.labels.txt").write_text("a\nb\nc\nd\ne\n")
    with pytest.raises(DataError, match=r"record \d+ of cifar10 test .* has the label [5-9], not one from 0 to 4"):
        find("cifar10", "test[:50]", tmp_path).open()


def test_folders(pets):
    source = find("pets", "train", pets.parent)
    images, labels = decoded(source)
    assert source.classes == ("cat", "dog") and source.examples == 12 and source.size is None
    assert sorted(np.bincount(labels)) == [6, 6] and images.shape == (12, 32, 32, 3)
    assert sorted((images[:, 5, 5, 0].astype(int) + 5) // 20) == sorted([*range(6)] * 2)
    assert not (np.diff(labels) >= 0).all()  # in no order of classes, so that a part of a split has all of them
    half = decoded(find("pets", "train[6:]", pets.parent))
    assert (half[0] == images[6:]).all() and (half[1] == labels[6:]).all()
    for split in ("val", "validation"):
        assert sorted(decoded(find("pets", split, pets.parent))[1]) == [0, 0, 1]
    shutil.rmtree(pets / "val" / "cat")
    folders._list_folders.cache_clear()
    assert decoded(find("pets", "val", pets.parent))[1].tolist() == [1]  # a test may lack a class
    (pets / "train" / "cat" / "0.JPEG").rename(pets / "train" / "dog" / "9.JPEG")
    folders._list_folders.cache_clear()
    assert find("pets", "train", pets.parent).fingerprint != source.fingerprint


def test_a_flat_folder_with_a_list_of_classes(pets):
    for file in sorted(pets.glob("val/*/*")):
        file.rename(pets / "val" / f"{file.parent.name}_{file.name}")
    for folder in ("cat", "dog"):
        (pets / "val" / folder).rmdir()
    with pytest.raises(DataError, match="val.txt is missing; it must have 3 lines"):
        find("pets", "val", pets.parent)
    for text in ("dog\ncat\ncat\n", "dog_2.png cat\ncat_0.png dog\ncat_1.png cat\n"):
        (pets / "val.txt").write_text(text)
        folders._list_folders.cache_clear()
        images, labels = decoded(find("pets", "val", pets.parent))
        assert dict(zip((images[:, 5, 5, 1] + 5) // 20, labels, strict=True)) == {0: 1, 1: 0, 2: 0}
    (pets / "val" / "dog_2.png").rename(pets / "val" / "my dog.png")
    (pets / "val.txt").write_text("my dog.png\tdog\ncat_0.png cat\ncat_1.png cat\n")
    folders._list_folders.cache_clear()
    assert sorted(decoded(find("pets", "val", pets.parent))[1]) == [0, 0, 1]
    mistakes = {"cat\n": "3 images are in .*val, but val.txt has 1", "cow\ncat\ncat\n": "'cow', which has no folder"}
    mistakes["cat_0.png cat\n" * 3] = "does not name cat_1.png"
    mistakes["big cat\ncat\ncat\n"] = "names the class 'big cat', which has no folder"
    for text, reason in mistakes.items():
        (pets / "val.txt").write_text(text)
        folders._list_folders.cache_clear()
        with pytest.raises(DataError, match=reason):
            find("pets", "val", pets.parent)


def test_imagenet_s_validation_labels_are_known(tmp_path, monkeypatch):
    names = [f"ILSVRC2012_val_{i:08d}.JPEG" for i in (1, 2, 3)]
    images = {f"val/{name}": (0, 60 * i, 0) for i, name in enumerate(names)}
    fill(tmp_path / "flat", images | {f"train/{name}/0.jpg": 0 for name in ("n01440764", "n01443537")})
    monkeypatch.setattr(folders, "imagenet_validation_labels", lambda: ["n01443537", "n01440764", "n01443537"])
    images, labels = decoded(find("flat", "val", tmp_path))
    assert dict(zip((images[:, 5, 5, 1] + 5) // 60, labels, strict=True)) == {0: 1, 1: 0, 2: 1}


def test_the_newest_version_is_taken(tmp_path, cifar_dir):
    for version in ("3.0.2", "3.0.10"):
        shutil.copytree(Path(cifar_dir) / "cifar10" / "3.0.2", tmp_path / "cifar10" / version)
    info = tmp_path / "cifar10" / "3.0.10" / "dataset_info.json"
    info.chmod(0o644)
    info.write_text(info.read_text().replace('"10000"', '"9999"'))
    assert find("cifar10", "test", tmp_path).examples == 9_999
    assert find("cifar10/3.0.2", "test", tmp_path).examples == 10_000


def test_an_image_of_one_size_that_is_damaged_is_named(tmp_path, cifar_dir, monkeypatch):
    whole, calls = decode.decode, []

    def damaged(data):
        calls.append(data)
        return whole(data[:-100] if len(calls) == 5 else data)

    monkeypatch.setattr(decode, "decode", damaged)
    with pytest.raises(DataError, match=r"record 4 \(test_\d+ of cifar10 test .* cannot be decoded"):
        find("cifar10", "test[:9]", cifar_dir).open()


def test_many_images_of_one_size_are_not_kept_in_memory(cifar_dir, monkeypatch):
    monkeypatch.setattr(tfds, "IN_MEMORY_BYTES", 60_000 * 32 * 32 * 3)
    assert find("cifar10", "train", cifar_dir).size is find("cifar10", "test[:9]", cifar_dir).size is None
    monkeypatch.setattr(tfds, "IN_MEMORY_BYTES", 60_000 * 32 * 32 * 3 + 1)
    assert find("cifar10", "test[:9]", cifar_dir).size == (32, 32)


def test_names_of_any_kind(tmp_path):
    names = ("train/caf\u00e9 au lait/it's.JPG", "train/" + os.fsdecode(b"caf\xe9") + "/" + os.fsdecode(b"\xff.png"))
    fill(tmp_path / "odd", dict.fromkeys(names, (9, 9, 9)))
    for left_out in ("train/.hidden/a.jpg", "train/caf\u00e9 au lait/._it's.JPG"):
        fill(tmp_path / "odd", {left_out: 0})
    (tmp_path / "odd" / "train" / "caf\u00e9 au lait" / "folder.jpg").mkdir()
    source = find("odd", "train", tmp_path)
    assert source.examples == 2 and len(source.classes) == 2 and (decoded(source)[0] == 9).all()
    (tmp_path / "odd" / names[1]).write_bytes(b"no image")
    corrupt = []
    batches(source, 1, report=corrupt.extend)
    assert corrupt and all(r"\udcff.png" in message and message.encode() for message in corrupt)
    (tmp_path / "odd" / names[1]).rename(tmp_path / "odd" / "train" / os.fsdecode(b"caf\xe9") / "a\nb\x1b.png")
    folders._list_folders.cache_clear()
    with pytest.raises(DataError, match=r"caf\\udce9/a\\x0ab\\x1b\.png in .*odd\) cannot be decoded"):
        decoded(find("odd", "train", tmp_path))


def test_folders_that_cannot_be_used_say_why(tmp_path):
    (tmp_path / "a" / "train").mkdir(parents=True)
    with pytest.raises(DataError, match="train has no folders"):
        find("a", "train", tmp_path)
    fill(tmp_path / "b", {"train/cat/0.jpg": 0, "val/cow/0.jpg": 0})
    (tmp_path / "b" / "train" / "dog").mkdir()
    (tmp_path / "b" / "train" / "dog" / "notes.txt").write_text("none yet")
    with pytest.raises(DataError, match="train/dog holds no images"):
        find("b", "train", tmp_path)
    with pytest.raises(DataError, match="val/cow has no counterpart in .*train"):
        find("b", "val", tmp_path)
    with pytest.raises(
        ValueError, match=r"no split 'test' in .*/b; choose one of train, val, or a part of one, as in --config"
    ):
        find("b", "test", tmp_path)


@pytest.mark.parametrize(("first", "workers"), [(0, 0), (4, 0), (4, 2)])
def test_the_batch_of_a_step_depends_on_seed_and_step_only(first, workers):
    source = find("shapes", "train[:12]", None)
    expected = batches(source, 6)
    again = batches(source, 6 - first, first_step=first, workers=workers)
    for ours, reference in zip(again, expected[first:], strict=True):
        assert all((ours[part] == reference[part]).all() for part in ("image", "label"))
    other = batches(source, 1, seed=4)[0]
    assert (other["label"] != expected[0]["label"]).any()


def test_a_view_is_drawn_anew_for_each_use():
    records = sources.find("shapes", "train[:4]", None, 24, (32, 48)).open()
    loader = pipeline.train_batches(records, 4, batch_size=4, seed=0, geometry=CROPS)
    first, second = (next(loader) for _ in range(2))
    for image in first["image"]:
        assert not any((image == other).all() for other in second["image"])


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_decoded_is_replaced_by_the_next_and_named(pets, workers):
    whole = decoded(find("pets", "train", pets.parent))
    source = find("pets", "train", pets.parent)
    name = os.fsdecode(source.open().files[11])
    for i in (4, 5, 11):
        path = pets / os.fsdecode(source.open().files[i])
        path.write_bytes(path.read_bytes()[:-30])
    settings = dict(geometry=SQUARE, batch_size=12, workers=workers)
    for read in (decoded, functools.partial(batches, count=1, **settings)):
        with pytest.raises(DataError, match=r"record \d+ \(train/.*in .*pets\) cannot be decoded: Premature end"):
            read(source)
    corrupt, again = [], []
    (batch,), (same,) = (batches(source, 1, report=messages.extend, **settings) for messages in (corrupt, again))
    assert len(corrupt) == 4  # the fifth was tried in the fourth's place, too
    assert any(name in message and "record 11" in message for message in corrupt)
    assert corrupt == again and (batch["image"] == same["image"]).all()
    reference = [i if i not in (4, 5, 11) else {4: 6, 5: 6, 11: 0}[i] for i in range(12)]
    expected = sorted(zip(whole[0][reference][:, 5, 5, 0].tolist(), whole[1][reference].tolist(), strict=True))
    assert sorted(zip(batch["image"][:, 5, 5, 0].tolist(), batch["label"].tolist(), strict=True)) == expected


def test_a_file_that_has_vanished_is_named(pets):
    source = find("pets", "train", pets.parent)
    (pets / os.fsdecode(source.open().files[2])).unlink()
    with pytest.raises(DataError, match="train/.*No such file"):
        decoded(source)


def test_val_and_validation_are_the_same_split():
    for known in ("val", "validation"):
        for asked in ("val", "validation"):
            assert parse_split(f"{asked}[1:]", {"train": 5, known: 3}) == (known, 1, 3)
    both = {"val": 3, "validation": 4}
    assert parse_split("val", both) == ("val", 0, 3)
    assert parse_split("validation", both) == ("validation", 0, 4)
    with pytest.raises(ValueError, match="no split 'val'; choose one of test, train, or a part"):
        parse_split("val", {"train": 5, "test": 3})


def test_files_that_are_not_read_are_counted_and_named(pets, capsys):
    find("pets", "train", pets.parent)
    assert not capsys.readouterr().out
    for name in ("cat/a.heic", "cat/b.HEIC", "dog/notes\x1b.txt", "dog/.hidden", "readme", "a.jpg"):
        (pets / "train" / name).write_bytes(b"x")
    (pets / "train" / "dog" / "more").mkdir()
    folders._list_folders.cache_clear()
    assert find("pets", "train", pets.parent).examples == 12
    (line,) = capsys.readouterr().out.splitlines()
    start, rest = line.split(": ")
    counts, example = rest.split(" (for example ")
    assert start == f"6 files in {pets}/train are not read"
    assert sorted(counts.split(", ")) == ["1 .jpg", "1 .txt", "1 folders", "1 without a suffix", "2 .heic"]
    assert example.rstrip(")") in ("cat/a.heic", "cat/b.HEIC", r"dog/notes\x1b.txt", "dog/more")
    find("pets", "train[:5]", pets.parent)
    assert not capsys.readouterr().out  # once is enough
    shutil.rmtree(pets / "train" / "cat")
    fill(pets, {"train/cat/a.avif": 0})
    folders._list_folders.cache_clear()
    with pytest.raises(DataError, match=r"train/cat holds no images .*; it holds 1 \.avif; fill it"):
        find("pets", "train", pets.parent)


def test_the_layout_of_tiny_imagenet(tmp_path, capsys):
    images = {f"train/{name}/images/{name}_{i}.JPEG": (60 * i, 0, 0) for i in range(3) for name in ("n01", "n02")}
    fill(tmp_path / "tiny", images | {f"val/images/val_{i}.JPEG": (60 * i, 200, 0) for i in range(3)})
    for name in ("n01", "n02"):
        (tmp_path / "tiny" / "train" / name / f"{name}_boxes.txt").write_text(f"{name}_0.JPEG\t0\t0\t9\t9\n")
    boxes = [f"val_{i}.JPEG\tn0{label}\t0\t0\t9\t9\n" for i, label in ((2, 1), (0, 2), (1, 1))]
    (tmp_path / "tiny" / "val" / "val_annotations.txt").write_text("".join(boxes))
    train, val = find("tiny", "train", tmp_path), find("tiny", "val", tmp_path)
    assert train.classes == ("n01", "n02") and train.examples == 6
    assert sorted(decoded(train)[1]) == [0, 0, 0, 1, 1, 1]
    images, labels = decoded(val)
    assert dict(zip((images[:, 5, 5, 0] + 5) // 60, labels, strict=True)) == {0: 1, 1: 0, 2: 0}
    assert (
        capsys.readouterr().out
        == f"2 files in {tmp_path}/tiny/train are not read: 2 .txt (for example n01/n01_boxes.txt)\n"
    )


def with_sums(folder, split="train"):
    """The sums as sha256sum writes them."""
    names = sorted(str(path.relative_to(folder)) for path in (folder / split).rglob("*.*"))
    sums = subprocess.run(["sha256sum", *names], cwd=folder, capture_output=True, check=True).stdout
    (folder / f"SHA256SUMS.{split}.txt").write_bytes(sums)


@pytest.mark.parametrize("workers", [0, 1])
def test_every_record_that_is_read_is_held_against_its_sum(pets, workers):
    source = find("pets", "train", pets.parent)
    with pytest.raises(
        FileNotFoundError,
        match=f"SHA256SUMS.train.txt is missing.*prepare statistics pets --data_dir={pets.parent} --split=train$",
    ):
        checksums.verified(source)
    with_sums(pets)
    name = os.fsdecode(source.open().files[7])
    verified = checksums.verified(source)
    assert (decoded(verified)[0] == decoded(source)[0]).all() and verified.fingerprint == source.fingerprint
    data = bytearray((pets / name).read_bytes())
    data[data.find(b"\xff\xdb") + 5] ^= 8  # by which the pixels are multiplied
    (pets / name).write_bytes(data)
    decoded(source)  # nobody notices
    with pytest.raises(DataError, match=f"{name} in .*pets has changed since its sum was written to .*SHA256SUMS"):
        batches(checksums.verified(source), 2, workers=workers, geometry=SQUARE)
    fill(pets, {"train/cat/new.jpg": 0})
    folders._list_folders.cache_clear()
    with pytest.raises(
        DataError, match=r"1 files are not in .*SHA256SUMS.train.txt, such as train/cat/new.jpg; to add"
    ):
        checksums.verified(find("pets", "train", pets.parent))
    (pets / "SHA256SUMS.train.txt").write_text("what is this\n")
    with pytest.raises(DataError, match="SHA256SUMS.train.txt is damaged in line 1"):
        checksums.verified(source)
    with pytest.raises(
        ValueError, match="--verify_data is for folders of photographs without boxes, which shapes is not"
    ):
        checksums.verified(sources.find("shapes", "train", None, 24))


def test_sums_are_those_of_sha256sum_whatever_the_names(tmp_path):
    odd = ("back\\slash.png", "new\nline.png", "return\r.png", "two  spaces.png", os.fsdecode(b"\xff.png"), r"\n.png")
    fill(tmp_path / "odd", {f"train/cat/{name}": (i, 9, 9) for i, name in enumerate(odd)})
    source = find("odd", "train", tmp_path)
    summed = checksums.summed(source)
    assert not summed.sums.any()
    summed.read(range(len(odd)))
    checksums.write_sums(summed)
    ours = (tmp_path / "odd" / "SHA256SUMS.train.txt").read_bytes()
    subprocess.run(["sha256sum", "--strict", "-c", "SHA256SUMS.train.txt"], cwd=tmp_path / "odd", check=True)
    with_sums(tmp_path / "odd")
    assert (checksums.summed(source).sums == summed.sums).all()
    checksums.write_sums(summed)
    assert (tmp_path / "odd" / "SHA256SUMS.train.txt").read_bytes() == ours


def test_real_photographs():
    folder = real_data("photos")
    source = find("photos", "train", folder.parent)
    assert source.examples == 600 and len(source.classes) == 12
    images, labels = decoded(find("photos", "val[:30]", folder.parent))
    assert images.shape == (30, 32, 32, 3) and len(set(labels)) > 5 and 60 < images.mean() < 200


def literal_shape(index, size):
    """A circle or a bar, drawn pixel by pixel; None for other classes."""
    rng = np.random.default_rng((0, index))
    label = int(rng.integers(10))
    radius = size * rng.uniform(0.26, 0.42)
    top, left = rng.uniform(radius, size - radius), rng.uniform(radius, size - radius)
    angle, ground = rng.uniform(0, 2 * np.pi), rng.uniform(40, 215, 3)
    colour = ground + rng.choice([-1, 1], 3) * rng.uniform(60, 110, 3)
    waves = [(rng.uniform(0, 2 * np.pi, 3), rng.uniform(-18, 18, 3)) for _ in range(4)]
    image = rng.normal(0, 6, (size, size, 3))
    for row, column in itertools.product(range(size), repeat=2):
        right, down = column + 0.5 - left, row + 0.5 - top
        u = (right * np.cos(angle) + down * np.sin(angle)) / radius
        v = (down * np.cos(angle) - right * np.sin(angle)) / radius
        distance = np.hypot(u, v) - 0.9 if label == 0 else max(abs(u) - 0.95, abs(v) - 0.25)
        cover = min(max(0.5 - distance * radius, 0), 1)
        pair = [np.array(ground), np.array(colour)]
        for number, ((direction, phase, frequency), amplitude) in enumerate(waves):
            along = column / size * np.cos(direction) + row / size * np.sin(direction)
            pair[number // 2] += np.sin(4 * frequency * along + phase) * amplitude
        image[row, column] += (1 - cover) * pair[0] + cover * pair[1]
    return image.clip(0, 255).round() if label in (0, 9) else None


def test_shapes_are_those_drawn_pixel_by_pixel(monkeypatch):
    monkeypatch.setattr(shape_drawing, "PIXELS_AT_A_TIME", 5 * 12**2)
    images, labels = shape_drawing.draw_many(7, 33, 12)  # in parts of five, the last one of one
    assert images.shape == (26, 12, 12, 3) and labels.dtype == np.int32
    seen = set()
    for index, image, label in zip(range(7, 33), images, labels, strict=True):
        alone, its_label, (top, left, bottom, right) = shape_drawing.draw(index, 12, 12)
        assert (alone == image).all() and its_label == label and 0 <= top < bottom <= 12 and 0 <= left < right <= 12
        if (expected := literal_shape(index, 12)) is not None:
            seen.add(int(label))
            differences = abs(image - expected)  # NumPy rounds coordinates to float32
            assert differences.max() <= 1 and (differences > 0).mean() < 0.01
    assert seen == {0, 9}


def test_shapes_come_as_files_where_a_recipe_rescales():
    source = sources.find("shapes", "test[10:20]", None, 24, (32, 48))
    record = source.open().read([3])[0]
    data, label, _ = shape_drawing.draw_jpeg(shapes.OFFSETS["test"] + 13, (32, 72))
    assert record.data == data and record.label == label


def test_packed_images_stay_on_disk(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), np.uint8)
    np.save(tmp_path / "train.images.npy", images)
    np.save(tmp_path / "train.labels.npy", np.arange(20, dtype=np.int32) % 3)
    info = {"size": 8, "splits": {"train": 20}, "classes": ["a", "b", "c"]}
    (tmp_path / "packed.json").write_text(json.dumps(info))
    source = find(".", "train[5:]", tmp_path)
    data = source.open()
    assert source.examples == 15 and source.size == (8, 8) and (data.images[np.arange(15)] == images[5:]).all()
    assert len(pickle.dumps(data.images)) < 1000 and (pickle.loads(pickle.dumps(data.images))[[3]] == images[8]).all()
    assert [batch["label"].tolist() for batch in batches(source, 2, workers=1)] == [
        batch["label"].tolist() for batch in batches(source, 2)
    ]
    np.save(tmp_path / "train.labels.npy", np.arange(20, dtype=np.int32) % 4)
    with pytest.raises(DataError, match="labels from 0 to 3"):
        source.open()
    np.save(tmp_path / "train.labels.npy", np.arange(20, dtype=np.int32) % 3)
    data = source.open()
    os.truncate(tmp_path / "train.images.npy", 2000)
    with pytest.raises(DataError, match="train.images.npy was cut off before image 6"):
        data.images[np.array([3, 6])]
    with pytest.raises(DataError, match="train.images.npy is incomplete or damaged"):
        source.open()
    for change in (
        {"size": "8"},
        {"size": 0},
        {"classes": []},
        {"classes": "abc"},
        {"splits": {}},
        {"splits": {"train": "x"}},
    ):
        (tmp_path / "packed.json").write_text(json.dumps(info | change))
        with pytest.raises((OSError, ValueError), match="packed.json is damaged|choose one of"):
            find(".", "train", tmp_path)
    for text in ("{", "{}", '{"size": 8, "splits": 1}', "[]"):
        (tmp_path / "packed.json").write_text(text)
        with pytest.raises(OSError, match="packed.json is damaged: .*; copy or pack it again"):
            find(".", "train", tmp_path)


def test_as_many_files_as_allowed_may_be_open():
    """array_record keeps files open, ImageNet has 1024 of them, and many systems allow a process that many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
        tfds._allow_open_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(hard, tfds.OPEN_FILES)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_of_imagenets_validation_images_all_must_be_there(tmp_path):
    fill(tmp_path / "photos", {"train/n01440764/0.jpg": 0, "val/ILSVRC2012_val_00000001.JPEG": 0})
    with pytest.raises(DataError, match="1 of ImageNet's 50000 validation images are in .*val; restore the others"):
        find("photos", "val", tmp_path).open()
