"""Hostile files"""

import io
import json
import os
import shutil
import struct
import tarfile
import zlib

import numpy as np
import pytest
from PIL import Image

from faults.harness import QUICK, copy

SYNSET = "n01440764"


def bomb(width, height):
    """A PNG of a few kilobytes that is black and enormous."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer = zlib.compressobj(9)
    row = bytes(1 + width // 8)
    rows = b"".join(packer.compress(row * 100) for _ in range(height // 100)) + packer.flush()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def lying_jpeg():
    """A JPEG whose header says 65,000 x 65,000."""
    out = io.BytesIO()
    Image.new("RGB", (16, 16)).save(out, "JPEG")
    content = bytearray(out.getvalue())
    size = content.index(b"\xff\xc0") + 5
    content[size : size + 4] = struct.pack(">HH", 65000, 65000)
    return bytes(content)


def test_bombs(shell, tested, photos, tally, tmp_path):
    """Images that are small on disk and enormous in memory, in training and in predict"""
    data, arguments = photos
    for name, content in (("bomb.png", bomb(40_000, 40_000)), ("bomb.jpg", lying_jpeg())):
        with tally.attempt(f"{name}, predict"):
            (tmp_path / name).write_bytes(content)
            answer = shell.run([f"--run={tested}", name], tmp_path, module="deepconv.predict").ends(1, 2)
            assert name in answer.err + answer.out and "pixels" in answer.err + answer.out, answer.last_words
        with tally.attempt(f"{name}, training"):
            (data / "photos" / "train" / "even" / "04.png").write_bytes(content)
            answer = shell.run([*arguments, f"--workdir={name}"], data).ends(1)
            assert "04.png" in answer.err and "pixels" in answer.err, answer.err


def member(name, content=b"", kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(content), kind, link
    return info, io.BytesIO(content)


def tar(members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for info, content in members:
            archive.addfile(info, content)
    return out.getvalue()


ARCHIVES = {
    "path that leads out": tar([member("../../evil.txt", b"evil")]),
    "absolute path": tar([member("/tmp/evil-deepconv", b"evil")]),
    "link that leads out": tar([member(f"{SYNSET}.tar", kind=tarfile.SYMTYPE, link="/etc/passwd")]),
    "hard link": tar([member(f"{SYNSET}.tar", kind=tarfile.LNKTYPE, link="../../etc/passwd")]),
    "device": tar([member(f"{SYNSET}.tar", kind=tarfile.CHRTYPE)]),
    "path in an inner archive": tar([member(f"{SYNSET}.tar", tar([member(f"../../{SYNSET}_1.JPEG", b"evil")]))]),
    "link in an inner archive": tar(
        [member(f"{SYNSET}.tar", tar([member(f"{SYNSET}_1.JPEG", kind=tarfile.SYMTYPE, link="/etc/passwd")]))]
    ),
    "size that lies": tar([member(f"{SYNSET}.tar", b"evil")])[:600].ljust(1024, b"\0"),
    "not an archive": b"evil" * 1000,
    "escape in a name": tar([member("\x1b[31mred", b"evil")]),
}


def test_archives(shell, tally, tmp_path):
    """Archives given as ImageNet and CIFAR-10: paths and links that lead out, devices, sizes that lie, escapes"""
    for name, content in ARCHIVES.items():
        with tally.attempt(name):
            folder = tmp_path / name / "archives"
            folder.mkdir(parents=True)
            for file in ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "cifar-10-binary.tar.gz"):
                (folder / file).write_bytes(content)
            for data_set in ("imagenet2012", "cifar10"):
                arguments = [data_set, f"--archives={folder}", f"--data_dir={tmp_path / name / 'data'}"]
                shell.run(arguments, tmp_path / name, module="deepconv.data.prepare").ends(1, 2).says()
            found = {path.name for path in tmp_path.rglob("*") if path.is_file()}
            assert "evil.txt" not in found and not os.path.exists("/tmp/evil-deepconv"), "something was extracted"


def safetensors(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(shape, begin, end, kind="F32"):
    return {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}


HEADERS = {
    "empty": b"",
    "header of 2**63 bytes": safetensors({}, length=2**63),
    "header longer than the file": safetensors({}, length=1000),
    "header of 200 MB": safetensors({}, length=200_000_000),
    "not JSON": safetensors(b"{" * 100),
    "nested JSON": safetensors(b"[" * 100_000),
    "offsets behind the end": safetensors({"x": tensor([2], 0, 8)}, bytes(4)),
    "offsets backwards": safetensors({"x": tensor([2], 8, 0)}, bytes(8)),
    "overlapping": safetensors({"x": tensor([2], 0, 8), "y": tensor([2], 4, 12)}, bytes(12)),
    "shape larger than the data": safetensors({"x": tensor([1000], 0, 8)}, bytes(8)),
    "shape that overflows": safetensors({"x": tensor([2**32, 2**32], 0, 0)}),
    "negative shape": safetensors({"x": tensor([-1], 0, 4)}, bytes(4)),
    "unknown type": safetensors({"x": tensor([1], 0, 4, "PICKLE")}, bytes(4)),
    "a pickle": b"\x80\x04cos\nsystem\n(S'touch evil'\ntR.",
    "escapes in a name": safetensors({"\x1b[31m\nred": tensor([1], 0, 4)}, bytes(4)),
    "no layer of the net": safetensors({"x": tensor([1], 0, 4)}, bytes(4)),
}


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_headers(shell, tally, tmp_path, suffix):
    """Weights whose header lies about lengths, offsets and shapes, or that are a pickle: .{suffix}"""
    for number, (name, content) in enumerate(HEADERS.items()):
        with tally.attempt(name):
            file = tmp_path / f"{number}.{suffix}"
            file.write_bytes(content)
            shell.run([QUICK, "--smoke", f"--init_from={file}"], tmp_path).ends(2).says(file.name)
            assert not (tmp_path / "evil").exists()


class Evil:
    """Runs a command where it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def test_pickles(shell, tested, photos, tally, tmp_path):
    """Pickles in the place of arrays: statistics, precise averages, probabilities, labels"""
    data, arguments = photos
    marker = tmp_path / "evil"
    evil = np.array([Evil(marker)], dtype=object)
    statistics = data / "photos" / "statistics.train.16.npz"
    with tally.attempt("statistics of a data set"):
        with np.load(statistics) as stored:
            np.savez(statistics, **{name: evil for name in stored})
        shell.run([*arguments, "--workdir=run"], data).ends(1, 2).says(statistics.name)
    Image.new("RGB", (30, 30)).save(tmp_path / "photo.png")
    with tally.attempt("statistics of a run"):
        run = copy(tested, tmp_path / "run")
        with np.load(run / "statistics.npz") as stored:
            np.savez(run / "statistics.npz", **{name: evil for name in stored})
        shell.run(["--run=run", "photo.png"], tmp_path, module="deepconv.predict").ends(1, 2).says("statistics.npz")
    with tally.attempt("precise averages"):
        run = copy(tested, tmp_path / "run")
        np.savez(run / "precise_batch_stats.npz", evil, evil)
        command = [QUICK, "--smoke", "--workdir=run", "--evals=center_precise_batch_stats"]
        shell.run(command, tmp_path).ends(1, 2).says("precise_batch_stats.npz")
    for name in ("probs.center.npy", "labels.npy"):
        with tally.attempt(name):
            run = copy(tested, tmp_path / "run")
            np.save(run / name, evil, allow_pickle=True)
            files = ["run/probs.center.npy", f"{tested}/probs.center.npy"]
            shell.run(files, tmp_path, module="deepconv.evaluation.ensemble").ends(1, 2).says(name)
    with tally.attempt("nothing was unpickled"):
        assert not marker.exists()


def test_names_of_data(shell, tally, tmp_path):
    """Names of data sets, splits and recipes that lead out of their folder, or have escapes"""
    options = ["--config.data.name=../../../etc", "--config.data.name=/etc", "--config.data.name=\x1b[31mred"]
    options += ["--config.data.train_split=../../x", "--config.data.train_split=\x1b[31m", "--config.\x1b[31m=1"]
    options += ["--config.data.name=a\nb", "--evals=\x1b[31m", "--\x1b[31m=1", "\x1b[31m"]
    for option in options:
        with tally.attempt(repr(option)):
            shell.run([QUICK, "--smoke", option, "--data_dir=."], tmp_path).ends(2).says()


NAMES = ["\x1b[31mred", "new\nline", "tab\tand\rreturn", "\x07bell", "a$x_{$", "[bold]b", "é☃", "\u202eright to left"]


@pytest.mark.parametrize("place", ["class", "file"])
def test_escapes(shell, photos, tally, place):
    """Escapes, new lines and markup in names, of which none may reach a terminal: {place}"""
    data, arguments = photos
    (data / "photos" / "statistics.train.16.npz").unlink()
    for number, name in enumerate(NAMES):
        train = data / "photos" / "train"
        if place == "class":
            for split, image in (("train", f"{2 * number:02}"), ("val", "00")):
                (data / "photos" / split / name).mkdir()
                shutil.copy(data / "photos" / split / "even" / f"{image}.png", data / "photos" / split / name)
        else:
            (train / "odd" / f"{name}.png").write_bytes(b"no image")
    prepare = ["statistics", "photos", "--data_dir=.", "--size=16", "--on_corrupt=replace"]
    training = [*arguments, "--config.data.on_corrupt=replace", "--workdir=run"]
    photo = ["--run=run", "photos/val/odd/01.png", "--plot=plot.png"]
    for module, command in (("data.prepare", prepare), ("main", training), ("predict", photo)):
        with tally.attempt(module):
            answer = shell.run(command, data, module=f"deepconv.{module}").ends(0)
            text = (answer.out + answer.err).replace("\n", "")
            assert text.isprintable(), repr("".join(x for x in text if not x.isprintable()))
    if place == "file":
        with tally.attempt("corrupt.txt"):
            lines = (data / "run" / "corrupt.txt").read_text().splitlines()
            assert len(lines) == len(NAMES) and "\n".join(lines).replace("\n", "").isprintable(), lines
