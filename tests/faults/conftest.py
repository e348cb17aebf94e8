"""Marks every test here slow, counts tries and losses, and writes the report."""

import datetime
import os
import platform
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from faults.harness import QUICK, RUN, SEED, Shell, Tally, outcome

HEADER = """# Faults

Each row is a kind of fault that `tests/faults` injects into runs of small nets. A loss is any of these: parameters,
optimiser state, BatchNorm averages, metrics or test probabilities that differ in one bit from those of a run that
nothing disturbed; a traceback; a hang; a wrong exit code; a number that is wrong without a word; a damaged file that is
used without a word. To repeat it:

    DEEPCONV_FAULTS_REPORT=docs/faults.md pytest tests/faults -m slow
"""


def pytest_itemcollected(item: pytest.Item) -> None:
    item.add_marker("slow")


@pytest.fixture(scope="session")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """Runs commands."""
    shell = Shell(tmp_path_factory.mktemp("shell"))
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
        row = {"class": item.module.__doc__, "done": item.function.__doc__, "tries": tally.tries, "losses": losses}
        item.user_properties.append(("faults", row))
    assert not losses, "\n".join([f"{len(losses)} of {tally.tries} tries lost something:", *losses])


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reports = [report for kind in ("passed", "failed", "skipped") for report in terminalreporter.getreports(kind)]
    reports = sorted(reports, key=lambda report: report.nodeid)
    rows, details = [], []
    for report in reports:
        if report.when != "call" and not report.skipped:
            continue
        row = dict(report.user_properties).get("faults")
        if report.skipped:
            details.append(f"- `{report.nodeid}` was skipped: {report.longrepr[2]}")
        if row:
            losses = row["losses"]
            rows.append(f"| {row['class']} | {row['done']} | {row['tries']} | {len(losses)} |")
            details += [f"- {row['class']} {loss}" for loss in losses]
    table = ["| class | what is done | tries | losses |", "| --- | --- | ---: | ---: |", *rows]
    terminalreporter.write_line("\n".join(table))
    if path := os.environ.get("DEEPCONV_FAULTS_REPORT"):
        details = [" ".join(line.split())[:400] for line in details]
        Path(path).write_text("\n".join([HEADER, _record(), "", *table, "", *details]).rstrip() + "\n")


def _record() -> str:
    commit = _said("git", "-C", str(ROOT), "rev-parse", "HEAD")
    dirty = " with changes" if _said("git", "-C", str(ROOT), "status", "--porcelain", "deepconv", "tests") else ""
    versions = ", ".join(
        f"{name} {metadata.version(name)}" for name in ("jax", "flax", "orbax-checkpoint", "grain", "numpy")
    )
    processor = _said("sh", "-c", "grep -m1 'model name' /proc/cpuinfo | cut -d: -f2") or platform.machine()
    today = datetime.datetime.now(datetime.UTC).date()
    return (
        f"{today}, commit {commit}{dirty}, seed {SEED}, Python {platform.python_version()}, {versions}; "
        f"{processor.strip()}, {len(os.sched_getaffinity(0))} cores, Linux {platform.release()}."
    )


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()
