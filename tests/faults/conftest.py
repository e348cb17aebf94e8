"""Marks every test here slow, counts tries and losses, and writes the report."""

import datetime
import os
import platform
import re
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import FLAGS, ROOT
from PIL import Image

from faults.harness import QUICK, RUN, SEED, Shell, Tally, copy, outcome

HEADER = """# Faults

Each row is a kind of fault that `tests/faults` injects into runs of small nets. A try counts as a loss if it ends with
any of these: parameters, optimiser state, BatchNorm averages, metrics or test probabilities that differ in one bit from
those of an undisturbed run; a traceback; a hang; a wrong exit code; a wrong number without a warning; a damaged file
used without a warning. To repeat the measurement:

    DEEPCONV_FAULTS_REPORT=docs/faults.md pytest tests/faults -m slow

Without a report, a fifth of the random faults are tried.
"""
PHOTO_RECIPE = """
import sys
sys.path.insert(0, {configs!r})
from resnet_cifar import get_config as resnet_cifar

def get_config():
    config = resnet_cifar()
    config.data.update(name="photos", eval_split="validation", image_size=16, augment="crop_flip", on_corrupt="fail")
    config.data.update(train_scale=(16, 20), test_scale=16, central_square=False)
    config.model.depth, config.batch_size, config.optimizer.drop_at_steps = 8, 4, (7,)
    config.total_steps, config.log_every_steps, config.checkpoint_every_steps = 10, 1, 1000
    return config
"""


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


COMMIT = _said("git", "-C", str(ROOT), "rev-parse", "HEAD")  # at the start: it may move on


def pytest_itemcollected(item: pytest.Item) -> None:
    item.add_marker("slow")


@pytest.fixture(scope="session")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """Runs commands."""
    shell = Shell(tmp_path_factory.mktemp("shell"), FLAGS)
    yield shell
    shell.close()


@pytest.fixture(scope="session")
def whole(shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run that nothing disturbs. Copy it; do not change it."""
    folder = tmp_path_factory.mktemp("whole")
    shell.run([*RUN, "--workdir=run"], folder).ends(0)
    return folder / "run"


@pytest.fixture(scope="session")
def wanted(whole: Path) -> dict[str, Any]:
    """What RUN leaves behind when nothing disturbs it."""
    return outcome(whole)


@pytest.fixture(scope="session")
def tested(shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a small run of the quickstart recipe, trained and tested. Copy it; do not change it."""
    folder = tmp_path_factory.mktemp("tested")
    shell.run([QUICK, "--smoke", "--workdir=run"], folder).ends(0)
    return folder / "run"


@pytest.fixture(scope="session")
def photos_whole(shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with the folder data set "photos", its mean, and a recipe for it."""
    data, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for split, count in (("train", 20), ("val", 6)):
        for number in range(count):
            image = Image.fromarray(rng.integers(0, 256, (20, 16 + number, 3), np.uint8))
            file = data / "photos" / split / ("even", "odd")[number % 2] / f"{number:02}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            image.save(file)
    (data / "recipe.py").write_text(PHOTO_RECIPE.format(configs=str(ROOT / "configs")))
    prepare = ["statistics", "photos", "--data_dir=.", "--split=train", "--size=16"]
    shell.run(prepare, data, module="deepconv.data.prepare").ends(0)
    return data


@pytest.fixture
def photos(photos_whole: Path, tmp_path: Path) -> tuple[Path, list[str]]:
    """A copy of that directory, and the arguments of a run of ten steps in it."""
    return copy(photos_whole, tmp_path / "photos"), ["--config=recipe.py", "--data_dir=."]


@pytest.fixture
def tally() -> Tally:
    """Counts the tries and losses of a test; a row of the report."""
    print(f"DEEPCONV_FAULTS_SEED={SEED}")
    return Tally()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    tally, raised = item.funcargs["tally"], True
    try:
        yield
        raised = False
    finally:
        losses = tally.losses + ["the test itself ended early"] * raised
        done = item.function.__doc__.format(**item.callspec.params if hasattr(item, "callspec") else {})
        row = {"class": item.module.__doc__, "done": done, "tries": tally.tries, "losses": losses}
        item.user_properties.append(("faults", row))
    assert not losses, "\n".join([f"{len(losses)} of {tally.tries} tries lost something:", *losses])


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table; write it to the file that DEEPCONV_FAULTS_REPORT names."""
    found = [report for kind in ("passed", "failed", "skipped") for report in terminalreporter.getreports(kind)]
    reports = [report for report in found if report.nodeid.startswith("tests/faults/")]
    if not reports:
        return
    rows, notes = {}, []
    for report in sorted(reports, key=lambda report: report.nodeid):
        if row := dict(report.user_properties).get("faults"):
            tries, losses = rows.get((row["class"], row["done"]), (0, []))
            rows[row["class"], row["done"]] = tries + row["tries"], losses + row["losses"]
        if report.skipped:
            notes.append(f"- Skipped: {report.nodeid.rpartition('/')[2]}: {report.longrepr[2]}")
    lines = [f"| {kind} | {done} | {tries} | {len(losses)} |" for (kind, done), (tries, losses) in rows.items()]
    lines = ["| class | what is done | tries | losses |", "| --- | --- | ---: | ---: |", *lines]
    lines.append(f"| all | | {sum(tries for tries, _ in rows.values())} | {sum(len(x) for _, x in rows.values())} |")
    terminalreporter.write_line("\n".join(lines))
    if path := os.environ.get("DEEPCONV_FAULTS_REPORT"):
        notes += [f"- Lost: {kind}: {_short(loss)}" for (kind, _), x in rows.items() for loss in x[1]]
        Path(path).write_text("\n".join([HEADER, _record(), "", *lines, "", *notes]).rstrip() + "\n")


def _short(loss: str) -> str:
    """One line without this machine's paths."""
    loss = re.sub(r"/[^\s'\"]*/pytest-\d+/(popen-gw\d+/)?", "", loss.replace(f"{ROOT}/", ""))
    return " ".join(loss.split())[:400]


def _record() -> str:
    dirty = " with changes" if _said("git", "-C", str(ROOT), "status", "--porcelain", "deepconv", "tests") else ""
    versions = ", ".join(
        f"{name} {metadata.version(name)}" for name in ("jax", "flax", "orbax-checkpoint", "grain", "numpy")
    )
    processor = _said("sh", "-c", "grep -m1 'model name' /proc/cpuinfo | cut -d: -f2") or platform.machine()
    today = datetime.datetime.now(datetime.UTC).date()
    return (
        f"{today}, commit {COMMIT}{dirty}, seed {SEED}, Python {platform.python_version()}, {versions}; "
        f"{processor.strip()}, {len(os.sched_getaffinity(0))} cores, Linux {platform.release()}."
    )
