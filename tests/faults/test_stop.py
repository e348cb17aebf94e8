"""SIGTERM"""

import contextlib
import os
import signal
import time

import pytest

from faults.harness import RUN, assert_same, at_call, at_step, has_line, outcome, reached, send

STOPPED = "stopped by SIGTERM"
# (what the process does, what is injected, exit codes: done where all is done already)
WHILE = {
    "while the data's mean is computed": at_call("resume.statistics_for", send("SIGTERM")),
    "before the state is restored": at_call("resume.begin", send("SIGTERM")),
    "in a step": at_step(15, send("SIGTERM")),
    "in an evaluation during training": at_call("evaluate.fill_tables", send("SIGTERM")),
    "before a save": at_call("checkpoint.save", send("SIGTERM"), call=2),
    "while a save is written": at_call("checkpoint_files.write_sums", "time.sleep(0.5); " + send("SIGTERM"), call=2),
    "while the last save is waited for": at_call("checkpoint.close", send("SIGTERM")),
    "in the test": at_call("evaluate.open_table", send("SIGTERM")),
}
PRECISE = "--evals=center,center_precise_batch_stats"


@pytest.mark.parametrize("moment", WHILE)
def test_while(shell, wanted, tally, tmp_path, moment):
    """SIGTERM at a chosen moment: {moment}"""
    arguments = [*RUN, "--workdir=run"]
    with tally.attempt(moment):
        answer = shell.run(arguments, tmp_path, inject=WHILE[moment]).ends(75, 0)
        assert (answer.code == 75) == (STOPPED in answer.err), answer.err[-1500:]
        shell.run(arguments, tmp_path).ends(0)
        assert_same(tmp_path / "run", wanted)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_start(shell, tally, tmp_path, name):
    """{name} in the first seconds of a new process"""
    for seconds in (0.3, 1, 2, 4):
        with tally.attempt(f"after {seconds} s"):
            process = shell.start_fresh([*RUN, "--config.total_steps=1000000", f"--workdir={seconds}"], tmp_path)
            time.sleep(seconds)
            process.kill(signal.Signals[name])
            process.finish().ends(75).says(f"stopped by {name}")


def test_compilation(shell, wanted, tally, tmp_path):
    """SIGTERM while XLA compiles, with no cache of compiled steps"""
    for milliseconds in (0, 300, 1000):
        with tally.attempt(f"{milliseconds} ms after the directory was made"):
            no_cache = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / f"cache{milliseconds}")}
            process = shell.start_fresh([*RUN, "--workdir=run"], tmp_path, **no_cache)
            process.wait_for(lambda out=process.out: has_line(out, "run directory"), "its directory")
            time.sleep(milliseconds / 1000)
            process.kill(signal.SIGTERM)
            process.finish().ends(75).says(STOPPED)
    with tally.attempt("the run after all of them"):
        shell.run([*RUN, "--workdir=run"], tmp_path).ends(0)
        assert_same(tmp_path / "run", wanted)


def test_precise_averages(shell, tally, tmp_path):
    """SIGTERM and SIGKILL while averages over the training set are computed for _precise_batch_stats"""
    arguments = [*RUN, PRECISE]
    shell.run([*arguments, "--workdir=whole"], tmp_path).ends(0)
    whole = outcome(tmp_path / "whole")
    for number, code in (("SIGTERM", 75), ("SIGKILL", -9)):
        with tally.attempt(number):
            workdir, fault = f"--workdir={number}", at_call("batch_stats._averages", send(number))
            shell.run([*arguments, workdir], tmp_path, inject=fault).ends(code)
            shell.run([*arguments, workdir], tmp_path).ends(0)
            assert_same(tmp_path / number, whole)


@pytest.mark.parametrize("group", [False, True])
def test_workers(shell, wanted, tally, tmp_path, group):
    """SIGTERM with two loader processes, to the process alone or to the group: {group}"""
    arguments = [*RUN, "--workers=2", "--workdir=run"]
    for step in (0, 12, 24):
        with tally.attempt(f"after step {step}"):
            process = shell.start(arguments, tmp_path)
            process.wait_for(lambda out=process.out: has_line(out, "run directory"), "its directory")
            process.wait_for(lambda at=step: reached(tmp_path / "run") >= at, f"step {step}")
            process.kill(signal.SIGTERM, group)
            answer = process.finish().ends(75, 0)
            assert answer.code == 0 or STOPPED in answer.err
    with tally.attempt("the run after all of them"):
        shell.run(arguments, tmp_path).ends(0)
        assert_same(tmp_path / "run", wanted)


@pytest.mark.parametrize("workers", [0, 2])
def test_blocked_loader(shell, photos, tally, tmp_path, workers):
    """SIGTERM while image files never answer (FIFOs in their place), workers: {workers}"""
    data, arguments = photos
    arguments = [*arguments, f"--workers={workers}"]
    images = sorted((data / "photos" / "train").rglob("*.png"))
    with tally.attempt("blocked, then the files are back"):
        process = shell.start([*arguments, "--workdir=run", "--config.total_steps=10000"], data)
        process.wait_for(lambda: reached(data / "run") > 2, "step 3")
        contents = {image: image.read_bytes() for image in images}
        for image in images:
            os.mkfifo(fifo := image.with_suffix(".fifo"))
            fifo.replace(image)
        process.wait_for(lambda: any(map(is_read, images)), "the loader's wait")
        process.kill(signal.SIGTERM)
        answer = process.finish().ends(75)
        answer.says(STOPPED)
        before = outcome(data / "run")["step"]
        for image, content in contents.items():
            image.unlink()
            image.write_bytes(content)
        total = f"--config.total_steps={before + 5}"
        assert before >= reached(data / "run") > 2
        shell.run([*arguments, "--workdir=whole", total], data).ends(0)
        config = (data / "whole" / "config.json").read_bytes()
        (data / "run" / "config.json").write_bytes(config)
        shell.run([*arguments, "--workdir=run", total], data).ends(0)
        assert_same(data / "run", outcome(data / "whole"))


def is_read(fifo):
    """Whether a process waits to read from a FIFO; the answer keeps it waiting."""
    with contextlib.suppress(OSError):
        return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
