"""The proposals on which R-CNN is trained: from a net that proposes regions to the file that training reads."""

import dataclasses
import json

import numpy as np
import pytest
from conftest import answers, shell
from test_refinement import SIDE, write_run

from deepconv import processes
from deepconv.config import durations, recipes
from deepconv.data import sources
from deepconv.localization import dense, training_proposals
from deepconv.localization.window_table import append, open_windows
from deepconv.run import checkpoint_files


def write_files(folder):
    """Writes a classification net, a net that makes proposals, and a recipe that is trained on them."""
    write_run(folder, "classifier", "classification", 3)
    write_run(folder, "rpn", "class_region_proposal", 0)
    config = recipes.config_of(recipes.read_run(folder / "rpn")).to_dict() | {"objective": "class_box_refinement"}
    config["optimizer"]["drop_at_epochs"] = ()
    lines = ["from ml_collections import ConfigDict", "def get_config():", f"    return ConfigDict({config!r})"]
    (folder / "recipe.py").write_text("\n".join(lines))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with these files."""
    folder = tmp_path_factory.mktemp("proposals")
    write_files(folder)
    return folder


NO_PROPOSALS = ["--config=recipe.py", "--init_from=classifier", "--init_layers=all_but_head"]
COMMAND = [*NO_PROPOSALS, "--proposals_from=rpn"]


def test_a_dry_run_computes_no_proposals(runs):
    def files():
        return sorted(path for path in runs.rglob("*") if "__pycache__" not in path.parts)

    before = files()
    out = shell().run([*COMMAND, "--dry_run", "--workdir=dry"], runs).ends(0).out
    assert "dry/proposals.npy does not exist yet: a run computes it first" in out
    assert out.endswith("dry run: nothing was written\n") and files() == before


def test_mistakes_are_answered_in_a_line_and_proposals_stay_those_of_one_run(runs):
    """A run that was stopped before its proposals were done continues with those of the same run only."""
    (runs / "begun").mkdir()
    config = recipes.config_of(recipes.read_run(runs / "rpn"))
    with config.unlocked():
        config.objective = "class_box_refinement"
    origin = {"init_from": "classifier", "init_layers": ["all_but_head"], "proposals_from": "another"}
    data = dict.fromkeys(("train_data", "eval_data"), "4 examples, built in")
    (runs / "begun/config.json").write_text(json.dumps(json.loads(config.to_json()) | origin | data))
    needed = "--proposals_from=RUN is missing: config.objective=class_box_refinement is trained on proposals"
    unused = "--proposals_from=rpn is for training with config.objective=class_box_refinement; leave it out"
    mistakes = [
        (NO_PROPOSALS, needed),
        ([*NO_PROPOSALS, "--workdir=begun"], needed),
        ([*COMMAND, "--config.objective=class_region_proposal"], unused),
        ([*COMMAND, "--notrain"], unused),
        ([*NO_PROPOSALS, "--proposals_from=rqn"], "rqn is not the directory of a run: it has no config.json; did you"),
        ([*NO_PROPOSALS, "--proposals_from=classifier"], "its config.objective is classification; give a run of"),
        ([*COMMAND, "--workdir=begun"], "proposals_from: another in the run, rpn now"),
    ]
    before = sorted(runs.rglob("*"))
    for code, _, err, named in answers(runs, "deepconv.main", mistakes):
        assert code == 2 and named in err and len(err.splitlines()) == 1, (named, err)
    assert {*runs.rglob("*")} - {*before} <= {runs / "begun/lock"}


def training_set(runs, images=16):
    """The config of R-CNN and its training set."""
    config = recipes.config_of(recipes.read_run(runs / "rpn"))
    with config.unlocked():
        config.objective = "class_box_refinement"
    return config, sources.find_annotated("shapes", f"train[:{images}]", None, SIDE, (20, 24))


REFUSED = {
    "no run": ("nowhere", {}, {}, "nowhere is not the directory of a run"),
    "a net of another kind": (
        *("other", {}, {}),
        "other: its config.objective is class_box_refinement; give a run of class_region_proposal",
    ),
    "a run without a checkpoint": ("begun", {}, {}, r"begun is an unfinished run \(step 0 of 5\); finish it first"),
    "an unfinished run": ("unfinished", {}, {}, r"unfinished is an unfinished run \(step 3 of 5\); finish it first"),
    "a net of other classes": ("rpn", {"classes": ("a", "b")}, {}, "rpn/classes.json differs"),
    "images of one size": ("rpn", {"size": (16, 16)}, {}, "cuts proposals out of photographs"),
    "crops that are not random": ("rpn", {}, {"augment": "none"}, "cuts proposals out of photographs"),
    "a resumed run": ("rpn", {}, {}, "trained on it to step 3; restore it"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_sets_without_proposals_are_refused(runs, tmp_path, case):
    proposer, of_source, of_data, words = REFUSED[case]
    config, source = training_set(runs)
    with config.unlocked():
        config.data.update(of_data)
        config.total_epochs = 5
    net = recipes.read_run(runs / "rpn")
    records = {"other": net | {"objective": "class_box_refinement"}, "begun": {**net, "train_data": "20 examples, x"}}
    for name, record in (records | {"unfinished": records["begun"]}).items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(record))
    (tmp_path / "unfinished/checkpoints/3").mkdir(parents=True)
    if case == "a resumed run":
        (tmp_path / "checkpoints/3").mkdir(parents=True)
    run = (runs if proposer == "rpn" else tmp_path) / proposer
    with pytest.raises((ValueError, FileNotFoundError), match=words) as found:
        training_proposals.with_proposals(config, dataclasses.replace(source, **of_source), str(run), tmp_path)
    assert len(str(found.value).splitlines()) == 1


def test_a_trained_run_needs_no_proposals(runs, tmp_path):
    config, source = training_set(runs)
    total = durations.steps(config, "total", source.examples, config.batch_size)
    newest = tmp_path / "checkpoints" / str(total)
    newest.mkdir(parents=True)
    (newest / "state").write_text("trained")
    (newest / checkpoint_files.SUMS).write_text(json.dumps(checkpoint_files.sums(newest)))
    assert training_proposals.with_proposals(config, source, "gone", tmp_path) is source
    (newest / "state").write_text("damaged")  # it would be trained further, on other crops
    with pytest.raises(FileNotFoundError, match="proposals.npy is missing"):
        training_proposals.with_proposals(config, source, "gone", tmp_path)


def test_stopped_proposals_continue_with_the_same_checkpoint_only(runs, tmp_path, monkeypatch):
    config, source = training_set(runs, images=4)
    written, stops = [], False

    def append_or_stop(table, images, windows, seconds):
        if written and stops:
            raise KeyboardInterrupt
        written.extend(images)
        append(table, images, windows, seconds)

    def compute(folder, step):
        """Makes the proposals of a net whose newest checkpoint has this step and digest."""
        folder.mkdir(exist_ok=True)
        written.clear()
        monkeypatch.setattr(checkpoint_files, "newest", lambda directory: (step, str(step) * 64))
        training_proposals.with_proposals(config, source, str(runs / "rpn"), folder).open()
        assert [file.name for file in folder.iterdir()] == ["proposals.npy"]
        return np.load(folder / "proposals.npy")

    monkeypatch.setattr(dense, "append", append_or_stop)
    expected = compute(tmp_path / "at_once", 6)
    assert sorted(written) == [0, 1, 2, 3] and expected.shape == (4, 200, 4) and expected.any((1, 2)).all()
    stops = True
    with pytest.raises(KeyboardInterrupt):
        compute(tmp_path / "stopped", 6)
    first = [*written]
    with pytest.raises(KeyboardInterrupt):
        compute(tmp_path / "stopped", 9)
    assert written == first  # it began anew
    stops = False
    np.testing.assert_array_equal(compute(tmp_path / "stopped", 6), expected)
    assert sorted([*first, *written]) == [0, 1, 2, 3]


def test_other_processes_leave_the_table_to_process_0_and_know_what_is_done(tmp_path, monkeypatch):
    table = open_windows(tmp_path / "table", 11, 2)
    append(table, [3, 8], [np.ones((2, 2, 5)), np.ones((1, 2, 5))], 1.0)
    sent = []
    monkeypatch.setattr(processes, "agree", lambda value: sent.append(value()) or sent[0])
    open_windows(tmp_path / "table", 11, 2)
    monkeypatch.setattr(processes, "agree", lambda value: sent[0])
    monkeypatch.setattr(processes, "primary", lambda: False)
    other = open_windows(tmp_path / "none", 11, 2)
    append(other, [0], [np.ones((2, 2, 5))], 1.0)
    assert np.flatnonzero(other.rows["done"]).tolist() == [3, 8] and not [*tmp_path.glob("none*")]
