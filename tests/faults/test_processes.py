"""several processes"""

import signal
import socket
import time

import pytest
import test_training_proposals
from conftest import FLAGS, NARROW, ROOT

from faults.harness import RUN, assert_same, at_call, at_step, has_line, newest, outcome, reached, send

TWO_DEVICES = {"XLA_FLAGS": f"--xla_force_host_platform_device_count=2 {FLAGS}"}
RECIPES = {
    "resnet_cifar": RUN,
    "alexnet_code": [f"--config={ROOT}/configs/alexnet_code.py", "--smoke"],
    "vgg11": [f"--config={ROOT}/configs/vgg11.py", "--smoke", "--config.data.image_size=32"],
}
EVALS = {"resnet_cifar": "center_precise_batch_stats", "alexnet_code": "ten_crop", "vgg11": "dense"}
WORKERS = {"resnet_cifar": (0, 2), "alexnet_code": (2,), "vgg11": (0,)}
LOST = "of this run was lost"


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start(shell, arguments, folder, inject=("", ""), variables=({}, {})):
    """Start two processes of one device each, with the code to inject into each."""
    port = f"--coordinator=127.0.0.1:{free_port()}"
    numbered = [[*arguments, port, "--processes=2", f"--process={number}"] for number in (0, 1)]
    return [shell.start(numbered[i], folder, inject=inject[i], **variables[i]) for i in (0, 1)]


def run(shell, arguments, folder, **options):
    return [process.finish() for process in start(shell, arguments, folder, **options)]


def run_to_the_end(shell, arguments, folder):
    for answer in run(shell, arguments, folder):
        answer.ends(0)


@pytest.fixture(scope="module")
def wanted_of_two(shell, tmp_path_factory):
    """What RUN leaves behind in one process with two devices."""
    folder = tmp_path_factory.mktemp("two")
    shell.run([*RUN, "--workdir=run"], folder, **TWO_DEVICES).ends(0)
    return outcome(folder / "run")


@pytest.mark.parametrize("recipe", RECIPES)
def test_bits(shell, tally, tmp_path, recipe):
    """training and tests of {recipe}: the bits of one process with two devices, with and without loader processes"""
    arguments = [*RECIPES[recipe], f"--evals=center,{EVALS[recipe]}"]
    shell.run([*arguments, "--workdir=one"], tmp_path, inject=NARROW, **TWO_DEVICES).ends(0)
    for workers in WORKERS[recipe]:
        with tally.attempt(f"{workers} loader processes"):
            in_two = [*arguments, f"--workdir={workers}", f"--workers={workers}"]
            for answer in run(shell, in_two, tmp_path, inject=(NARROW, NARROW)):
                answer.ends(0)
            assert_same(tmp_path / f"{workers}", outcome(tmp_path / "one"))


def test_proposals(shell, tally, tmp_path):
    """R-CNN, which first computes its proposals: the bits of one process with two devices"""
    test_training_proposals.write_files(tmp_path)
    shell.run([*test_training_proposals.COMMAND, "--workdir=one"], tmp_path, **TWO_DEVICES).ends(0)
    with tally.attempt("two processes"):
        run_to_the_end(shell, [*test_training_proposals.COMMAND, "--workdir=two"], tmp_path)
        assert_same(tmp_path / "two", outcome(tmp_path / "one"))
        one, two = ((tmp_path / name / "proposals.npy").read_bytes() for name in ("one", "two"))
        assert one == two


def test_photographs(shell, photos, tally):
    """photographs of many sizes, of which one that cannot be decoded is replaced in each process"""
    data, arguments = photos
    for name in ("even/02.png", "odd/05.png"):
        (data / "photos" / "train" / name).write_bytes(b"no image")
    arguments += ["--config.data.on_corrupt=replace", "--evals=center,ten_crop"]
    shell.run([*arguments, "--workdir=one"], data, **TWO_DEVICES).ends(0)
    with tally.attempt("two processes"):
        run_to_the_end(shell, [*arguments, "--workdir=two"], data)
        assert_same(data / "two", outcome(data / "one"))
        lists = [sorted((data / name / "corrupt.txt").read_text().splitlines()) for name in ("one", "two")]
        assert len(lists[0]) == 2 and lists[0] == lists[1]


def test_weights(shell, whole, tally, tmp_path):
    """training from the weights of a run, and a test of weights from a file: the bits of one process"""
    export = ["export", f"--run={whole}", "--to=net.safetensors"]
    shell.run(export, tmp_path, module="deepconv.weights").ends(0)
    starts = {
        "run": [f"--init_from={whole}", "--init_layers=all_but_head"],
        "file": ["--init_from=net.safetensors", "--input=paper", "--evals=center"],
    }
    for name, arguments in starts.items():
        with tally.attempt(f"of a {name}"):
            shell.run([*RUN, *arguments, f"--workdir=one/{name}"], tmp_path, **TWO_DEVICES).ends(0)
            run_to_the_end(shell, [*RUN, *arguments, f"--workdir=two/{name}"], tmp_path)
            one, two = ((tmp_path / folder / name / "probs.center.npy").read_bytes() for folder in ("one", "two"))
            assert one == two
    assert_same(tmp_path / "two" / "run", outcome(tmp_path / "one" / "run"))


@pytest.mark.parametrize("process, number", [(0, "SIGTERM"), (1, "SIGUSR1"), (1, "SIGINT")])
def test_signal(shell, wanted_of_two, tally, tmp_path, process, number):
    """{number} to process {process}: all save the same step, and go on to the same bits"""
    inject = ["", ""]
    inject[process] = at_step(13, send(number))
    with tally.attempt("in mid-run"):
        first, second = run(shell, [*RUN, "--workdir=run"], tmp_path, inject=inject)
        first.ends(75).says("stopped by")
        assert not second.ends(75).err, second.last_words
        assert 13 <= newest(tmp_path / "run") < 20
        run_to_the_end(shell, [*RUN, "--workdir=run"], tmp_path)
        assert_same(tmp_path / "run", wanted_of_two)


WHILE = {
    "while the data's mean is computed": at_call("resume.statistics_for", send("SIGTERM")),
    "in an evaluation during training": at_call("evaluate.fill_tables", send("SIGTERM")),
    "before a save": at_call("checkpoint.save", send("SIGTERM"), call=2),
    "in the test": at_call("evaluate.open_table", send("SIGTERM")),
}


@pytest.mark.parametrize("moment", WHILE)
def test_signal_while(shell, wanted_of_two, tally, tmp_path, moment):
    """SIGTERM to process 1 at a chosen moment: {moment}"""
    with tally.attempt(moment):
        for answer in run(shell, [*RUN, "--workdir=run"], tmp_path, inject=("", WHILE[moment])):
            answer.ends(75)
        run_to_the_end(shell, [*RUN, "--workdir=run"], tmp_path)
        assert_same(tmp_path / "run", wanted_of_two)


@pytest.mark.parametrize("killed, step", [(0, 30), (1, 1)])
def test_kill(shell, wanted_of_two, tally, tmp_path, killed, step):
    """SIGKILL to process {killed}: the other ends within seconds with code 134, and the run goes on to the same bits"""
    inject = ["", ""]
    inject[killed] = at_step(step, send("SIGKILL"))
    with tally.attempt(f"after step {step}"):
        processes = start(shell, [*RUN, "--workdir=run"], tmp_path, inject=inject)
        processes[killed].finish().ends(-9)
        begin = time.monotonic()
        answer = processes[1 - killed].finish()
        assert answer.code == 134 and LOST in answer.err or killed == 0 and answer.code == -6, answer.last_words
        assert time.monotonic() - begin < 10
        run_to_the_end(shell, [*RUN, "--workdir=run"], tmp_path)
        assert_same(tmp_path / "run", wanted_of_two)


def test_freeze(shell, wanted_of_two, tally, tmp_path):
    """SIGSTOP to a process: the other ends within the heartbeat"""
    for frozen in (0, 1):
        arguments = [*RUN, f"--workdir={frozen}", "--heartbeat_seconds=5"]
        with tally.attempt(f"process {frozen}"):
            inject = ["", ""]
            inject[frozen] = at_step(15, send("SIGSTOP"))
            processes = start(shell, arguments, tmp_path, inject=inject)
            begin = time.monotonic()
            assert processes[1 - frozen].finish().code in (134, -6)
            assert time.monotonic() - begin < 40  # from the start of the command
            processes[frozen].kill(signal.SIGKILL)
            processes[frozen].finish()
            run_to_the_end(shell, arguments, tmp_path)
            assert_same(tmp_path / f"{frozen}", wanted_of_two)


def test_corrupt_image(shell, photos, tally):
    """an image that process 1 cannot decode: both end, and process 1 names it"""
    data, arguments = photos
    (data / "photos" / "train" / "odd" / "03.png").write_bytes(b"no image")
    with tally.attempt("training"):
        answers = run(shell, [*arguments, "--config.total_steps=40", "--workdir=run"], data)
        named = [answer for answer in answers if "cannot be decoded" in answer.ends(1).err]
        assert any("odd/03.png" in answer.err for answer in named), [answer.last_words for answer in answers]


def test_refusals(shell, tally, tmp_path):
    """mistakes and refusals: one message, and the same exit code everywhere"""
    shell.run([*RUN, "--workdir=run"], tmp_path, inject=at_step(5, send("SIGTERM"))).ends(75)
    for label, arguments, words in (
        ("a directory of another run", [*RUN, "--config.seed=1", "--workdir=run"], "another config"),
        ("a wrong field", [*RUN, "--config.data.augment=nothing"], "config.data.augment"),
        ("a wrong number of devices", [*RUN, "--expect_devices=3"], "--expect_devices=3, but JAX has 2"),
    ):
        with tally.attempt(label):
            answers = [answer.ends(2) for answer in run(shell, arguments, tmp_path)]
            messages = [line for answer in answers for line in answer.err.splitlines() if "has ended" not in line]
            assert len(messages) == 1 and words in messages[0], messages
    with tally.attempt("different seeds"):
        port = f"--coordinator=127.0.0.1:{free_port()}"
        processes = [
            shell.start([*RUN, f"--config.seed={seed}", port, "--processes=2", f"--process={seed}"], tmp_path)
            for seed in (0, 1)
        ]
        answers = [process.finish().ends(2) for process in processes]
        assert any("process 0 has seed: 0, and process 1 1" in answer.err for answer in answers)
        assert not (tmp_path / "runs").exists()


def test_port(shell, tally, tmp_path):
    """a port that is taken, and one that does not exist: process 0 says so"""
    with tally.attempt("a port"), socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for port in (taken.getsockname()[1], 99_999):
            arguments = [*RUN, f"--coordinator=127.0.0.1:{port}", "--processes=2", "--process=0"]
            shell.run(arguments, tmp_path).ends(2).says(f"process 0 cannot listen at 127.0.0.1:{port}: ")


def test_disk(shell, tally, tmp_path):
    """process 0 cannot write metrics.jsonl: all end with its message"""
    full = 'raise OSError(28, "No space left on device")'
    with tally.attempt("a full disk"):
        inject = (at_call("runlog.append_metrics", full, call=3), "")
        first, second = run(shell, [*RUN, "--workdir=run"], tmp_path, inject=inject)
        first.ends(1).says("No space left on device")
        assert not second.ends(1).err
    with tally.attempt("the run afterwards"):
        run_to_the_end(shell, [*RUN, "--workdir=run"], tmp_path)


LIMIT = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))"  # only checkpoints are larger


@pytest.mark.parametrize("failing", [0, 1])
def test_checkpoint(shell, wanted_of_two, tally, tmp_path, failing):
    """process {failing} cannot write its part of a checkpoint: all end at once with its message"""
    inject = ["", ""]
    inject[failing] = at_call("checkpoint.save", LIMIT, call=3)  # at step 30
    with tally.attempt("a limit on the size of files"):
        processes = start(shell, [*RUN, "--workdir=run"], tmp_path, inject=inject)
        processes[0].wait_for(lambda: reached(tmp_path / "run") >= 30, "step 30")
        begin = time.monotonic()
        answers = [process.finish().ends(1) for process in processes]
        assert time.monotonic() - begin < 10
        reason = "a checkpoint could not be written", "File too large"
        assert all(words in answers[failing].err for words in reason), answers[failing].last_words
        if failing:
            answers[0].says("process 1 has ended (exit code 1)", *reason)
        else:
            assert "deepconv" not in answers[1].err
        assert newest(tmp_path / "run") == 20
    with tally.attempt("the run afterwards"):
        run_to_the_end(shell, [*RUN, "--workdir=run"], tmp_path)
        assert_same(tmp_path / "run", wanted_of_two)


def test_damage(shell, wanted_of_two, tally, tmp_path):
    """a damaged newest checkpoint: process 0 moves it away, and all go on from the one before to the same bits"""
    for answer in run(shell, [*RUN, "--workdir=run"], tmp_path, inject=(at_step(25, send("SIGTERM")), "")):
        answer.ends(75)
    damaged = newest(tmp_path / "run")
    files = [file for file in (tmp_path / f"run/checkpoints/{damaged}").rglob("*") if file.is_file()]
    max(files, key=lambda file: file.stat().st_size).write_bytes(b"")
    with tally.attempt("an empty file"):
        first, second = (answer.ends(0) for answer in run(shell, [*RUN, "--workdir=run"], tmp_path))
        assert first.err.count("IS DAMAGED") == 1 and "DAMAGED" not in second.err
        assert (tmp_path / f"run/checkpoints.damaged/{damaged}").is_dir() and damaged > 20
        assert_same(tmp_path / "run", wanted_of_two)


def test_numbers(shell, tally, tmp_path):
    """another number of processes at the second start: the start says so, and the data keeps its order"""
    slow = [*RUN, "--config.optimizer.learning_rate=0.001"]
    shell.run([*slow, "--workdir=one"], tmp_path, **TWO_DEVICES).ends(0)
    with tally.attempt("two, then one"):
        for answer in run(shell, [*slow, "--workdir=run"], tmp_path, inject=(at_step(15, send("SIGTERM")), "")):
            answer.ends(75)
        answer = shell.run([*slow, "--workdir=run"], tmp_path).ends(0)
        assert "devices: 2 before, 1 now" in answer.out and "processes: 2 before, 1 now" in answer.out
        losses = [_losses(tmp_path / name) for name in ("one", "run")]
        assert losses[0].keys() == losses[1].keys()
        assert all(abs(losses[0][step] - losses[1][step]) < 1e-3 for step in losses[0])


def _losses(workdir):
    from deepconv.run.log import read_metrics

    return {record["step"]: record["train_loss"] for record in read_metrics(workdir) if "train_loss" in record}


def test_lock(shell, tally, tmp_path):
    """a second start of the run while both processes work"""
    with tally.attempt("twice"):
        long = [*RUN, "--config.total_steps=100000", "--workdir=run"]
        processes = start(shell, long, tmp_path)
        processes[0].wait_for(lambda: reached(tmp_path / "run") > 3)
        answers = [answer.ends(2) for answer in run(shell, long, tmp_path)]
        assert any("is in use by another process" in answer.err for answer in answers)
        processes[1].kill(signal.SIGTERM)
        for process in processes:
            process.finish().ends(75)
        assert has_line(processes[0].out, "process 1 on")
