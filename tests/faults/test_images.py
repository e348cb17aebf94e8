"""Images"""

import itertools
import shutil

import pytest

from deepconv.data.sources import find
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
    files = [
        data / "photos" / record.name.split()[0]
        for record in find("photos", "train", str(data), 16).open().read(range(20))
    ]
    bad, following = next(pair for pair in itertools.pairwise(files) if pair[0].parent == pair[1].parent)
    broken = HARM[harm](bad.read_bytes())
    replace = [*arguments, "--config.data.on_corrupt=replace"]
    shutil.copy(following, bad)  # which has to take its place
    shell.run([*replace, "--workdir=wanted"], data).ends(0)
    bad.write_bytes(broken)
    workers = 2 if harm == "half" else 0
    with tally.attempt(f"fail, {workers} workers"):
        answer = shell.run([*arguments, "--workdir=fail", f"--workers={workers}"], data).ends(1)
        assert "deepconv: " in answer.err and bad.name in answer.err, answer.err
    with tally.attempt(f"replace, {workers} workers"):
        shell.run([*replace, "--workdir=replace", f"--workers={workers}"], data).ends(0)
        assert bad.name in (data / "replace" / "corrupt.txt").read_text()
        assert_same(data / "replace", outcome(data / "wanted"))


def test_evaluation(shell, photos, tally):
    """An image of the test set that cannot be decoded stops the run, with on_corrupt=fail and =replace"""
    data, arguments = photos
    bad = data / "photos" / "val" / "odd" / "03.png"
    whole = bad.read_bytes()
    for harm, choice in (("half", "replace"), ("text", "fail"), ("flipped bit", "replace")):
        with tally.attempt(f"{harm}, {choice}"):
            command = [*arguments, f"--config.data.on_corrupt={choice}", f"--workdir={harm}"]
            bad.write_bytes(HARM[harm](whole))
            answer = shell.run(command, data).ends(1)
            assert "deepconv: " in answer.err and "03.png" in answer.err, answer.err
            assert not [*(data / harm).glob("eval.*.json")]
            bad.write_bytes(whole)
            shell.run(command, data).ends(0)
            if harm == "half":
                shell.run([*command, "--workdir=wanted"], data).ends(0)
            assert_same(data / harm, outcome(data / "wanted"))
