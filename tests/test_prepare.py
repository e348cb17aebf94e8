"""Archives of the official form, made here, -> data sets that TFDS itself reads."""

import hashlib
import io
import json
import os
import pickle
import shutil
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from conftest import real_data, shell
from PIL import Image

from deepconv.data import decode, pipeline, sources, statistics
from deepconv.data.images import DataError
from deepconv.data.prepare import image_statistics, pack
from deepconv.data.prepare import imagenet as imagenet_archives
from deepconv.data.prepare.cifar10 import CIFAR10_CLASSES, _read_cifar10, cifar10
from deepconv.data.prepare.imagenet import IMAGENET_TARS, check_counts, imagenet2012
from deepconv.data.sources import checksums, folders

SYNSETS = Path(tfds.core.tfds_path("datasets/imagenet2012/labels.txt")).read_text().split()
COUNTS = {"train": 2000, "validation": 1000}


def jpeg(colour, mode="RGB", kind="JPEG"):
    out = io.BytesIO()
    Image.new("RGB", (20, 16), colour).convert(mode).save(out, kind)
    return out.getvalue()


def add(tar, name, data):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def write_archives(folder, odd=None):
    """Two training images a class, in an archive a class, and the first thousand of validation."""
    folder.mkdir()
    odd = odd or {}
    with tarfile.open(folder / "ILSVRC2012_img_train.tar", "w") as outer:
        for number, synset in enumerate(reversed(SYNSETS)):
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as tar:
                for i in (1, 2):
                    name = f"{synset}_{i}.JPEG"
                    add(tar, name, odd.get(name, jpeg((number % 256, 100 * i, 0))))
            add(outer, f"./{synset}.tar", inner.getvalue())
    with tarfile.open(folder / "ILSVRC2012_img_val.tar", "w") as tar:
        for i in range(1000, 0, -1):
            add(tar, f"ILSVRC2012_val_{i:08d}.JPEG", jpeg((i % 256, i // 4, 50)))
    return folder


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    odd = {"n01440764_1.JPEG": jpeg((10, 200, 30), "CMYK"), "n01440764_2.JPEG": jpeg((10, 200, 30), kind="PNG")}
    return write_archives(tmp_path_factory.mktemp("imagenet") / "archives", odd)


@pytest.fixture(autouse=True)
def first_thousand(monkeypatch):
    """The archives here have the first thousand validation images only, of 621 classes."""
    check = check_counts

    def check_all_but_classes_of_validation(path, found, expected, classes, synsets):
        check(path, found, expected, set(synsets) if "val" in path.name else classes, synsets)

    monkeypatch.setattr(imagenet_archives, "check_counts", check_all_but_classes_of_validation)


@pytest.fixture(scope="module")
def imagenet(archives, tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(imagenet_archives, "check_counts", lambda *args: None)
        target = imagenet2012(archives, data_dir, COUNTS)
    assert target == data_dir / "imagenet2012" / "5.1.0" and not list(target.glob("*.npz"))
    return data_dir


def test_imagenet_is_read_by_tfds_itself(imagenet):
    builder = tfds.builder("imagenet2012", data_dir=imagenet)
    train, validation = (tfds.data_source("imagenet2012", split=s, data_dir=imagenet) for s in ("train", "validation"))
    assert {name: split.num_examples for name, split in builder.info.splits.items()} == COUNTS
    names = set()
    for example in train:
        name = example["file_name"].decode()
        names.add(name)
        assert builder.info.features["label"].int2str(example["label"]) == name.split("_")[0]
        colour = example["image"][8, 10].astype(int)
        if name.startswith("n01440764"):
            assert abs(colour - (10, 200, 30)).max() < 4  # it was CMYK, or a PNG
        else:
            number = 999 - SYNSETS.index(name.split("_")[0])
            assert abs(colour - (number % 256, 100 * int(name.split("_")[1][0]), 0)).max() < 4
    assert names == {f"{synset}_{i}.JPEG" for synset in SYNSETS for i in (1, 2)}
    labels = Path(tfds.core.tfds_path("datasets/imagenet2012/validation_labels.txt")).read_text().split()
    for example in validation:
        number = int(example["file_name"].decode()[15:23])
        assert SYNSETS[example["label"]] == labels[number - 1]
        assert abs(example["image"][8, 10].astype(int) - (number % 256, number // 4, 50)).max() < 4


def test_the_order_is_that_of_tfds(imagenet, tmp_path):
    """TFDS's own writer, given the same keys."""

    class Mine(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = tfds.features.FeaturesDict({"file_name": tfds.features.Text()})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {"train": [(f"{s}_{i}.JPEG", {"file_name": f"{s}_{i}.JPEG"}) for s in SYNSETS for i in (1, 2)]}

        def _generate_examples(self):
            raise NotImplementedError

    builder = Mine(data_dir=tmp_path, file_format="array_record")
    builder.download_and_prepare()
    theirs = [example["file_name"] for example in builder.as_data_source("train")]
    ours = [example["file_name"] for example in tfds.data_source("imagenet2012", split="train", data_dir=imagenet)]
    assert ours == theirs


def test_features_are_those_of_tfds(imagenet, tmp_path):
    tfds.builder("imagenet2012", data_dir=tmp_path).info.features.save_config(tmp_path)
    theirs, ours = (
        json.loads((folder / "features.json").read_text())["featuresDict"]["features"]
        for folder in (tmp_path, imagenet / "imagenet2012" / "5.1.0")
    )
    assert ours == theirs


def test_what_was_jpeg_stays_as_it_was(imagenet, archives):
    records = sources.find("imagenet2012", "train", str(imagenet), 16, (16, 16)).open()
    with tarfile.open(archives / "ILSVRC2012_img_train.tar") as outer:
        inner = tarfile.open(fileobj=outer.extractfile("./n01443537.tar"))
        original = inner.extractfile("n01443537_1.JPEG").read()
    assert original in [record.data for record in records.read(range(2000))]


def test_killed_and_started_again(imagenet, archives, tmp_path, monkeypatch):
    from tensorflow_datasets.core.utils.shard_utils import ShardConfig

    reads, pread = [], os.pread

    class Killed(BaseException):
        pass

    def die_at_the_1500th(*args):
        reads.append(args)
        if len(reads) == 1500:
            raise Killed
        return pread(*args)

    monkeypatch.setattr(ShardConfig, "calculate_number_shards", classmethod(lambda *args: 4))
    monkeypatch.setattr(os, "pread", die_at_the_1500th)
    with pytest.raises(Killed):
        imagenet2012(archives, tmp_path, COUNTS)
    assert not (tmp_path / "imagenet2012" / "5.1.0").exists()
    assert len(list((tmp_path / "imagenet2012" / "5.1.0.unfinished").glob("*-of-00004"))) == 2
    monkeypatch.setattr(imagenet_archives, "_members", None)  # where the images lie is known already
    imagenet2012(archives, tmp_path, COUNTS)
    assert len(reads) == 1500 + 1000 + 1000
    ours, whole = (
        [tuple(e["file_name"] for e in tfds.data_source("imagenet2012", split=s, data_dir=d)) for s in COUNTS]
        for d in (tmp_path, imagenet)
    )
    assert ours == whole
    assert imagenet2012(archives, tmp_path, COUNTS).exists() and len(reads) == 3500  # nothing is left to do


def test_counts():
    synsets = ["a", "b", "c"]
    check_counts(Path("x.tar"), 9, 9, set(synsets), synsets)
    for found, classes, reason in (
        (8, synsets, "8 images of 3 classes instead of 9 of 3;"),
        (9, "ac", "no images of b"),
    ):
        with pytest.raises(DataError, match=reason):
            check_counts(Path("x.tar"), found, 9, set(classes), synsets)


def test_archives_that_are_not_whole_are_named(archives, tmp_path):
    cut = shutil.copytree(archives, tmp_path / "cut")
    os.truncate(cut / "ILSVRC2012_img_train.tar", 3_000_000)
    with pytest.raises(DataError, match="train.tar has 558 images of 279 classes .* .no images of n01440764.; copy"):
        imagenet2012(cut, tmp_path, COUNTS)
    with pytest.raises(DataError, match="train.tar has 2,000 images of 1,000 classes instead of 1,281,167 of 1,000"):
        imagenet2012(archives, tmp_path)
    with pytest.raises(FileNotFoundError, match="img_val.tar is missing"):
        os.remove(cut / "ILSVRC2012_img_val.tar")
        imagenet2012(cut, tmp_path, COUNTS)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("../../etc/n01440764_3.JPEG", None), ("passwd", "'passwd' in .* does not have the name of an ImageNet image")],
)
def test_paths_inside_an_archive_are_not_followed(tmp_path, name, reason):
    folder = tmp_path / "archives"
    folder.mkdir()
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w") as tar:
        add(tar, name, jpeg(0))
    for archive in IMAGENET_TARS.values():
        with tarfile.open(folder / archive, "w") as outer:
            add(outer, "/n01440764.tar", inner.getvalue())
    before = set(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=reason or "has 1 images of 1 classes"):
        imagenet2012(folder, tmp_path / "data", COUNTS)
    new = {path.name for path in set(tmp_path.rglob("*")) - before if path.is_file()}
    assert new == {"lock"} and not (tmp_path.parent / "etc").exists()


def test_a_file_that_is_no_image_is_named(tmp_path):
    bad = write_archives(tmp_path / "archives", {"n01440764_2.JPEG": b"<html>not found</html>"})
    with pytest.raises(DataError, match="n01440764_2.JPEG in .*img_train.tar is not an image"):
        imagenet2012(bad, tmp_path, COUNTS)


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(archives, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 100))
    with pytest.raises(OSError, match="needs 0.0016. GB, and 1e-07 GB are free"):
        imagenet2012(archives, tmp_path, COUNTS)
    assert not list(tmp_path.rglob("*array_record*"))


def test_a_disk_that_becomes_full_is_told_in_a_line(archives, tmp_path, monkeypatch):
    def full(self):
        raise RuntimeError("write() failed: No space left on device")

    monkeypatch.setattr(ArrayRecordWriter, "close", full)
    with pytest.raises(OSError, match=r"array_record.*part cannot be written: write\(\) failed: No space left"):
        imagenet2012(archives, tmp_path, COUNTS)


# CIFAR-10


def cifar_images(indices):
    """Images that tell their index by their red, rows by green and columns by blue."""
    images = np.empty((len(indices), 32, 32, 3), np.uint8)
    images[..., 0] = (indices % 251)[:, None, None]
    images[..., 1], images[..., 2] = 8 * np.arange(32)[:, None], 8 * np.arange(32)
    return images


def write_cifar(folder, kind):
    """The authors' archive; gives its MD5 sum."""
    path = folder / f"cifar-10-{kind}.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for i in range(6):
            indices = np.arange(10_000) + 10_000 * i
            images, labels = cifar_images(indices), (indices % 10).astype(np.uint8)
            name = f"cifar-10-batches/data_batch_{i + 1}" if i < 5 else "cifar-10-batches/test_batch"
            rows = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(10_000, 3072)
            if kind == "binary":
                add(tar, f"{name}.bin", np.concatenate([labels[:, None], rows], 1).tobytes())
            else:
                batch = {"data": rows, "labels": labels.tolist(), "filenames": ["x"] * 10_000}
                add(tar, name, pickle.dumps(batch, protocol=2))
    return {path.name: hashlib.md5(path.read_bytes()).hexdigest()}


@pytest.mark.slow
def test_cifar10_from_the_authors_archive(tmp_path):
    cifar10(tmp_path, tmp_path, write_cifar(tmp_path, "binary"))
    for split, offset in (("train", 0), ("test", 50_000)):
        found = tfds.data_source("cifar10", split=split, data_dir=tmp_path)
        assert len(found) == (50_000 if split == "train" else 10_000)
        for example in (found[i] for i in range(0, len(found), 197)):
            index = offset + int(example["id"].decode().split("_")[1])
            assert (example["image"] == cifar_images(np.array([index]))[0]).all()
            assert example["label"] == index % 10
    assert tfds.builder("cifar10", data_dir=tmp_path).info.features["label"].names == list(CIFAR10_CLASSES)


def test_the_archive_for_python_holds_the_same(tmp_path):
    (images, labels), (expected, theirs) = (
        _read_cifar10(tmp_path / next(iter(write_cifar(tmp_path, kind)))) for kind in ("python", "binary")
    )
    assert (images == expected).all() and (labels == theirs).all()


def test_an_archive_with_another_sum_is_refused(tmp_path):
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(b"something else")
    with pytest.raises(DataError, match="MD5 sum .* instead of c32a1d4ab5d03f1284b67883e8d87530"):
        cifar10(tmp_path, tmp_path)
    with pytest.raises(FileNotFoundError, match="none of cifar-10-binary.tar.gz, cifar-10-python.tar.gz"):
        cifar10(tmp_path / "nowhere", tmp_path)


def test_a_pickle_that_calls_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/evil",)

    path = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        add(tar, "data_batch_1", pickle.dumps(Evil()))
    with pytest.raises(DataError, match="calls posix.system"):
        cifar10(tmp_path, tmp_path, {path.name: hashlib.md5(path.read_bytes()).hexdigest()})
    assert not (tmp_path / "evil").exists()


# Packed images and statistics


@pytest.fixture
def photos(tmp_path):
    """Forty real photographs of each part."""
    folder = real_data("photos")
    for split in ("train", "val"):
        for path in sorted(folder.glob(f"{split}/[bc]*/*"))[::4][:40]:
            target = tmp_path / "photos" / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    return tmp_path


def squares(name, split, data_dir, size=64):
    source = sources.find(name, split, str(data_dir), size, (size, size))
    geometry = None if source.size else decode.Geometry((size, size), size, square=True, random=False)
    parts = list(pipeline.ordered_batches(source.open(), source.examples, 16, geometry))
    return np.concatenate([p["image"] for p in parts]), np.concatenate([p["label"] for p in parts])


@pytest.mark.parametrize("kind", ["uint8", "jpeg"])
def test_packed_images_are_the_central_squares(photos, kind):
    pack.pack("photos", photos, ["train", "val"], 64, kind)
    for split in ("train", "val"):
        (packed, labels), (whole, expected) = (squares(n, split, photos) for n in (f"photos-64-{kind}", "photos"))
        assert (labels == expected).all()
        assert abs(packed.astype(int) - whole).mean() < (1e-9 if kind == "uint8" else 6)


@pytest.mark.parametrize("kind", ["uint8", "jpeg"])
def test_packing_goes_on_after_a_kill(photos, monkeypatch, kind):
    monkeypatch.setattr(pack, "BATCH", 8)
    ordered, firsts = pipeline.ordered_batches, []

    class Killed(BaseException):
        pass

    def die_in_the_third_batch_of_val(data, examples, batch_size, geometry, first, report):
        firsts.append(first)
        for i, batch in enumerate(ordered(data, examples, batch_size, geometry, first, report)):
            if len(firsts) == 2 and i == 2:
                raise Killed
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "ordered_batches", die_in_the_third_batch_of_val)
        with pytest.raises(Killed):
            pack.pack("photos", photos, ["train", "val"], 64, kind)
        if kind == "uint8":
            with (photos / "photos-64-uint8.unfinished" / "val.images.npy").open("ab") as file:
                file.write(b"half an image")
        pack.pack("photos", photos, ["train", "val"], 64, kind)
    # a file of JPEGs is written whole or not at all
    assert firsts == ([0, 0, 40, 16] if kind == "uint8" else [0, 0, 0])
    for split in ("train", "val"):
        (images, labels), (whole, expected) = (squares(name, split, photos) for name in (f"photos-64-{kind}", "photos"))
        assert (labels == expected).all() and abs(images.astype(int) - whole).mean() < (1e-9 if kind == "uint8" else 6)


def test_packing_asks_for_what_it_needs(photos):
    pack.pack("photos", photos, ["train"], 64, "uint8")
    with pytest.raises(ValueError, match="only complete splits can be packed"):
        pack.pack("photos", photos, ["train[:9]"], 32, "uint8")
    (photos / "photos-64-uint8.unfinished").mkdir()
    (photos / "photos-64-uint8").rename(photos / "elsewhere")
    (photos / "photos-64-uint8.unfinished" / "begun.json").write_text("{}")
    with pytest.raises(FileExistsError, match="was begun with different data or splits; remove it"):
        pack.pack("photos", photos, ["val"], 64, "uint8")
    (photos / "photos-64-uint8.unfinished" / "begun.json").write_text("{")
    with pytest.raises(OSError, match="begun.json is damaged: .*; remove .*photos-64-uint8.unfinished, then"):
        pack.pack("photos", photos, ["val"], 64, "uint8")


def test_splits_are_added_to_packed_ones(photos, monkeypatch):
    pack.pack("photos", photos, ["train"], 64, "uint8")
    before = sources.find("photos-64-uint8", "train", str(photos), 64).fingerprint
    add, moves = Path.replace, []

    class Killed(BaseException):
        pass

    def die_at_the_second_move(path, target):
        moves.append(path)
        if path.suffix == ".npy" and len(moves) > 2:
            raise Killed
        return add(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", die_at_the_second_move)
        with pytest.raises(Killed):
            pack.pack("photos", photos, ["train", "validation"], 64, "uint8")
    monkeypatch.setattr(pack, "_pack_uint8", None)  # only moved
    whole = pack.pack("photos", photos, ["train", "validation"], 64, "uint8")
    assert whole == pack.pack("photos", photos, ["val", "train"], 64, "uint8") == photos / "photos-64-uint8"
    assert sources.find("photos-64-uint8", "train", str(photos), 64).fingerprint == before
    for split in ("train", "val", "validation"):
        (packed, labels), (expected, same) = squares("photos-64-uint8", split, photos), squares("photos", split, photos)
        assert (packed == expected).all() and (labels == same).all()
    assert not list(photos.glob("*+*"))


def test_splits_in_tfds_s_files_are_packed_at_once(photos):
    pack.pack("photos", photos, ["train"], 64, "jpeg")
    with pytest.raises(ValueError, match=r"packed without 'val', .*; remove it and give all splits .*=train,val"):
        pack.pack("photos", photos, ["train", "val"], 64, "jpeg")


@pytest.mark.parametrize("lost", [False, True])
def test_statistics_leave_the_sums_of_a_folder_s_files(photos, monkeypatch, lost):
    """A list that sha256sum checks, whether or not there was a stop between."""
    monkeypatch.setattr(pack, "BATCH", 8)
    clock, add = iter(range(0, 100_000, 40)), statistics.Sums.add

    class Killed(BaseException):
        pass

    def die_at_image_24(sums, images):
        if sums.examples == 24:
            raise Killed
        return add(sums, images)

    with monkeypatch.context() as patch:
        patch.setattr("time.monotonic", lambda: next(clock))
        patch.setattr(statistics.Sums, "add", die_at_image_24)
        with pytest.raises(Killed):
            image_statistics.compute_statistics("photos", photos, "train", 64)
    listed = photos / "photos" / "SHA256SUMS.train.txt"
    assert 24 <= len(listed.read_bytes().splitlines())  # more are read ahead
    if lost:
        listed.write_bytes(b"".join(listed.read_bytes().splitlines(keepends=True)[:24]))
    file = image_statistics.compute_statistics("photos", photos, "train", 64)
    check = subprocess.run(
        ["sha256sum", "--strict", "-c", listed.name], cwd=listed.parent, capture_output=True, text=True
    )
    assert check.returncode == 0 and check.stdout.count(": OK") == 40
    source = sources.find("photos", "train", str(photos), 64, (64, 64))
    assert squares("photos", "train", photos)[1].size == checksums.verified(source).examples == 40
    before = file.read_bytes()
    listed.unlink()  # as statistics of earlier versions have none
    image_statistics.compute_statistics("photos", photos, "train", 64)
    assert len(listed.read_bytes().splitlines()) == 40 and file.read_bytes() == before
    file.unlink()
    bad = next((photos / "photos" / "train").glob("*/*"))
    bad.write_bytes(bad.read_bytes() + b"\0")  # after its end, where no decoder looks
    with pytest.raises(DataError, match=f"{bad.name} in .* has changed since"):
        image_statistics.compute_statistics("photos", photos, "train", 64)


def test_a_damaged_photograph_stops_or_is_replaced(photos):
    bad = next((photos / "photos" / "train").glob("*/*"))
    bad.write_bytes(bad.read_bytes()[:-300])
    for make, listed in (
        (
            lambda *replace: pack.pack("photos", photos, ["train"], 64, "uint8", *replace),
            "photos-64-uint8/corrupt.txt",
        ),
        (
            lambda *replace: image_statistics.compute_statistics("photos", photos, "train", 64, *replace),
            "photos/statistics.train.64.corrupt.txt",
        ),
    ):
        with pytest.raises(DataError, match=f"{bad.name} in .*cannot be decoded.*on_corrupt=replace"):
            make()
        assert make(True).exists()
        (line,) = (photos / listed).read_text().splitlines()
        assert bad.name in line
    assert sources.find("photos-64-uint8", "train", str(photos), 64).replaced == (
        *(photos / "photos-64-uint8/corrupt.txt").read_text().splitlines(),
    )
    test_image = next((photos / "photos" / "val").glob("*/*"))
    test_image.write_bytes(test_image.read_bytes()[:-300])
    with pytest.raises(DataError, match=f"{test_image.name} in .*cannot be decoded"):  # test images are never replaced
        pack.pack("photos", photos, ["val"], 64, "uint8", True)


@pytest.mark.parametrize("kind", ["uint8", "jpeg"])
def test_what_has_changed_since_it_was_packed_is_refused(photos, kind):
    packed = pack.pack("photos", photos, ["train"], 64, kind)
    (photos / "photos" / "train" / "bonsai" / "one_more.jpg").write_bytes(jpeg(0))
    folders._list_folders.cache_clear()
    with pytest.raises(ValueError, match="was packed from photos before that changed; remove it, and pack it again"):
        pack.pack("photos", photos, ["train"], 64, kind)
    with pytest.raises(ValueError, match="was packed from photos before that changed"):  # images may have moved there
        pack.pack("photos", photos, ["validation"], 64, kind)
    (photos / "photos").rename(photos / "elsewhere")
    assert pack.pack("photos", photos, ["train"], 64, kind) == packed


def test_statistics_of_files_and_of_packed_images_agree(photos):
    pack.pack("photos", photos, ["train"], 64, "uint8")
    files = [image_statistics.compute_statistics(name, photos, "train", 64) for name in ("photos", "photos-64-uint8")]
    assert files[0] == photos / "photos" / "statistics.train.64.npz"
    found = []
    for file, name in zip(files, ("photos", "photos-64-uint8"), strict=True):
        source = sources.find(name, "train", str(photos), 64, (64, 64))
        found.append(statistics.load(file, source.fingerprint))
    images = squares("photos", "train", photos)[0].astype(np.float64)
    np.testing.assert_allclose(found[0].pixel_mean, images.mean(0), rtol=1e-6)
    assert all((a == b).all() for a, b in zip(*(vars(each).values() for each in found), strict=True))
    (photos / "photos" / "train" / "bonsai" / "one_more.jpg").write_bytes(jpeg(0))
    folders._list_folders.cache_clear()
    changed = sources.find("photos", "train", str(photos), 64, (64, 64))
    with pytest.raises(OSError, match="was computed from data that has changed"):
        statistics.load(files[0], changed.fingerprint)


def test_statistics_go_on_after_a_kill(photos, monkeypatch):
    monkeypatch.setattr(pack, "BATCH", 8)
    add, clock = statistics.Sums.add, iter(range(0, 10**6, 400))  # every look at the clock is 400 s later
    monkeypatch.setattr("time.monotonic", lambda: next(clock))

    class Killed(BaseException):
        pass

    def die_at_image_24(sums, images):
        if sums.examples == 24:
            raise Killed
        return add(sums, images)

    with monkeypatch.context() as patch:
        patch.setattr(statistics.Sums, "add", die_at_image_24)
        with pytest.raises(Killed):
            image_statistics.compute_statistics("photos", photos, "train", 64)
    seen = []
    monkeypatch.setattr(statistics.Sums, "add", lambda sums, images: seen.append(sums.examples) or add(sums, images))
    file = image_statistics.compute_statistics("photos", photos, "train", 64)
    source = sources.find("photos", "train", str(photos), 64, (64, 64))
    images = squares("photos", "train", photos)[0]
    assert seen[0] == 24 and not list(file.parent.glob("*.unfinished"))
    expected = statistics.compute([images])
    found = statistics.load(file, source.fingerprint)
    assert all((getattr(found, name) == value).all() for name, value in vars(expected).items())


def command(*arguments, cwd):
    return shell().run(arguments, cwd, module="deepconv.data.prepare")


def test_the_command(photos):
    done = command("pack", "photos", "--data_dir=.", "--size=64", "--split=train,val", cwd=photos)
    assert done.code == 0 and "photos-64-uint8 is complete" in done.out, done.err
    for arguments, reason in (
        (["pack", "nothing", "--data_dir=.", "--split=train"], "nothing is not in ."),
        (["pack"], "pack needs the name of one data set"),
        (["pack", "photos", "--data_dir=."], "pack needs --split with all splits"),
    ):
        wrong = command(*arguments, cwd=photos)
        assert wrong.code in (1, 2) and reason in wrong.err and len(wrong.err.strip().splitlines()) == 1
