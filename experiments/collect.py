"""Collects the results of runs from their directories and assigns them to the rows of tables."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deepconv.config import recipes
from deepconv.run.checkpoint_files import newest
from experiments import command_results, ensembles, entry
from experiments.departures import Expected, departures, flat, has_config, is_current, with_known_sources
from experiments.entry import Row, Run, Table
from experiments.measurements import SOURCES, Measurement, Results, Trained
from experiments.records import assigned_to, evaluation, identity, key, provenance, started, tested, warn

Directories = Mapping[Path, Trained]


def directories(root: Path) -> dict[Path, Trained]:
    """Returns the started runs in a folder, each with its config, its starts and its sources.

    Imported weights are not runs. A warning names each run that cannot be read.
    """
    found, digests = {}, {}
    for file in sorted(root.glob("*/config.json")):
        if file.with_name("environment.json").exists():
            try:
                digests[file.parent] = newest(file.parent / "checkpoints")[1]
                found[file.parent] = provenance(file.parent)
            except (OSError, TypeError, ValueError) as error:  # a damaged file may hold values of any type
                warn(file.parent, error)
    by_name = {workdir.name: (run, digests[workdir]) for workdir, run in found.items()}
    return {workdir: _with_sources(run, by_name) for workdir, run in found.items()}


def _with_sources(run: Trained, by_name: Mapping[str, tuple[Trained, str | None]]) -> Trained:
    """Returns a run with its sources, from {directory: its run and the digest of its newest checkpoint}.

    A run of the right name with other weights than those the run started from is not its source.
    """
    config = run["config"] or {}
    candidates = {name: candidate for name, candidate in by_name.items() if name != run["directory"]}
    found = run.copy()
    for field, part in SOURCES.items():
        if name := config.get(field):
            source, digest = candidates.get(name, (None, None))
            recorded = config.get(recipes.DIGESTS[field])
            if digest and recorded and digest != recorded:
                source = None
            found[part] = _with_sources(source, candidates) if source else {"directory": name}
    return found


def collect(table: Table, found: Directories, before: Results) -> Results:
    """Returns the results of a table, from these directories and from its earlier results.

    Records that no longer belong to a row are kept under "unassigned".
    """
    rows = [row for row in table.rows if table.trained_columns() and not (row.quoted or row.needs)]
    pairs = [pair for row in rows for pair in row.all_pairs()]
    needed = [pair for row in rows for pair in row.needed_pairs()]
    runs = {name: run for name, (run, _) in entry.jobs(needed).items()}
    expected = {name: flat(json.loads(run.load().to_json())) for name, run in runs.items()}
    earlier = _records(before)
    new, probs = _measure(table, pairs, found, expected, earlier)
    earlier_by_key = {key(record): record for record in earlier}
    new = [record for record in new if not _has_lost_steps(record, earlier_by_key.get(key(record)))]
    new += command_results.read(rows, found, earlier_by_key)
    new_configs = {key(record): record["config"] for record in new}
    kept = [
        record
        for record in earlier
        if not (key(record) in new_configs and has_config(record, new_configs[key(record)]))
    ]
    on_disk = {(run["directory"], started(run)): run["config"] for run in found.values()}
    assigned = {}
    for row in rows:
        current = [record for record in [*new, *kept] if is_current(record, on_disk)]
        records = _assign(row, current, expected) + command_results.assign(row, current, expected)
        if row.combine == "ensemble":
            records = ensembles.ensemble(row, records, probs)
            old = [record for record in kept if ensembles.is_ensemble_of(row, record, expected, on_disk, records)]
            renamed: list[Measurement] = [{**record, "run": row.label} for record in old]
            records += renamed
        if records:
            assigned[row.label] = sorted(
                records, key=lambda record: (bool(record["departs"]), record["run"], key(record))
            )
    identities = {identity(record) for records in assigned.values() for record in records}
    unassigned = [record for record in kept if identity(record) not in identities]
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


def _records(results: Results) -> list[Measurement]:
    """Returns all records of a table's results, without duplicates."""
    records = [*(record for row_records in results.get("rows", {}).values() for record in row_records)]
    records += results.get("unassigned", [])
    return [*{(identity(record), record["config"] is None and record["run"]): record for record in records}.values()]


def _measure(
    table: Table,
    pairs: Iterable[tuple[Run, str]],
    found: Directories,
    expected: Expected,
    earlier: Sequence[Measurement],
) -> tuple[list[Measurement], dict[tuple[Any, ...], Path]]:
    """Returns new records of the directories that hold runs of a table, and {key: file of probabilities}."""
    measure, pairs = table.measure or evaluation, [*pairs]
    earlier_by_identity = {identity(record): record for record in earlier}
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
            record = with_known_sources(record, earlier_by_identity.get(identity(record), {}))
            records.append(record)
            probs[key(record)] = workdir / f"probs.{test}.npy"
    return records, probs


def _has_lost_steps(record: Measurement, earlier: Measurement | None) -> bool:
    """Returns whether a directory has fewer steps than its earlier record, as when its metrics were damaged."""
    if earlier is None or earlier["config"] is None:
        return False
    return has_config(earlier, record["config"]) and record["steps"] < earlier["steps"]


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
        assigned.append(assigned_to(record, nearest, departs[nearest] + record.get("unfinished", [])))
    return assigned
