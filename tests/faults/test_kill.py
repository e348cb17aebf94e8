"""SIGKILL"""

import signal
import time

import pytest

from deepconv.run import checkpoint_files
from faults.harness import RUN, assert_same, newest, outcome, reached, tries

LONG = [*RUN, "--config.total_steps=200", "--config.optimizer.drop_at_steps=100,150"]
LONG += ["--config.checkpoint_every_steps=2", "--config.eval_every_steps=50"]
KILLS = 5  # of each run


@pytest.fixture(scope="module")
def wanted_of_long(shell, tmp_path_factory):
    """What the long run leaves behind when nothing disturbs it."""
    folder = tmp_path_factory.mktemp("long")
    shell.run([*LONG, "--workdir=run"], folder).ends(0)
    return outcome(folder / "run")


@pytest.mark.parametrize("run", range(tries(6)))
def test_random_moments(shell, wanted_of_long, tally, tmp_path, run):
    """SIGKILL at 5 random moments of a run of 200 steps that saves every 2"""
    tally.rng.seed(f"{tally.rng.random()} {run}")
    workdir = tmp_path / "run"
    for kill in range(KILLS):
        step, delay = reached(workdir) + tally.rng.randint(0, 35), tally.rng.uniform(0, 0.1)
        with tally.attempt(f"run {run}, kill {kill}, {delay:.3f} s after step {step}"):
            process = shell.start([*LONG, "--workdir=run"], tmp_path)
            while process.alive() and not reached(workdir) > step:
                time.sleep(0.01)
            time.sleep(delay)
            process.kill(signal.SIGKILL)
            answer = process.finish().ends(-signal.SIGKILL)
            assert "DAMAGED" not in answer.err
            if saved := newest(workdir):  # an older one may be half removed
                reason = checkpoint_files.damage(workdir / "checkpoints" / str(saved))
                assert reason is None, f"{saved}: {reason}"
    with tally.attempt(f"run {run}, after {KILLS} kills"):
        answer = shell.run([*LONG, "--workdir=run"], tmp_path).ends(0)
        assert "DAMAGED" not in answer.err
        assert_same(workdir, wanted_of_long)
        assert not (workdir / "checkpoints.damaged").exists()
