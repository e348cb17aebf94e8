"""Launchers without a cluster: which runs they take, what they start, and the state of runs."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, shell
from test_results import make_run

from deepconv import runs
from deepconv.run import directory
from experiments import cells, entries, jobs
from experiments.entry import Run
from launch import local, queue, script, selection, state, status

GRID = "def sweep():\n    for seed in (1, 2):\n        yield {'seed': seed}\n"


def call(module, folder, *arguments, **variables):
    environment = os.environ | {"PYTHONPATH": f"{folder}:{ROOT}"} | variables
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


LAUNCHES = {
    "resnet/table6 --data_dir=nowhere": "cifar10 is not in nowhere",
    "resnet/table6 --wrokers=2": "wrokers",
    "resnet/table6 --smoke": "--smoke belongs to one run",
    "resnet/table6 --forms=blocks:plain": "--forms belongs to one run",
    "vgg/tabel1": "vgg/tabel1 is not an entry",
    "grid.py": "name it, as in --config=resnet_cifar",
    "grid.py vgg": "give either one grid or entries",
    "nowhere.py --config=resnet_cifar": "nowhere.py does not exist",
    "wrong.py --config=resnet_cifar": "wrong.py: resnet_cifar,sede=1: config.sede is not a field",
    "broken.py --config=resnet_cifar": "broken.py is not a grid: ZeroDivisionError",
    "empty.py --config=resnet_cifar": "sweep() yields nothing",
    "twice.py --config=resnet_cifar": "yields the same run twice, resnet_cifar,optimizer.learning_rate=1.0; remove",
    "steep.py --config=resnet_cifar": "config.optimizer.momentum=1.5",
    "one.py --config=resnet_cifar": "config.optimizer.drop_at_steps[0]=9: give all values of optimizer.drop_at_steps",
    "path.py": "path.py: a Run starts from a Run, not from 'runs/a'; give Run(...) there, too",
    "run.py --smoke": "--smoke does not shrink Run objects, which run.py yields; write Run(..., smoke=True)",
    "run.py --config=resnet_cifar": "--config has no effect on Run objects, and run.py yields no others",
    "": "no entry is given",
}
LOCAL = {
    "resnet/table6 --devices=0,1 --parallel=2": "give either --devices or --parallel",
    "resnet/table6 --devices=0,0": "give different numbers",
}
SLURM = {
    "resnet/table6": "--partition is missing",
    "resnet/table6 --partition=main": "sbatch is not installed here",
    "resnet/table6 --partition=main --dry_run --time=3h": "--time=3h is not a time",
    "resnet/table6 --partition=main --dry_run --sbatch=array=3": "launch.slurm sets array itself",
    "resnet/table6 --partition=main --dry_run --sbatch=--account=me": "write --sbatch=KEY=VALUE",
    "resnet/table6 --partition=main --dry_run --data_dir=nowhere": "cifar10 is not in nowhere",
    "run.py --partition=main --dry_run --gpus_per_node=3 --model_parallel=2": "--model_parallel=2 cannot divide the",
}
CASES = [("launch.local", LAUNCHES | LOCAL), ("launch.slurm", SLURM), ("launch.status", {"nowhere": "is not an entry"})]


@pytest.mark.parametrize(("module", "mistakes"), CASES, ids=[module for module, _ in CASES])
def test_what_no_run_can_work_with_is_told_once_before_the_first(tmp_path, module, mistakes):
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "grid.py").write_text(GRID)
    (tmp_path / "wrong.py").write_text(GRID.replace("'seed'", "'sede'"))
    (tmp_path / "broken.py").write_text("1 / 0")
    (tmp_path / "empty.py").write_text("def sweep():\n    return []")
    rates = [{"optimizer.learning_rate": rate} for rate in (1, 1.0)]
    (tmp_path / "twice.py").write_text(f"def sweep():\n    return {rates}")
    (tmp_path / "steep.py").write_text("def sweep():\n    return [{'optimizer.momentum': 1.5}]")
    (tmp_path / "one.py").write_text("def sweep():\n    return [{'optimizer.drop_at_steps[0]': 9}]")
    (tmp_path / "path.py").write_text(
        "from experiments.entry import Run\ndef sweep():\n    return [Run('vgg16', init_from='runs/a')]"
    )
    (tmp_path / "run.py").write_text(
        "from experiments.entry import Run\ndef sweep():\n    return [Run('resnet_cifar')]"
    )
    before = {*tmp_path.iterdir()}
    for arguments, words in mistakes.items():
        answer = shell().run(arguments.split(), tmp_path, module=module, PATH="/nowhere")
        assert answer.code == 2 and not answer.out, arguments
        assert {path for path in tmp_path.iterdir() if path.name != "__pycache__"} == before, arguments
        assert words in answer.err and len(answer.err.splitlines()) == 1, answer.err


def test_a_recipe_that_would_be_trained_in_place_of_an_entry_s_is_named(tmp_path):
    (tmp_path / "configs").mkdir()
    own = tmp_path / "configs/resnet_cifar.py"
    own.write_text((ROOT / "configs/resnet_cifar.py").read_text() + "# ours")
    answer = shell().run(["resnet/table6"], tmp_path, module="launch.local").ends(2)
    answer.says("configs/resnet_cifar.py would be trained in place of")
    shell().run(["resnet/table6"], tmp_path, module="launch.status").ends(0)
    own.write_text((ROOT / "configs/resnet_cifar.py").read_text())
    shell().run(["resnet/table6", "--data_dir=nowhere"], tmp_path, module="launch.local").says("is not in nowhere")


def test_flags_of_all_commands_are_passed_on(tmp_path):
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "grid.py").write_text(GRID)
    given = ["--workers=3", "--model_parallel=2", "--accumulate=4", "--data_dir=/d", "--heartbeat_seconds=30"]
    arguments = ["grid.py", "--config=alexnet", "--smoke", "--partition=main", "--gpus_per_node=2", "--dry_run", *given]
    answer = shell().run(arguments, tmp_path, module="launch.slurm").ends(0)
    lines = [line for line in answer.out.splitlines() if "-m deepconv.main" in line]
    assert len(lines) == 2 and all({*given, "--smoke"} <= {*line.split()} for line in lines)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("devices", [1, 2])
def test_a_launcher_that_is_stopped_stops_its_runs_and_begins_no_other(tmp_path, number, devices):
    (tmp_path / "slow.py").write_text("import time; print('begun', flush=True); time.sleep(60)")
    code = f"""
from deepconv.run import preemption
from experiments import jobs
preemption.install()
from launch import local
print(sorted(local.run_all({{name: jobs.Job([["slow"]]) for name in "abc"}}, [""] * {devices}).items()), flush=True)
"""
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        begun = [process.stdout.readline() for _ in range(2)]
        if devices == 1:
            assert begun == ["== a: python -m slow\n", "begun\n"]
        else:
            assert begun == [f"begun: {name}; log: runs/local/{name}.log\n" for name in "ab"]
        process.send_signal(number)
        assert process.stdout.read().endswith("[('a', 75), ('b', 75), ('c', 75)]\n")


def test_devices_are_shared_out_and_a_failed_run_is_tried_once_more(tmp_path, monkeypatch, capfd):
    """The runs a and b wait for each other."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delenv("JAX_PLATFORMS")
    (tmp_path / "work.py").write_text("""
import os, pathlib, sys, time
name, device = sys.argv[1], os.environ["CUDA_VISIBLE_DEVICES"]
assert os.environ["JAX_PLATFORMS"] == "cuda"  # so a GPU that is not there ends the run
assert os.environ["DEEPCONV_LAUNCHED"]  # so a directory in use fails one run, not all
tries = pathlib.Path(name + ".tries")
tries.write_text((tries.read_text() if tries.exists() else "") + device)
print("works on", device)
busy = pathlib.Path("device" + device)
busy.mkdir()  # fails if the device is in use
end = time.monotonic() + 10
other = pathlib.Path("device" + {"0": "7", "7": "0"}[device])
while name in "ab" and not other.exists() and time.monotonic() < end:
    time.sleep(0.01)
time.sleep(0.2)
busy.rmdir()
code = {"c": 1 if len(tries.read_text()) == 1 else 0, "d": 1, "e": 2}.get(name, 0)
if code:
    print("no luck")
sys.exit(code)
""")
    todo = {name: jobs.Job([["work", name]]) for name in "abcde"} | {"f": jobs.Job([["work", "f"]], needs=["d"])}
    installed = {number: signal.getsignal(number) for number in local.preemption.SIGNALS}
    try:
        failed = local.run_all(todo, ["0", "7"])
    finally:
        for number, handler in installed.items():
            signal.signal(number, handler)
        local.preemption.unsaved(False)
    assert failed == {"d": 1, "e": 2, "f": 1}
    tries = {name: (tmp_path / f"{name}.tries").read_text() for name in "abcde"}
    assert {tries["a"], tries["b"]} == {"0", "7"} and [len(tries[name]) for name in "cde"] == [2, 2, 1]
    log = (tmp_path / "runs/local/d.log").read_text()
    assert log.count("no luck\n") == log.count("launch: exit code 1\n") == 2
    out = capfd.readouterr().out  # without the run that never began
    assert "/6 d: failed with exit code 1 after " in out and "5/6 e: failed with exit code 2 after " in out
    assert state.of_job(tmp_path / "runs/d", ["eval.center.json"], tmp_path / "runs/local/d.log").details == "no luck"


@pytest.mark.slow
def test_a_grid_is_run_by_two_at_a_time_and_its_state_shown(tmp_path):
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "grid.py").write_text(GRID)
    size = ["--config.total_steps=2", "--config.model.depth=8", "--config.data.image_size=16"]
    arguments = ["grid.py", "--config=resnet_cifar", "--smoke", *size]
    names = [f"resnet_cifar,smoke,data.image_size=16,model.depth=8,seed={seed},total_steps=2" for seed in (1, 2)]
    before = call("launch.status", tmp_path, *arguments, "--json")
    assert [(run["run"], run["state"]) for run in json.loads(before.stdout)] == [(name, "waiting") for name in names]
    done = call("launch.local", tmp_path, *arguments, "--parallel=2")
    assert done.returncode == 0 and "2 of 2 runs are finished" in done.stdout, done.stderr
    after = call("launch.status", tmp_path, "runs", "--json")
    for name, found in zip(names, json.loads(after.stdout), strict=True):
        error = json.loads((tmp_path / "runs" / name / "eval.center.json").read_text())["top1_error"]
        expected = {"run": name, "state": "finished", "step": 2, "total_steps": 2, "test_error": error}
        assert expected.items() <= found.items()
    table = call("launch.status", tmp_path, *arguments)
    assert table.stdout.splitlines()[-1] == "2 finished" and table.stdout.count(" 2/2 ") == 2


@pytest.mark.parametrize(
    ("time", "seconds"),
    # the forms of `man sbatch`
    [("2", 120), ("2:30", 150), ("1:02:30", 3750), ("1-2", 93_600), ("1-2:03", 93_780), ("1-2:03:04", 93_784)],
)
def test_time_limits_are_read_as_slurm_reads_them(time, seconds):
    assert script.seconds(time) == seconds


def test_a_script_asks_for_what_was_said_and_runs_each_command():
    commands = [["deepconv.main", "--config=configs/a.py", "--workdir=runs/a b"], ["experiments.responses", "--run=x"]]
    todo = {"a b": jobs.Job(commands), "c": jobs.Job([["deepconv.main"]])}
    options = script.Options("gpu", 2, 8, 32, 4, "2:00:00", 3, ("account=me", "exclusive"))
    text = script.text("x.1", todo, options, "/bin/echo", "afterok:7_1")
    asked = [line.removeprefix("#SBATCH --") for line in text.splitlines() if line.startswith("#SBATCH")]
    assert {*asked} >= {"array=0-1%4", "partition=gpu", "nodes=2", "ntasks-per-node=1", "gpus-per-node=8", "requeue"}
    assert {*asked} >= {"cpus-per-task=32", "time=2:00:00", "account=me", "exclusive", "signal=B:USR1@180"}
    assert {*asked} >= {"dependency=afterok:7_1", "kill-on-invalid-dep=yes", "open-mode=append"}
    assert "signal=B:USR1@60\n" in script.text("x", todo, script.Options("gpu", time="2"), "python")
    reads = {"d": jobs.Job([["deepconv.transfer", "--run=runs/a"]])}
    assert "#SBATCH --nodes=1\n" in script.text("x", reads, options, "python")
    assert "JAX_PLATFORMS" not in script.text("x", todo, script.Options("cpu", gpus_per_node=0), "python")
    fake = "srun() { shift; printf '<%s>' \"$@\" $JAX_PLATFORMS; echo; }\nscontrol() { echo requeued; }\n"
    done = subprocess.run(["bash", "-c", fake + text], env={"SLURM_ARRAY_TASK_ID": "0"}, capture_output=True, text=True)
    first, second, last = done.stdout.splitlines()
    assert first.endswith(
        "</bin/echo><-m><deepconv.main><--config=configs/a.py><--workdir=runs/a b><--expect_devices=16><cuda>"
    )
    assert "<--nodes=1><--ntasks=1></bin/echo><-m><experiments.responses><--run=x><cuda>" in second
    assert (last, done.returncode, done.stderr) == ("launch: exit code 0", 0, "")


@pytest.mark.parametrize(
    ("code", "restarts", "requeued"),
    [(0, 0, False), (1, 0, False), (2, 0, False), (75, 99, True), (137, 1, True), (137, 2, False), (138, 0, True)],
)
def test_a_job_is_queued_again_when_it_was_stopped_and_some_times_when_it_crashed(code, restarts, requeued):
    text = script.text("x", {"a": jobs.Job([["m"], ["n"]])}, script.Options("main", retries=2), "python")
    fake = f'srun() {{ echo run; return {code}; }}\nscontrol() {{ echo "requeued $*"; }}\n'
    variables = {"SLURM_ARRAY_TASK_ID": "0", "SLURM_JOB_ID": "17", "SLURM_RESTART_COUNT": str(restarts)}
    done = subprocess.run(["bash", "-c", fake + text], env=variables, capture_output=True, text=True)
    runs = ["run"] if code else ["run", "run"]  # no command follows a failed one
    expected = [*runs, f"launch: exit code {code}", *["requeued requeue 17"] * requeued]
    assert (done.returncode, done.stdout.splitlines(), done.stderr) == (code, expected, "")


PENDING = """
from experiments.jobs import Job
from launch import queue, slurm
from launch.selection import Selection
tasks = {"net": queue.Task("17_0", "PENDING", "Priority", [["m", "--evals=center,ten_crop"]])}
files = dict.fromkeys(("net", "reader", "other"), ["eval.center.json"])
for test in ("ten_crop", "dense"):
    todo = {"net": Job([["m", f"--evals={test}"]]), "reader": Job([["r"]], ["net"]), "other": Job([["o"]])}
    print(*slurm.pending(Selection({}, files, todo, {}), tasks))
"""


def test_a_queued_run_without_a_needed_test_holds_back_what_needs_it(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", PENDING], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.stdout == "reader other\nother\n", done.stderr
    lines = done.stderr.splitlines()
    assert lines[0] == "not submitted again: net (job 17_0, PENDING)"
    assert "it does not do all that is asked for now: repeat this command when it has ended" in lines[1]
    assert lines[2:] == ["not submitted yet: reader, which needs net"]


def test_a_run_that_works_here_is_not_submitted(tmp_path):
    code = """
from pathlib import Path
from deepconv.run.directory import lock
from experiments.jobs import Job
from launch import slurm
from launch.selection import Selection
todo = {"net": Job([["m"]]), "reader": Job([["r"]], ["net"])}
with lock(Path("runs/net")):
    print(*slurm.pending(Selection({}, dict.fromkeys(todo, ["eval.center.json"]), todo, {}), {}))
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout == "\n" and "not submitted: net, which is running on this machine (process " in done.stderr
    assert "not submitted yet: reader, which needs net" in done.stderr


def test_runs_whose_other_tests_are_in_the_results_are_finished(monkeypatch):
    """Only the tests that their job does are expected in their directories."""
    chosen = entries.load(["resnet/table3", "resnet/table4"])
    table3 = chosen["resnet/table3"]
    run, test = table3.rows[-1].pairs()[0]
    monkeypatch.setattr(cells, "missing", lambda table, results: [] if table is table3 else table.rows[-1].pairs())
    selected = selection._tables(["resnet/table3", "resnet/table4"])
    needed, _ = chosen["resnet/table4"].rows[-1].pairs()[0], test
    assert needed[0].name in selected.jobs
    done = [f"eval.{name}.json" for _, name in chosen["resnet/table4"].rows[-1].pairs()]
    assert selected.files[needed[0].name] == done and f"eval.{test}.json" not in done


def test_arrays_have_at_most_as_many_tasks_as_slurm_takes():
    todo = {str(number): jobs.Job([["x"]], ()) for number in range(1003)}
    assert [len(array.todo) for array in script.arrays(todo, {})] == [1000, 3]


def test_jobs_that_need_the_same_jobs_are_an_array():
    needs = {"a": "", "b": "a", "c": "", "d": "c", "e": "a", "f": "b", "g": "done", "h": "queued"}
    needs |= {"i": "b d", "j": "done queued", "k": "b d"}
    todo = {name: jobs.Job([["m"]], need.split()) for name, need in needs.items()}
    found = [(" ".join(array.needs), [*array.todo]) for array in script.arrays(todo, {"queued": "3_0"})]
    expected = [("", [*"acg"]), ("a", [*"be"]), ("c", ["d"]), ("b", ["f"]), ("queued", ["h", "j"]), ("b d", ["i", "k"])]
    assert found == expected


LOGS = {
    "deepconv: the loss is not finite\nsrun: error: n1: task 0: Exited with exit code 1\nlaunch: exit code 1\n": (
        "failed",
        "deepconv: the loss is not finite",
    ),
    "deepconv: stopped by SIGUSR1; run\nlaunch: exit code 75\n": ("stopped", ""),
    "deepconv: stopped by SIGTERM; run\nslurmstepd: error: *** STEP 1.0 CANCELLED ***\n": ("stopped", ""),
    "launch: exit code 75\ntrain 7/9\nslurmstepd: error: *** DUE TO NODE FAILURE ***\n": (
        "failed",
        "slurmstepd: error: *** DUE TO NODE FAILURE ***",
    ),
    "\x1b[1mtrain 1/9\rtrain 7/9": ("failed", "train 7/9"),
    "": ("failed", "the log is empty"),
}


@pytest.mark.parametrize("text", LOGS)
def test_a_run_that_has_ended_is_stopped_or_failed(tmp_path, text):
    folder = make_run(tmp_path, Run("resnet_cifar"), None, metrics=[{"step": 7, "test_top1_error": 20.0}])
    log = tmp_path / "log"
    log.write_text(text)
    (folder / "checkpoints" / "7").mkdir(parents=True)
    found = state.of_job(folder, ["eval.center.json"], log)
    assert (found.state, found.details) == LOGS[text]
    assert (found.step, found.total_steps, found.test_error, found.seconds_left) == (7, 64_000, 20.0, None)


def test_a_run_of_launch_local_on_another_machine_may_be_running(tmp_path):
    folder = make_run(tmp_path, Run("resnet_cifar"), None, metrics=[{"step": 7, "test_top1_error": 20.0}])
    (folder / "lock").write_text("process 7 on gpu1")
    (tmp_path / "local").mkdir()
    log = tmp_path / "local" / "resnet_cifar.log"
    log.write_text("train 7/9")
    found = state.of_job(folder, ["eval.center.json"], log)
    assert (found.state, found.details) == ("stopped", "or running on gpu1")
    log.write_text("no memory\nlaunch: exit code 1\n")
    assert state.of_job(folder, ["eval.center.json"], log).state == "failed"


def test_a_job_of_a_queue_that_is_unknown_may_be_running(tmp_path):
    folder = make_run(tmp_path, Run("resnet_cifar"), None, metrics=[{"step": 7, "test_top1_error": 20.0}])
    (tmp_path / "slurm").mkdir()
    log = tmp_path / "slurm" / "grid.1.0.log"
    log.write_text("train 7/9")
    assert state.of_job(folder, ["eval.center.json"], log).state == "failed"
    found = state.of_job(folder, ["eval.center.json"], log, queue_known=False)
    assert (found.state, found.details) == ("stopped", "or running: Slurm's queue is unknown")
    log.write_text("no memory\nlaunch: exit code 1\n")
    assert state.of_job(folder, ["eval.center.json"], log, queue_known=False).state == "failed"


def test_the_error_shown_of_a_folder_s_runs_is_that_of_center(tmp_path):
    folder = make_run(tmp_path, Run("resnet_cifar"), 9.0)
    for test in ("aaa", "ten_crop"):
        (folder / f"eval.{test}.json").write_text((folder / "eval.center.json").read_text().replace("9.0", "5.0"))
    assert [found.test_error for found in status.read(["status", str(tmp_path)]).values()] == [9.0]


def test_a_run_whose_later_command_failed_is_not_finished(tmp_path):
    """Such as `predict --features` after training, for a figure."""
    folder, log = make_run(tmp_path, Run("resnet_cifar"), 9.0), tmp_path / "log"
    for text, expected in {
        "no space left\nlaunch: exit code 1\n": "failed",
        "launch: exit code 0\n": "finished",
    }.items():
        log.write_text(text)
        assert state.of_job(folder, ["eval.center.json"], log).state == expected
    log.write_text("no space left\nlaunch: exit code 1\n")
    assert state.of_job(folder, ["eval.center.json"], log).details == "no space left"
    os.utime(log, (1e9, 1e9))  # the results are of a later start, by hand
    (folder / "environment.json").unlink()
    assert state.of_job(folder, ["eval.center.json"], log).state == "finished"


def forbidden(path):
    raise PermissionError(path)


def test_a_run_is_running_while_a_process_holds_its_lock_then_stopped_or_failed(tmp_path, monkeypatch):
    folder = make_run(tmp_path, Run("resnet_cifar"), None, metrics=[{"step": 32_000, "images_per_second": 128.0}])
    with directory.lock(folder):
        found = state.of_job(folder, ["eval.center.json"])
        assert (found.state, found.details) == ("running", f"process {os.getpid()}")
        with monkeypatch.context() as patch:
            patch.setattr(Path, "iterdir", forbidden)
            assert state.of_job(folder, ["eval.center.json"]) == found  # of another user
        assert found.seconds_left == 32_000  # steps of 128 images
    assert state.of_job(folder, ["eval.center.json"]).state == "stopped"
    (tmp_path / "log").write_text("an earlier start failed")
    os.utime(tmp_path / "log", (0, 0))  # before the newest start
    assert state.of_job(folder, ["eval.center.json"], tmp_path / "log").state == "stopped"
    (folder / "failure.txt").write_text("the loss is\x1b not finite\n")
    (tmp_path / "log").write_text("== a run\nlaunch: exit code 1\n")
    found = state.of_job(folder, ["eval.center.json"], tmp_path / "log", ending="FAILED")
    assert (found.state, found.details) == ("failed", r"FAILED: the loss is\x1b not finite")
    (folder / "failure.txt").write_text("")
    assert state.of_job(folder, ["eval.center.json"]).details == "failure.txt is empty"


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (None, "finished"),
        ("failure.txt", "failed"),
        ("probs.ten_crop.partial.npy", "stopped"),
        ("probs.center.partial.npy", "finished"),
    ],
)
def test_the_list_of_runs_and_the_status_of_jobs_agree(tmp_path, file, expected):
    """Of a run that has its results, and of one whose further test has failed or was stopped."""
    folder = make_run(tmp_path, Run("resnet_cifar"), 9.0)
    (folder / "environment.json").unlink()  # it is that of an entry, without a command
    if file:
        (folder / file).write_text("no luck")
    listed, job = runs.read(folder), state.of_job(folder, ["eval.center.json"])
    assert (listed.state, listed.details) == (job.state, job.details) and job.state == expected


def test_imported_weights_are_no_runs(tmp_path):
    folder = make_run(tmp_path, Run("resnet_cifar"), 9.0)
    record = json.loads((folder / "config.json").read_text())
    del record["train_data"], record["eval_data"]
    (tmp_path / "imported").mkdir()
    (tmp_path / "imported/config.json").write_text(json.dumps(record))
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged/config.json").write_text("{")
    assert {name: found.state for name, found in status.read(["", str(tmp_path)]).items()} == {
        "damaged": "failed",
        folder.name: "finished",
    }


def test_slurm_is_asked_and_believed(tmp_path, monkeypatch, capsys):
    """Answers of squeue and sacct, recorded on a cluster without accounting, and as sacct's manual has them."""
    runs = tmp_path / "runs"
    (runs / "slurm").mkdir(parents=True)
    todo = {name: jobs.Job([["m", f"--evals=center,{name}"]]) for name in "abc"}
    queue.write_submission(runs, "grid.1", todo, "17")
    answers = {
        "squeue": f"grid.1|17_1|PENDING|Dependency|{tmp_path}\ngrid.1|18_0|RUNNING|None|/other\nx|19|RUNNING|None|/\n",
        "sacct": "17_0|CANCELLED by 0\n17_2|OUT_OF_MEMORY\n",
    }
    for name, answer in answers.items():
        (tmp_path / name).write_text(f"#!/bin/sh\ncat <<'END'\n{answer}END\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.chdir(tmp_path)
    assert {name: found.state for name, found in status.read(["", "runs"]).items()} == {"b": "queued"}
    waiting = {"b": queue.Task("17_1", "PENDING", "Dependency", [["m", "--evals=center,b"]])}
    assert queue.known_tasks(runs) == waiting
    (tmp_path / "scratch").mkdir()
    runs = runs.rename(tmp_path / "scratch/runs")
    (tmp_path / "runs").symlink_to(runs)  # as where runs are kept on another disk
    runs = tmp_path / "runs"
    assert queue.known_tasks(runs) == waiting
    assert queue.endings(runs) == {"a": "CANCELLED", "c": "OUT_OF_MEMORY"}
    for name in answers:
        (tmp_path / name).write_text("#!/bin/sh\necho 'sacct: error: it is disabled' >&2\nexit 1\n")
    assert queue.known_tasks(runs) is None and queue.endings(runs) == {}
    assert "deepconv: Slurm's queue is unknown: squeue: " in capsys.readouterr().err


IMPATIENT = """
from deepconv.run import directory

def lock(workdir, patience, original=directory.lock):
    return original(workdir, patience=min(patience, 0.6))

directory.lock = lock
"""


@pytest.mark.parametrize("variables", [{}, {"SLURM_JOB_ID": "1"}, {"SLURM_JOB_ID": "1", "DEEPCONV_LAUNCHED": "1"}])
def test_a_job_waits_for_a_directory_in_use_and_is_then_queued_again(tmp_path, variables):
    arguments = [f"--config={ROOT}/configs/quickstart.py", "--smoke", "--workdir=run"]
    with directory.lock(tmp_path / "run"):
        answer = shell().run(arguments, tmp_path, inject=IMPATIENT, **variables)
    assert answer.err.startswith(f"deepconv: run is in use by another process (process {os.getpid()} on ")
    assert answer.code == (75 if len(variables) == 1 else 2) and ("waiting up to 1 seconds" in answer.out) == bool(
        variables
    )
