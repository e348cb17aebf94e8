"""Job arrays on a real Slurm of two nodes, each test with its own; skipped where Slurm cannot be started."""

import json
import os
import signal
import sys
from functools import partial
from pathlib import Path

import pytest
import slurm_cluster
from conftest import FLAGS, ROOT, shell
from faults.harness import assert_same, newest, outcome, reached

from deepconv.config import recipes

pytestmark = pytest.mark.slow

CHANGES = {"model.depth": 8, "data.image_size": 16, "batch_size": 8, "log_every_steps": 5}
CHANGES |= {"checkpoint_every_steps": 50, "eval_every_steps": 10_000, "optimizer.drop_at_steps": "10,20"}
RECIPE = ["--config=resnet_cifar", "--smoke", *(f"--config.{name}={value}" for name, value in CHANGES.items())]
ASKED = ["--partition=main", "--gpus_per_node=0", "--retries=2"]
# Ends at once in a job's processes, as a crash would
CRASH = """
import os, pathlib, signal
if os.environ.get("SLURM_PROCID") and b"--config.seed=9" in pathlib.Path("/proc/self/cmdline").read_bytes():
    os.kill(os.getpid(), signal.SIGKILL)
"""


class Place:
    """A directory with recipes, a grid, runs, and a Slurm for them."""

    def __init__(self, folder, cluster):
        self.folder, self.cluster = folder, cluster
        self.variables = cluster.environment | {"PYTHONPATH": f"{folder}:{ROOT}", "XLA_FLAGS": FLAGS}
        (folder / "configs").symlink_to(ROOT / "configs")

    def call(self, module, *arguments):
        return shell().run(arguments, self.folder, module=module, **self.variables)

    def submit(self, points, *arguments, steps=40, recipe=True):
        """Submits the runs with these changes of the recipe, as a user does, and returns the answer."""
        (self.folder / "grid.py").write_text(
            f"from experiments.entry import Run\n\ndef sweep():\n    yield from {points}\n"
        )
        self.grid = ["grid.py", *([*RECIPE, f"--config.total_steps={steps}"] if recipe else [])]
        return self.again(*arguments)

    def again(self, *arguments):
        done = self.call("launch.slurm", *self.grid, *ASKED, *arguments)
        assert done.code == 0, done.err
        return done

    def states(self):
        """What launch.status says, by run."""
        done = self.call("launch.status", *self.grid, "--json")
        assert (done.code, done.err) == (0, "")
        return {state["run"]: state for state in json.loads(done.out)}

    def state(self, name):
        return self.states()[name]["state"]

    def run(self, seed, steps):
        changes = CHANGES | {"seed": seed, "total_steps": steps}
        changes["optimizer.drop_at_steps"] = "10+20"
        named = [f"{key}={value}" for key, value in sorted(changes.items()) if key not in recipes.WATCHING]
        name = ",".join(["resnet_cifar", "smoke", *named])
        return self.folder / "runs" / name

    def undisturbed(self, seed, steps, devices=1):
        """What the run leaves behind outside Slurm, in one process."""
        changes = [f"--config.seed={seed}", f"--config.total_steps={steps}", "--workdir=undisturbed"]
        xla = f"--xla_force_host_platform_device_count={devices} {FLAGS}"
        start = shell().run if devices == 1 else partial(shell().run_fresh, XLA_FLAGS=xla)
        start([*RECIPE, *changes], self.folder).ends(0)
        return outcome(self.folder / "undisturbed")

    def wait_for(self, condition, what, seconds=180):
        try:
            return self.cluster.wait_for(condition, what, seconds)
        except AssertionError as error:
            logs = "".join(f"\n{file.name}: {file.read_text()[-1500:]}" for file in self.logs())
            raise AssertionError(f"{error}{logs}\n{self.queue()}") from None

    def training(self):
        """The processes that train, of which some may be of an earlier job."""
        return self.cluster.processes(Path(sys.executable).name, "deepconv.main")

    def logs(self):
        return sorted((self.folder / "runs" / "slurm").glob("*.log"))

    def queue(self):
        return self.cluster.output("squeue", "-h", "-r", "-o", "%i|%T|%r")

    def wait_for_end(self):
        self.wait_for(lambda: not self.queue(), "an empty queue")


def of_status(process, field):
    (line,) = [line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith(field)]
    return line.split()[1:]


def pends(number, process):
    """Whether a signal waits for a stopped process."""
    return bool(int(of_status(process, "ShdPnd:")[0], 16) >> (number - 1) & 1)


def inside(process):
    """The id that a process has within the cluster."""
    return of_status(process, "NSpid:")[-1]


@pytest.fixture
def place(tmp_path):
    """A directory for runs, with a new cluster."""
    with slurm_cluster.running() as cluster:
        yield Place(tmp_path, cluster)


def test_a_sweep_runs_once_in_the_order_of_its_weights(place):
    second = 'Run("resnet_cifar", {**shared, "seed": 3}, init_from=Run("resnet_cifar", shared, smoke=True), smoke=True)'
    shared = CHANGES | {"seed": 2, "total_steps": 40, "optimizer.drop_at_steps": (10, 20)}
    points = f'[{{"seed": 0}}, {{"seed": 1}}, {{"seed": 2}}] + [{second} for shared in [{shared}]]'
    printed = place.submit(points, "--dry_run")
    assert "#SBATCH --array=0-2\n" in printed.out and "afterok:<id of grid.1>_2" in printed.out
    assert {state["state"] for state in place.states().values()} == {"waiting"} and not place.queue()
    assert "4 runs were submitted" in place.submit(points).out
    states = place.states()
    *firsts, last = states
    assert {states[name]["state"] for name in firsts} <= {"queued", "running"}, states
    assert states[last]["state"] == "queued"
    place.wait_for(lambda: "Dependency" in place.queue(), "the scheduler")
    assert "Dependency" in place.states()[last]["details"]
    twice = place.again()
    assert twice.out.startswith("0 runs were submitted") and twice.err.count("not submitted again: ") == 4
    assert len(place.queue().splitlines()) == 4
    place.wait_for_end()
    assert {state["state"] for state in place.states().values()} == {"finished"}
    runs = place.folder / "runs"
    (start,) = json.loads((runs / last / "environment.json").read_text())
    source = json.loads((runs / firsts[2] / "eval.center.json").read_text())
    assert start["time"] >= source["time"]
    assert json.loads((runs / last / "config.json").read_text())["init_from"] == f"runs/{firsts[2]}"
    assert place.again().out.startswith("0 runs were submitted")
    assert_same(place.run(0, 40), place.undisturbed(0, 40))


def test_a_run_that_is_queued_again_in_mid_run_ends_as_an_undisturbed_one(place):
    place.submit('[{"seed": 0}]', steps=400)
    run = place.run(0, 400)
    place.wait_for(lambda: reached(run) >= 100, "step 100")
    assert place.state(run.name) == "running"
    place.cluster.output("scontrol", "requeue", "1")
    place.wait_for(lambda: place.state(run.name) == "queued", "the queue")
    place.wait_for_end()
    first, second = json.loads((run / "environment.json").read_text())
    assert first["from_step"] == 0 and 100 <= second["from_step"] < 400
    assert_same(run, place.undisturbed(0, 400))


def test_a_cancelled_run_is_saved_and_not_queued_again(place):
    place.submit('[{"seed": 0}]', steps=4000)
    run = place.run(0, 4000)
    place.wait_for(lambda: reached(run) >= 100, "step 100")
    place.cluster.output("scancel", "1")
    place.wait_for_end()
    found = place.states()[run.name]
    assert found["state"] == "stopped" and 100 <= newest(run) < 4000
    assert not place.training()


def test_a_run_saves_before_its_time_limit_and_continues_in_another_job(place):
    place.submit('[{"seed": 0}]', "--time=2", steps=400)  # Slurm signals a minute later, or a little earlier
    run = place.run(0, 400)
    place.wait_for(lambda: reached(run) >= 100, "step 100")
    (process,) = place.training()
    os.kill(process, signal.SIGSTOP)  # it would be done before the signal comes
    place.wait_for(lambda: pends(signal.SIGUSR1, process), "the signal")
    os.kill(process, signal.SIGCONT)
    place.wait_for(lambda: place.state(run.name) == "queued", "the queue")
    place.wait_for_end()
    (log,) = place.logs()
    ends = [line for line in log.read_text().splitlines() if line.startswith("launch: ") or "stopped by" in line]
    assert ends[1:] == ["launch: exit code 75", "launch: exit code 0"] and "stopped by SIGUSR1" in ends[0]
    starts = [start["from_step"] for start in json.loads((run / "environment.json").read_text())]
    assert starts[0] == 0 and 100 <= starts[1] < 400 and len(starts) == 2
    assert place.state(run.name) == "finished"


def test_a_run_goes_on_elsewhere_when_its_node_fails_but_not_beside_its_old_process(place):
    place.submit('[{"seed": 0}]', steps=400)
    run = place.run(0, 400)
    place.wait_for(lambda: reached(run) >= 100, "step 100")
    (old,) = place.training()
    os.kill(old, signal.SIGSTOP)  # neither ends nor saves
    (node,) = place.cluster.output("squeue", "-h", "-o", "%N").split()
    (daemon,) = place.cluster.processes("slurmd", "-N", node)
    os.kill(daemon, signal.SIGKILL)
    (log,) = place.logs()
    place.wait_for(
        lambda: f"in use by another process (process {inside(old)} on " in log.read_text(), "a second process"
    )
    os.kill(old, signal.SIGKILL)
    place.wait_for_end()
    assert place.state(run.name) == "finished"
    assert_same(run, place.undisturbed(0, 400))


def test_a_job_that_always_crashes_ends_and_so_do_those_that_wait_for_it(place):
    (place.folder / "sitecustomize.py").write_text(CRASH)
    run = 'Run("resnet_cifar", {"seed": 9}, smoke=True)'
    place.submit(f'[{run}, Run("resnet_cifar", init_from={run}, smoke=True)]', recipe=False)
    place.wait_for_end()
    crashed, waiting = place.states().values()
    (log,) = place.logs()
    assert log.read_text().count("launch: exit code 137\n") == 3  # with two retries
    assert crashed["state"] == "failed" and "Killed" in crashed["details"]
    assert waiting["state"] == "waiting"


def test_a_run_on_two_nodes_that_is_queued_again_ends_as_one_process_with_two_devices(place):
    place.submit('[{"seed": 0}]', "--nodes=2", steps=400)
    run = place.run(0, 400)
    place.wait_for(lambda: reached(run) >= 100, "step 100")
    assert len(place.training()) == 2
    place.cluster.output("scontrol", "requeue", "1")
    place.wait_for(lambda: place.state(run.name) == "queued", "the queue")
    place.wait_for_end()
    assert place.state(run.name) == "finished"
    starts = [start["from_step"] for start in json.loads((run / "environment.json").read_text())]
    assert starts[0] == 0 and 100 <= starts[1] < 400
    assert_same(run, place.undisturbed(0, 400, devices=2))
