"""Images"""

import shutil

import pytest

from faults.harness import assert_same, outcome

HARM = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "text": lambda content: b"<html>404</html>",
    "flipped bit": lambda content: content[:500] + bytes([content[500] ^ 16]) + content[501:],  # PNG has checksums
    "header of 3 billion pixels": lambda content: content[:16] + bytes([0, 0, 0xDB, 0xBA] * 2) + content[24:],
}


@pytest.mark.parametrize("harm", HARM)
def test_training(shell, photos, tally, harm):
    """An image of the training set that cannot be decoded, with on_corrupt=fail and =replace: {harm}"""
    data, arguments = photos
    folder = data / "photos" / "train" / "even"
    bad = folder / "04.png"
    whole = bad.read_bytes()
    statistics = data / "photos" / "statistics.train.16.npz"
    kept = statistics.read_bytes()
    bad.write_bytes(HARM[harm](whole))
    statistics.write_bytes(kept)
    for workers in (0, 2):
        with tally.attempt(f"fail, {workers} workers"):
            answer = shell.run([*arguments, f"--workdir=fail{workers}", f"--workers={workers}"], data).ends(1)
            assert "deepconv: " in answer.err and "04.png" in answer.err, answer.err
        with tally.attempt(f"replace, {workers} workers"):
            replace = [*arguments, "--config.data.on_corrupt=replace", f"--workers={workers}"]
            bad.write_bytes(HARM[harm](whole))
            shell.run([*replace, f"--workdir=replace{workers}"], data).ends(0)
            assert "04.png" in (data / f"replace{workers}" / "corrupt.txt").read_text()
            shutil.copy(folder / "06.png", bad)  # the next image, which has to take its place
            if not (data / "wanted").exists():
                shell.run([*replace, "--workdir=wanted"], data).ends(0)
            assert_same(data / f"replace{workers}", outcome(data / "wanted"))
            bad.write_bytes(HARM[harm](whole))


def test_evaluation(shell, photos, tally):
    """An image of the test set that cannot be decoded, with on_corrupt=fail and =replace"""
    data, arguments = photos
    bad = data / "photos" / "val" / "odd" / "03.png"
    whole = bad.read_bytes()
    shell.run([*arguments, "--workdir=wanted"], data).ends(0)
    for harm, change in HARM.items():
        for choice in ("fail", "replace"):
            with tally.attempt(f"{harm}, {choice}"):
                bad.write_bytes(change(whole))
                option = f"--config.data.on_corrupt={choice}"
                answer = shell.run([*arguments, "--workdir=run", option], data).ends(1)
                assert "deepconv: " in answer.err and "03.png" in answer.err, answer.err
                assert not [*(data / "run").glob("eval.*.json")]
                if (harm, choice) == ("text", "fail"):
                    bad.write_bytes(whole)
                    shell.run([*arguments, "--workdir=run"], data).ends(0)
                    assert_same(data / "run", outcome(data / "wanted"))
            shutil.rmtree(data / "run", ignore_errors=True)
