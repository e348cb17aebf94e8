"""What runs have given: read their directories, tell what they did otherwise than the papers, keep it as JSON."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepconv import runlog
from deepconv.tables import DATA, Row, Run, Table, Values, flatten, written

# What a result may have otherwise than the paper's and still be told beside it: how long, how often, on what data,
# from what weights, in what precision. Anything else is another experiment.
MAY_DEPART = ("total_", "optimizer.drop_at_", "seed", "batch_size", "data.name", "data.train_split", "data.eval_split")
MAY_DEPART += ("data.mean", "data.lighting_until_", "model.dtype", "model.bn_group", "model.initialization")
MAY_DEPART += ("init_", "train")
NOT_COMPARED = ("log_every_", "checkpoint_every_", "eval_every_", "data.on_corrupt", "init_sha256")


def collect(table: Table, directories: Mapping[Path, Values], before: Values) -> Values:
    """The results of a table: of the directories ({path: config.json}), and those of before that are not in them."""
    rows = {}
    for row in table.rows:
        records = _of_row(table, row, directories) if table.trained() and not (row.quoted or row.needs) else []
        known = {_key(record) for record in records}
        kept = [record for record in before.get("rows", {}).get(row.label, []) if _key(record) not in known]
        if records or kept:
            rows[row.label] = sorted([*records, *kept], key=lambda record: (bool(record["departs"]), _key(record)))
    counted = {
        row.label: {name: count(row.runs[0]) for name, count in table.counts.items()} for row in table.rows if row.runs
    }
    return {"title": table.title} | ({"counted": counted} if table.counts else {}) | {"rows": rows}


def _key(record: Values) -> tuple[str, str, str]:
    return record["run"], record["directory"], record["test"]


def _of_row(table: Table, row: Row, directories: Mapping[Path, Values]) -> list[Values]:
    measure = table.measure or evaluation
    departs = {run.name: _departures(run, directories) for run, _ in row.everything()}
    records = []
    for workdir in directories:
        # a run of another seed that the row has, too, is no departure from the first one
        nearest = min(
            (run.name for run, _ in row.everything() if workdir in departs[run.name]),
            default=None,
            key=lambda name: len(departs[name][workdir]),
        )
        for run, test in row.everything():
            if run.name != nearest or (values := measure(workdir, test)) is None:
                continue
            extra = values.pop("departs", [])
            records.append(
                {
                    "run": run.name,
                    "directory": workdir.name,
                    "test": test,
                    "departs": departs[run.name][workdir] + extra,
                }
                | {"values": values}
                | provenance(workdir)
            )
    return _ensembles(row, records, directories) if row.combine == "ensemble" else records


def _departures(run: Run, directories: Mapping[Path, Values]) -> dict[Path, list[str]]:
    """What each directory's run did otherwise than this one; other experiments are not in it."""
    expected = expected_config(run)
    found = {workdir: departures(expected, config) for workdir, config in directories.items()}
    return {workdir: lines for workdir, lines in found.items() if lines is not None}


def expected_config(run: Run) -> Values:
    """config.json of a run, flat."""
    config = flatten(json.loads(run.load().to_json()))
    if run.init_from:
        config |= {"init_from": run.init_from.name, "init_layers": list(run.init_layers)}
    return config


def departures(expected: Values, config: Values) -> list[str] | None:
    """What a run, by its config.json, did otherwise than expected; None where it is another experiment."""
    found = flatten(config)
    examples = {split: int(found.pop(f"{split}_data", "0").split(" ")[0]) for split in ("train", "eval")}
    if "init_from" in found:
        found["init_from"] = Path(found["init_from"]).name
    differ = [name for name in sorted({*expected, *found}) if expected.get(name) != found.get(name)]
    differ = [name for name in differ if not name.startswith(NOT_COMPARED)]
    if any(not name.startswith(MAY_DEPART) for name in differ):
        return None
    lines = [f"{name.removeprefix('data.').removeprefix('optimizer.')}={written(found.get(name))}" for name in differ]
    if (data := DATA.get(found["data.name"])) and data.exact:
        for split, whole in (("train", data.train), ("eval", data.test)):
            if "[" not in found[f"data.{split}_split"] and examples[split] not in (0, whole):
                lines.append(f"{examples[split]} instead of {whole} images in {found[f'data.{split}_split']}")
    return lines


def _ensembles(row: Row, records: list[Values], directories: Mapping[Path, Values]) -> list[Values]:
    """One record of the mean probabilities, where all members are there as the paper has them; else none."""
    from deepconv import ensemble, evaluate, metrics  # with JAX

    exact = {(record["run"], record["test"]): record for record in records if not record["departs"]}
    if not all((run.name, test) in exact for run, test in row.pairs()):
        return []
    members = [exact[run.name, test] for run, test in row.pairs()]
    folders = {workdir.name: workdir for workdir in directories}
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
    config = json.loads((workdir / "config.json").read_text())
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
        "device": f"{last['devices']} x {last['device_kind']}, {last['cpus']} cores",
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


def directories(root: Path) -> dict[Path, Values]:
    """Of all runs below a directory, with their config.json."""
    files = sorted(root.glob("*/config.json"))
    return {file.parent: json.loads(file.read_text()) for file in files}
