"""Disk"""

import shutil

import pytest

from faults.harness import RUN, assert_same, at_call, at_step, send

SMALL, LARGE = "size=8m", "size=100m"
FILL = """
with open("full/filler", "ab", buffering=0) as filler:
    try:
        while True:
            filler.write(bytes(4096))
    except OSError:
        pass
"""
# What cannot be written once the disk is full
FULL = {
    "config.json": at_call("task.prepare", FILL),
    "metrics": at_step(2, FILL),
    "a checkpoint": at_step(9, FILL),
    "the checkpoint of a stop": at_step(14, f"{FILL}\n{send('SIGTERM')}"),
    "the last checkpoint": at_step(39, FILL),
    "probabilities": at_call("evaluate.open_table", FILL),
    "the record of a test": at_call("evaluate.save", FILL),
    "curves": at_call("curves.draw", FILL),
}


@pytest.mark.parametrize("what", FULL)
def test_full(shell, wanted, tally, tmp_path, what):
    """A disk that is full when this is written: {what}"""
    disk = shell.mount(tmp_path / "full", SMALL)
    arguments = [*RUN, "--workdir=full/run"]
    with tally.attempt("full, then room"):
        answer = shell.run(arguments, tmp_path, inject=FULL[what])
        answer.ends(2 if what == "config.json" else 1)
        assert "deepconv: " in answer.err and "No space left on device" in answer.err, answer.last_words
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
        answer = shell.run(arguments, tmp_path, inject=at_step(15, f"shutil.rmtree({what!r})")).ends(1)
        assert "deepconv: " in answer.err and str(what) in answer.err, answer.err[-1500:]
        assert not (tmp_path / "run" / "metrics.jsonl").exists() or what != "run", "it was made again, in part"
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        shell.run(arguments, tmp_path).ends(0)
        assert_same(tmp_path / "run", wanted)


def test_last_checkpoint(shell, wanted, tally, tmp_path):
    """The last checkpoint alone cannot be written: the run does not count as finished"""
    fail = at_call("checkpoint_files.write_sums", "raise OSError(28, 'No space left on device')", call=4)
    with tally.attempt("the save at step 40"):
        shell.run([*RUN, "--workdir=run"], tmp_path, inject=fail).ends(1).says("No space left on device")
        assert not (tmp_path / "run" / "eval.center.json").exists()
        shell.run([*RUN, "--workdir=run"], tmp_path).ends(0)
        assert_same(tmp_path / "run", wanted)
