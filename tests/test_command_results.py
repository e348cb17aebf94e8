"""Rows measured by commands that read finished runs: from their files to the page, and from entries to jobs."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, shell
from test_results import CIFAR, START, TRAINED, collect, make_run

from deepconv.config import recipes
from deepconv.data.sources import voc
from experiments import cells, entries, entry, jobs, pages, records, smoke, smoke_data
from experiments.entry import Command, Row, Run, Table
from launch import script

D, E = CIFAR[0], Run("resnet_cifar", {"model.depth": 32})
VALUES = {"voc2007": "mean_average_precision", "caltech101": "mean_class_recall"}
COLUMNS = {"VOC": "voc2007_mean_average_precision", "Caltech": "caltech101_mean_class_recall"}
BY = {"trained": [TRAINED], "tested": {name: value for name, value in TRAINED.items() if name != "time"}}


def features(*runs, **further):
    """The commands of a row of a small Table 11."""
    return [
        Command(
            "deepconv.transfer",
            {"data": data, "scales": (32, 40)},
            {"run": [(run, "") for run in runs]},
            {f"{data}_{value}": value},
            {"train": 5011} if data == "voc2007" else {},
            **further,
        )
        for data, value in VALUES.items()
    ]


ROWS = [
    Row("D", (89.3, "91.8 ± 1.0"), commands=features(D)),
    Row("E", (89.3, "92.3 ± 0.5"), commands=features(E)),
    Row("D and E", (89.7, "92.7 ± 0.5"), commands=features(D, E)),
]
TABLE = Table("T. t", COLUMNS, ROWS)


def transfer(root, directories, value, data="voc2007", name=None, **changes):
    """A directory with the file that python -m deepconv.transfer writes."""
    content = {"data": data, "scales": [32, 40], "images": {"train": 5011, "test": 4952}}
    content |= {"runs": [{"directory": directory, "step": 2000} for directory in directories]}
    content |= value if isinstance(value, dict) else {VALUES.get(data, "mean_average_precision"): value}
    content |= {name: value for name, value in START.items() if name != "from_step"}
    content |= {"time": "2026-11-25T00:00:00+00:00", **changes}
    folder = root / (name or f"transfer,{data},{'+'.join(directories)}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "transfer.json").write_text(json.dumps(content))
    return folder


def trained(root, *runs, **further):
    """Directories of runs that have ended."""
    return [make_run(root, run, 9.0, **further).name for run in runs]


def test_a_row_shows_the_columns_that_were_measured_and_is_missing_until_all_are(tmp_path):
    d, e = trained(tmp_path, D, E)
    transfer(tmp_path, [d], 88.25, name="some name")
    found = collect(TABLE, tmp_path)
    assert pages.lines(TABLE, found)[1:] == [
        ["D", "89.3", "88.25 (-1.05)", "91.8 ± 1.0", "–"],
        ["E", "89.3", "–", "92.3 ± 0.5", "–"],
        ["D and E", "89.7", "–", "92.7 ± 0.5", "–"],
    ]
    assert [cells.state(TABLE, row, found) for row in ROWS] == ["missing"] * 3
    assert [command.name for command in cells.missing_commands(TABLE, found)] == [
        "transfer,data=caltech101,scales=32+40,run=resnet_cifar-" + digest(D),
        *(command.name for row in ROWS[1:] for command in row.commands),
    ]
    transfer(tmp_path, [d], {"mean_class_recall": 92.0, "mean_class_recall_std": 0.75}, "caltech101")
    found = collect(TABLE, tmp_path)
    assert pages.lines(TABLE, found)[1] == ["D", "89.3", "88.25 (-1.05)", "91.8 ± 1.0", "92.00 ± 0.75 (+0.20)"]
    assert [cells.state(TABLE, row, found) for row in ROWS] == ["done", "missing", "missing"]
    first, second = found["rows"]["D"]
    assert first == BY | {
        **{"run": ROWS[0].commands[1].name, "directory": f"transfer,caltech101,{d}", "test": "transfer", "departs": []},
        **{"values": {"mean_class_recall": 92.0, "mean_class_recall_std": 0.75}, "config": None, "seed": 0},
        "arguments": {"data": "caltech101", "scales": [32, 40], "images": {"train": 5011, "test": 4952}},
        **{"steps": 2000, "hours": first["hours"], "of": first["of"]},
    }
    assert (second["directory"], second["of"][0]["directory"], second["of"][0]["config"]["seed"]) == ("some name", d, 0)
    assert second["hours"] == pytest.approx((1000 * 128 / 128 + 1000 * 128 / 256) / 3600, abs=1e-3)


def digest(run):
    return recipes.run_name("x.py", {}, init_from=run.name)[-8:]


def test_the_page_says_what_was_measured_of_which_runs_and_where(tmp_path):
    d, e = trained(tmp_path, D, E)
    transfer(tmp_path, [d, e], 88.25, name="transferred", devices=1, device_kind="gpu", commit="f" * 40)
    found = collect(TABLE, tmp_path)
    assert [*found["rows"]] == ["D and E"] and pages.lines(TABLE, found)[3][2] == "88.25 (-1.45)"
    page = pages.page({"t": TABLE}, {"t": found})
    measured = f"- `transferred`: transfer of `{d} + {e}` on 1 x gpu, CPU cores: 2, commit {'f' * 10}, jax 0.10.2"
    trainings = [f"- `{run}`: 2000 steps in 0.42 h on 2 x cpu, CPU cores: 2, commit abc, jax 0.10.2" for run in (d, e)]
    assert [line for line in page.splitlines() if line.startswith("- ")] == [
        *sorted(f"{line}, 2026-11-21" for line in trainings),
        measured,
    ]


def test_a_column_that_is_measured_on_other_images_says_so(tmp_path):
    (d,) = trained(tmp_path, D)
    transfer(tmp_path, [d], 88.25)
    table = Table("T. t", COLUMNS, [Row("D", (89.3, None), commands=features(D, images="val"))])
    assert pages.lines(table, collect(table, tmp_path))[1] == ["D", "89.3", "88.25 on val (-1.05)", "", "–"]


DEPARTURES = {
    "data": ({"data": "photos"}, ["data=photos"]),
    "images": ({"images": {"train": 40, "test": 10}}, ["40 instead of 5011 images in train"]),
    "step": ({"runs": [{"directory": D.name, "step": 1000}]}, [f"measured at step 1000 of 2000 in {D.name}"]),
}


@pytest.mark.parametrize("what", DEPARTURES)
def test_departures_of_a_result_are_told_and_fill_no_cell(tmp_path, what):
    changes, departs = DEPARTURES[what]
    trained(tmp_path, D)
    transfer(tmp_path, [D.name], 50.0, **changes)
    found = collect(TABLE, tmp_path)
    assert found["rows"]["D"][0]["departs"] == departs
    assert pages.lines(TABLE, found)[1] == ["D", "89.3", "–", "91.8 ± 1.0", "–", f"50.00 / –: {departs[0]}"]


def test_departures_of_a_member_are_told(tmp_path):
    d = make_run(tmp_path, D, None, {"total_steps": 5000, "optimizer.drop_at_steps": ()}).name
    e = make_run(tmp_path, E, 9.0).name
    transfer(tmp_path, [d, e], 50.0)
    departs = [f"drop_at_steps=() in {d}", f"total_steps=5000 in {d}", f"training was not finished (step 2000) in {d}"]
    assert collect(TABLE, tmp_path)["rows"]["D and E"][0]["departs"] == departs


def test_other_measurements_are_in_no_row(tmp_path):
    d, e = trained(tmp_path, D, E)
    other = make_run(tmp_path, Run("resnet_cifar", {"model.depth": 56}), 9.0).name
    transfer(tmp_path, [other], 50.0)  # another net
    transfer(tmp_path, [e, d], 50.0)  # stacked the other way round
    transfer(tmp_path, [d], 50.0, name="scales", scales=[32])
    transfer(tmp_path, [d], 50.0, name="benchmark", data="voc2012")  # of another row or table
    transfer(tmp_path, [d], {"mean_f1": 50.0}, name="value")
    assert collect(TABLE, tmp_path)["rows"] == {}


def test_a_result_stays_when_its_files_are_gone_and_is_kept_apart_when_its_run_changes(tmp_path):
    d, _ = trained(tmp_path, D, E)
    transfer(tmp_path, [d], 88.25)
    known = collect(TABLE, tmp_path)
    assert collect(TABLE, tmp_path / "none", known) == known == collect(TABLE, tmp_path, known)
    records.write(tmp_path / "t.json", known)
    assert records.read(tmp_path / "t.json") == known
    transfer(tmp_path, [d], 88.5)  # the same measurement again
    assert [record["values"] for record in collect(TABLE, tmp_path, known)["rows"]["D"]] == [
        {"mean_average_precision": 88.5}
    ]
    transfer(tmp_path, [d], 12.5, images={"train": 5011, "test": 10})  # another one in the same directory
    both = collect(TABLE, tmp_path, known)["rows"]["D"]
    assert sorted(record["values"]["mean_average_precision"] for record in both) == [12.5, 88.25]
    (tmp_path / f"transfer,voc2007,{d}" / "transfer.json").unlink()
    config = json.loads((tmp_path / d / "config.json").read_text())
    config["optimizer"]["weight_decay"] = 0.5
    (tmp_path / d / "config.json").write_text(json.dumps(config))
    after = collect(TABLE, tmp_path, known)
    assert after["rows"] == {} and after["unassigned"] == known["rows"]["D"]
    assert "mean_average_precision 88.25" in pages.page({"t": TABLE}, {"t": after})
    assert collect(TABLE, tmp_path, after) == after


def test_the_source_of_a_member_stays_known_when_it_is_gone(tmp_path):
    child = Run("resnet_cifar", {"seed": 2}, init_from=D)
    table = Table("T. t", COLUMNS, [Row("child", (1.0, None), commands=features(child))])
    trained(tmp_path, D, child)
    transfer(tmp_path, [child.name], 88.25)
    known = collect(table, tmp_path)
    (tmp_path / D.name).rename(tmp_path.with_name(f"{tmp_path.name}-elsewhere"))
    assert known["rows"]["child"][0]["departs"] == [] and collect(table, tmp_path, known) == known
    (record,) = collect(table, tmp_path)["rows"]["child"]  # if it never was known
    assert record["departs"] == [f"init_from={D.name}, whose directory is missing or has other weights in {child.name}"]


def test_results_that_cannot_be_used_are_named_in_a_line(tmp_path, capsys):
    (d,) = trained(tmp_path, D)
    problems = {
        "gone": (transfer(tmp_path, ["gone"], 1.0), "transfer.json is of the run gone, which is not in "),
        "early": (transfer(tmp_path, [d], 1.0, name="early", time="2026-11-01T00:00:00+00:00"), "is older than the"),
        "no run": (transfer(tmp_path, [], 1.0, name="no run"), "it names no run"),
        "list": (transfer(tmp_path, [d], 1.0, name="list", runs=7), "is damaged: 7 is not a run with its step"),
        "step": (transfer(tmp_path, [d], 1.0, name="step", runs=[{"directory": d}]), "is not a run with its step"),
    }
    (transfer(tmp_path, [d], 1.0, name="json") / "transfer.json").write_text("{")
    assert collect(TABLE, tmp_path)["rows"] == {}
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 + len(problems)
    for folder, words in problems.values():
        (line,) = [line for line in lines if line.startswith(f"not collected: {folder}: ")]
        assert words in line


# Table 9: the boxes of two nets merged, classes of two others
BOXES = [Run("resnet_cifar", {"seed": seed}) for seed in (3, 4)]
FUSION = Command(
    "deepconv.localization",
    {"scales": ((256,), (352, 384))},
    {"run": [(run, "") for run in BOXES], "classes_from": [(D, "ten_crop"), (E, "center")]},
    {"error": "top5_localization_error"},
)
FUSED = Row("fusion", (26.9, None), commands=[FUSION])
TABLE_9 = Table("T. t", {"error, %": "error", "error on the test set, %": entry.WITHHELD}, [FUSED])


def test_the_fusion_of_table_9_is_one_command_after_four_runs(tmp_path):
    names = [run.name for run in (*BOXES, D, E)]
    todo = jobs.missing({"t": TABLE_9}, {"t": {}}, "runs", ["--data_dir=D"])
    assert [*todo] == [*names, FUSION.name]
    assert todo[FUSION.name].needs == tuple(names)
    (command,) = todo[FUSION.name].commands
    assert command == [
        "deepconv.localization",
        *(f"--run=runs/{run.name}" for run in BOXES),
        f"--classes_from=runs/{D.name}:ten_crop",
        f"--classes_from=runs/{E.name}:center",
        "--scales=256/352,384",
        f"--workdir=runs/{FUSION.name}",
        "--data_dir=D",
    ]
    evals = [[part for part in todo[name].commands[0] if part.startswith("--evals")] for name in names]
    assert evals == [[], [], ["--evals=ten_crop"], ["--evals=center"]]
    boxes, classes = (
        "+".join(f"resnet_cifar-{digest(run)}{test}" for run, test in pairs)
        for pairs in ([(run, "") for run in BOXES], [(D, ".ten_crop"), (E, ".center")])
    )
    assert FUSION.name == f"localization,scales=256_352+384,run={boxes},classes_from={classes}"
    assert pages.commands(TABLE_9, {})[-1] == f"python -m {' '.join(FUSION.line())} --data_dir=DIR"

    trained(tmp_path, *BOXES, D, E)
    content = {name: value for name, value in START.items() if name != "from_step"} | {"time": "2026-11-25"}
    content |= {"top5_localization_error": 27.5, "scales": [[256], [352, 384]]}
    content["runs"] = [{"directory": run.name, "step": 2000} for run in BOXES]
    tests = [(D.name, "ten_crop"), (E.name, "center")]
    content["classes_from"] = [{"directory": name, "step": 2000, "test": test} for name, test in tests]
    file = tmp_path / "any name" / "localization.json"
    file.parent.mkdir()
    file.write_text(json.dumps(content))
    found = collect(TABLE_9, tmp_path)
    assert pages.lines(TABLE_9, found)[1] == ["fusion", "26.9", "27.50 (+0.60)", "", "test server"]
    assert cells.state(TABLE_9, FUSED, found) == "done" and jobs.missing({"t": TABLE_9}, {"t": found}, "runs") == {}
    content["classes_from"][0]["test"] = "center"  # other classes
    file.write_text(json.dumps(content))
    assert collect(TABLE_9, tmp_path)["rows"] == {}


def test_a_job_array_of_slurm_depends_on_all_its_jobs():
    todo = jobs.missing({"t": TABLE_9}, {"t": {}}, "runs")
    ids = {E.name: "9_4"}  # queued before
    del todo[D.name], todo[E.name]  # the first is done
    first, second = script.arrays(todo, ids)
    assert [*first.todo] == [run.name for run in BOXES] and [*second.todo] == [FUSION.name]
    ids |= {run.name: f"17_{index}" for index, run in enumerate(BOXES)}
    assert first.dependency(ids) == ""
    text = script.text("t.2", second.todo, script.Options("main", nodes=2), "python", second.dependency(ids))
    assert "#SBATCH --dependency=afterok:17_0:17_1:9_4\n" in text and "#SBATCH --array=0-0\n" in text
    (line,) = [line for line in text.splitlines() if "deepconv.localization" in line]
    assert line.startswith('    run --nodes=1 --ntasks=1 "$python" -m deepconv.localization --run=')


def test_the_state_of_commands_is_shown(tmp_path):
    row = entries.load(["vgg/table12"])["vgg/table12"].rows[-1]
    (command,) = row.commands
    (tmp_path / "runs" / command.name).mkdir(parents=True)
    for state, file in (("waiting", "lock"), ("stopped", "transfer.json"), ("finished", "")):
        answer = shell().run(["vgg/table12", "--json"], tmp_path, module="launch.status").ends(0)
        states = {found["run"]: found["state"] for found in json.loads(answer.out)}
        assert len(states) == 9 and states.pop(command.name) == state and {*states.values()} == {"waiting"}
        if file:
            (tmp_path / "runs" / command.name / file).write_text("{}")


def test_commands_of_tables_have_names_for_directories_and_shrink():
    tables = entries.load()
    rows = [(table, row) for table in tables.values() for row in table.rows]
    all_commands = [command for _, row in rows for command in row.commands]
    commands = {command.name: command for command in all_commands}
    assert len(all_commands) == 24 and len(commands) == 21  # tables repeat commands of the tables before them
    for command in all_commands:  # a later table may take fewer of the values
        assert dataclasses.replace(commands[command.name], values=command.values) == command
    assert all(len(name.encode()) < 256 and "/" not in name for name in commands)
    long = Command("a.b", {"x": "y" * 300}, {"run": [(D, "")]}, {})
    other = Command("a.b", {"x": "y" * 300}, {"run": [(E, "")]}, {})
    assert len(long.name) < 256 and long.name != other.name
    shrunk = [command for table in tables.values() for row in smoke.shrunk(table).rows for command in row.commands]
    scales = {command.arguments["scales"] for command in shrunk}  # 256, 352 and 384 for crops of 32 pixels
    assert scales == {(36, 54), ((36,),), ((54,),), ((50, 54),), ((36,), (50, 54)), ((32, 36),), ((32, 36), (32, 36))}
    assert {run.load().data.image_size for command in shrunk for run, _ in command.pairs()} == {32}
    assert smoke.shrunk_scales(((256,), (352, 384, 416)), 224, 32) == ((36,), (50, 54))
    for runs in (command.runs for command in shrunk if "refined_by" in command.runs):
        assert [run.proposals_from for run, _ in runs["refined_by"]] == [run for run, _ in runs["run"]]
        for flag in ("refined_by", "run"):
            assert [run.init_from for run, _ in runs[flag]] == [run for run, _ in runs["classes_from"]]
        steps = [{run.load().total_steps for run, _ in runs[flag]} for flag in ("refined_by", "run", "classes_from")]
        assert steps == [{2}, {2}, {30}]


STARTS_A_COMMAND = """
import multiprocessing, pathlib
from experiments import smoke

if __name__ == "__main__":
    arguments = ["command"], pathlib.Path("log")
    process = multiprocessing.get_context("forkserver").Process(target=smoke.run_command, args=arguments)
    process.start()
    process.join()
"""
COMMAND = """
import os, time
print(os.getpid(), flush=True)
time.sleep(100)
"""


def test_the_commands_of_the_smoke_test_end_with_it_even_if_it_is_killed(tmp_path):
    (tmp_path / "smoke_test.py").write_text(STARTS_A_COMMAND)
    (tmp_path / "command.py").write_text(COMMAND)
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    log, deadline = tmp_path / "log", time.monotonic() + 60

    def wait_for(condition):
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def runs(process):
        try:
            return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    smoke_test = subprocess.Popen([sys.executable, "smoke_test.py"], cwd=tmp_path, env=environment)
    wait_for(lambda: log.exists() and log.read_text().endswith("\n"))
    process = int(log.read_text())
    assert runs(process)
    smoke_test.kill()
    smoke_test.wait()
    wait_for(lambda: not runs(process))


def test_the_data_of_the_smoke_test_are_in_the_layouts_of_its_commands(tmp_path):
    smoke_data.write(tmp_path)
    for year, splits in {"VOC2007": 3, "VOC2012": 2}.items():
        for split in ("train", "val", "test")[:splits]:
            images, labels = (read(tmp_path / "VOCdevkit" / year, split) for read in (voc.read_voc, voc.image_labels))
            kinds = [voc.CLASSES.index(name) for name in ("person", "dog")]
            assert images.classes[:, 0].tolist() == kinds * 6 and (labels[:, kinds] == [[1, -1], [-1, 1]] * 6).all()
    people, actions = voc.read_actions(tmp_path / "VOCdevkit" / "VOC2012", "val")
    assert len(people.ids) == 6 and ((actions == 1).sum(0) == 3).all() and ((actions == 1).sum(1) == 5).all()
    for name in ("101", "256"):
        folders = (tmp_path / f"{name}_ObjectCategories").iterdir()
        assert {folder.name: len([*folder.iterdir()]) for folder in folders} == {"person": 62, "dog": 62}
