"""Records: what a run gave, with where it comes from; and the JSON files that keep them."""

import json
import sys
from pathlib import Path
from typing import Any

from deepconv.config import durations, recipes
from deepconv.run import directory
from deepconv.run import log as runlog
from deepconv.run.directory import printable, read_eval, read_json, read_starts
from experiments.measurements import Environment, Results, Start, Trained, Values


def started(record: Trained) -> str:
    """When the training of a record's run began, which tells runs of one directory apart."""
    return record["trained"][0]["time"]


def evaluation(workdir: Path, test: str) -> Values | None:
    """Errors of a run's test, in percent."""
    file = workdir / f"eval.{test}.json"
    if not file.exists():
        return None
    record = read_eval(file)
    return {name: record[name] for name in ("top1_error", "top5_error", "examples")}


def curves(workdir: Path, test: str) -> Values | None:
    """Errors in percent over training, [step, error], and the last. Training errors are means since the test before."""
    window, points = [], {"train": [], "test": []}
    for record in runlog.read_metrics(workdir):
        window += [record["train_top1_error"]] if "train_top1_error" in record else []
        if "test_top1_error" in record and window:
            points["train"].append([record["step"], round(sum(window) / len(window), 3)])
            points["test"].append([record["step"], round(record["test_top1_error"], 3)])
            window = []
    if not points["test"]:
        return None
    finished = (workdir / f"eval.{test}.json").exists()
    last = {f"{split}_error": at[-1][1] for split, at in points.items()}
    return last | points | {"departs": [] if finished else [f"stopped at step {points['test'][-1][0]}"]}


def provenance(workdir: Path) -> Trained:
    """A run's config, and where its weights come from. Raises OSError."""
    config = recipes.read_run(workdir)
    if config.get("init_from"):
        config["init_from"] = Path(config["init_from"]).name
    steps = timed = 0
    seconds = 0.0
    for record in runlog.read_metrics(workdir):
        steps = int(record["step"])
        if speed := record.get("images_per_second"):  # none, or 0 of an earlier version, where no step was timed
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
        "replaced": len(corrupt.read_text().splitlines()) if corrupt.exists() else 0,  # images
        "config": config,
    }


def _trained(workdir: Path) -> list[Start]:
    """Where and with what a run was trained: its starts, those that do not differ from the one before left out.

    Earlier versions wrote down the starts of tests as well, without from_step: of those, the first trained for sure.
    """
    starts = read_starts(workdir, "time", "commit", "dirty", "devices", "device_kind", "cpus", "versions")
    last = max((number for number, start in enumerate(starts) if "from_step" in start), default=0)
    trained: list[Start] = []
    for start in starts[: last + 1]:
        told = _environment(start)
        if not trained or trained[-1] != {"time": trained[-1]["time"], **told}:
            trained.append({"time": start["time"], **told})
    return trained


def tested(workdir: Path, test: str) -> Environment | None:
    """Where and with what a test was made; None where what was measured is no test."""
    file = workdir / f"eval.{test}.json"
    return environment(read_json(file, dict)) if file.exists() else None  # what is measured may be no errors


def environment(told: dict[str, Any]) -> Environment | None:
    """Commit, device and versions of a test, of which earlier versions kept less; None without any."""
    return _environment(told) if "devices" in told else None


def _environment(told: dict[str, Any] | directory.Environment) -> Environment:
    cores = f", CPU cores: {told['cpus']}" if "cpus" in told else ""
    device = f"{told['devices']} x {told['device_kind']}{cores}"
    return Environment(device=device, commit=told.get("commit"), dirty=told.get("dirty"), versions=told.get("versions"))


def read(file: Path) -> Results:
    """Results as committed; empty where nothing was measured. Raises OSError."""
    if not file.exists():
        return Results()
    results = read_json(file, dict, "title", "rows", remedy="restore it from git")
    for record in [
        *(record for of_row in results["rows"].values() for record in of_row),
        *results.get("unassigned", ()),
    ]:
        _complete(record)
    return Results(**results)


def _complete(record: dict[str, Any]) -> None:
    """Adds what records and configs did not have in earlier versions, in place."""
    if "trained" not in record and "started" in record:
        told = {name: record.pop(name) for name in ("commit", "dirty", "device", "versions")}
        record |= {"trained": [{"time": record.pop("started")} | told], "tested": None, "config": None}
    if record.get("config"):
        recipes.complete(record["config"])
    for other in [*record.get("of", ()), *([record["init"]] if "init" in record else [])]:
        _complete(other)


def write(file: Path, results: Results) -> None:
    """A record a line, so that what changed can be seen."""
    lines = [f' "title": {json.dumps(results["title"])}']
    for part in ("counted", "rows"):
        if part in results:
            rows = [f"  {json.dumps(label)}: {_lines(content)}" for label, content in results[part].items()]
            lines.append(f' "{part}": {{\n' + ",\n".join(rows) + "\n }" if rows else f' "{part}": {{}}')
    if "unassigned" in results:
        lines.append(f' "unassigned": {_lines(results["unassigned"])}')
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def _lines(content: Any) -> str:
    if not isinstance(content, list):
        return json.dumps(content)
    return "[\n" + ",\n".join(f"   {json.dumps(record)}" for record in content) + "\n  ]"


def warn(workdir: Path, error: Exception) -> None:
    """Says on standard error that a run's directory is passed over, and why."""
    print(f"not collected: {printable(f'{workdir}: {error}')}", file=sys.stderr)
