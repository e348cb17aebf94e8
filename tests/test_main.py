"""The command, as a person types it."""

import contextlib
import functools
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib import metadata

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from conftest import CONFIGS, FLAGS, ROOT, answers, shell
from PIL import Image

from deepconv.config import recipes
from deepconv.data.prepare import image_statistics

COMMANDS = [
    f"deepconv.{name}" for name in ("main", "evaluate", "predict", "benchmark", "weights", "localization", "transfer")
]
OTHERS = [
    "deepconv.runs",
    "experiments",
    "experiments.scale",
    *(f"launch.{name}" for name in ("local", "slurm", "k8s", "status")),
]
COMMANDS += ["deepconv.evaluation.ensemble", "deepconv.curves", "deepconv.data.prepare", "experiments.responses"]
COMMANDS += ["deepconv.config"]
COMMAND = [sys.executable, "-m", "deepconv.main"]
CIFAR = f"--config={ROOT}/configs/resnet_cifar.py"
QUICK = f"--config={ROOT}/configs/quickstart.py"
SHORT = [CIFAR, "--smoke", "--config.model.depth=8", "--config.data.image_size=16", "--config.batch_size=8"]
SHORT += ["--config.total_steps=200", "--config.checkpoint_every_steps=10", "--config.eval_every_steps=100"]
SHORT += ["--config.optimizer.drop_at_steps=100,150"]


def start(arguments, cwd, before=(), **variables):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": FLAGS} | variables
    streams = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return subprocess.Popen([*before, *COMMAND, *arguments], cwd=cwd, env=environment, **streams)


def finish(process):
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def told(answer):
    return answer.code, answer.out, answer.err


def command(folder, arguments):
    """What it tells, started in a fork; see `start` for a process of its own."""
    return told(shell().run(arguments, folder))


def wait_for(condition, process):
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def has_reached(checkpoints, step):
    return any(step <= int(path.name) for path in checkpoints.glob("*") if path.name.isdigit())


def alive(process_id):
    state = subprocess.run(["ps", "-o", "stat=", "-p", process_id], capture_output=True, text=True).stdout.strip()
    return state and not state.startswith("Z")  # an orphan that has ended may wait for its new parent to notice


def last_checkpoint(workdir):
    """The arrays of the final state, by way of orbax, and the step."""
    manager = ocp.CheckpointManager(workdir / "checkpoints")
    step = manager.latest_step()
    state = manager.restore(step, args=ocp.args.StandardRestore())
    return step, [np.asarray(x) for x in jax.tree.leaves(state)]


MISTAKES = [
    ([], "--config is missing"),
    (["--config=nothing.py"], "nothing.py does not exist"),
    (["--config=README.md"], "README.md does not exist"),
    ([f"--config={ROOT}/README.md"], "README.md is not a Python file"),
    (["--config=resnet5"], "resnet5 does not exist; the nearest recipe is resnet50"),
    ([f"--config={ROOT}/configs/vgg61.py"], "configs/vgg19.py"),
    (["--config=resnet50", "--data_dir=nowhere"], "imagenet2012 is not in nowhere"),
    ([CIFAR, "--only_check_args"], "only_check_args"),
    (
        [CIFAR, "--config.model.dept=20"],
        "config.model.dept is not a field of this recipe; did you mean config.model.depth?",
    ),
    ([QUICK, "--config.optimzer.momentum=1"], "did you mean config.optimizer.momentum?"),
    ([QUICK, "--config.learning_rate=1"], "did you mean config.optimizer.learning_rate?"),
    (
        [QUICK, "--config.lr=1"],
        "config.lr is not a field of this recipe; the fields of config are batch_size, checkpoint",
    ),
    ([QUICK, "--config.seed=abc"], "deepconv: --config.seed=abc: it must be a whole number"),
    ([QUICK, "--config.optimizer.learning_rate=high"], "learning_rate=high: it must be a number"),
    ([QUICK, "--config.model=resnet"], "set its fields, as in --config.model.name="),
    ([QUICK, "--config.model.name=resnet51"], "choose one of alexnet, alexnet_cifar, resnet, resnet_cifar, vgg"),
    ([QUICK, "--seed=3"], "--seed is not a flag of this command; did you mean --config.seed?"),
    ([QUICK, "--worker=3"], "--worker is not a flag of this command; did you mean --workers?"),
    (["--config.seed=3"], "--config.seed changes a recipe; give one by --config=RECIPE"),
    ([QUICK, "--workers=two"], "deepconv: --workers=two: it must be a whole number"),
    ([QUICK, "--library=torchvison"], "--library=torchvison is unknown; did you mean torchvision?"),
    ([QUICK, "--smoke", "--evals=centre"], "centre is not a protocol; did you mean center?"),
    ([QUICK, "--smoke", "--workdir=file.txt"], "the directory file.txt cannot be created: it is a file; give another"),
    (
        [QUICK, "--smoke", "--init_from=nowhere"],
        "nowhere does not exist; give the directory of a run, or a safetensors",
    ),
    ([CIFAR, "--data_dir=file.txt"], "--data_dir=file.txt is not a directory"),
    ([QUICK, "--config.data.name=cifar11", "--data_dir=."], "cifar11 is not in . (nothing usable in cifar11); did you"),
    ([QUICK, "--config.data.eval_split=tset"], "no split 'tset'; choose one of test, train, or a part"),
    ([CIFAR, "--config.batch_size=many"], "config.batch_size=many"),
    ([CIFAR, "--smoke", "--config.model.depth=21"], "config.model.depth=21 is not 6n+2"),
    ([CIFAR, "--smoke", "--evals=center,tencrop"], "tencrop is not a protocol"),
    ([CIFAR, "--smoke", "--evals=center,dense"], "CifarResNet has no dense test"),
    ([QUICK, "--notrain"], "--notrain needs --init_from=FILE"),
    ([CIFAR, "--wrokdir=x"], "wrokdir"),
    ([CIFAR, "--data_dir=nowhere"], "cifar10 is not in nowhere"),
    (
        [f"--config={ROOT}/configs/resnet50.py", "--smoke", "--config.data.train_scale=64,"],
        "train_scale=(64,); it must be",
    ),
    (
        [f"--config={ROOT}/configs/alexnet_code.py", "--smoke", "--config.data.lighting_until_epochs=2"],
        "lighting_until",
    ),
    ([CIFAR, "smoke"], "unknown argument 'smoke'"),
    ([CIFAR, "--smoke", "--evals="], "--evals is empty"),
    (["--config", f"{ROOT}/configs/resnet34.py", "--config.model.shortcut=D"], "imagenet2012"),
    (["--config.seed=-1", f"--config={ROOT}/configs/resnet34.py"], "config.seed=-1"),
    ([f"--config={ROOT}/configs/alexnet.py", "--smoke", "--config.data.image_size=8"], "image_size=8"),
    ([QUICK, "--init_from=nowhere.safetensors"], "nowhere.safetensors"),
    ([QUICK, "--init_layers=conv1"], "--init_layers needs --init_from=RUN_DIR"),
    ([QUICK, "--library=torchvision"], "--library and --input need --init_from=FILE, the file that they describe"),
    ([QUICK, "--init_from=a.safetensors", "--library=timm"], "timm has no net like resnet_cifar"),
    ([QUICK, "--init_from=a.safetensors", "--input=1,2"], "--input=1,2 is unknown; choose one of torchvision, caffe"),
    ([QUICK, "--config.data.mean=middle"], "config.data.mean='middle' is unknown; choose one of channel, pixel"),
    ([QUICK, "--config.data.std=1,0,1"], "config.data.std='1,0,1' is unknown; choose one of none, channel"),
    ([CIFAR, "--smoke", "--config.data.image_size=0"], "config.data.image_size=0"),
    ([QUICK, "--config.batch_size=0"], "config.batch_size=0"),
    ([QUICK, "--config.total_epochs=3"], "'--config.optimizer.drop_at_epochs=()'"),
    ([QUICK, "--config.optimizer.drop_at_epochs=a,b"], "config.optimizer.drop_at_epochs=('a,b',)"),
    ([CIFAR, "--smoke", "--config.optimizer.momentum.x=abc"], "config.optimizer.momentum is 0.9, and has no fields"),
    ([QUICK, "--config.data.image_size=1000000000"], "config.data.image_size=1000000000; it must be"),
    ([QUICK, "--config.data.image_size=500"], "10000 shapes of config.data.image_size=500 pixels need 7.5 GB"),
    ([QUICK, "--config.data.image_size=8192"], "shapes of 8192 pixels are not drawn"),
    ([QUICK, "--config.batch_size=1000000000"], "config.batch_size=1000000000; it must be"),
    ([QUICK, "--config.batch_size=10001"], "config.batch_size=10001 is more than the 10000 training examples"),
    ([QUICK, "--smoke", "--config.batch_size=0"], "config.batch_size=0"),
    ([QUICK, "--smoke", "--evals=center_q1000000000"], "center_q1000000000"),
    ([QUICK, "--workdir=~nosuchuser/x"], "the home directory in ~nosuchuser/x is unknown"),
    ([CIFAR, "--data_dir=~nosuchuser/x"], "the home directory in ~nosuchuser/x is unknown"),
    (
        [QUICK, "--smoke", "--verify_data"],
        "--verify_data is for folders of photographs without boxes, which shapes is not",
    ),
    ([QUICK, "--shorten=0"], "--shorten=0; choose a number above 0 and up to 1"),
    ([QUICK, "--shorten=nan"], "--shorten=nan; choose"),
    ([QUICK, "--shorten=0.5", "--smoke"], "give either --smoke or --shorten"),
    ([CIFAR, "--shorten=0.00001"], "--shorten=1e-05 makes config.optimizer.drop_at_steps=(1, 1): two drops coincide"),
    (["--config=empty.py"], "--config=empty.py is not a recipe"),
    ([QUICK, "--config", CIFAR.partition("=")[2]], f"--config comes after {QUICK}; give one recipe"),
]


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mistakes")
    (folder / "empty.py").write_text("")
    (folder / "file.txt").write_text("")
    (folder / "configs").symlink_to(ROOT / "configs")
    return answers(folder, "deepconv.main", MISTAKES), folder


@pytest.mark.parametrize("case", range(len(MISTAKES)), ids=[named for _, named in MISTAKES])
def test_a_mistake_is_answered_in_one_line(case, answered):
    results, folder = answered
    code, out, err, named = results[case]
    assert code == 2 and named in err and len(err.strip().splitlines()) == 1, err
    left = {
        path.name
        for path in folder.iterdir()
        if path.name != "__pycache__" and path.suffix not in (".1", ".2", ".json", ".py", ".txt")
    }
    assert not out and left == {"configs"}


OTHER_MISTAKES = {
    "deepconv.evaluate": [
        (["--run=good", "--tests=center,tencrop"], "tencrop is not a protocol; did you mean ten_crop?"),
        (["--run=good", "--tests="], "--tests is empty; choose from center, ten_crop"),
        (["--run=good", "--config.seed=1"], "--config.seed changes a recipe; give one by --config=RECIPE"),
        (["--run=good", "--data_dir=x", "--workdir=y"], "--workdir has no effect with --run; good has its own config"),
        (["--run=goad"], "goad is not the directory of a run: it has no config.json; did you mean good?"),
        (["--run=unfinished"], "unfinished is an unfinished run (step 0 of 10); repeat the command that trains it"),
        (["--run=imported"], "imported holds imported weights, and no data set; name a recipe with its data, as in"),
        (["--run=other"], "this is not the data of other; give its --data_dir. eval_data: 7 examples, abc in the run"),
        (["--weights=nowhere.safetensors", QUICK, "--smoke"], "nowhere.safetensors does not exist; give the directory"),
        (["--weights=file.txt", QUICK, "--smoke"], "file.txt: not a safetensors file, or an incomplete one"),
        (["good"], "unknown argument 'good'; flags are written --name=value"),
    ],
    "deepconv.weights": [
        ([], "no command is given; choose one of import, export"),
        (["exprot"], "'exprot' is not a command; did you mean export?"),
        (["export", "--run=good"], "export needs --to"),
        (["export", "--run=good", "--to=no/x.safetensors"], "--to=no/x.safetensors: its folder does not exist; create"),
        (["export", "--run=good", "--to=file.txt"], "--to=file.txt exists; give another file"),
    ],
    "deepconv.data.prepare": [
        ([], "no command is given; choose one of imagenet2012, cifar10, pack, statistics"),
        (["imagenet"], "'imagenet' is not a command; did you mean imagenet2012?"),
        (["statistics"], "statistics needs the name of one data set"),
        (["statistics", "cifar10", "--split="], "--split is empty; name splits, as in --split=train,validation"),
    ],
    "deepconv.benchmark": [([QUICK, "--steps=3"], "--steps=3: 3 is not integer >= 10")],
    "deepconv.curves": [
        ([], "no run directory is given"),
        (["good", "--to=x.gif"], "--to=x.gif must end in .png, .pdf, .svg"),
    ],
    "deepconv.runs": [(["a", "b"], "unknown argument 'b'; give one directory, in which the runs lie")],
    "experiments": [(["shwo"], "'shwo' is not a command; did you mean show?")],
}


def test_mistakes_of_other_commands_are_answered_in_one_line(tmp_path):
    (tmp_path / "file.txt").write_text("")
    config = json.loads(recipes.load(ROOT / "configs" / "quickstart.py", smoke=True).to_json())
    data = {"train_data": "160 examples, built in", "eval_data": "50 examples, built in"}
    content = {"good": data, "unfinished": data, "imported": {}, "other": data | {"eval_data": "7 examples, abc"}}
    for name, held in content.items():
        (tmp_path / name / "checkpoints").mkdir(parents=True)
        (tmp_path / name / "config.json").write_text(json.dumps(config | held))
        (tmp_path / name / "metrics.jsonl").write_text('{"step": 1}\n')
        if name != "unfinished":
            (tmp_path / name / "checkpoints" / "10").mkdir()
    before = {*tmp_path.rglob("*")}
    for module, mistakes in OTHER_MISTAKES.items():
        for code, out, err, named in answers(tmp_path, module, mistakes):
            assert code == 2 and named in err and len(err.splitlines()) == 1 and not out, (module, named, out, err)
    assert {*tmp_path.rglob("*")} == before


@pytest.mark.slow
def test_killed_twice_and_resumed_is_bit_identical(tmp_path):
    code, out, err = finish(start([*SHORT, "--workdir=whole"], tmp_path))
    assert code == 0, err
    rng = np.random.default_rng(int(time.time()))
    for kill in range(2):
        process = start([*SHORT, "--workdir=killed", f"--workers={kill % 2}"], tmp_path)
        checkpoints = tmp_path / "killed" / "checkpoints"
        reached = 80 * kill + int(rng.integers(10, 80))
        wait_for(functools.partial(has_reached, checkpoints, reached), process)
        time.sleep(rng.uniform(0, 0.1))
        children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
        process.kill()
        process.communicate()  # returns when the last child has closed its end
        assert len(children) >= kill % 2 and not any(map(alive, children))
    code, out, err = finish(start([*SHORT, "--workdir=killed"], tmp_path))
    assert code == 0, err
    (step, whole), (killed_step, killed) = last_checkpoint(tmp_path / "whole"), last_checkpoint(tmp_path / "killed")
    assert step == killed_step == 200
    assert all((a == b).all() for a, b in zip(whole, killed, strict=True))
    a, b = (json.loads((tmp_path / name / "eval.center.json").read_text()) for name in ("whole", "killed"))
    assert all(a[key] == b[key] for key in ("examples", "top1_error", "top5_error", "step", "views"))
    assert len(json.loads((tmp_path / "killed" / "environment.json").read_text())) == 3


def test_stopped_refused_resumed_and_finished(tmp_path):
    arguments = [*SHORT, "--workdir=run"]
    process = shell().start(arguments, tmp_path)
    process.wait_for((tmp_path / "run" / "metrics.jsonl").exists)
    process.kill(signal.SIGSTOP)  # so that it is not done before the other has looked
    code, _, err = command(tmp_path, arguments)
    assert code == 2 and "in use by another process" in err
    process.kill(signal.SIGTERM)
    process.kill(signal.SIGCONT)
    code, out, err = told(process.finish())
    assert code == 75 and "stopped by SIGTERM" in err, err
    code, _, err = command(tmp_path, [*arguments, "--config.seed=1"])
    assert code == 2 and "seed: 0 in the run, 1 now" in err
    code, _, err = command(tmp_path, [*SHORT, "--init_from=run", "--workdir=child"])
    assert code == 2 and "deepconv: run is an unfinished run (step" in err and err.count("\n") == 1, err
    assert not (tmp_path / "child").exists()
    answer = shell().run(["--run=run"], tmp_path, module="deepconv.evaluate").ends(2)
    answer.says("run is an unfinished run (step", "of 200); repeat the command that trains it")
    code, out, err = command(tmp_path, arguments)
    assert code == 0 and "90 %" in out and (tmp_path / "run" / "curves.png").exists(), err
    assert re.search(r"continued from step \d+; then test center\n", out)
    assert re.search(r"\ntrain \d+/200  compiling \.\.\.\ntrain ", out)
    assert re.search(r"\ntrain 100/200  epoch 5\.0  test error \d+\.\d %  0:00:\d\d left\n", out)
    before = {path: path.stat().st_mtime for path in (tmp_path / "run" / "checkpoints").iterdir()}
    code, out, err = command(tmp_path, arguments)
    assert code == 0 and "train " not in out and "10 epochs, done; then test center" in out, err
    watching = ["--config.log_every_steps=7", "--config.checkpoint_every_steps=9"]  # they belong to no run's identity
    code, out, err = command(tmp_path, [*arguments, *watching, "--evals=ten_crop"])
    assert code == 0 and "ten_crop" in out, err
    moved = tmp_path / "run" / "probs.ten_crop.npy"
    by_main = np.load(moved.rename(tmp_path / "by_main.npy"))
    (tmp_path / "run" / "eval.ten_crop.json").unlink()
    three = {"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}  # they do not divide a batch of training
    wanted = ["--run=run", "--tests=center,ten_crop"]
    answer = shell().run(wanted, tmp_path, module="deepconv.evaluate", **three).ends(0)
    assert (
        "devices: 3 x cpu" in answer.out
        and "ten_crop: 50 images" in answer.out
        and "center:" not in answer.out
        and "center " in answer.out
    ), answer.out
    np.testing.assert_allclose(np.load(moved), by_main, atol=1e-6)
    starts = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert [start["from_step"] == 0 for start in starts] == [True, False]  # those of training, and none of a test
    assert set(json.loads((tmp_path / "run" / "eval.ten_crop.json").read_text())) >= {"time", "commit", "versions"}
    assert before == {path: path.stat().st_mtime for path in (tmp_path / "run" / "checkpoints").iterdir()}
    (tmp_path / "run" / "curves.png").unlink()  # a stop may come between the last test and the curves
    code, out, err = command(tmp_path, arguments)
    assert code == 0 and (tmp_path / "run" / "curves.png").exists(), err
    damaged = tmp_path / "run" / "checkpoints" / "200" / "SHA256SUMS.json"
    damaged.write_text("{}")
    answer = (
        shell().run(["--run=run", "--tests=center_precise_batch_stats"], tmp_path, module="deepconv.evaluate").ends(2)
    )
    answer.says("checkpoints/200 is damaged (SHA256SUMS.json is missing or unreadable); add --evals=center_precise_")
    assert damaged.exists()


SLOW_TO_IMPORT = ("jax", "flax", "optax", "orbax", "grain", "tensorflow_datasets", "matplotlib", "torch")


def without(folder, *libraries):
    """Variables for a fresh process, which ends if it imports one of these libraries."""
    for name in libraries:
        (folder / f"{name}.py").write_text(f"raise SystemExit('{name} is imported')")
    return {"PYTHONPATH": f"{folder}:{ROOT}"}


EARLY = {
    "deepconv.main": [([QUICK, "--config.batch_size=0"], "config.batch_size=0"), ([CIFAR, "--data_dir=x"], "not in x")],
    "deepconv.evaluate": [
        (["--run=nowhere"], "nowhere is not the directory of a run"),
        (["--run=a", CIFAR], "--config has no effect with --run; a has its own config"),
        (["--weights=a.safetensors"], "--config is missing"),
        (["--tests=center"], "give either --run=RUN_DIR or --weights=FILE"),
    ],
    "deepconv.config": [
        (["resnet5"], "nearest recipe is resnet50"),
        ([QUICK, "--config.dept=3"], "config.model.depth?"),
    ],
    "deepconv.predict": [(["--run=nowhere", "photo.jpg"], "nowhere is not the directory of a run")],
    "deepconv.benchmark": [
        ([QUICK, "--config.dept=3"], "did you mean config.model.depth?"),
        ([CIFAR, "--data_dir=x"], "not in x"),
    ],
    "deepconv.weights": [
        (["import", QUICK, "--from=nowhere", "--out=x"], "--from=nowhere does not exist"),
        (["export", "--run=nowhere", "--to=x"], "nowhere is not the directory of a run"),
    ],
    "deepconv.data.prepare": [(["statistics", "nothing", "--data_dir=x"], "nothing is not in x")],
    "deepconv.evaluation.ensemble": [(["nowhere.npy"], "nowhere.npy is missing")],
    "deepconv.localization": [
        (["--run=nowhere", "--scales=256"], "nowhere is not the directory of a run"),
        (["--run=a", "--run=b", "--scales=256"], "--scales=256 holds 1 lists for 2 runs"),
    ],
    "deepconv.transfer": [
        (["--run=nowhere", "--data=photos"], "nowhere is not the directory of a run"),
        (["--run=a", "--data=photos", "--scales=big"], "--scales=big is not a number of pixels"),
    ],
    "deepconv.curves": [(["nowhere"], "nowhere is not the directory of a run")],
    "deepconv.runs": [
        (["nowhere"], "nowhere is not a directory"),
        (["--sort=age"], "--sort=age is unknown; choose one of when, run"),
    ],
    "experiments.responses": [(["--run=nowhere"], "nowhere is not the directory of a run")],
    "experiments": [
        (["show", "nothing"], "nothing is not an entry"),
        (["site", "vgg"], "site shows all entries; give it no entry"),
    ],
    "experiments.scale": [(["--speed=a"], "--speed=a")],
    "launch.local": [(["nothing"], "nothing is not an entry")],
    "launch.slurm": [(["nothing", "--partition=x", "--dry_run"], "nothing is not an entry")],
    "launch.k8s": [(["nothing", "--image=a:1", "--claim=b"], "nothing is not an entry")],
    "launch.status": [(["nothing"], "nothing is not an entry")],
}


def test_wrong_paths_and_fields_are_refused_before_slow_imports(tmp_path, tmp_path_factory):
    assert {*EARLY} == {*COMMANDS, *OTHERS}
    light = without(tmp_path_factory.mktemp("light"), *SLOW_TO_IMPORT)
    for module, mistakes in EARLY.items():
        for arguments, named in mistakes:
            answer = shell().run_fresh(arguments, tmp_path, module=module, **light)
            assert answer.code == 2 and named in answer.err and len(answer.err.splitlines()) == 1, (module, answer)


OWN = {
    "main": "--workdir",
    "evaluate": "--tests",
    "predict": "--protocol",
    "benchmark": "--scale",
    "weights": "--from",
    "curves": "--to",
    "runs": "--sort",
}
OWN |= {
    "localization": "--scales",
    "transfer": "--regions",
    "evaluation.ensemble": "--weights",
    "data.prepare": "--archives",
}


def test_all_mistakes_of_a_command_are_told_at_once(tmp_path):
    wrong = ["--init_layers=conv1", "--config.optimizer.drop_at_steps=7", "--config.total_steps=6", "--evals=tencrop"]
    ((code, out, err, _),) = answers(tmp_path, "deepconv.main", [([CIFAR, "--smoke", *wrong], "")])
    first, second, third = err.splitlines()
    assert code == 2 and not out and all(line.startswith("deepconv: ") for line in (first, second, third))
    assert "--init_layers" in first and "a drop comes at step 7" in second and "tencrop is not" in third


@pytest.mark.parametrize("start", ["run_fresh", "run"])
def test_help_names_every_flag_and_no_others(tmp_path, tmp_path_factory, start):
    modules = {f"deepconv.{name}": own for name, own in OWN.items()}
    modules |= {"experiments.responses": "--run", "launch.local": "--devices", "experiments": "collect"}
    modules |= {"launch.slurm": "--[no]dry_run", "launch.status": "--[no]json"}
    for module, own in modules.items():
        flag = "--help" if start == "run" else "-h"
        light = (
            {} if start == "run" else without(tmp_path_factory.mktemp("light"), *SLOW_TO_IMPORT, "numpy", "cv2", "PIL")
        )
        answer = getattr(shell(), start)([flag], tmp_path, module=module, **light).ends(0)
        out = answer.out
        assert not answer.err and own in out and len(out.splitlines()) < 80, module
        if module != "experiments":
            assert all(f"\n  {shared}\n" in out for shared in ("--config", "--data_dir", "--workers", "--[no]smoke"))
            assert "75  stopped" in out
    assert not [*tmp_path.iterdir()]


def test_a_platform_that_is_not_there_is_told_in_a_line(tmp_path):
    for name in ("nonsense", "cuda" if jax.default_backend() == "cpu" else "tpu"):
        code, out, err = finish(start([QUICK, "--smoke"], tmp_path, JAX_PLATFORMS=name))
        assert code == 2 and f"JAX cannot use JAX_PLATFORMS={name}: " in err and len(err.splitlines()) == 1, err
    assert not [*tmp_path.iterdir()]


def test_the_commands_and_recipes_are_listed(tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "mine.py").write_text('"""My recipe."""')
    answer = shell().run([], tmp_path, module="deepconv").ends(0)
    commands, recipes = answer.out.split("Recipes")
    listed = {line.split()[0] for line in commands.splitlines() if line.startswith("  ")}
    assert listed == {name.removeprefix("deepconv.") for name in (*COMMANDS, *OTHERS)} - {"experiments.responses"}
    assert (
        all(f"\n  {path.stem} " in recipes for path in CONFIGS)
        and "\n  mine                    My recipe.\n" in recipes
    )


def test_commands_are_run_by_name(tmp_path):
    def run(*arguments):
        answer = shell().run_fresh([*arguments], tmp_path, module="deepconv")
        return answer.code, answer.out + answer.err

    assert run("predict", "--run=nowhere", "a.jpg") == (
        2,
        "deepconv: nowhere is not the directory of a run: it has no config.json\n",
    )
    code, said = run("train", "--config=quickstart", "--config.dept=3")  # a recipe by name, in a folder without configs
    assert code == 2 and "did you mean config.model.depth?" in said
    code, said = run("launch.local", "nothing")
    assert code == 2 and "nothing is not an entry" in said
    assert run("pedict") == (2, "deepconv: 'pedict' is not a command; did you mean predict?\n")


def test_a_recipe_is_printed_with_its_layers_and_schedule(tmp_path):
    changes = ["--config.model.depth=20", "--config.total_epochs=10"]
    out = shell().run(["quickstart", *changes], tmp_path, module="deepconv.config").ends(0).out
    assert "\n  model.depth = 20   (in the recipe: 8)\n" in out and "\n  seed = 0\n" in out
    assert re.search(r"\n conv4_3 +6 x 6 x 64 ", out) and re.search(r"\n sum +269,722 ", out)
    assert "\nlength: 3,125 steps of 32 images, 10 epochs of 10,000 images\n" in out
    assert "learning rate 0.1, 0.01 from step 1,562 (epoch 4.998), 0.001 from step 2,188 (epoch 7.002)\n" in out
    out = shell().run(["resnet_cifar", "--config.model.depth=110"], tmp_path, module="deepconv.config").ends(0).out
    assert "config.optimizer: 0.01 until the training error is below 80 %" in out
    assert "64,000 steps of 128 images, 163.8 epochs of 50,000 images" in out  # without CIFAR-10
    assert out.endswith("\ntime: the training command with --dry_run estimates it on this machine\n")
    out = (
        shell().run(["quickstart", "--config.optimizer.ema_decay=0.9"], tmp_path, module="deepconv.config").ends(0).out
    )
    assert "\nmoving averages of the weights are tested, decay 0.9\n" in out
    assert not [*tmp_path.iterdir()]


def test_a_dry_run_checks_all_and_writes_nothing(tmp_path):
    changes = ["--config.seed=3", "--config.optimizer.ema_decay=0.9", "--evals=center,ten_crop"]
    out = shell().run([*SHORT, "--dry_run", *changes], tmp_path).ends(0).out
    assert not [*tmp_path.iterdir()] and "\ncompiling ...\ncompiled in " in out
    for line in [
        "recipe: resnet_cifar --smoke, batch_size=8 instead of 16, checkpoint_every_steps=10 instead of 3",
        "net: resnet_cifar, 75,290 parameters, 3.06 million multiply-adds for an image of 16 x 16 pixels\n",
        "data: shapes, built in, 160 training images, 50 test images, 10 classes\n",
        "training: 200 steps of 8 images, 10 epochs; then test center, ten_crop, with moving averages",
        ", optimizer.ema_decay=0.9 instead of 0.0",
        ", seed=3 instead of 0",
    ]:
        assert line in out, line
    assert re.search(r"the first step is \d\.\d{3}\na step takes \S+ s; all 200 steps take \d:\d\d:\d\d, ", out)
    assert out.endswith("\ndry run: nothing was written\n")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text(recipes.load(CIFAR.partition("=")[2], smoke=True).to_json())
    told(shell().run([*SHORT, "--dry_run", "--workdir=other"], tmp_path).ends(2).says("a run of another config"))
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["config.json"]
    earlier = tmp_path / "runs" / "quickstart,log_every_steps=7"  # as earlier versions named it
    earlier.mkdir(parents=True)
    (tmp_path / "other" / "config.json").rename(earlier / "config.json")
    told(
        shell().run([QUICK, "--dry_run", "--config.log_every_steps=7"], tmp_path).ends(2).says(f"runs/{earlier.name} ")
    )


def test_a_gpu_that_is_not_used_is_told(tmp_path, monkeypatch):
    from deepconv import report

    monkeypatch.setattr(report, "GPUS", (str(tmp_path),))
    monkeypatch.setattr(report.forms, "platform", lambda: "cpu")
    for name in ("JAX_PLATFORMS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    assert "has an NVIDIA GPU, and JAX does not use it" in report.unused_gpu()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert report.unused_gpu() is None
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(report, "GPUS", (str(tmp_path / "none"),))
    assert report.unused_gpu() is None


def test_layers_that_stay_random_are_told(tmp_path):
    from deepconv import report, task

    frozen, whole = (
        task.prepare(recipes.load(ROOT / f"configs/{name}.py", {}, True)) for name in ("vgg16_fc", "vgg16")
    )
    assert "conv1_1 and 12 more layers get random weights" in report.untrained_layers(frozen, {}, tmp_path)
    given = {"params": dict.fromkeys(set(frozen.config.optimizer.layers) - {"conv5_3"})}
    assert "WARNING: conv5_3 get" in report.untrained_layers(frozen, given, tmp_path)
    assert report.untrained_layers(whole, {}, tmp_path) is None
    (tmp_path / "checkpoints/10").mkdir(parents=True)
    assert report.untrained_layers(frozen, {}, tmp_path) is None


@pytest.mark.parametrize(
    ("train", "test", "warned"),
    [
        ("train", "test", False),
        ("train", "train[9000:]", True),
        ("train[:9000]", "train[9000:]", False),
        ("train[:90%]", "train[80%:]", True),
        ("train[:80%]", "train[90%:]", False),
        ("train[:-100]", "train[-100:]", False),
        ("train[5000:]", "train[:5000]", False),
        ("train[:9000]", "train[90%:]", True),  # in two units, so not compared
    ],
)
def test_test_images_that_are_trained_on_are_told(train, test, warned):
    from deepconv import report, task

    changes = {"data.train_split": train, "data.eval_split": test}
    made = task.prepare(recipes.load(ROOT / "configs/quickstart.py", changes))
    assert bool(report.shared_images(made)) == warned


def test_version(tmp_path):
    assert finish(start(["--version"], tmp_path)) == (0, f"deepconv {metadata.version('deepconv')}\n", "")


MALLOC = """
import ctypes, threading
from deepconv import cli

def main(arguments):
    barrier = threading.Barrier(16)
    def allocate():
        kept = [bytes(10_000) for _ in range(100)]
        barrier.wait()
    threads = [threading.Thread(target=allocate) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bytes(100_000_000)
    c = ctypes.CDLL(None)
    c.fopen.restype = ctypes.c_void_p
    file = ctypes.c_void_p(c.fopen(b"malloc.xml", b"w"))
    c.malloc_info(0, file)
    c.fclose(file)
    return 0

cli.run(main)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc_trim is glibc's")
def test_unused_memory_is_given_back():
    program = """
import numpy as np
from deepconv import malloc
malloc.keep_freed_memory()
def mb():
    return next(int(line.split()[1]) // 1000 for line in open("/proc/self/status") if line.startswith("VmRSS"))
large, small = np.ones(10**8), [np.ones(1000) for _ in range(100)]
del large
before = mb()
malloc.give_back_unused()
print(before, mb(), small[0][0])
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    kept, left, _ = done.stdout.split()
    assert int(kept) > 800 and int(left) < 200


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc_info is glibc's")
def test_threads_share_an_arena_of_memory_and_freed_memory_is_kept(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", MALLOC], cwd=tmp_path, env=environment, check=True)
    found = (tmp_path / "malloc.xml").read_text()
    assert found.count("<heap nr=") == 1
    assert int(re.search(r'<system type="current" size="(\d+)"', found)[1]) > 100_000_000


# In place of absl, which commands import first: the main thread stays in C, as it does while XLA compiles
STUCK = """
import ctypes
c, lock = ctypes.CDLL(None), ctypes.create_string_buffer(64)
c.pthread_mutex_lock(lock)
print("stuck", flush=True)
c.pthread_mutex_lock(lock)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("module", COMMANDS)
def test_a_stop_during_imports_and_compilation_takes_effect_at_once(tmp_path, module, number):
    (tmp_path / "absl.py").write_text(STUCK)
    for name in ("jax", "numpy", "matplotlib"):
        (tmp_path / f"{name}.py").write_text("import absl")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    streams = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process = subprocess.Popen([sys.executable, "-m", module], env=environment, **streams)
    assert process.stdout.readline() == "stuck\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    expected = f"deepconv: stopped by {number.name}; run the same command again to continue\n"
    assert (process.returncode, err) == (75, expected)


RECIPE = """
import sys
sys.path.insert(0, {configs!r})
from resnet_cifar import get_config as resnet_cifar

def get_config():
    config = resnet_cifar()
    config.data.update(name="photos", eval_split="train", image_size=16, augment="crop_flip")
    config.data.update(train_scale=(16, 16), test_scale=16, central_square=False)
    config.model.depth, config.batch_size, config.log_every_steps = 8, 4, 1
    return config
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_that_is_stuck_does_not_keep_a_stopped_run(tmp_path, workers):
    folder = tmp_path / "photos" / "train" / "class"
    folder.mkdir(parents=True)
    for number in range(20):
        Image.fromarray(np.full((16, 16, 3), number, np.uint8)).save(folder / f"{number}.png")
    image_statistics.compute_statistics("photos", tmp_path, "train", 16)
    (tmp_path / "recipe.py").write_text(RECIPE.format(configs=str(ROOT / "configs")))
    arguments = ["--config=recipe.py", f"--data_dir={tmp_path}", "--workdir=run", f"--workers={workers}"]
    process = start(arguments, tmp_path)
    metrics = tmp_path / "run" / "metrics.jsonl"
    wait_for(lambda: metrics.exists() and len(metrics.read_text().splitlines()) > 2, process)
    for file in folder.iterdir():
        fifo = file.with_suffix(".fifo")
        os.mkfifo(fifo)
        fifo.replace(file)

    def is_read():  # which opens one to write, and so keeps its reader waiting
        for file in folder.iterdir():
            with contextlib.suppress(OSError):
                return os.open(file, os.O_WRONLY | os.O_NONBLOCK)

    wait_for(is_read, process)
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    process.send_signal(signal.SIGTERM)
    code, _, err = finish(process)
    assert code == 75 and len(children) >= workers and not any(map(alive, children)), err
    overlap, stopped = err.splitlines()
    assert "training and test images may overlap" in overlap
    assert stopped == "deepconv: stopped by SIGTERM; run the same command again to continue"
    step, _ = last_checkpoint(tmp_path / "run")
    assert step >= json.loads(metrics.read_text().splitlines()[-1])["step"] > 2


@pytest.mark.slow
def test_a_disk_that_is_full_is_told_and_the_older_checkpoint_goes_on(tmp_path):
    arguments = [*SHORT, "--workdir=run"]
    process = start(arguments, tmp_path)
    wait_for(functools.partial(has_reached, tmp_path / "run" / "checkpoints", 10), process)
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 75, err
    before = last_checkpoint(tmp_path / "run")[0]
    full = ["sh", "-c", 'ulimit -f 100; exec "$@"', "sh"]  # no file above 50 kB: less than a checkpoint's
    code, _, err = finish(start(arguments, tmp_path, before=full))
    assert code == 1 and re.search(r"deepconv: a checkpoint could not be written .*File too large", err), err
    assert "Traceback" not in err
    assert last_checkpoint(tmp_path / "run")[0] == before
    code, _, err = finish(start(arguments, tmp_path))
    assert code == 0, err


@pytest.mark.slow
def test_a_machine_without_git_and_a_damaged_checkpoint(tmp_path):
    arguments = [QUICK, "--smoke", "--workdir=run"]
    code, _, err = finish(start(arguments, tmp_path, PATH=str(tmp_path)))
    assert code == 0 and json.loads((tmp_path / "run" / "environment.json").read_text())[0]["commit"] is None, err
    (tmp_path / "run" / "eval.center.json").unlink()
    (tmp_path / "run" / "checkpoints" / "10" / "SHA256SUMS.json").unlink()
    code, _, err = command(tmp_path, arguments)
    assert code == 0 and "CHECKPOINT 10 IS DAMAGED" in err, err
    damaged = []
    for name in ("config.json", "eval.center.json"):
        for i, text in enumerate(("{", "3", "{}")):
            shutil.copytree(tmp_path / "run", tmp_path / f"{name}{i}")
            (tmp_path / f"{name}{i}" / name).write_text(text)
            damaged.append(([QUICK, "--smoke", f"--workdir={name}{i}"], f"{name}{i}/{name} "))
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('3\n[]\n{"a": 1}\n')
    (tmp_path / "run" / "classes.json").write_text("[")  # written anew by each start
    *wrong, last = answers(tmp_path, "deepconv.main", [*damaged, (arguments, "")])
    for code, _, err, named in wrong:
        assert code and named in err and len(err.strip().splitlines()) == 1, err
    assert last[0] == 0, last


def test_a_directory_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = command(tmp_path, [*SHORT, "--workdir=file/run"])
    assert code == 2 and "file/run" in err and len(err.strip().splitlines()) == 1


@pytest.mark.slow
def test_a_net_from_a_file_is_tested_as_it_is(tmp_path):
    quick = [QUICK, "--smoke"]
    code, _, err = command(tmp_path, [*quick, "--workdir=run"])
    assert code == 0, err
    shell().run(["export", "--run=run", "--to=net.safetensors"], tmp_path, module="deepconv.weights").ends(0)
    given = [*quick, "--init_from=net.safetensors"]
    code, out, err = command(tmp_path, [*given, "--evals=center,multi_crop", "--config.batch_size=32"])
    assert code == 0 and "tested without training; --train" in out and "train 0/" not in out, err
    (workdir,) = (tmp_path / "runs").iterdir()
    assert workdir.name == "quickstart,smoke,batch_size=32,init_from=net.safetensors,train=False"
    assert not (workdir / "metrics.jsonl").exists()
    assert last_checkpoint(workdir)[0] == 0
    a, b = (np.load(folder / "probs.center.npy") for folder in (workdir, tmp_path / "run"))
    np.testing.assert_allclose(a, b, atol=1e-5)
    # the command that only tests finds these results, and adds to them
    named = ["--weights=net.safetensors", *quick, "--config.batch_size=32", "--tests=center,multi_crop,ten_crop"]
    answer = shell().run(named, tmp_path, module="deepconv.evaluate").ends(0)
    assert "ten_crop: 50 images" in answer.out and "center:" not in answer.out, answer.out
    ten_crop = np.load(workdir / "probs.ten_crop.npy")
    (workdir / "eval.ten_crop.json").unlink()
    shell().run([f"--run={workdir}", "--tests=ten_crop"], tmp_path, module="deepconv.evaluate").ends(0)
    assert (np.load(workdir / "probs.ten_crop.npy") == ten_crop).all()
    (workdir / "eval.ten_crop.json").unlink()
    # of another file under the name, no results are there
    whole = (tmp_path / "net.safetensors").read_bytes()
    (tmp_path / "net.safetensors").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    code, _, err = command(tmp_path, [*given, "--evals=ten_crop", "--config.batch_size=32"])
    assert code == 2 and "init_sha256" in err
    # later, neither the file nor a look at it is needed, and only what is new is tested
    (tmp_path / "net.safetensors").unlink()
    code, out, err = command(tmp_path, [*given, "--evals=center,ten_crop", "--config.batch_size=32"])
    assert code == 0 and "ten_crop 50/50" in out and "center 50/50" not in out, err
    # where a run was begun from a file, its own tests are meant
    (tmp_path / "net.safetensors").write_bytes(whole)
    code, _, err = command(tmp_path, [*given, "--workdir=more"])
    assert code == 0, err
    code, out, err = command(tmp_path, [*given, "--workdir=more", "--evals=ten_crop"])
    assert code == 0 and "tested without training" not in out and "after 10 steps" in out, err


@pytest.mark.slow
def test_a_test_that_is_killed_goes_on(tmp_path):
    quick = [QUICK, "--smoke", "--config.data.eval_split=test[:600]", "--config.batch_size=16", "--workdir=run"]
    code, _, err = finish(start([*quick, "--evals=ten_crop"], tmp_path))
    assert code == 0, err
    partial = tmp_path / "run" / "probs.multi_crop.partial.npy"

    def begun():
        return partial.exists() and 20 < np.load(partial, mmap_mode="r")["done"].sum()

    process = start([*quick, "--evals=multi_crop"], tmp_path)
    wait_for(begun, process)
    process.kill()
    process.communicate()
    done = int(np.load(partial)["done"].sum())
    code, out, err = finish(start([*quick, "--evals=multi_crop"], tmp_path))
    assert code == 0 and f"multi_crop: {600 - done} images were tested" in out and not partial.exists(), err
    record = json.loads((tmp_path / "run" / "eval.multi_crop.json").read_text())
    assert record["examples"] == 600 and record["views"] == 50
    # all crops of a picture as large as a crop are the same, and so are those of ten: means of it and its mirror image
    a, b = (np.load(tmp_path / "run" / f"probs.{name}.npy") for name in ("multi_crop", "ten_crop"))
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_benchmark_refuses_what_it_cannot_measure(tmp_path):
    given = [
        (["dense", CIFAR, "--smoke", "--scale=32"], "no dense test"),
        (["trainign", CIFAR, "--smoke"], "unknown measurement 'trainign'; did you mean training?"),
        (["x"], "unknown measurement 'x'; choose one of training, input, dense"),
        (["input", "dense", CIFAR, "--smoke"], "unknown argument 'dense'"),
        (["input"], "--config is missing"),
        (["compiled", CIFAR, "--workers=2"], "`compiled` takes no --workers"),
        (["compiled", CIFAR, "--snapshot=no/a.json"], "--snapshot=no/a.json: its folder does not exist"),
    ]
    for code, out, err, named in answers(tmp_path, "deepconv.benchmark", given):
        assert code == 2 and named in err and len(err.splitlines()) == 1 and not out, err
