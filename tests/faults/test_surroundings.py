"""Surroundings"""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

from faults.harness import RUN, assert_same

ARGUMENTS = [*RUN, "--workdir=run"]


@pytest.mark.parametrize("option", ["-O", "-OO", "-X utf8=0"])
def test_interpreter(shell, wanted, tally, tmp_path, option):
    """An option of the interpreter: {option}"""
    with tally.attempt(option):
        shell.run_fresh(ARGUMENTS, tmp_path, python=option.split()).ends(0)
        assert_same(tmp_path / "run", wanted)


LOCALES = {
    "C": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    "POSIX": {"LC_ALL": "POSIX"},
    "one that does not exist": {"LC_ALL": "tr_TR.ISO-8859-9", "LANG": "tr_TR.ISO-8859-9"},
    "ASCII output": {"PYTHONIOENCODING": "ascii"},
    "another time zone": {"TZ": "Pacific/Kiritimati"},
}


@pytest.mark.parametrize("name", LOCALES)
def test_locale(shell, wanted, tally, tmp_path, name):
    """A locale: {name}"""
    with tally.attempt(name):
        shell.run_fresh(ARGUMENTS, tmp_path, **LOCALES[name]).ends(0)
        assert_same(tmp_path / "run", wanted)


@pytest.mark.parametrize("home", ["unset", "missing", "a file", "read-only"])
def test_home(shell, wanted, tally, tmp_path, home):
    """HOME is {home}"""
    folder = tmp_path / "home"
    variables = {"HOME": str(folder), "XDG_CACHE_HOME": "", "MPLCONFIGDIR": ""}
    if home == "a file":
        folder.write_text("")
    if home == "read-only":
        shell.mount(folder, "size=1m,ro")
    without = ["XDG_CACHE_HOME", "MPLCONFIGDIR", "TFDS_DATA_DIR"]
    without += ["HOME"] if home == "unset" else ["JAX_COMPILATION_CACHE_DIR"]  # unset, it is found all the same
    with tally.attempt(home):
        answer = shell.run_fresh(ARGUMENTS, tmp_path, without=without, **variables).ends(0)
        assert ("compiled programs are not kept" in answer.err) == (home != "unset"), answer.err
        assert_same(tmp_path / "run", wanted)


FOLDERS = ["-a folder with spaces, Ünïcødé ☃, quotes'\"$HOME` and a new\nline", "x" * 200]


@pytest.mark.parametrize("folder", FOLDERS, ids=range(len(FOLDERS)))
def test_path(shell, wanted, tally, tmp_path, folder):
    """Paths with spaces, non-ASCII letters, quotes, a new line, a dash in front, 200 letters"""
    with tally.attempt(repr(folder)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "recipe é.py").write_bytes((ROOT / "configs" / "resnet_cifar.py").read_bytes())
        arguments = [f"--config={folder}/recipe é.py", *RUN[1:], f"--workdir={folder}/run"]
        for _ in range(2):  # it is found again
            answer = shell.run(arguments, tmp_path).ends(0)
        assert "train " not in answer.out
        assert_same(tmp_path / folder / "run", wanted)


def test_wheel(shell, wanted, tally, tmp_path):
    """Installed from a wheel, in a directory that is not the checkout's"""
    pip = [sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check", "-q"]
    environment = os.environ | {"PIP_NO_INDEX": "1"}
    checkout = tmp_path / "checkout"  # building leaves folders behind
    checkout.mkdir()
    for name in ("deepconv", "pyproject.toml", "README.md", "LICENSE"):
        subprocess.run(["cp", "-r", str(ROOT / name), str(checkout)], check=True)
    wheel = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(checkout)]
    built = subprocess.run(wheel, capture_output=True, text=True, env=environment)
    if built.returncode:
        pytest.skip(f"no wheel could be built here: {built.stderr.strip().splitlines()[-1]}")
    (file,) = tmp_path.glob("*.whl")
    target = tmp_path / "installed"
    install = [*pip, "install", "--no-deps", "--target", str(target), str(file)]
    subprocess.run(install, check=True, capture_output=True, env=environment)
    with tally.attempt("trained and tested"):
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        shell.run_fresh(ARGUMENTS, elsewhere, PYTHONPATH=str(target)).ends(0)
        assert_same(elsewhere / "run", wanted)
    for module in (
        "benchmark.__main__",
        "cli",
        "data.prepare.__main__",
        "evaluation.run",
        "predict",
        "weights.__main__",
        "main",
    ):
        with tally.attempt(f"{module} is in it"):
            assert (target / "deepconv" / f"{module.replace('.', '/')}.py").exists()
