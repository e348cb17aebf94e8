"""Another run's directory"""

import json
import shutil

import pytest

from faults.harness import RUN, assert_same, at_step, copy, send


@pytest.fixture(scope="module")
def begun(shell, tmp_path_factory):
    """The directory of a run that was stopped after step 15."""
    folder = tmp_path_factory.mktemp("begun")
    shell.run([*RUN, "--workdir=run"], folder, inject=at_step(15, send("SIGTERM"))).ends(75)
    return folder / "run"


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "lock"}


CHANGED = {
    "seed": ("--config.seed=1", "seed: 0 in the run, 1 now"),
    "length": ("--config.total_steps=50", "total_steps: 40 in the run, 50 now"),
    "model": ("--config.model.depth=14", "model.depth: 8 in the run, 14 now"),
    "data": ("--config.data.train_split=train[:80]", "data.train_split"),
    "optimiser": ("--config.optimizer.momentum=0.8", "optimizer.momentum: 0.9 in the run, 0.8 now"),
}


def test_other_config(shell, begun, tally, tmp_path):
    """The directory of a run with another seed, length, model, data set, optimiser"""
    run = copy(begun, tmp_path / "run")
    before = contents(run)
    for name, (change, words) in CHANGED.items():
        with tally.attempt(name):
            answer = shell.run([*RUN, "--workdir=run", change], tmp_path).ends(2)
            assert words in answer.err and answer.err.startswith("deepconv: "), answer.err
            assert contents(run) == before, "something was written"


def test_other_images(shell, photos, tally):
    """A data folder that has gained an image since the run began"""
    data, arguments = photos
    with tally.attempt("one image more"):
        shell.run([*arguments, "--workdir=run"], data, inject=at_step(5, send("SIGTERM"))).ends(75)
        shutil.copy(data / "photos/train/odd/01.png", data / "photos/train/odd/99.png")
        (data / "photos" / "statistics.train.16.npz").unlink()
        prepare = ["statistics", "photos", "--data_dir=.", "--split=train", "--size=16"]
        shell.run(prepare, data, module="deepconv.data.prepare").ends(0)
        answer = shell.run([*arguments, "--workdir=run"], data).ends(2)
        assert "train_data: 20 examples" in answer.err, answer.err


def test_other_checkpoints(shell, begun, tally, tmp_path):
    """Checkpoints of another model in the place of a run's own"""
    deeper = [*RUN, "--config.model.depth=14", "--workdir=deeper"]
    shell.run(deeper, tmp_path, inject=at_step(5, send("SIGTERM"))).ends(75)
    with tally.attempt("14 layers instead of 8"):
        run = copy(begun, tmp_path / "run")
        copy(tmp_path / "deeper" / "checkpoints", run / "checkpoints")
        before = contents(run / "checkpoints")
        answer = shell.run([*RUN, "--workdir=run"], tmp_path).ends(1, 2)
        assert "does not fit this model" in answer.err, answer.err
        assert contents(run / "checkpoints") == before, "the checkpoint has changed"


def test_other_schema(shell, begun, wanted, tally, tmp_path):
    """config.json of an older schema (goes on), and of a newer one (refused)"""
    run = copy(begun, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    with tally.attempt("newer"):
        (run / "config.json").write_text(json.dumps(config | {"schema": 99}))
        shell.run([*RUN, "--workdir=run"], tmp_path).ends(2).says("schema 99")
    with tally.attempt("older"):
        del config["schema"], config["data"]["std"], config["model"]["shortcut"], config["optimizer"]["ema_decay"]
        (run / "config.json").write_text(json.dumps(config))
        shell.run([*RUN, "--workdir=run"], tmp_path).ends(0)
        assert_same(run, wanted)
