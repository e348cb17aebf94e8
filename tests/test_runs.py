"""The list of runs."""

import json
import os

import pytest
from conftest import shell
from test_results import make_run

from deepconv import runs as runs_command
from deepconv.run import directory, preemption
from experiments.entry import Run


def make_start(folder, *argv):
    (folder / "environment.json").write_text(json.dumps([{"argv": ["main.py", *argv]}, {"argv": ["main.py"]}]))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of each state, in `runs` and in a folder of it."""
    runs = tmp_path_factory.mktemp("list") / "runs"
    cifar = Run("resnet_cifar")
    finished = make_run(runs, cifar, 9.0, name="resnet_cifar,seed=1")
    make_start(finished, "--config=configs/resnet_cifar.py", "--config.seed=1", "--evals=center", "--data_dir=d")
    logged = [{"step": 100, "test_top1_error": 40.0}, {"step": 200, "test_top1_error": 30.0}, {"step": 300}]
    for number, name in enumerate(("stopped", "failed", "running", "damaged")):
        folder = make_run(runs / "more", cifar, None, name=name, metrics=logged[: 3 - number % 2])
        make_start(folder, "--config", "x/vgg16.py", "--init_from=a", "--smoke", "--workdir=b")
        if name == "damaged":
            (folder / "config.json").write_text("{")
        for file in ("config.json", "metrics.jsonl"):
            os.utime(folder / file, (1e9 + number, 1e9 + number))
    (runs / "more/failed/failure.txt").write_text("the loss is\x1b not finite\n")
    weights = make_run(runs, cifar, None, name="imported")
    config = json.loads((weights / "config.json").read_text())
    (weights / "config.json").write_text(json.dumps({key: config[key] for key in config if key != "train_data"}))
    with directory.lock(runs / "more" / "running"):
        yield runs


def call(runs, *arguments):
    return shell().run([*arguments], runs.parent, module="deepconv.runs").ends(0).out


def test_runs_are_listed_with_state_step_and_error(runs):
    found = {os.path.basename(run["run"]): run for run in json.loads(call(runs, "--json"))}
    assert {name: run["state"] for name, run in found.items()} == {
        "resnet_cifar,seed=1": "finished",
        "stopped": "stopped",
        "failed": "failed",
        "running": "running",
        "damaged": "failed",
    }
    finished, failed, running = (found[name] for name in ("resnet_cifar,seed=1", "failed", "running"))
    wanted = {"run": "runs/resnet_cifar,seed=1", "recipe": "resnet_cifar", "changes": ["seed=1"], "test": "center"}
    assert wanted.items() <= finished.items() and (finished["error"], finished["step"]) == (9.0, 64_000)
    wanted = {"recipe": "vgg16", "changes": ["init_from=a", "smoke"], "step": 200, "total_steps": 64_000, "error": 30.0}
    assert wanted.items() <= failed.items() and failed["details"] == r"the loss is\x1b not finite"
    assert (running["details"], running["step"]) == (f"process {os.getpid()}", 300)
    assert "config.json is damaged" in found["damaged"]["details"]


def test_a_link_to_a_run_is_followed(runs, tmp_path):
    (tmp_path / "linked").symlink_to(runs / "more" / "running")
    (tmp_path / "circle").symlink_to(tmp_path)
    (tmp_path / "twice").symlink_to(tmp_path / "linked")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.json").write_text("{}")
    (tmp_path / "best").symlink_to(tmp_path / "run")
    assert {*runs_command.directories(tmp_path)} == {tmp_path / name for name in ("linked", "twice", "run")}
    (tmp_path / "config.json").write_text("{}")  # the folder of all runs is a run, too
    assert {*runs_command.directories(tmp_path)} == {
        tmp_path,
        *(tmp_path / name for name in ("linked", "twice", "run")),
    }


def test_the_list_is_sorted_and_read_at_a_glance(runs):
    def names(*arguments):
        lines = call(runs, *arguments).splitlines()
        assert lines[-1] == "1 running, 1 stopped, 2 failed, 1 finished"
        return [line.split()[0].removeprefix("more/") for line in lines[1:-1]]

    assert names() == ["stopped", "failed", "running", "damaged", "resnet_cifar,seed=1"]
    assert names("--sort=error") == ["resnet_cifar,seed=1", "failed", "running", "stopped", "damaged"]
    assert names("--sort=state") == ["running", "stopped", "damaged", "failed", "resnet_cifar,seed=1"]
    assert names("--sort=step") == ["failed", "running", "stopped", "resnet_cifar,seed=1", "damaged"]
    lines = call(runs, "runs/more", "--sort=run").splitlines()
    assert lines[3].startswith("running (vgg16, init_from=a, smoke)  running  300/64000     30.00 %  ")
    empty = call(runs, "runs/imported")
    assert empty == "no runs in runs/imported\n"


def test_a_failure_is_noted_until_the_next_start(tmp_path):
    for error, noted in ((OSError("no space"), "no space\n"), (RuntimeError(), "RuntimeError\n")):
        with pytest.raises(type(error)), directory.failure_noted(tmp_path):
            assert not (tmp_path / "failure.txt").exists()
            raise error
        assert (tmp_path / "failure.txt").read_text() == noted
    with pytest.raises(preemption.Preempted), directory.failure_noted(tmp_path):
        raise preemption.Preempted("SIGTERM")
    assert not (tmp_path / "failure.txt").exists()


def test_changes_are_listed_with_their_values_however_they_were_given(tmp_path):
    run = make_run(
        tmp_path / "runs", Run("resnet_cifar"), None, name="w", metrics=[{"step": 10, "images_per_second": 64}]
    )
    flags = [
        "--config",
        "c/resnet_cifar.py",
        "--config.seed",
        "3",
        "--noconfig.model.residual",
        "--init_from",
        "runs/a",
    ]
    make_start(run, *flags, "--config.model.depth=8", "--smoke")
    (found,) = json.loads(call(tmp_path / "runs", "--json"))
    assert found["recipe"] == "resnet_cifar"
    assert found["changes"] == ["seed=3", "model.residual=False", "init_from=runs/a", "model.depth=8", "smoke"]
    assert found["seconds_left"] == (64_000 - 10) * 128 / 64
