"""Runs' directories -> the rows of tables."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import entry
from experiments.entry import DATA, Row, Run, Table, flatten, written
from experiments.measurements import Config, Measurement, Results, Trained
from experiments.records import evaluation, provenance, started, tested, warn

# What a result may have otherwise than the paper's and still be told beside it: how long, how often, on what data,
# from what weights, in what precision. Anything else is another experiment.
MAY_DEPART = ("total_steps", "total_epochs", "seed", "batch_size", "init_from", "init_layers", "train")
MAY_DEPART += (
    "data.name",
    "data.train_split",
    "data.eval_split",
    "data.mean",
    "data.std",
    "data.lighting_until_epochs",
)
MAY_DEPART += ("model.dtype", "model.bn_group", "model.initialization")
TIMES = ("drop_at_steps", "drop_at_epochs", "freeze_at_steps", "freeze_at_epochs")  # of any part of the optimiser
NOT_COMPARED = ("log_every_", "checkpoint_every_", "eval_every_", "data.on_corrupt", "init_sha256")
ENSEMBLE = "ensemble"  # the test of a record of the mean of several runs' probabilities
Directories = Mapping[Path, Trained]  # of runs, with what `directories` says of each
Expected = Mapping[str, Config]  # the flat configs of a table's runs, by their names


def directories(root: Path) -> dict[Path, Trained]:
    """The runs below a folder that have begun, with their configs and starts, and those of the runs they begin with.

    Imported weights are not among them. A run that cannot be read is named and left out.
    """
    found = {}
    for file in sorted(root.glob("*/config.json")):
        if file.with_name("environment.json").exists():
            try:
                found[file.parent] = provenance(file.parent)
            except OSError as error:
                warn(file.parent, error)
    by_name = {workdir.name: run for workdir, run in found.items()}
    return {workdir: _with_source(run, by_name) for workdir, run in found.items()}


def _with_source(run: Trained, by_name: Mapping[str, Trained]) -> Trained:
    name = (run["config"] or {}).get("init_from")
    if not name:
        return run
    others = {key: other for key, other in by_name.items() if key != run["directory"]}
    return {**run, "init": _with_source(others[name], others) if name in others else {"directory": name}}


def collect(table: Table, found: Directories, before: Results) -> Results:
    """The results of a table: those of these directories, and all that were collected before.

    Records that belong to no row any more are kept under "unassigned".
    """
    rows = [row for row in table.rows if table.trained() and not (row.quoted or row.needs)]
    pairs = [pair for row in rows for pair in row.everything()]
    runs = {name: run for name, (run, _) in entry.jobs(pairs).items()}
    expected = {name: _flat(json.loads(run.load().to_json())) for name, run in runs.items()}
    known = _records(before)
    fresh, probs = _measure(table, pairs, found, expected, known)
    longest = {_key(record): record for record in known}
    fresh = [record for record in fresh if not _is_shorter(record, longest.get(_key(record)))]
    now = {_key(record): record["config"] for record in fresh}
    old = [record for record in known if not (_key(record) in now and _is_of(record, now[_key(record)]))]
    here = {(run["directory"], started(run)): run["config"] for run in found.values()}
    placed = {}
    for row in rows:
        records = _place(row, [record for record in [*fresh, *old] if _is_true(record, here)], expected)
        if row.combine == "ensemble":
            records = _ensemble(row, records, probs)
            kept = [record for record in old if _is_ensemble(row, record, expected, here, records)]
            renamed: list[Measurement] = [{**record, "run": row.label} for record in kept]
            records += renamed
        if records:
            placed[row.label] = sorted(
                records, key=lambda record: (bool(record["departs"]), record["run"], _key(record))
            )
    belong = {_identity(record) for records in placed.values() for record in records}
    unassigned = [record for record in old if _identity(record) not in belong]
    counted = {
        row.label: {name: count(row.runs[0]) for name, count in table.counts.items()} for row in table.rows if row.runs
    }
    results = Results(title=table.title)
    if table.counts:
        results["counted"] = counted
    results["rows"] = placed
    if unassigned:
        results["unassigned"] = unassigned
    return results


def _key(record: Measurement) -> tuple[Any, ...]:
    return record["directory"], record["test"], started(record), tuple(map(_key, record.get("of", ())))


def _identity(record: Measurement) -> tuple[Any, ...]:
    return _key(record), json.dumps(record["config"], sort_keys=True)


def _records(results: Results) -> list[Measurement]:
    """All records of a table's results, each once."""
    records = [*(record for of_row in results.get("rows", {}).values() for record in of_row)]
    records += results.get("unassigned", [])
    return [*{(_identity(record), record["config"] is None and record["run"]): record for record in records}.values()]


def _measure(
    table: Table,
    pairs: Iterable[tuple[Run, str]],
    found: Directories,
    expected: Expected,
    before: Sequence[Measurement],
) -> tuple[list[Measurement], dict[tuple[Any, ...], Path]]:
    """New records of the directories whose runs a table has, and the files with their probabilities by their keys."""
    measure, pairs = table.measure or evaluation, [*pairs]
    known = {_identity(record): record for record in before}
    records, probs = [], {}
    for workdir, run in found.items():
        wanted = dict.fromkeys(test for of, test in pairs if departures(of, run, expected) is not None)
        for test in wanted:
            try:
                if (values := measure(workdir, test)) is None:
                    continue
                unfinished, where = values.pop("departs", []), values.pop("tested", None) or tested(workdir, test)
            except (OSError, ValueError) as error:
                warn(workdir, error)
                continue
            record: Measurement = {"directory": workdir.name, "test": test, "values": values, **run}
            record["unfinished"], record["tested"] = unfinished, where
            if "init" in run and not _is_complete(run["init"]) and _identity(record) in known:
                record["init"] = known[_identity(record)]["init"]  # the source was there when it was collected before
            records.append(record)
            probs[_key(record)] = workdir / f"probs.{test}.npy"
    return records, probs


def _is_complete(source: Trained) -> bool:
    return "config" in source and ("init" not in source or _is_complete(source["init"]))


def _is_true(record: Measurement, here: Mapping[tuple[str, str], Config | None]) -> bool:
    """Whether the run's directory, where it is there, still has the record's config."""
    return _is_of(record, here.get((record["directory"], started(record)), record["config"]))


def _is_shorter(record: Measurement, known: Measurement | None) -> bool:
    """Whether a directory has lost steps since its record was collected, as when its metrics were damaged."""
    if known is None or known["config"] is None:
        return False
    return _is_of(known, record["config"]) and record["steps"] < known["steps"]


def _is_of(record: Measurement, config: Config | None) -> bool:
    """Whether a record is of a run with this config; not known of one from before records had configs."""
    return record["config"] is None or config is None or _compared(record["config"]) == _compared(config)


def _compared(config: Config) -> Config:
    """The fields of a config that say what its run was, and the numbers of images."""
    fields = {name: value for name, value in _flat(config).items() if not name.startswith(NOT_COMPARED)}
    return fields | {name: fields[name].split(",")[0] for name in ("train_data", "eval_data") if name in fields}


def _place(row: Row, records: Iterable[Measurement], expected: Expected) -> list[Measurement]:
    """The records that belong to a row, each with the run of the row that it is nearest to."""
    runs, pairs, placed = {run.name: run for run, _ in row.everything()}, row.everything(), []
    for record in records:
        if "of" in record:
            continue
        all_departs = {name: departures(run, record, expected) for name, run in runs.items()}
        departs = {name: lines for name, lines in all_departs.items() if lines is not None}
        # a run of another seed that the row has, too, is no departure from the first one
        nearest = min(departs, key=lambda name: len(departs[name]), default="")
        if (nearest, record["test"]) not in [(run.name, test) for run, test in pairs]:
            continue
        told: Measurement = {"run": nearest, "directory": record["directory"], "test": record["test"]}
        told["departs"] = departs[nearest] + record.get("unfinished", [])
        placed.append({**told, **record, **told})
    return placed


def departures(run: Run, told: Trained, expected: Expected) -> list[str] | None:
    """What a record's run, or a directory's, did otherwise than this one; None where it is another experiment."""
    if told["config"] is None:  # of a record from before records had configs
        return told["departs"] if told["run"] == run.name else None
    mine, wanted = _flat(told["config"]), expected[run.name] | {"init_layers": list(run.init_layers)}
    images = {split: int(mine.pop(f"{split}_data", "0").split(" ")[0]) for split in ("train", "eval")}
    mine.pop("init_from", None)
    if wanted.get("data.central_square"):  # packed, the squares that such a net sees are the same
        mine["data.name"] = mine["data.name"].removesuffix("-256-uint8")
    differ = [name for name in sorted({*wanted, *mine}) if wanted.get(name) != mine.get(name)]
    differ = [name for name in differ if not name.startswith(NOT_COMPARED)]
    if any(name not in MAY_DEPART and name.split(".")[-1] not in TIMES for name in differ):
        return None
    lines = [f"{name.removeprefix('data.').removeprefix('optimizer.')}={written(mine.get(name))}" for name in differ]
    lines += _source_departures(run, told.get("init"), expected)
    if data := DATA.get(mine["data.name"]):
        for split, whole in (("train", data.train), ("eval", data.test)):
            text, slack = mine[f"data.{split}_split"], 0 if data.exact else 0.1
            if "[" not in text and whole and abs(images[split] - whole) > slack * whole:
                lines.append(f"{images[split]} instead of {whole} images in {text}")
    if told["replaced"]:
        lines.append(f"{told['replaced']} images replaced by others")
    return lines


def _source_departures(run: Run, source: Trained | None, expected: Expected) -> list[str]:
    """How the weights that a run began with are not those that it should have begun with."""
    if not (source and run.init_from):
        return [f"init_from={source['directory'] if source else None}"] if source or run.init_from else []
    name = source["directory"]
    if "config" not in source:
        return [f"init_from={name}, which is not at hand"]
    lines = departures(run.init_from, source, expected)
    if lines is None:
        return [f"init_from={name}"]
    unfinished = [] if source["finished"] else [f"training was not finished (step {source['steps']})"]
    return [f"{line} in {name}" for line in lines + unfinished]


def _flat(config: Config) -> Config:
    return {"init_layers": []} | flatten(config)


def _ensemble(row: Row, records: Sequence[Measurement], probs: Mapping[tuple[Any, ...], Path]) -> list[Measurement]:
    """A record of the mean probabilities, where all members are there as the paper has them; else none."""
    exact = entry.by_run([record for record in records if not record["departs"] and _key(record) in probs])
    if not all((run.name, test) in exact for run, test in row.pairs()):
        return []
    from deepconv.evaluation import ensemble, probabilities  # with JAX

    members = [exact[run.name, test] for run, test in row.pairs()]
    files = [probs[_key(member)] for member in members]
    try:
        labels, mean = ensemble.common_labels(files), probabilities.mean(files)
    except (OSError, ValueError) as error:
        warn(Path(row.label), error)
        return []
    values = {f"top{k}_error": probabilities.top_k_error(mean, labels, k) for k in (1, 5)}
    of = [member.copy() for member in members]
    for member in of:
        del member["values"]
    return [
        {
            "run": row.label,
            "directory": "",
            "test": ENSEMBLE,
            "departs": [],
            "values": values,
            "config": None,
            "seed": members[0]["seed"],
            "steps": members[0]["steps"],
            "trained": members[0]["trained"],
            "tested": members[0]["tested"],
            "hours": round(sum(member["hours"] for member in members), 3),
            "of": of,
        }
    ]


def _is_ensemble(
    row: Row,
    record: Measurement,
    expected: Expected,
    here: Mapping[tuple[str, str], Config | None],
    newer: Sequence[Measurement],
) -> bool:
    """Whether a record collected before is of this row's members, as they are now, and no newer one is of the same."""
    members, pairs = record.get("of", []), row.pairs()
    return (
        len(members) == len(pairs)
        and not any(_key(record) == _key(other) for other in newer)
        and all(
            member["test"] == test and _is_true(member, here) and departures(run, member, expected) == []
            for member, (run, test) in zip(members, pairs, strict=True)
        )
    )
