"""Disk"""

import shutil

import pytest

from faults.harness import RUN, assert_same, at_call, at_step

SMALL, LARGE = "size=8m", "size=100m"
FILL = """
            with open("full/filler", "ab", buffering=0) as filler:
                try:
                    while True: filler.write(bytes(4096))
                except OSError: pass
"""
# What cannot be written once the disk is full
FULL = {
    "a checkpoint": at_step(9, FILL.strip()),
    "metrics": at_step(11, FILL.strip()),
    "the checkpoint of a stop": at_step(14, FILL.strip() + "\n            os.kill(os.getpid(), signal.SIGTERM)"),
    "the last checkpoint": at_step(39, FILL.strip()),
    "probabilities": at_call("evaluate.run", FILL.strip().replace("\n    ", "\n")),
    "the test's record": at_call("evaluate.write", FILL.strip().replace("\n    ", "\n")),
    "curves": at_call("curves.draw", FILL.strip().replace("\n    ", "\n")),
    "the start": at_call("train.prepare", FILL.strip().replace("\n    ", "\n")),
}


@pytest.mark.parametrize("what", FULL)
def test_full(shell, wanted, tally, tmp_path, what):
    """A disk that is full when this is written: {what}"""
    disk = shell.mount(tmp_path / "full", SMALL)
    arguments = [*RUN, "--workdir=full/run"]
    with tally.attempt("full, then room"):
        answer = shell.run(arguments, tmp_path, inject=FULL[what])
        assert answer.code == 1 and "Traceback (most recent call last)" not in answer.err, answer.err[-1500:]
        assert "No space left on device" in answer.err and "deepconv: " in answer.err, answer.err[-1500:]
        (disk / "filler").unlink()
        shell.run(arguments, tmp_path).ends(0)
        assert_same(disk / "run", wanted)


def test_read_only(shell, wanted, tally, tmp_path):
    """A disk that is read-only from the start, and one that becomes so in a run"""
    disk = shell.mount(tmp_path / "disk", LARGE)
    arguments = [*RUN, "--workdir=disk/run"]
    with tally.attempt("becomes read-only at step 15"):
        remount = "subprocess.run(['mount', '-o', 'remount,ro', 'disk'], check=True)"
        shell.run(arguments, tmp_path, inject=at_step(15, remount))  # files are open, so the system may refuse
        shell.mount(tmp_path / "disk", f"remount,rw,{LARGE}")
        shell.run(arguments, tmp_path).ends(0)
        assert_same(disk / "run", wanted)
    with tally.attempt("read-only from the start"):
        shell.mount(tmp_path / "disk", f"remount,ro,{LARGE}")
        shell.run([*RUN, "--workdir=disk/other"], tmp_path).ends(1, 2).says("disk/other", "Read-only file system")


@pytest.mark.parametrize("what", ["run", "run/checkpoints"])
def test_vanishes(shell, wanted, tally, tmp_path, what):
    """A directory that is removed in mid-run: {what}"""
    arguments = [*RUN, "--workdir=run"]
    with tally.attempt("removed at step 15"):
        shell.run(arguments, tmp_path, inject=at_step(15, f"shutil.rmtree({what!r})")).ends(1)
        if what == "run" and (tmp_path / "run").exists():
            assert not any(path.is_file() for path in (tmp_path / "run").rglob("*")), "it was made again, in part"
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        shell.run(arguments, tmp_path).ends(0)
        assert_same(tmp_path / "run", wanted)
