"""Resume"""

import pytest

from faults.harness import RUN, assert_same, at_call, at_step, send

STEPS = {1: "step 1", 7: "mid-epoch", 20: "epoch edge", 39: "last step but one", 40: "last step"}


def test_stopped_at_a_step(shell, wanted, tally, tmp_path):
    """SIGTERM and SIGKILL right after step 1, in mid-epoch, at an epoch's edge, after the last step"""
    for step, name in STEPS.items():
        for number, codes in (("SIGTERM", (75,)), ("SIGKILL", (-9,))):
            with tally.attempt(f"{number} at {name}"):
                arguments = [*RUN, f"--workdir={number}{step}"]
                shell.run(arguments, tmp_path, inject=at_step(step, send(number))).ends(*codes)
                shell.run(arguments, tmp_path).ends(0)
                assert_same(tmp_path / f"{number}{step}", wanted)


@pytest.mark.parametrize("function", ["evaluate.run", "evaluate.save", "curves.draw"])
def test_stopped_after_the_final_save(shell, wanted, tally, tmp_path, function):
    """SIGTERM and SIGKILL after the final save: before the test, before it is written, before curves are drawn"""
    for number, codes in (("SIGTERM", (0, 75)), ("SIGKILL", (-9,))):
        with tally.attempt(f"{number} before {function}"):
            arguments = [*RUN, f"--workdir={number}"]
            shell.run(arguments, tmp_path, inject=at_call(function, send(number))).ends(*codes)
            shell.run(arguments, tmp_path).ends(0)
            assert_same(tmp_path / number, wanted)


def test_other_workers(shell, wanted, tally, tmp_path):
    """Loader processes 0 -> 2 -> 3, the run stopped in between by SIGTERM and by SIGKILL"""
    for number, code in (("SIGTERM", 75), ("SIGKILL", -9)):
        with tally.attempt(f"0 -> 2 -> 3, {number}"):
            arguments = [*RUN, f"--workdir={number}"]
            shell.run(arguments, tmp_path, inject=at_step(9, send(number))).ends(code)
            shell.run([*arguments, "--workers=2"], tmp_path, inject=at_step(23, send(number))).ends(code)
            shell.run([*arguments, "--workers=3"], tmp_path).ends(0)
            assert_same(tmp_path / number, wanted)
