"""Two processes"""

import signal

from faults.harness import RUN, assert_same, copy, reached


def test_second_is_refused(shell, wanted, tally, tmp_path):
    """A second process in a directory in use; the first is killed, and a third goes on"""
    arguments = [*RUN, "--workdir=run"]
    with tally.attempt("second, then third"):
        first = shell.start(arguments, tmp_path)
        first.wait_for(lambda: reached(tmp_path / "run") >= 3, "step 3")
        first.kill(signal.SIGSTOP)
        shell.run(arguments, tmp_path).ends(2).says("in use by another process", str(first.pid))
        first.kill(signal.SIGKILL)
        first.finish().ends(-signal.SIGKILL)
        shell.run(arguments, tmp_path).ends(0)
        assert_same(tmp_path / "run", wanted)


def test_both_at_once(shell, wanted, tally, tmp_path):
    """Three processes that start in one directory at the same moment"""
    for number in range(5):
        with tally.attempt(f"start {number}"):
            arguments = [*RUN, f"--workdir={number}"]
            processes = [shell.start(arguments, tmp_path) for _ in range(3)]
            answers = [process.finish() for process in processes]
            codes = sorted(answer.code for answer in answers)
            assert codes[0] == 0 and {*codes} <= {0, 2}, [answer.err[-500:] for answer in answers]
            assert all("Traceback" not in answer.err for answer in answers)
            assert_same(tmp_path / str(number), wanted)


def test_stale_locks(shell, whole, wanted, tally, tmp_path):
    """A lock file that a dead process left, one with rubbish, one that links to another file, and a folder as one"""
    arguments = [*RUN, "--workdir=run"]
    for name, content in (("dead process", b"process 1 on elsewhere"), ("rubbish", bytes(range(256)))):
        with tally.attempt(name):
            run = copy(whole, tmp_path / "run")
            (run / "eval.center.json").unlink()
            (run / "lock").write_bytes(content)
            shell.run(arguments, tmp_path).ends(0)
            assert_same(run, wanted)
    with tally.attempt("link"):
        run = copy(whole, tmp_path / "run")
        (tmp_path / "precious").write_text("precious")
        (run / "lock").unlink()
        (run / "lock").symlink_to(tmp_path / "precious")
        answer = shell.run(arguments, tmp_path).ends(0, 2)
        assert (tmp_path / "precious").read_text() == "precious", "the link's target was overwritten"
        if answer.code:
            answer.says("lock")
    with tally.attempt("folder"):
        run = copy(whole, tmp_path / "run")
        (run / "lock").unlink()
        (run / "lock").mkdir()
        shell.run(arguments, tmp_path).ends(1, 2).says("lock")
