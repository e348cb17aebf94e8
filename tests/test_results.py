"""What runs have given, put beside what the papers have: by hand-made directories of runs."""

import hashlib
import json
import signal

import numpy as np
import pytest
from conftest import ROOT

from deepconv.config import fields, recipes
from deepconv.run import log as runlog
from deepconv.run import preemption
from experiments import cells, commands, counts, entries, entry, jobs, pages, records
from experiments import collect as collect_lib
from experiments import departures as departures_lib
from experiments.alexnet import fig1, fig1_rates, fig3, fig4
from experiments.entry import Row, Run, Table
from experiments.resnet import fig4 as resnet_fig4
from experiments.resnet import fig7
from experiments.vgg import D_JITTERED, D_SUBMISSION

CIFAR = {seed: Run("resnet_cifar", {"seed": seed}) for seed in (0, 1, 2)}
ERROR = {"test error, %": "top1_error"}


START = {"time": "2026-11-21T00:00:00+00:00", "commit": "abc", "dirty": False, "devices": 2, "device_kind": "cpu"}
START |= {"cpus": 2, "versions": {"jax": "0.10.2"}, "from_step": 0}
TRAINED = {"time": "2026-11-21T00:00:00+00:00", "commit": "abc", "dirty": False, "device": "2 x cpu, CPU cores: 2"}
TRAINED |= {"versions": {"jax": "0.10.2"}}


def make_run(
    root, run, errors, changes=None, name=None, metrics=(), examples=(50_000, 10_000), test="center", day="21"
):
    """The directory of a run that has ended with these errors; changes are made to its config."""
    config = run.load().copy_and_resolve_references().unlock()
    for field, value in (changes or {}).items():
        node, _, last = ("." + field).rpartition(".")
        parent = config
        for part in filter(None, node.split(".")):
            parent = parent[part]
        parent[last] = value
    folder = root / (name or run.name)
    folder.mkdir(parents=True)
    content = json.loads(config.to_json())
    content |= {
        f"{split}_data": f"{count} examples, 0123" for split, count in zip(("train", "eval"), examples, strict=True)
    }
    if run.init_from:
        content |= {"init_from": f"/elsewhere/{run.init_from.name}", "init_layers": list(run.init_layers)}
    if run.proposals_from:
        content["proposals_from"] = f"/elsewhere/{run.proposals_from.name}"
    (folder / "config.json").write_text(json.dumps(content))
    start = START | {"time": START["time"].replace("-21T", f"-{day}T")}
    (folder / "environment.json").write_text(json.dumps([start]))
    logged = metrics or [{"step": 1000, "images_per_second": 128.0}, {"step": 2000, "images_per_second": 256.0}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in logged))
    if errors is not None:
        record = {"top1_error": errors, "top5_error": errors / 2, "examples": 10_000}
        (folder / f"eval.{test}.json").write_text(json.dumps(record))
    return folder


def collect(table, root, before=None):
    return collect_lib.collect(table, collect_lib.directories(root), before or {})


def test_a_run_fills_its_cell_with_where_it_comes_from(tmp_path):
    row = Row("net", (8.75,), [CIFAR[0]])
    table = Table("T. t", ERROR, [row])
    assert cells.state(table, row, {}) == "missing"
    make_run(tmp_path, CIFAR[0], 9.0)
    found = collect(table, tmp_path)
    (record,) = found["rows"]["net"]
    assert record["departs"] == [] and record["values"]["top1_error"] == 9.0
    assert record["hours"] == pytest.approx((1000 * 128 / 128 + 1000 * 128 / 256) / 3600, abs=1e-3)
    assert (record["steps"], record["seed"], record["trained"]) == (2000, 0, [TRAINED])
    assert cells.state(table, row, found) == "done"
    assert pages.lines(table, found)[1] == ["net", "8.75", "9.00 (+0.25)"]
    assert pages.commands(table, found) == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"total_steps": 800, "optimizer.drop_at_steps": (400, 600)}, ["drop_at_steps=400,600", "total_steps=800"]),
        ({"seed": 7}, ["seed=7"]),
        ({"data.train_split": "train[:45000]"}, ["train_split=train[:45000]"]),
        ({"model.dtype": "bfloat16"}, ["model.dtype=bfloat16"]),
    ],
)
def test_what_was_done_otherwise_is_told_and_fills_no_cell(tmp_path, changes, told):
    row = Row("net", (8.75,), [CIFAR[0]])
    table = Table("T. t", ERROR, [row])
    make_run(tmp_path, CIFAR[0], 20.0, changes)
    found = collect(table, tmp_path)
    assert found["rows"]["net"][0]["departs"] == told
    assert cells.state(table, row, found) == "missing"
    assert pages.lines(table, found)[1] == ["net", "8.75", "–", f"20.00: {', '.join(told)}"]
    assert pages.lines(table, found)[0][-1] == "other results"
    assert pages.commands(table, found)


def test_a_data_set_that_is_not_whole_is_told(tmp_path):
    table = Table("T. t", ERROR, [Row("net", (8.75,), [CIFAR[0]])])
    make_run(tmp_path, CIFAR[0], 20.0, examples=(500, 10_000))
    assert collect(table, tmp_path)["rows"]["net"][0]["departs"] == ["500 instead of 50000 images in train"]


def test_a_net_from_a_file_was_not_trained_on_images_here(tmp_path):
    """Its training set, which is not needed, is described by that of the test."""
    table = Table("T. t", ERROR, [Row("net", (8.75,), [CIFAR[0]])])
    file = make_run(tmp_path, CIFAR[0], 20.0, examples=(10_000, 10_000)) / "config.json"
    origin = {"init_from": "a.safetensors", "init_layers": [], "init_bgr": True, "train": False}
    file.write_text(json.dumps(json.loads(file.read_text()) | origin))
    (record,) = collect(table, tmp_path)["rows"]["net"]
    assert "init_bgr=True" in record["departs"] and not any("images in" in line for line in record["departs"])


@pytest.mark.parametrize(
    ("images", "told"),
    [
        (544_546, []),
        (523_966, []),  # as the authors of the challenge count them
        (1_281_167, ["1281167 instead of 544546 images in train"]),
        (500, ["500 instead of 544546 images in train"]),
    ],
)
def test_nets_with_boxes_are_trained_on_the_images_that_have_boxes(tmp_path, images, told):
    run = Run("resnet101_localization", {})
    table = Table("T. t", ERROR, [Row("net", (33.1,), [run])])
    make_run(tmp_path, run, 30.0, examples=(images, 50_000))
    assert collect(table, tmp_path)["rows"]["net"][0]["departs"] == told


def test_another_experiment_is_not_a_departure(tmp_path):
    table = Table("T. t", ERROR, [Row("net", (8.75,), [CIFAR[0]])])
    make_run(tmp_path, CIFAR[0], 20.0, {"model.depth": 32}, "a")
    make_run(tmp_path, CIFAR[0], 20.0, {"optimizer.weight_decay": 0.0}, "b")
    make_run(tmp_path, Run("resnet_cifar", {"model.residual": False}), 20.0, name="c")
    assert collect(table, tmp_path)["rows"] == {}


def test_how_often_it_is_logged_does_not_matter(tmp_path):
    row = Row("net", (8.75,), [CIFAR[0]])
    table = Table("T. t", ERROR, [row])
    make_run(tmp_path, CIFAR[0], 9.0, {"log_every_steps": 7, "checkpoint_every_steps": 9}, "under/another/name")
    found = collect_lib.collect(table, collect_lib.directories(tmp_path / "under" / "another"), {})
    assert cells.state(table, row, found) == "done"


def test_seeds_mean_spread_and_best_by_hand(tmp_path):
    runs = [CIFAR[seed] for seed in (0, 1, 2)]
    mean, best = Row("mean", (6.61,), runs), Row("best", (6.43,), runs, combine="best")
    table = Table("T. t", ERROR, [mean, best])
    for run, error in zip(runs[:2], (6.0, 7.0), strict=True):
        make_run(tmp_path, run, error)
    found = collect(table, tmp_path)
    assert cells.state(table, mean, found) == "missing"
    assert pages.lines(table, found)[1][2:] == ["–", "6.00: one of 3, seed=0; 7.00: one of 3, seed=1"]
    make_run(tmp_path, runs[2], 6.5)
    found = collect(table, tmp_path)
    assert cells.numbers(table, mean, found)["top1_error"] == pytest.approx((6.5, 0.5))
    assert cells.numbers(table, best, found)["top1_error"] == (6.0, None)
    assert pages.lines(table, found)[1][2] == "6.50 ± 0.50 (-0.11)"


def test_differences_and_ratios_by_hand(tmp_path):
    difference = Row("difference", (1.7,), [CIFAR[1]], baseline=CIFAR[0])
    ratio = Row("ratio", (6,), [CIFAR[1], CIFAR[0]], combine="ratio")
    table = Table("T. t", ERROR, [difference, ratio])
    make_run(tmp_path, CIFAR[1], 12.0)
    assert {cells.state(table, row, collect(table, tmp_path)) for row in table.rows} == {"missing"}
    make_run(tmp_path, CIFAR[0], 10.0)
    found = collect(table, tmp_path)
    assert cells.numbers(table, difference, found)["top1_error"][0] == 2.0
    assert cells.numbers(table, ratio, found)["top1_error"][0] == 1.2
    found["rows"]["ratio"][0 if found["rows"]["ratio"][0]["run"] == CIFAR[1].name else 1]["values"]["top1_error"] = (
        "more than 40"
    )
    assert cells.numbers(table, ratio, found)["top1_error"][0] == "more than 4.0"
    assert cells._ratio("more than 40", 6) == "more than 6.6"  # more than 6.7 is not known


def test_an_ensemble_is_the_mean_of_probabilities(tmp_path):
    row = Row("two", (20.0,), [CIFAR[0], CIFAR[1]], combine="ensemble")
    table = Table("T. t", ERROR, [row])
    labels = np.array([0, 1, 2, 1])
    first = np.array([[0.6, 0.4, 0], [0.6, 0.4, 0], [0.1, 0.2, 0.7], [0.9, 0.1, 0]], np.float32)
    second = np.array([[0.5, 0.3, 0.2], [0.1, 0.9, 0], [0.5, 0.2, 0.3], [0.4, 0.6, 0]], np.float32)
    make_run(tmp_path, CIFAR[0], 50.0)
    assert collect(table, tmp_path)["rows"] == {}
    make_run(tmp_path, CIFAR[1], 25.0)
    for seed, probs in enumerate((first, second)):
        np.save(tmp_path / CIFAR[seed].name / "probs.center.npy", probs)
        np.save(tmp_path / CIFAR[seed].name / "labels.npy", labels)
    found = collect(table, tmp_path)
    # the means are largest for classes 0, 1, 2, 0, and the last label is 1
    assert cells.numbers(table, row, found)["top1_error"][0] == 25.0
    members = [(member["directory"], member["test"]) for member in found["rows"]["two"][0]["of"]]
    assert members == [("resnet_cifar,seed=0", "center"), ("resnet_cifar,seed=1", "center")]
    lines = [line for line in pages.page({"t": table}, {"t": found}).splitlines() if "steps" in line]
    assert [line.partition(":")[0] for line in lines] == ["- `resnet_cifar,seed=0`", "- `resnet_cifar,seed=1`"]
    # without its runs, it stays; another ensemble of the same runs is shown in its place
    assert collect(table, tmp_path / "none", found) == found
    renamed = Table("T. t", ERROR, [Row("both", (20.0,), [CIFAR[0], CIFAR[1]], combine="ensemble")])
    assert cells.state(renamed, renamed.rows[0], collect(renamed, tmp_path / "none", found)) == "done"
    np.save(tmp_path / CIFAR[1].name / "probs.center.npy", first)
    assert cells.numbers(table, row, collect(table, tmp_path, found))["top1_error"][0] == 50.0
    # a member that is another experiment now
    config = json.loads((tmp_path / CIFAR[1].name / "config.json").read_text())
    config["optimizer"]["weight_decay"] = 0.5
    (tmp_path / CIFAR[1].name / "config.json").write_text(json.dumps(config))
    after = collect(table, tmp_path, found)
    assert cells.state(table, row, after) == "missing" and after["unassigned"] == found["rows"]["two"]
    assert "top1_error 25.0" in pages.page({"t": table}, {"t": after})
    for name in ("probs.center.npy", "labels.npy"):  # nothing stops where the files are gone
        (tmp_path / CIFAR[0].name / name).unlink()
    assert collect(table, tmp_path, after) == after


def test_a_chain_of_runs_is_looked_at_to_its_beginning(tmp_path):
    first = CIFAR[0]
    second = Run("resnet_cifar", {"seed": 1}, init_from=first)
    third = Run("resnet_cifar", {"seed": 2}, init_from=second)
    row = Row("net", (8.75,), [third])
    table = Table("T. t", ERROR, [row])

    def departs(name):
        records = collect(table, tmp_path / name)["rows"]["net"]  # those of the other seeds, too
        return [record["departs"] for record in records if record["directory"] in (third.name, "resnet_cifar,seed=2")][
            0
        ]

    for name, changes in (("right", {}), ("short", {"total_steps": 100, "optimizer.drop_at_steps": ()})):
        make_run(tmp_path / name, first, 9.0, changes, first.name)
        make_run(tmp_path / name, second, 9.0)
        make_run(tmp_path / name, third, 9.0)
    assert departs("right") == []
    of = f"in {first.name} in {second.name}"
    assert departs("short") == [f"drop_at_steps=() {of}", f"total_steps=100 {of}"]
    make_run(tmp_path / "other", first, 9.0, {"model.depth": 32}, first.name)
    make_run(tmp_path / "other", second, 9.0)
    make_run(tmp_path / "other", third, 9.0)
    assert departs("other") == [f"init_from={first.name} in {second.name}"]
    make_run(tmp_path / "alone", third, 9.0)
    assert departs("alone") == [f"init_from={second.name}, whose directory is missing or has other weights"]
    make_run(tmp_path / "none", Run("resnet_cifar", {"seed": 2}), 9.0)
    assert departs("none") == ["init_from=None"]


def test_a_run_of_the_right_name_with_other_weights_is_no_source(tmp_path):
    """As one that replaced the run from which another started."""
    first, second = CIFAR[0], Run("resnet_cifar", {"seed": 1}, init_from=CIFAR[0])
    table = Table("T. t", ERROR, [Row("net", (8.75,), [second])])
    source, child = make_run(tmp_path, first, 9.0), make_run(tmp_path, second, 9.0)
    (source / "checkpoints" / "5").mkdir(parents=True)
    (source / "checkpoints" / "5" / "SHA256SUMS.json").write_text("{}")
    config = json.loads((child / "config.json").read_text())
    digest = hashlib.sha256(b"{}").hexdigest()
    for recorded, expected in (
        (digest, []),
        ("d" * 64, [f"init_from={first.name}, whose directory is missing or has other weights"]),
    ):
        (child / "config.json").write_text(json.dumps(config | {"init_sha256": recorded}))
        records = collect(table, tmp_path)["rows"]["net"]
        assert [record["departs"] for record in records if record["directory"] == second.name] == [expected]


def test_a_net_of_which_only_some_layers_are_trained_is_another_experiment():
    expected = {run.name: departures_lib.flat(json.loads(run.load().to_json())) for run in (D_JITTERED, D_SUBMISSION)}
    for run, other in ((D_JITTERED, D_SUBMISSION), (D_SUBMISSION, D_JITTERED)):
        config = json.loads(other.load().to_json()) | {"init_layers": list(other.init_layers)}
        trained = {"directory": "d", "run": other.name, "config": config, "replaced": 0}
        assert departures_lib.departures(run, trained, expected) is None
        assert departures_lib.departures(other, trained, expected) is not None


def test_the_run_that_made_the_proposals_is_looked_at_too(tmp_path):
    classifier, proposer = CIFAR[0], Run("resnet_cifar", {"seed": 1}, init_from=CIFAR[0])
    refiner = Run("resnet_cifar", {"seed": 2}, init_from=classifier, proposals_from=proposer)
    table = Table("T. t", ERROR, [Row("net", (8.75,), [refiner])])
    assert {*entry.jobs([(refiner, "center")])} == {classifier.name, proposer.name, refiner.name}
    assert jobs.for_runs([(refiner, "center")], "runs")[refiner.name].needs == (classifier.name, proposer.name)

    def departs(name, before=None):
        records = collect(table, tmp_path / name, before)["rows"]["net"]
        return [record["departs"] for record in records if "seed=2" in record["directory"]]

    for name, changes in (("right", {}), ("other", {"model.depth": 32}), ("short", {"total_steps": 40_000})):
        for run in (classifier, proposer, refiner):
            make_run(tmp_path / name, run, 9.0, changes if run is proposer else {})
    known = collect(table, tmp_path / "right")
    assert departs("right") == [[]]
    assert departs("other") == [[f"proposals_from={proposer.name}"]]
    short = [f"total_steps=40000 in {proposer.name}"]
    assert departs("short") == [short]
    (tmp_path / "right" / proposer.name).rename(tmp_path / "gone")
    assert departs("right") == [[f"proposals_from={proposer.name}, whose directory is missing or has other weights"]]
    assert departs("right", known) == [[]]  # it stays known
    make_run(tmp_path / "none", classifier, 9.0)
    make_run(tmp_path / "none", Run("resnet_cifar", {"seed": 2}, init_from=classifier), 9.0)
    assert departs("none") == [["proposals_from=None"]]


def test_what_a_directory_gave_before_its_config_changed_is_kept_apart(tmp_path):
    row = Row("net", (8.75,), [CIFAR[0]])
    table = Table("T. t", ERROR, [row])
    folder = make_run(tmp_path, CIFAR[0], 9.0)
    known = collect(table, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["optimizer"]["weight_decay"] = 0.5
    (folder / "config.json").write_text(json.dumps(config))
    after = collect(table, tmp_path, known)
    assert after["rows"] == {} and after["unassigned"] == known["rows"]["net"]
    assert collect(table, tmp_path, after) == after
    page = pages.page({"t": table}, {"t": after})
    assert "Results without a row in this table:" in page
    assert "`resnet_cifar,seed=0`, test center: top1_error 9.0, top5_error 4.5, examples 10000" in page


def test_a_new_run_in_the_directory_of_an_old_one_is_a_second_result(tmp_path):
    row = Row("net", (8.75,), [CIFAR[0]])
    table = Table("T. t", ERROR, [row])
    make_run(tmp_path / "before", CIFAR[0], 9.0)
    known = collect(table, tmp_path / "before")
    make_run(tmp_path / "after", CIFAR[0], 9.5, day="22")
    found = collect(table, tmp_path / "after", known)
    assert [record["values"]["top1_error"] for record in found["rows"]["net"]] == [9.0, 9.5]
    again = "9.00: again, 2026-11-21"
    assert pages.lines(table, found)[1] == ["net", "8.75", "9.50 (+0.75)", again]


def test_results_stay_when_a_row_is_renamed_or_goes(tmp_path):
    make_run(tmp_path, CIFAR[0], 9.0)
    known = collect(Table("T. t", ERROR, [Row("net", (8.75,), [CIFAR[0]])]), tmp_path)
    renamed = Table("T. t", ERROR, [Row("the net", (8.75,), [CIFAR[0]])])
    after = collect(renamed, tmp_path / "none", known)
    assert after["rows"] == {"the net": known["rows"]["net"]} and "unassigned" not in after
    other = Table("T. t", ERROR, [Row("deep", (6.97,), [Run("resnet_cifar", {"model.depth": 56})])])
    gone = collect(other, tmp_path / "none", known)
    assert gone["rows"] == {} and gone["unassigned"] == known["rows"]["net"]
    records.write(tmp_path / "t.json", gone)
    assert records.read(tmp_path / "t.json") == gone
    assert collect(renamed, tmp_path / "none", gone) == after  # and comes back


def test_results_stay_when_a_recipe_changes(tmp_path, monkeypatch):
    monkeypatch.setitem(fields.FIELDS["optimizer"], "nesterov", (bool,))
    row = Row("net", (8.75,), [CIFAR[0]])
    table = Table("T. t", ERROR, [row])
    make_run(tmp_path, CIFAR[0], 9.0)
    known = collect(table, tmp_path)
    load = Run.load

    def changed(field, value):
        def load_changed(run):
            config = load(run).copy_and_resolve_references().unlock()
            config.update_from_flattened_dict({field: value})
            return config.lock()

        return load_changed

    with monkeypatch.context() as patch:  # another experiment from now on
        patch.setattr(Run, "load", changed("optimizer.weight_decay", 5e-4))
        after = collect(table, tmp_path / "none", known)
        assert after["rows"] == {} and after["unassigned"] == known["rows"]["net"]
    with monkeypatch.context() as patch:  # a longer one
        patch.setattr(Run, "load", changed("total_steps", 70_000))
        (record,) = collect(table, tmp_path / "none", known)["rows"]["net"]
        assert record["departs"] == ["total_steps=64000"]
    with monkeypatch.context() as patch:  # a field that did not exist yet
        added = (*recipes.ADDED, (recipes.SCHEMA + 1, "", "optimizer.nesterov", False))
        patch.setattr(recipes, "ADDED", added)
        patch.setattr(recipes, "SCHEMA", recipes.SCHEMA + 1)
        records.write(tmp_path / "t.json", known)
        after = collect(table, tmp_path / "none", records.read(tmp_path / "t.json"))
        assert cells.state(table, row, after) == "done"
        assert after["rows"]["net"][0]["config"]["optimizer"]["nesterov"] is False


def test_results_from_before_records_had_configs_are_kept(tmp_path):
    row = Row("net", (8.75,), [CIFAR[0]])
    table = Table("T. t", ERROR, [row])
    record = {"run": CIFAR[0].name, "directory": CIFAR[0].name, "test": "center", "departs": []}
    record |= {"values": {"top1_error": 9.0}, "seed": 0, "steps": 64000, "hours": 8.0}
    start = {"commit": "abc", "dirty": False, "device": "2 x cpu, CPU cores: 2", "versions": {"jax": "0.10.2"}}
    old = {"title": "T. t", "rows": {"net": [record | {"started": "2026-11-21T00:00:00+00:00"} | start]}}
    (tmp_path / "t.json").write_text(json.dumps(old))
    found = collect(table, tmp_path / "none", records.read(tmp_path / "t.json"))
    assert cells.state(table, row, found) == "done" and found["rows"]["net"][0]["trained"] == [TRAINED]
    make_run(tmp_path, CIFAR[0], 9.25)  # the same run, which is at hand again
    (record,) = collect(table, tmp_path, found)["rows"]["net"]
    assert record["values"]["top1_error"] == 9.25 and record["config"]["batch_size"] == 128


def test_starts_of_training_and_of_tests_are_told_apart(tmp_path):
    table = Table("T. t", ERROR, [Row("net", (8.75,), [CIFAR[0]])])
    folder = make_run(tmp_path, CIFAR[0], 9.0)
    tested = {
        "commit": "def",
        "dirty": True,
        "devices": 1,
        "device_kind": "laptop",
        "cpus": 8,
        "versions": {"jax": "1"},
    }
    evaluated = json.loads((folder / "eval.center.json").read_text())
    (folder / "eval.center.json").write_text(json.dumps(evaluated | tested))
    (record,) = collect(table, tmp_path)["rows"]["net"]
    assert record["trained"] == [TRAINED]
    laptop = {"commit": "def", "dirty": True, "device": "1 x laptop, CPU cores: 8", "versions": {"jax": "1"}}
    assert record["tested"] == laptop
    page = pages.page({"t": table}, {"t": collect(table, tmp_path)})
    assert "on 2 x cpu, CPU cores: 2, commit abc, jax 0.10.2, 2026-11-21; center tested on 1 x laptop" in page
    # trained on elsewhere, and both are told; equal starts are told once
    elsewhere = START | {"device_kind": "gpu", "time": "2026-11-23T00:00:00+00:00", "from_step": 500}
    (folder / "environment.json").write_text(json.dumps([START, START | {"from_step": 100}, elsewhere]))
    (record,) = collect(table, tmp_path)["rows"]["net"]
    gpu = TRAINED | {"device": "2 x gpu, CPU cores: 2", "time": "2026-11-23T00:00:00+00:00"}
    assert record["trained"] == [TRAINED, gpu]
    # an earlier version wrote down all starts alike: the first is one of training
    old = [{name: value for name, value in start.items() if name != "from_step"} for start in (START, elsewhere)]
    (folder / "environment.json").write_text(json.dumps(old))
    (record,) = collect(table, tmp_path)["rows"]["net"]
    assert record["trained"] == [TRAINED]


def test_weights_of_an_unfinished_run_are_told(tmp_path):
    child = Run("resnet_cifar", {"seed": 2}, init_from=CIFAR[0])
    row = Row("net", (8.75,), [child])
    table = Table("T. t", ERROR, [row])
    source = make_run(tmp_path, CIFAR[0], None)
    make_run(tmp_path, child, 9.0)
    found = collect(table, tmp_path)
    assert found["rows"]["net"][0]["departs"] == [f"training was not finished (step 2000) in {CIFAR[0].name}"]
    assert cells.state(table, row, found) == "missing"
    runlog.append_metrics(source, {"step": 64_000, "train_loss": 0.1})
    assert cells.state(table, row, collect(table, tmp_path)) == "done"


def test_what_a_run_began_with_stays_known_when_it_is_gone(tmp_path):
    child = Run("resnet_cifar", {"seed": 2}, init_from=CIFAR[0])
    table = Table("T. t", ERROR, [Row("net", (8.75,), [child])])
    source = make_run(tmp_path, CIFAR[0], 9.0)
    make_run(tmp_path, child, 9.0)
    known = collect(table, tmp_path)
    source.rename(tmp_path.with_name(tmp_path.name + "-elsewhere"))
    assert collect(table, tmp_path, known)["rows"]["net"][0]["departs"] == []


def test_windows_without_a_timed_step_do_not_stop_anything(tmp_path):
    table = Table("T. t", ERROR, [Row("net", (8.75,), [CIFAR[0]])])
    metrics = [{"step": 1, "images_per_second": 0.0}, {"step": 2}, {"step": 1000, "images_per_second": 128.0}]
    make_run(tmp_path, CIFAR[0], 9.0, metrics=[*metrics, {"step": 1001}])
    (record,) = collect(table, tmp_path)["rows"]["net"]
    assert (record["hours"], record["steps"]) == (round(1000 / 3600, 3), 1001)


def test_a_run_that_cannot_be_read_is_named_and_the_others_are_collected(tmp_path, capsys):
    table = Table("T. t", ERROR, [Row("net", (8.75,), [CIFAR[0]])])
    make_run(tmp_path, CIFAR[0], 9.0)
    (make_run(tmp_path, CIFAR[1], 9.0) / "environment.json").write_text("[")
    (make_run(tmp_path, CIFAR[2], 9.0) / "eval.center.json").write_text("{")
    assert [record["directory"] for record in collect(table, tmp_path)["rows"]["net"]] == [CIFAR[0].name]
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2 and all(line.startswith("not collected: ") and "is damaged" in line for line in errors)


def test_a_run_without_checkpoints_does_not_stop_fig_3(tmp_path, capsys):
    table = entries.load(["alexnet/fig3"])["alexnet/fig3"]
    make_run(tmp_path, Run("alexnet"), 40.0, examples=(1_281_167, 50_000))
    assert collect(table, tmp_path)["rows"] == {}
    assert "not collected: " in (error := capsys.readouterr().err) and "there is no checkpoint in" in error
    record = {
        "run": "alexnet",
        "directory": "alexnet",
        "test": "center",
        "departs": [],
        "values": DRAWN["alexnet/fig3"],
    }
    known = {"rows": {"CNN on ILSVRC-2012": [record | {"trained": [TRAINED], "tested": None, "config": None}]}}
    assert collect(table, tmp_path, known)["rows"] == known["rows"]


def test_runs_on_other_data_are_not_drawn(tmp_path):
    table = entries.load(["resnet/fig4"])["resnet/fig4"]
    metrics = [{"step": step, "train_top1_error": 50.0, "test_top1_error": 50.0} for step in (5, 10)]
    photos, short = {"data.name": "photos", "total_steps": 10}, {"total_steps": 10}
    run, whole = Run("resnet18"), (1_281_167, 50_000)
    make_run(tmp_path, run, 50.0, photos, "on_photos", metrics=metrics, examples=(40, 10))
    folder = tmp_path / "results"
    commands.render({"resnet/fig4": table}, folder, tmp_path / "page")
    before = (folder / "resnet" / "fig4.png").read_bytes()
    commands.collect({"resnet/fig4": table}, tmp_path, folder)
    commands.render({"resnet/fig4": table}, folder, tmp_path / "page")
    assert (folder / "resnet" / "fig4.png").read_bytes() == before
    assert "50.00 / 50.00: name=photos, total_steps=10" in (tmp_path / "page").read_text()  # but it is in the table
    (tmp_path / "sampled").mkdir()
    make_run(tmp_path / "sampled", run, 50.0, short, "few_images", metrics=metrics, examples=(40, 10))
    assert cells.on_paper_data(collect(table, tmp_path / "sampled")) == {}
    make_run(tmp_path / "short", run, 50.0, short, metrics=metrics, examples=whole)
    assert [*cells.on_paper_data(collect(table, tmp_path / "short"))["rows"]] == ["ResNet-18"]


def test_errors_of_figure_4_are_means_of_the_last_100_000_steps(monkeypatch, tmp_path):
    points = [[400_000, 90.0], [500_000, 30.0], [600_000, 31.0]]
    monkeypatch.setattr(records, "curves", lambda workdir, test: {"train": points, "test": points, "test_error": 31.0})
    found = resnet_fig4.measure(tmp_path, "center")
    assert (found["train_error"], found["test_error"]) == (30.5, 30.5)


def test_two_runs_of_one_name_are_an_error():
    with pytest.raises(ValueError, match="two runs are called resnet_cifar,seed=0"):
        entry.jobs([(CIFAR[0], "center"), (Run("resnet_cifar", {"seed": "0"}), "center")])


def test_replaced_images_and_smaller_sets_are_told(tmp_path):
    run = entries.load(["alexnet/table1"])["alexnet/table1"].rows[2].runs[0]
    table = Table("T. t", ERROR, [Row("net", (37.5,), [run], ["ten_crop"])])
    folder = make_run(tmp_path, run, 38.0, examples=(1_261_406, 150_000), name="a", test="ten_crop")
    (record,) = collect(table, tmp_path)["rows"]["net"]
    assert record["departs"] == []  # the sheet has 1.2 million, not to the image
    (folder / "corrupt.txt").write_text("a.JPEG\nb.JPEG\n")
    (record,) = collect(table, tmp_path)["rows"]["net"]
    assert record["departs"] == ["2 damaged images replaced"]
    make_run(tmp_path / "small", run, 38.0, examples=(100, 10), name="b", test="ten_crop")
    (record,) = collect(table, tmp_path / "small")["rows"]["net"]
    assert record["departs"] == ["100 instead of 1200000 images in train", "10 instead of 150000 images in test"]


def test_packed_squares_are_the_paper_s_images(tmp_path):
    run = Run("alexnet")
    row = Row("net", (40.7,), [run], ["ten_crop"])
    table = Table("T. t", ERROR, [row])
    changes, whole = {"data.name": "imagenet2012-256-uint8"}, (1_281_167, 50_000)
    make_run(tmp_path, run, 41.0, changes, "packed", examples=whole, test="ten_crop")
    assert cells.state(table, row, collect(table, tmp_path)) == "done"


def test_a_shorter_run_of_the_authors_code_is_told(tmp_path):
    run = Run("alexnet_code")
    table = Table("T. t", ERROR, [Row("net", (40.7,), [run], ["ten_crop"])])
    changes = {"total_epochs": 10, "optimizer.layers.conv1.drop_at_epochs": (3,)}
    changes["optimizer.layers.conv1.freeze_at_epochs"] = 9.0
    make_run(tmp_path, run, 60.0, changes, "short", examples=(1_281_167, 50_000), test="ten_crop")
    (record,) = collect(table, tmp_path)["rows"]["net"]
    assert record["departs"] == [
        "layers.conv1.drop_at_epochs=3",
        "layers.conv1.freeze_at_epochs=9.0",
        "total_epochs=10",
    ]


def test_of_the_same_run_twice_the_one_under_its_name_is_taken(tmp_path):
    row = Row("net", (8.75,), [CIFAR[0]])
    table = Table("T. t", ERROR, [row])
    make_run(tmp_path, CIFAR[0], 9.1, name="again")
    make_run(tmp_path, CIFAR[0], 9.0)
    found = collect(table, tmp_path)
    assert pages.lines(table, found)[1] == ["net", "8.75", "9.00 (+0.25)", "9.10: again, again, 2026-11-21"]


def test_imported_weights_are_no_run(tmp_path):
    folder = make_run(tmp_path, CIFAR[0], 9.0)
    (folder / "environment.json").unlink()
    assert collect_lib.directories(tmp_path) == {}


def test_what_is_known_stays_when_its_run_is_not_there(tmp_path):
    table = Table("T. t", ERROR, [Row("net", (8.75,), [CIFAR[0]])])
    make_run(tmp_path / "here", CIFAR[0], 9.0)
    known = collect(table, tmp_path / "here")
    assert collect(table, tmp_path / "empty", known) == known
    make_run(tmp_path / "there", CIFAR[0], 20.0, {"seed": 5}, "other")
    both = collect(table, tmp_path / "there", known)
    assert [record["values"]["top1_error"] for record in both["rows"]["net"]] == [9.0, 20.0]
    records.write(tmp_path / "t.json", both)
    assert records.read(tmp_path / "t.json") == both
    again = collect(table, tmp_path / "here", both)
    assert again == both


def test_curves_are_means_since_the_last_test(tmp_path):
    metrics = [
        {"step": 500, "train_top1_error": 40.0, "images_per_second": 10.0},
        {"step": 1000, "train_top1_error": 30.0, "images_per_second": 10.0},
        {"step": 1000, "test_top1_error": 33.0},
        {"step": 2000, "train_top1_error": 20.0, "test_top1_error": 25.0, "images_per_second": 10.0},
        {"step": 2500, "train_top1_error": 10.0, "images_per_second": 10.0},
    ]
    folder = make_run(tmp_path, CIFAR[0], None, metrics=metrics)
    values = records.curves(folder, "center")
    assert values["train"] == [[1000, 35.0], [2000, 20.0]] and values["test"] == [[1000, 33.0], [2000, 25.0]]
    assert (values["train_error"], values["test_error"]) == (20.0, 25.0)
    assert values["departs"] == ["stopped at step 2000"]
    (folder / "eval.center.json").write_text("{}")
    assert records.curves(folder, "center")["departs"] == []


def test_epochs_to_a_quarter_by_hand(tmp_path):
    errors = {0.5: 60.0, 1.0: 50.0, 1.5: 40.0, 2.0: 30.0, 2.5: 26.0, 3.0: 22.0, 3.4: 10.0}
    metrics = [
        {"step": int(390 * epoch), "epoch": epoch, "train_top1_error": error, "images_per_second": 10.0}
        for epoch, error in errors.items()
    ]
    run = fig1_rates.net("18pct", "relu", 0.004)
    folder = make_run(tmp_path, run, None, metrics=metrics)
    assert fig1_rates.by_epoch(folder) == ([[1, 55.0], [2, 35.0], [3, 24.0]], set())  # the fourth epoch is not whole
    values = fig1.epochs_to_goal(folder, "center")
    assert values["epochs"] == 3 and values["departs"] == []
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in metrics[:4]))
    values = fig1.epochs_to_goal(folder, "center")
    assert values["epochs"] is None and values["departs"] == ["stopped after epoch 2"]
    (folder / "eval.center.json").write_text("{}")
    values = fig1.epochs_to_goal(folder, "center")
    assert values["epochs"] == "more than 2" and values["departs"] == []


def test_a_window_of_steps_belongs_to_the_epoch_of_its_middle(tmp_path):
    metrics = [
        {"step": step, "epoch": step / 390.625, "train_top1_error": float(step <= 400), "images_per_second": 1.0}
        for step in range(100, 900, 100)
    ]
    folder = make_run(tmp_path, fig1_rates.net("18pct", "relu", 0.004), None, metrics=metrics)
    assert fig1_rates.by_epoch(folder) == ([[1, 1.0], [2, 0.0]], {1, 2, 3})
    assert fig1.epochs_to_goal(folder, "center")["departs"] == ["epoch 1 shares windows of the log with others"]


def test_an_epoch_counts_when_its_last_step_was_taken(tmp_path):
    """The seventh epoch of 390.625 steps ends at step 2734."""
    run = fig1_rates.net("18pct", "relu", 0.004)

    def log(last, every):
        steps = [*range(every, last, every), last]
        return [
            {"step": step, "epoch": step / 390.625, "train_top1_error": 10.0 if step > 2734 - every else 40.0}
            for step in steps
        ]

    for last, every, whole in ((2700, 100, 6), (2733, 1, 6), (2734, 1, 7), (2800, 100, 7), (15_625, 100, 40)):
        folder = make_run(tmp_path / f"{last}_{every}", run, None, metrics=log(last, every))
        assert len(fig1_rates.by_epoch(folder)[0]) == whole, (last, every)
    # by single steps, each epoch has its own 390 or 391; by windows, each counts by its steps
    folder = make_run(tmp_path / "exact", run, None, metrics=log(2734, 1))
    curve, shared = fig1_rates.by_epoch(folder)
    assert curve[6] == [7, round((40 * 389 + 10) / 390, 3)] and not shared
    uneven = [
        {"step": step, "epoch": step / 100, "train_top1_error": error} for step, error in ((90, 50.0), (100, 0.0))
    ]
    folder = make_run(tmp_path / "uneven", run, None, metrics=uneven)
    assert fig1_rates.by_epoch(folder) == ([[1, 45.0]], set())


def test_rates_of_fig_1_are_those_of_its_search():
    def found(errors):
        record = {"test": "center", "departs": [], "directory": "", "trained": [TRAINED]}
        of = {}
        for rate, error in errors.items():
            row = fig1_rates.ROWS["18pct", "tanh", rate]
            of[row.label] = [record | {"run": row.runs[0].name, "values": {"error": error}}]
        return fig1_rates.fastest("18pct", "tanh", {"rows": of})

    assert found({0.016: 53.2, 0.032: 52.8, 0.064: 55.6}) == (
        0.032,
        "learning rate 0.032, the best in epoch 2 of 3 from 0.016 to 0.064",
    )
    best, note = found({0.016: 53.2, 0.032: 52.8})
    assert best == 0.032 and note.endswith("no rate above it was tried")
    assert found({}) == (0.001, "learning rate 0.001, cuda-convnet's own; the search has no results yet")
    for row in fig1.TABLE.rows[:2]:
        unit = row.label.split(",")[0].lower()
        rows = {rate: row for (net, of, rate), row in fig1_rates.ROWS.items() if (net, of) == ("18pct", unit)}
        measured = {rate: cells.row_records(row, fig1.SEARCH) for rate, row in rows.items()}
        errors = {rate: records[0]["values"]["error"] for rate, records in measured.items() if records}
        assert row.runs[0].overrides["optimizer.learning_rate"] == min(errors, key=errors.get)


def test_the_share_of_colour_by_hand():
    grey = np.random.default_rng(0).normal(size=(3, 3, 1, 2)).repeat(3, 2)
    grey -= grey.mean((0, 1, 2))
    assert fig3.saturation(grey) == 0
    opposite = np.stack([grey[:, :, 0], -grey[:, :, 0], 0 * grey[:, :, 0]], 2)  # sums to zero: nothing but colour
    assert fig3.saturation(opposite) == pytest.approx(1)
    half = np.stack([grey[:, :, 0], 0 * grey[:, :, 0], 0 * grey[:, :, 0]], 2)  # a third is common to all
    assert fig3.saturation(half) == pytest.approx(2 / 3, abs=1e-3)


def test_kernels_are_drawn_in_rows():
    pixels = np.arange(96)[:, None, None, None] * np.ones((1, 11, 11, 3))
    sheet = fig3.sheet(pixels.astype(np.uint8))
    assert sheet.shape == (6 * 12, 16 * 12, 3)
    assert (sheet[12 + 5, 3 * 12 + 5] == 19).all() and (sheet[11] == 255).all()  # the second row's fourth is number 19


def test_likeliest_classes_and_nearest_images_by_hand(tmp_path):
    labels = np.array([2, 0, 2, 1])
    probs = np.array([[0.1, 0.2, 0.7], [0.2, 0.5, 0.3], [1, 0, 0], [0.3, 0.4, 0.3]], np.float32)
    train = np.random.default_rng(1).normal(size=(40, 5)).astype(np.float32)
    test = train[[7, 3, 0, 11]] + 0.01
    for name, array in {"probs.ten_crop": probs, "labels": labels, "fc7.test": test, "fc7.train": train}.items():
        np.save(tmp_path / f"{name}.npy", array)
    np.save(tmp_path / "fc7.train.labels.npy", np.arange(40) % 3)
    (tmp_path / "classes.json").write_text('["a", "b", "c"]')
    values = fig4.likeliest(tmp_path, "ten_crop")
    assert [(bar["image"], bar["class"], bar["likeliest"][0]) for bar in values["bars"]] == [
        (1, "a", ["b", 0.5]),
        (3, "b", ["b", 0.4]),
        (0, "c", ["c", 0.7]),
    ]
    assert values["right"] == 2
    for found, image, itself in zip(values["neighbours"], (1, 3, 0), (3, 11, 7), strict=True):
        distances = sorted((sum((test[image] - other) ** 2), number) for number, other in enumerate(train))
        assert found["nearest"] == [number for _, number in distances[:6]] and found["nearest"][0] == itself
        assert found["classes"] == ["abc"[number % 3] for number in found["nearest"]]


def test_responses_are_read_from_a_run_that_has_ended(tmp_path):
    assert fig7.responses(tmp_path, "center") is None
    (tmp_path / "responses.json").write_text(json.dumps({"std": [3.0, 1.0, 2.0], "step": 7}))
    assert fig7.responses(tmp_path, "center") is None
    (tmp_path / "eval.center.json").write_text(json.dumps({"step": 9}))
    assert fig7.responses(tmp_path, "center") is None
    (tmp_path / "eval.center.json").write_text(json.dumps({"step": 7}))
    values = fig7.responses(tmp_path, "center")
    assert values.pop("tested") is None
    assert values == {"first": 3.0, "last": 2.0, "median": 2.0, "std": [3.0, 1.0, 2.0]}


def test_jobs_follow_what_they_need():
    order = []

    def start(name, command):
        order.append(name)
        return lambda: int(command[0])

    todo = {"child": jobs.Job([["0"]], ["parent"]), "parent": jobs.Job([["0"], ["0"]]), "bad": jobs.Job([["3"]])}
    todo |= {"orphan": jobs.Job([["0"]], ["bad"]), "of_elsewhere": jobs.Job([["0"]], ["not in the list"])}
    todo |= {"both": jobs.Job([["0"]], ["child", "parent"])}
    assert jobs.run_all(todo, 2, start) == {"bad": 3, "orphan": 3}
    assert sorted(order) == ["bad", "both", "child", "of_elsewhere", "parent", "parent"]
    assert [name for name in order if name in ("parent", "child", "both")] == ["parent", "parent", "child", "both"]
    order.clear()
    stopped = {"first": jobs.Job([[str(preemption.EXIT_CODE)]]), "second": jobs.Job([["0"]])}
    assert jobs.run_all(stopped, 1, start) == {"first": 75, "second": 75}
    assert order == ["first"]


def test_jobs_are_those_that_are_missing():
    table = entries.load(["vgg/table5"])
    todo = jobs.missing(table, {"vgg/table5": {}}, "runs", ["--data_dir=D"])
    names = [*todo]
    assert len(names) == 7 and names[0] == "vgg11"  # A; D and E at 256, 384 and from 256 to 512
    assert {need for job in todo.values() for need in job.needs} <= {*names}
    last = todo[table["vgg/table5"].rows[0].runs[0].name].commands[0]
    assert "--data_dir=D" in last and f"--init_from=runs/{todo[last_name(last)].needs[0]}" in last
    assert any("multi_crop_dense_q256_384_512" in part for part in last)


def last_name(command):
    (workdir,) = [part for part in command if part.startswith("--workdir=")]
    return workdir.removeprefix("--workdir=runs/")


@pytest.mark.parametrize("name", entries.names())
def test_what_was_counted_is_what_the_models_have(name):
    (table,) = entries.load([name]).values()
    known = entries.results(name)
    assert set(known.get("counted", {})) == ({row.label for row in table.rows if row.runs} if table.counts else set())
    for label, of_row in known.get("counted", {}).items():
        (run,) = [row.runs[0] for row in table.rows if row.label == label]
        assert of_row == {column: count(run) for column, count in table.counts.items()}


def test_the_page_and_the_pictures_are_what_render_writes():
    everything = entries.load()
    found = commands.read(everything, entries.RESULTS)
    assert (ROOT / "experiments" / "README.md").read_text() == pages.page(everything, found), "experiments render"
    for name, table in everything.items():
        picture = entries.RESULTS / f"{name}.png"
        assert picture.exists() == pages.has_picture(name, table, found[name])
        if picture.exists():
            assert pages.read_stamp(picture) == commands.stamp(name, table, found[name]), f"render again: {name}"
    known = {file.relative_to(entries.RESULTS).with_suffix("").as_posix() for file in entries.RESULTS.rglob("*.*")}
    assert known <= set(everything)


CURVE = [[step, 20.0 - step / 5000] for step in range(0, 64000, 1000)]
DRAWN = {
    "alexnet/fig1": {"train": [[1, 60.0], [2, 40.0]]},
    "alexnet/fig3": {"pixels": np.random.default_rng(0).integers(0, 256, (96, 11, 11, 3)).tolist()},
    "alexnet/fig4": {
        "bars": [{"image": 3, "class": "a", "likeliest": [["a", 0.5], ["b", 0.2]]}],
        "neighbours": [{"image": 3, "class": "a", "nearest": [1, 2], "classes": ["a", "b"]}],
    },
    "resnet/fig7": {"std": [3.0, 2.0, 1.0, 1.5]},
}


@pytest.mark.parametrize("name", [name for name, table in entries.load().items() if table.draw])
def test_figures_have_what_was_measured(name, tmp_path):
    (table,) = entries.load([name]).values()
    values = DRAWN.get(name, {"train": CURVE, "test": CURVE})
    row = table.rows[-1] if name == "alexnet/fig4" else table.rows[0]
    record = {"run": "r", "directory": "r", "test": "t", "departs": ["total_steps=9"], "values": values}
    found = {"rows": {row.label: [record]}}
    assert pages.has_picture(name, table, found)
    texts = [text.get_text() for text in table.draw(found).findobj(lambda artist: hasattr(artist, "get_text"))]
    assert any("total_steps=9" in text for text in texts)
    if pages.has_picture(name, table, {}):  # with the paper's curves
        texts = [text.get_text() for text in table.draw({}).findobj(lambda artist: hasattr(artist, "get_text"))]
        assert any("paper" in text for text in texts) and not any("total_steps=9" in text for text in texts)
    pages.draw(table, found, tmp_path / "p.png", "mark")
    assert pages.read_stamp(tmp_path / "p.png") == "mark"


def test_mistakes_are_answered_in_a_line(capsys, tmp_path, monkeypatch):
    from experiments.__main__ import main

    assert main(["show", "resnet/table99"]) == 2
    error = capsys.readouterr().err
    assert "resnet/table99 is not an entry; did you mean resnet/table9" in error and error.count("\n") == 1
    assert main(["show", "table6"]) == 2
    assert "table6 is not an entry; did you mean vgg/table6, resnet/table6?" in capsys.readouterr().err
    assert main(["show", "\x1b"]) == 2
    assert r"\x1b is not an entry; choose from alexnet, vgg, resnet, alexnet/table1" in capsys.readouterr().err
    assert main(["collect", "--runs=nowhere"]) == 2
    assert "no folder nowhere" in capsys.readouterr().err
    (tmp_path / "vgg").mkdir()
    (tmp_path / "vgg" / "table3.json").write_text("{")
    monkeypatch.setattr(entries, "RESULTS", tmp_path)
    assert main(["show", "vgg/table3"]) == 2
    error = capsys.readouterr().err
    assert "vgg/table3.json is damaged" in error and error.count("\n") == 1
    assert main(["render", "vgg"]) == 2
    assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN  # the process of the tests must not end by it
    assert "give it no entry" in capsys.readouterr().err


def test_counts_need_no_results():
    assert counts.parameters(Run("vgg16")) == 138.357544  # by hand: the sheet of the paper


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.json", "{"),
        ("config.json", "[]"),
        ("environment.json", "["),
        ("environment.json", "[]"),
        ("environment.json", "[{}]"),
        ("eval.center.json", "{}"),
        ("eval.center.json", "\0"),
    ],
)
def test_a_damaged_file_of_a_run_is_named_in_one_line(tmp_path, capsys, name, text):
    from experiments.__main__ import main

    make_run(tmp_path, Run("resnet_cifar"), 9.0)
    (file,) = tmp_path.glob(f"*/{name}")
    file.write_text(text)
    assert main(["collect", "resnet/table6", f"--runs={tmp_path}"]) == 0  # the run is left out
    error = capsys.readouterr().err
    assert f"{file} " in error and error.count("\n") == 1


def test_damaged_results_are_named(tmp_path):
    (tmp_path / "table1.json").write_text('{"title": "Table 1"')
    with pytest.raises(OSError, match="table1.json is damaged: .*; restore it from git"):
        records.read(tmp_path / "table1.json")


def test_a_run_that_has_lost_steps_does_not_replace_its_result(tmp_path):
    table = Table("T. t", ERROR, [Row("net", (8.75,), [CIFAR[0]])])
    folder = make_run(tmp_path, CIFAR[0], 9.0)
    known = collect(table, tmp_path)
    (folder / "metrics.jsonl").write_text('{"step": 1000, "images_per_second": 128.0}\n')
    assert collect(table, tmp_path, known) == known
