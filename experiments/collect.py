"""Collects the results of runs from their directories and assigns them to the rows of tables."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import entry
from experiments.entry import DATA, Row, Run, Table, flag_value, flatten
from experiments.measurements import Config, Measurement, Results, Trained
from experiments.records import evaluation, provenance, started, tested, warn

# Fields in which a run may depart from the paper's and still appear in its row: length, seed, batch, data, starting
# weights, precision. A run that differs in any other field is another experiment.
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
SCHEDULE_FIELDS = ("drop_at_steps", "drop_at_epochs", "freeze_at_steps", "freeze_at_epochs")  # at any depth
NOT_COMPARED = ("log_every_", "checkpoint_every_", "eval_every_", "data.on_corrupt", "init_sha256")
ENSEMBLE = "ensemble"  # the `test` of an ensemble's record
Directories = Mapping[Path, Trained]
Expected = Mapping[str, Config]  # flat configs of a table's runs, by run name


def directories(root: Path) -> dict[Path, Trained]:
    """Returns the started runs in a folder, each with its config, its starts and its source of weights.

    Imported weights are not runs. A warning names each run that cannot be read.
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
    candidates = {key: candidate for key, candidate in by_name.items() if key != run["directory"]}
    source: Trained = _with_source(candidates[name], candidates) if name in candidates else {"directory": name}
    return {**run, "init": source}


def collect(table: Table, found: Directories, before: Results) -> Results:
    """Returns the results of a table, from these directories and from its earlier results.

    Records that no longer belong to a row are kept under "unassigned".
    """
    rows = [row for row in table.rows if table.trained() and not (row.quoted or row.needs)]
    pairs = [pair for row in rows for pair in row.all_pairs()]
    runs = {name: run for name, (run, _) in entry.jobs(pairs).items()}
    expected = {name: _flat(json.loads(run.load().to_json())) for name, run in runs.items()}
    earlier = _records(before)
    new, probs = _measure(table, pairs, found, expected, earlier)
    earlier_by_key = {_key(record): record for record in earlier}
    new = [record for record in new if not _has_lost_steps(record, earlier_by_key.get(_key(record)))]
    new_configs = {_key(record): record["config"] for record in new}
    kept = [
        record
        for record in earlier
        if not (_key(record) in new_configs and _has_config(record, new_configs[_key(record)]))
    ]
    on_disk = {(run["directory"], started(run)): run["config"] for run in found.values()}
    assigned = {}
    for row in rows:
        records = _assign(row, [record for record in [*new, *kept] if _is_current(record, on_disk)], expected)
        if row.combine == "ensemble":
            records = _ensemble(row, records, probs)
            ensembles = [record for record in kept if _is_ensemble_of(row, record, expected, on_disk, records)]
            renamed: list[Measurement] = [{**record, "run": row.label} for record in ensembles]
            records += renamed
        if records:
            assigned[row.label] = sorted(
                records, key=lambda record: (bool(record["departs"]), record["run"], _key(record))
            )
    identities = {_identity(record) for records in assigned.values() for record in records}
    unassigned = [record for record in kept if _identity(record) not in identities]
    counted = {
        row.label: {name: count(row.runs[0]) for name, count in table.counts.items()} for row in table.rows if row.runs
    }
    results = Results(title=table.title)
    if table.counts:
        results["counted"] = counted
    results["rows"] = assigned
    if unassigned:
        results["unassigned"] = unassigned
    return results


def _key(record: Measurement) -> tuple[Any, ...]:
    return record["directory"], record["test"], started(record), tuple(map(_key, record.get("of", ())))


def _identity(record: Measurement) -> tuple[Any, ...]:
    return _key(record), json.dumps(record["config"], sort_keys=True)


def _records(results: Results) -> list[Measurement]:
    """Returns all records of a table's results, without duplicates."""
    records = [*(record for row_records in results.get("rows", {}).values() for record in row_records)]
    records += results.get("unassigned", [])
    return [*{(_identity(record), record["config"] is None and record["run"]): record for record in records}.values()]


def _measure(
    table: Table,
    pairs: Iterable[tuple[Run, str]],
    found: Directories,
    expected: Expected,
    earlier: Sequence[Measurement],
) -> tuple[list[Measurement], dict[tuple[Any, ...], Path]]:
    """Returns new records of the directories that hold runs of a table, and {key: file of probabilities}."""
    measure, pairs = table.measure or evaluation, [*pairs]
    earlier_by_identity = {_identity(record): record for record in earlier}
    records, probs = [], {}
    for workdir, run in found.items():
        tests = dict.fromkeys(test for row_run, test in pairs if departures(row_run, run, expected) is not None)
        for test in tests:
            try:
                if (values := measure(workdir, test)) is None:
                    continue
                unfinished = values.pop("departs", [])
                environment = values.pop("tested", None) or tested(workdir, test)
            except (OSError, ValueError) as error:
                warn(workdir, error)
                continue
            record: Measurement = {"directory": workdir.name, "test": test, "values": values, **run}
            record["unfinished"], record["tested"] = unfinished, environment
            if "init" in run and not _is_complete(run["init"]) and _identity(record) in earlier_by_identity:
                record["init"] = earlier_by_identity[_identity(record)]["init"]  # the source's directory is gone
            records.append(record)
            probs[_key(record)] = workdir / f"probs.{test}.npy"
    return records, probs


def _is_complete(source: Trained) -> bool:
    return "config" in source and ("init" not in source or _is_complete(source["init"]))


def _is_current(record: Measurement, on_disk: Mapping[tuple[str, str], Config | None]) -> bool:
    """Returns whether the run's directory, if it exists, still has the record's config."""
    return _has_config(record, on_disk.get((record["directory"], started(record)), record["config"]))


def _has_lost_steps(record: Measurement, earlier: Measurement | None) -> bool:
    """Returns whether a directory has fewer steps than its earlier record, as when its metrics were damaged."""
    if earlier is None or earlier["config"] is None:
        return False
    return _has_config(earlier, record["config"]) and record["steps"] < earlier["steps"]


def _has_config(record: Measurement, config: Config | None) -> bool:
    """Returns whether a record's run has this config; True for records of an earlier version, without configs."""
    return record["config"] is None or config is None or _compared(record["config"]) == _compared(config)


def _compared(config: Config) -> Config:
    """Returns the fields that identify a run, and the numbers of images."""
    fields = {name: value for name, value in _flat(config).items() if not name.startswith(NOT_COMPARED)}
    return fields | {name: fields[name].split(",")[0] for name in ("train_data", "eval_data") if name in fields}


def _assign(row: Row, records: Iterable[Measurement], expected: Expected) -> list[Measurement]:
    """Returns the records that belong to a row, each assigned to the run it departs from least."""
    runs, pairs, assigned = {run.name: run for run, _ in row.all_pairs()}, row.all_pairs(), []
    for record in records:
        if "of" in record:
            continue
        all_departs = {name: departures(run, record, expected) for name, run in runs.items()}
        departs = {name: lines for name, lines in all_departs.items() if lines is not None}
        # In a row of several seeds, each record is compared with the run of its own seed.
        nearest = min(departs, key=lambda name: len(departs[name]), default="")
        if (nearest, record["test"]) not in [(run.name, test) for run, test in pairs]:
            continue
        assignment: Measurement = {"run": nearest, "directory": record["directory"], "test": record["test"]}
        assignment["departs"] = departs[nearest] + record.get("unfinished", [])
        assigned.append({**assignment, **record, **assignment})
    return assigned


def departures(run: Run, trained: Trained, expected: Expected) -> list[str] | None:
    """Returns a trained run's departures from this run; None if it is another experiment."""
    if trained["config"] is None:  # a record of an earlier version, without a config
        return trained["departs"] if trained["run"] == run.name else None
    actual, wanted = _flat(trained["config"]), expected[run.name] | {"init_layers": list(run.init_layers)}
    images = {split: int(actual.pop(f"{split}_data", "0").split(" ")[0]) for split in ("train", "eval")}
    actual.pop("init_from", None)
    if wanted.get("data.central_square"):  # packed images are the same central squares
        actual["data.name"] = actual["data.name"].removesuffix("-256-uint8")
    differ = [name for name in sorted({*wanted, *actual}) if wanted.get(name) != actual.get(name)]
    differ = [name for name in differ if not name.startswith(NOT_COMPARED)]
    if any(name not in MAY_DEPART and name.split(".")[-1] not in SCHEDULE_FIELDS for name in differ):
        return None
    lines = [
        f"{name.removeprefix('data.').removeprefix('optimizer.')}={flag_value(actual.get(name))}" for name in differ
    ]
    lines += _source_departures(run, trained.get("init"), expected)
    if data := DATA.get(actual["data.name"]):
        for split, size in (("train", data.train), ("eval", data.test)):
            split_name, tolerance = actual[f"data.{split}_split"], 0 if data.exact else 0.1
            if "[" not in split_name and size and abs(images[split] - size) > tolerance * size:
                lines.append(f"{images[split]} instead of {size} images in {split_name}")
    if trained["replaced"]:
        lines.append(f"{trained['replaced']} damaged images replaced")
    return lines


def _source_departures(run: Run, source: Trained | None, expected: Expected) -> list[str]:
    """Returns the departures of the weights that a run started from."""
    if not (source and run.init_from):
        return [f"init_from={source['directory'] if source else None}"] if source or run.init_from else []
    name = source["directory"]
    if "config" not in source:
        return [f"init_from={name}, whose directory is missing"]
    lines = departures(run.init_from, source, expected)
    if lines is None:
        return [f"init_from={name}"]
    unfinished = [] if source["finished"] else [f"training was not finished (step {source['steps']})"]
    return [f"{line} in {name}" for line in lines + unfinished]


def _flat(config: Config) -> Config:
    return {"init_layers": []} | flatten(config)


def _ensemble(row: Row, records: Sequence[Measurement], probs: Mapping[tuple[Any, ...], Path]) -> list[Measurement]:
    """Returns a record of the mean probabilities, or no record if a member is missing or departs from the paper."""
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
    member_records = [member.copy() for member in members]
    for member in member_records:
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
            "of": member_records,
        }
    ]


def _is_ensemble_of(
    row: Row,
    record: Measurement,
    expected: Expected,
    on_disk: Mapping[tuple[str, str], Config | None],
    newer: Sequence[Measurement],
) -> bool:
    """Returns whether a record averages exactly the current tests of this row, and no newer record has its place."""
    members, pairs = record.get("of", []), row.pairs()
    return (
        len(members) == len(pairs)
        and not any(_key(record) == _key(other) for other in newer)
        and all(
            member["test"] == test and _is_current(member, on_disk) and departures(run, member, expected) == []
            for member, (run, test) in zip(members, pairs, strict=True)
        )
    )
