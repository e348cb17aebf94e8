"""Damage"""

import contextlib
import io
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from deepconv import resume
from deepconv import task as task_lib
from deepconv.config import recipes
from deepconv.run import checkpoint, checkpoint_files
from faults.harness import CHANGES, QUICK, RECIPE, RUN, assert_same, at_step, copy, outcome, send, tries

FLIPS = tries(100)


@pytest.fixture(scope="module")
def stopped(shell, tmp_path_factory):
    """The directory of a run with checkpoints of steps 20 and 25."""
    folder = tmp_path_factory.mktemp("stopped")
    shell.run([*RUN, "--workdir=run"], folder, inject=at_step(25, send("SIGTERM"))).ends(75)
    return folder / "run"


@pytest.fixture(scope="module")
def restore(stopped):
    """Restores the newest whole checkpoint of a directory: the bits that come back, and what is said."""
    like = resume.initial_state(task_lib.prepare(recipes.load(RECIPE, CHANGES, smoke=True), None))()

    def restore(workdir):
        with contextlib.redirect_stderr(io.StringIO()) as said:
            manager = checkpoint.open_manager(workdir / "checkpoints", total_steps=40)
            leaves = jax.tree.leaves(checkpoint.restore(manager, like))
            manager.close()
        return [np.asarray(leaf).tobytes() for leaf in leaves], said.getvalue()

    return restore


@pytest.fixture(scope="module")
def restored(stopped, restore, tmp_path_factory):
    """The bits of step 25, and those of step 20."""
    older = copy(stopped, tmp_path_factory.mktemp("older") / "run")
    shutil.rmtree(older / "checkpoints" / "25")
    return restore(stopped)[0], restore(older)[0]


def files_of_newest(workdir):
    folder = workdir / "checkpoints" / "25"
    return sorted(path for path in folder.rglob("*") if path.is_file())


def check(restore, restored, workdir):
    """The newest bits or, after a warning, those of the checkpoint before it."""
    bits, said = restore(workdir)
    newest, older = restored
    assert bits == (older if "CHECKPOINT 25 IS DAMAGED" in said else newest), f"other bits: {said or 'without a word'}"


def flip(path, bit):
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def test_flipped_bits(stopped, restore, restored, tally, tmp_path):
    """A flipped bit anywhere in the newest checkpoint"""
    for number in range(FLIPS):
        run = copy(stopped, tmp_path / "run")
        files = files_of_newest(run)
        large = max(files, key=lambda file: file.stat().st_size)
        path = tally.rng.choice([large, tally.rng.choice([file for file in files if file.stat().st_size])])
        bit = tally.rng.randrange(8 * path.stat().st_size)
        with tally.attempt(f"flip {number}: bit {bit} of {path.relative_to(run)}"):
            flip(path, bit)
            check(restore, restored, run)


def test_files_of_a_checkpoint(stopped, restore, restored, tally, tmp_path):
    """Each file of the newest checkpoint cut in half, emptied, or removed"""
    for place in range(len(files_of_newest(stopped))):
        for harm in ("half", "empty", "missing"):
            run = copy(stopped, tmp_path / "run")
            path = files_of_newest(run)[place]
            with tally.attempt(f"{path.relative_to(run)}: {harm}"):
                if harm == "missing":
                    path.unlink()
                else:
                    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 if harm == "half" else 0])
                check(restore, restored, run)


def test_command(shell, stopped, wanted, tally, tmp_path):
    """The command itself after: a flipped bit; a stale temporary directory; no whole checkpoint; none at all"""
    arguments = [*RUN, "--workdir=run"]
    largest = max(files_of_newest(stopped), key=lambda file: file.stat().st_size).relative_to(stopped)
    with tally.attempt("flipped bit"):
        run = copy(stopped, tmp_path / "run")
        flip(run / largest, 4 * (run / largest).stat().st_size)
        answer = shell.run(arguments, tmp_path).ends(0)
        assert "CHECKPOINT 25 IS DAMAGED" in answer.err, answer.err
        assert_same(run, wanted)
    with tally.attempt("stale temporary directory"):
        run = copy(stopped, tmp_path / "run")
        half = shutil.copytree(run / "checkpoints" / "25", run / "checkpoints" / "30.orbax-checkpoint-tmp")
        (half / largest.relative_to("checkpoints/25")).unlink()
        (run / "config.json.host.1.tmp").write_text("{")
        shell.run(arguments, tmp_path).ends(0)
        assert_same(run, wanted)
        assert not half.exists() and not [*run.glob("*.tmp")]
    with tally.attempt("no whole checkpoint"):
        run = copy(stopped, tmp_path / "run")
        for step in ("20", "25"):
            (run / "checkpoints" / step / checkpoint_files.SUMS).unlink()
        answer = shell.run(arguments, tmp_path).ends(1, 2)
        assert "all checkpoints in run/checkpoints are damaged" in answer.err.replace(f"{tmp_path}/", ""), answer.err
    with tally.attempt("no checkpoint at all"):
        run = copy(stopped, tmp_path / "run")
        shutil.rmtree(run / "checkpoints")
        shell.run(arguments, tmp_path).ends(0)
        assert_same(run, wanted)


HARM = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "another kind": lambda content: b'"text"\n',
    "not text": lambda content: bytes([0xFF, 0xFE, 0x00]) + content[::-1],
}


@pytest.mark.parametrize("name", ["config.json", "environment.json", "classes.json", "eval.center.json"])
def test_json_files(shell, whole, wanted, tally, tmp_path, name):
    """A JSON file of a run's directory is empty, cut in half, of another kind, or not text: {name}"""
    for harm, change in HARM.items():
        with tally.attempt(f"{name}, {harm}"):
            run = copy(whole, tmp_path / "run")
            if name != "eval.center.json":
                (run / "eval.center.json").unlink()
            (run / name).write_bytes(change((run / name).read_bytes()))
            answer = shell.run([*RUN, "--workdir=run"], tmp_path).ends(0, 1, 2)
            if answer.code:
                answer.says(name)
            else:
                assert_same(run, wanted)


def test_metrics_file(shell, stopped, wanted, tally, tmp_path):
    """metrics.jsonl ends in the middle of a line, or has a line of rubbish, or of JSON that is not a record"""
    lines = {"torn": b'{"step": 2', "rubbish": b"\x00\xff rubbish\n", "number": b"7\n", "no step": b"{}\n"}
    lines["step of text"] = b'{"step": "x"}\n'
    for name, line in lines.items():
        with tally.attempt(name):
            run = copy(stopped, tmp_path / "run")
            with (run / "metrics.jsonl").open("ab") as file:
                file.write(line)
            answer = shell.run([*RUN, "--workdir=run"], tmp_path).ends(0, 1, 2)
            if answer.code:
                answer.says("metrics.jsonl")
            else:
                text = (run / "metrics.jsonl").read_text(errors="replace").splitlines()
                (run / "metrics.jsonl").write_text("\n".join(x for x in text if "rubbish" not in x and '"x"' not in x))
                assert_same(run, wanted)


@pytest.mark.parametrize("name", ["probs.center.npy", "labels.npy", "precise_batch_stats.npz", "statistics.npz"])
def test_arrays(shell, tested, tally, tmp_path, name):
    """An array file of a run's directory is cut in half, or not an array: {name}"""
    arguments = [QUICK, "--smoke", "--workdir=run", "--evals=center_precise_batch_stats"]
    copy(tested, tmp_path / "run")
    shell.run(arguments, tmp_path).ends(0)
    copy(tmp_path / "run", tmp_path / "whole")
    for harm in ("empty", "half", "not text"):
        with tally.attempt(f"{name}, {harm}"):
            run = copy(tmp_path / "whole", tmp_path / "run")
            (run / name).write_bytes(HARM[harm]((run / name).read_bytes()))
            if name.endswith(".npz"):  # a later test would use it again
                (run / "eval.center_precise_batch_stats.json").unlink()
                answer = shell.run(arguments, tmp_path)
            else:
                files = ["run/probs.center.npy", "whole/probs.center.npy"]
                answer = shell.run(files, tmp_path, module="deepconv.evaluation.ensemble")
            if answer.ends(0, 1, 2).code:
                answer.says(name)
            else:
                assert name.endswith(".npz"), answer.out
                assert_same(run, outcome(tmp_path / "whole"))


def test_tests_of_a_lost_net(shell, whole, wanted, tally, tmp_path):
    """The last checkpoint of a finished run is damaged, and another test is asked for: all tests are of one net"""
    run, more = copy(whole, tmp_path / "run"), "center_precise_batch_stats"
    folder = max((run / "checkpoints").iterdir(), key=lambda path: int(path.name))
    max(folder.rglob("*"), key=lambda path: path.is_file() and path.stat().st_size).write_bytes(b"")
    probs = np.load(run / "probs.center.npy")
    np.save(run / "probs.center.npy", probs[::-1])  # of a net with other bits, as on a GPU
    with tally.attempt("a test of the net that is trained again"):
        said = shell.run([*RUN, f"--evals=center,{more}", "--workdir=run"], tmp_path).ends(0).out
        assert "eval.center.json is removed: it tested a net whose checkpoint was lost; --evals=center tests" in said
        for name in (f"eval.{more}.json", f"probs.{more}.npy"):
            (run / name).unlink()
        assert_same(run, wanted)


def test_reading_commands(shell, tested, tally, tmp_path):
    """predict and weights export on a run whose checkpoint, config.json or classes.json is damaged"""
    commands = {"predict": ["--run=run", "photo.png"], "weights": ["export", "--run=run", "--to=net.safetensors"]}

    Image.new("RGB", (40, 40), (200, 10, 10)).save(tmp_path / "photo.png")
    for module, arguments in commands.items():
        for name in ("config.json", "classes.json", "checkpoint"):
            if (module, name) == ("weights", "classes.json"):
                continue  # it does not name classes
            with tally.attempt(f"{module}, {name}"):
                run = copy(tested, tmp_path / "run")
                if name == "checkpoint":
                    newest = max(run.glob("checkpoints/*"), key=lambda path: int(path.name))
                    path = max(newest.rglob("*"), key=lambda path: path.is_file() and path.stat().st_size)
                    flip(path, 4 * path.stat().st_size)
                    answer = shell.run(arguments, tmp_path, module=f"deepconv.{module}").ends(0, 1, 2)
                    assert "DAMAGED" in answer.err or "damaged" in answer.err or answer.code, "used without a word"
                else:
                    (run / name).write_bytes(HARM["half"]((run / name).read_bytes()))
                    shell.run(arguments, tmp_path, module=f"deepconv.{module}").ends(1, 2).says(name)
