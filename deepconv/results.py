"""What runs have given: read their directories, tell what they did otherwise than the papers, keep it as JSON."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepconv import config as config_lib
from deepconv import runlog
from deepconv.tables import DATA, Row, Run, Table, Values, flatten, written

# What a result may have otherwise than the paper's and still be told beside it: how long, how often, on what data,
# from what weights, in what precision. Anything else is another experiment.
MAY_DEPART = ("total_steps", "total_epochs", "seed", "batch_size", "init_from", "init_layers", "train")
MAY_DEPART += ("data.name", "data.train_split", "data.eval_split", "data.mean", "data.lighting_until_epochs")
MAY_DEPART += ("model.dtype", "model.bn_group", "model.initialization")
TIMES = ("drop_at_steps", "drop_at_epochs", "freeze_at_steps", "freeze_at_epochs")  # of any part of the optimiser
NOT_COMPARED = ("log_every_", "checkpoint_every_", "eval_every_", "data.on_corrupt", "init_sha256")

Directories = Mapping[Path, Values]  # of runs, with their config.json


def directories(root: Path) -> dict[Path, Values]:
    """Of the runs below a folder that have begun; weights that were only imported are not among them."""
    files = [file for file in sorted(root.glob("*/config.json")) if file.with_name("environment.json").exists()]
    return {file.parent: config_lib.read_run(file.parent) for file in files}


def collect(table: Table, found: Directories, before: Values) -> Values:
    """The results of a table: of these directories, and of those that were collected before and are not among them."""
    rows, here = {}, {workdir.name for workdir in found}
    for row in table.rows:
        records = _of_row(table, row, found) if table.trained() and not (row.quoted or row.needs) else []
        known = {_key(record) for record in records}
        for record in before.get("rows", {}).get(row.label, []):
            if record["directory"] not in here and _key(record) not in known:
                records.append(record)
        if records:
            rows[row.label] = sorted(records, key=lambda record: (bool(record["departs"]), _key(record)))
    counted = {
        row.label: {name: count(row.runs[0]) for name, count in table.counts.items()} for row in table.rows if row.runs
    }
    return {"title": table.title} | ({"counted": counted} if table.counts else {}) | {"rows": rows}


def _key(record: Values) -> tuple[str, str, str]:
    return record["run"], record["directory"], record["test"]


def _of_row(table: Table, row: Row, found: Directories) -> list[Values]:
    measure = table.measure or evaluation
    departs = {run.name: _departures(run, found) for run, _ in row.everything()}
    records = []
    for workdir in found:
        # a run of another seed that the row has, too, is no departure from the first one
        of = [name for name in departs if workdir in departs[name]]
        nearest = min(of, key=lambda name: len(departs[name][workdir]), default=None)
        for run, test in row.everything():
            if run.name != nearest or (values := measure(workdir, test)) is None:
                continue
            how = departs[run.name][workdir] + values.pop("departs", [])
            told = {"run": run.name, "directory": workdir.name, "test": test, "departs": how, "values": values}
            records.append(told | provenance(workdir))
    return _ensembles(row, records, found) if row.combine == "ensemble" else records


def _departures(run: Run, found: Directories) -> dict[Path, list[str]]:
    """What each directory's run did otherwise than this one; other experiments are not in it."""
    expected = flatten(json.loads(run.load().to_json())) | {"init_layers": list(run.init_layers)}
    told = {workdir: departures(run, expected, workdir, config, found) for workdir, config in found.items()}
    return {workdir: lines for workdir, lines in told.items() if lines is not None}


def departures(run: Run, expected: Values, workdir: Path, config: Values, found: Directories) -> list[str] | None:
    """What the run of a directory did otherwise than expected; None where it is another experiment."""
    mine = {"init_layers": []} | flatten(config)
    images = {split: int(mine.pop(f"{split}_data", "0").split(" ")[0]) for split in ("train", "eval")}
    source = mine.pop("init_from", None)
    if run.load().data.get("central_square"):  # packed, the squares that such a net sees are the same
        mine["data.name"] = mine["data.name"].removesuffix("-256-uint8")
    differ = [name for name in sorted({*expected, *mine}) if expected.get(name) != mine.get(name)]
    differ = [name for name in differ if not name.startswith(NOT_COMPARED)]
    if any(name not in MAY_DEPART and name.split(".")[-1] not in TIMES for name in differ):
        return None
    lines = [f"{name.removeprefix('data.').removeprefix('optimizer.')}={written(mine.get(name))}" for name in differ]
    lines += _source_departures(run, source, found)
    if data := DATA.get(mine["data.name"]):
        for split, whole in (("train", data.train), ("eval", data.test)):
            text, slack = mine[f"data.{split}_split"], 0 if data.exact else 0.1
            if "[" not in text and whole and abs(images[split] - whole) > slack * whole:
                lines.append(f"{images[split]} instead of {whole} images in {text}")
    if (corrupt := workdir / "corrupt.txt").exists():
        lines.append(f"{len(corrupt.read_text().splitlines())} images replaced by others")
    return lines


def _source_departures(run: Run, source: str | None, found: Directories) -> list[str]:
    """How the weights that a run began with are not those that it should have begun with."""
    if not (source and run.init_from):
        return [f"init_from={Path(source).name if source else None}"] if source or run.init_from else []
    at_hand = {workdir.name: (workdir, config) for workdir, config in found.items()}
    if (name := Path(source).name) not in at_hand:
        return [f"init_from={name}, which is not at hand"]
    before = flatten(json.loads(run.init_from.load().to_json())) | {"init_layers": list(run.init_from.init_layers)}
    lines = departures(run.init_from, before, *at_hand[name], found)
    return [f"init_from={name}"] if lines is None else [f"{line} in {name}" for line in lines]


def _ensembles(row: Row, records: list[Values], found: Directories) -> list[Values]:
    """One record of the mean probabilities, where all members are there as the paper has them; else none."""
    from deepconv import ensemble, evaluate, metrics  # with JAX

    exact = {(record["run"], record["test"]): record for record in records if not record["departs"]}
    if not all((run.name, test) in exact for run, test in row.pairs()):
        return []
    members = [exact[run.name, test] for run, test in row.pairs()]
    folders = {workdir.name: workdir for workdir in found}
    files = [folders[member["directory"]] / f"probs.{member['test']}.npy" for member in members]
    labels, probs = ensemble.common_labels(files), evaluate.mean(files)
    values = {f"top{k}_error": metrics.top_k_error(probs, labels, k) for k in (1, 5)}
    hours = round(sum(member["hours"] for member in members), 3)
    names = [f"{member['directory']} {member['test']}" for member in members]
    return [
        members[0]
        | {"run": row.label, "directory": "", "test": "ensemble", "values": values, "of": names, "hours": hours}
    ]


def evaluation(workdir: Path, test: str) -> Values | None:
    """Errors of a run's test, in percent."""
    file = workdir / f"eval.{test}.json"
    if not file.exists():
        return None
    record = json.loads(file.read_text())
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


def provenance(workdir: Path) -> Values:
    """Where a run's numbers come from."""
    starts = json.loads((workdir / "environment.json").read_text())
    config = config_lib.read_run(workdir)
    steps, seconds = 0, 0.0
    for record in runlog.read_metrics(workdir):
        if "images_per_second" in record:
            seconds += (record["step"] - steps) * config["batch_size"] / record["images_per_second"]
            steps = record["step"]
    last = starts[-1]
    return {
        "seed": config["seed"],
        "steps": steps,
        "hours": round(seconds / 3600, 3),  # of training, without tests and pauses
        "started": starts[0]["time"],
        "commit": last["commit"],
        "dirty": any(start["dirty"] for start in starts),
        "device": f"{last['devices']} x {last['device_kind']}, CPU cores: {last['cpus']}",
        "versions": last["versions"],
    }


def read(file: Path) -> Values:
    """Results as committed; none where nothing was measured."""
    return json.loads(file.read_text()) if file.exists() else {}


def write(file: Path, results: Mapping[str, Any]) -> None:
    """A record a line, so that what changed can be seen."""
    lines = [f' "title": {json.dumps(results["title"])}']
    for part in ("counted", "rows"):
        if part in results:
            rows = [f"  {json.dumps(label)}: {_lines(content)}" for label, content in results[part].items()]
            lines.append(f' "{part}": {{\n' + ",\n".join(rows) + "\n }" if rows else f' "{part}": {{}}')
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def _lines(content: Any) -> str:
    if not isinstance(content, list):
        return json.dumps(content)
    return "[\n" + ",\n".join(f"   {json.dumps(record)}" for record in content) + "\n  ]"
