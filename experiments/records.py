"""Reads the results of runs with their provenance, and reads and writes the JSON files of records."""

import json
import sys
from pathlib import Path
from typing import Any

from deepconv.config import durations, recipes
from deepconv.run import log as runlog
from deepconv.run import starts
from deepconv.run.evaluations import errors_of, read_eval
from deepconv.run.files import printable, read_json, write_text
from deepconv.run.starts import read_starts
from experiments.measurements import SOURCES, Environment, Measurement, Results, Start, Trained, Values


def started(record: Trained) -> str:
    """Returns when a run's training began; it distinguishes successive runs in one directory."""
    return record["trained"][0]["time"]


def key(record: Measurement) -> tuple[Any, ...]:
    """Returns a value that is equal for records of one measurement: directory, test, start, members, arguments."""
    arguments = json.dumps(record.get("arguments"), sort_keys=True)
    return record["directory"], record["test"], started(record), tuple(map(key, record.get("of", ()))), arguments


def identity(record: Measurement) -> tuple[Any, ...]:
    """Returns `key` with the config."""
    return key(record), json.dumps(record["config"], sort_keys=True)


def assigned_to(record: Measurement, run: str, departs: list[str]) -> Measurement:
    """Returns the record for a row: its first fields are the row's run or command, and the departures from it."""
    assignment: Measurement = {"run": run, "directory": record["directory"], "test": record["test"], "departs": departs}
    return {**assignment, **record, **assignment}


def evaluation(workdir: Path, test: str) -> Values | None:
    """Returns the errors of a run's test in percent; None if the test was not run."""
    file = workdir / f"eval.{test}.json"
    if not file.exists():
        return None
    record = read_eval(file)
    return errors_of(record) | {"examples": record["examples"]}


def curves(workdir: Path, test: str) -> Values | None:
    """Returns errors in percent over training, [step, error], and the last; training errors are means between tests."""
    window, points = [], {"train": [], "test": []}
    for record in runlog.read_metrics(workdir):
        train_error, test_error = (runlog.error_of(record, part) for part in ("train", "test"))
        window += [] if train_error is None else [train_error]
        if test_error is not None and window:
            points["train"].append([record["step"], round(sum(window) / len(window), 3)])
            points["test"].append([record["step"], round(test_error, 3)])
            window = []
    if not points["test"]:
        return None
    finished = (workdir / f"eval.{test}.json").exists()
    last = {f"{split}_error": curve[-1][1] for split, curve in points.items()}
    return last | points | {"departs": [] if finished else [f"stopped at step {points['test'][-1][0]}"]}


def provenance(workdir: Path) -> Trained:
    """Returns a run's config and how it was trained. Raises OSError."""
    config = recipes.read_run(workdir)
    for field in SOURCES:
        if config.get(field):
            config[field] = Path(config[field]).name
    steps = timed = 0
    seconds = 0.0
    for record in runlog.read_metrics(workdir):
        steps = int(record["step"])
        if speed := record.get("images_per_second"):  # missing, or 0 in earlier versions, if no step was timed
            seconds += (steps - timed) * config["batch_size"] / speed
            timed = steps
    corrupt = workdir / "corrupt.txt"
    return {
        "directory": workdir.name,
        "seed": config["seed"],
        "steps": steps,
        "finished": any(workdir.glob("eval.*.json")) or steps >= durations.total_steps(config) > 0,
        "hours": round(seconds / 3600, 3),  # of training, without tests and pauses
        "trained": _trained(workdir),
        "replaced": len(corrupt.read_text("utf-8", "replace").splitlines()) if corrupt.exists() else 0,  # images
        "config": config,
    }


def _trained(workdir: Path) -> list[Start]:
    """Returns the starts of a run's training, without those in the same environment as the one before.

    Earlier versions recorded no from_step, and recorded the starts of tests, too. Without any from_step, only the first
    start has surely trained.
    """
    starts = read_starts(workdir, "time", "commit", "dirty", "devices", "device_kind", "cpus", "versions")
    last = max((number for number, start in enumerate(starts) if "from_step" in start), default=0)
    trained: list[Start] = []
    for start in starts[: last + 1]:
        environment = _environment(start)
        if not trained or trained[-1] != {"time": trained[-1]["time"], **environment}:
            trained.append({"time": start["time"], **environment})
    return trained


def tested(workdir: Path, test: str) -> Environment | None:
    """Returns the environment of a test; None if the test was not run."""
    file = workdir / f"eval.{test}.json"
    return environment(read_json(file, dict)) if file.exists() else None


def environment(stored: dict[str, Any]) -> Environment | None:
    """Returns the device, commit and versions of a test; None for tests of earlier versions, which lack them."""
    return _environment(stored) if "devices" in stored else None


def _environment(stored: dict[str, Any] | starts.Environment) -> Environment:
    cores = f", CPU cores: {stored['cpus']}" if "cpus" in stored else ""
    device = f"{stored['devices']} x {stored['device_kind']}{cores}"
    commit, dirty, versions = stored.get("commit"), stored.get("dirty"), stored.get("versions")
    return Environment(device=device, commit=commit, dirty=dirty, versions=versions)


def read(file: Path) -> Results:
    """Returns the results of an entry's file, empty if it does not exist. Raises OSError."""
    if not file.exists():
        return Results()
    results = read_json(file, dict, "title", "rows", remedy="restore it from git")
    for record in [
        *(record for row_records in results["rows"].values() for record in row_records),
        *results.get("unassigned", ()),
    ]:
        try:
            _complete(record)
        except ValueError as error:
            raise OSError(f"{file} cannot be used: {error}") from None
    return Results(**results)


def _complete(record: dict[str, Any]) -> None:
    """Adds the fields that records and configs of earlier versions lack, in place."""
    if "trained" not in record and "started" in record:
        environment = {name: record.pop(name) for name in ("commit", "dirty", "device", "versions")}
        record |= {"trained": [{"time": record.pop("started")} | environment], "tested": None, "config": None}
    if record.get("config"):
        recipes.complete(record["config"])
    for nested in [*record.get("of", ()), *(record[key] for key in SOURCES.values() if key in record)]:
        _complete(nested)


def write(file: Path, results: Results) -> None:
    """Writes results with one record per line, for readable diffs."""
    lines = [f' "title": {json.dumps(results["title"])}']
    for part in ("counted", "rows"):
        if part in results:
            rows = [f"  {json.dumps(label)}: {_lines(content)}" for label, content in results[part].items()]
            lines.append(f' "{part}": {{\n' + ",\n".join(rows) + "\n }" if rows else f' "{part}": {{}}')
    if "unassigned" in results:
        lines.append(f' "unassigned": {_lines(results["unassigned"])}')
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, "{\n" + ",\n".join(lines) + "\n}\n")


def _lines(content: Any) -> str:
    if not isinstance(content, list):
        return json.dumps(content)
    return "[\n" + ",\n".join(f"   {json.dumps(record)}" for record in content) + "\n  ]"


def warn(workdir: Path, error: Exception) -> None:
    """Prints to standard error why a run's directory is skipped."""
    print(f"not collected: {printable(f'{workdir}: {error}')}", file=sys.stderr)
