"""The cells of tables: the records that fill them, our numbers, and what is missing. Without JAX."""

import math
from collections.abc import Iterable

from experiments.entry import OTHER_DATA, Command, Row, Run, Table
from experiments.measurements import Cell, Measurement, Results


def missing(table: Table, results: Results) -> list[tuple[Run, str]]:
    """Returns the runs and tests that are needed for missing results.

    For an ensemble and for a command these are all that it reads.
    """
    pairs = []
    for row in _missing_rows(table, results):
        done = {(record["run"], record["test"]) for record in exact_records(row, results)}
        pairs += [(run, test) for run, test in row.all_pairs() if (run.name, test) not in done]
    return pairs + [pair for command in missing_commands(table, results) for pair in command.pairs()]


def missing_commands(table: Table, results: Results) -> list[Command]:
    """Returns the commands without results."""
    commands = []
    for row in _missing_rows(table, results):
        done = {(record["run"], record["test"]) for record in exact_records(row, results)}
        commands += [command for command in row.commands if (command.name, command.test) not in done]
    return commands


def _missing_rows(table: Table, results: Results) -> list[Row]:
    rows = [row for row in table.rows if not (row.quoted or row.needs)] if table.trained_columns() else []
    return [row for row in rows if row_records(row, results) is None]


def state(table: Table, row: Row, results: Results) -> str:
    """Returns "done", "missing", "out of reach" or "quoted"."""
    if row.quoted or row.needs:
        return "quoted" if row.quoted else "out of reach"
    counted = not table.counts or row.label in results.get("counted", {})
    trained = not table.trained_columns() or row_records(row, results) is not None
    return "done" if counted and trained else "missing"


def exact_records(row: Row, results: Results) -> list[Measurement]:
    """Returns the records without departures from the paper."""
    return [record for record in results.get("rows", {}).get(row.label, []) if not record["departs"]]


def row_records(row: Row, results: Results) -> list[Measurement] | None:
    """Returns the exact records that fill a row: one per run or command, or an ensemble's; None if one is missing."""
    records = by_run(exact_records(row, results))
    if row.combine == "ensemble":
        return [*records.values()] or None
    wanted = row.measurements()
    return [records[pair] for pair in wanted] if wanted and records.keys() >= {*wanted} else None


def command_records(row: Row, results: Results) -> list[tuple[Command, Measurement]]:
    """Returns the commands of a row that have an exact record, with the record."""
    records = by_run(exact_records(row, results))
    pairs = [(command, records.get((command.name, command.test))) for command in row.commands]
    return [(command, record) for command, record in pairs if record is not None]


def is_used(row: Row, record: Measurement, results: Results) -> bool:
    """Returns whether a record fills a cell."""
    used = [found for _, found in command_records(row, results)] if row.commands else row_records(row, results)
    return record in (used or ())


def by_run(records: Iterable[Measurement]) -> dict[tuple[str, str], Measurement]:
    """Returns one record per run and test, preferring the directory with the run's name, then the newest."""
    ordered = sorted(records, key=lambda record: (record["directory"] == record["run"], record["trained"][0]["time"]))
    return {(record["run"], record["test"]): record for record in ordered}


def on_paper_data(results: Results) -> Results:
    """Returns the rows with the records of runs on the paper's images; figures draw only these."""
    rows = {
        label: [record for record in records if not any(map(OTHER_DATA.match, record["departs"]))]
        for label, records in results.get("rows", {}).items()
    }
    return {"rows": {label: records for label, records in rows.items() if records}} if any(rows.values()) else {}


def numbers(table: Table, row: Row, results: Results) -> dict[str, tuple[Cell, float | None]]:
    """Returns {column: (our number, its standard deviation over seeds or splits, or None)}.

    Columns that are measured by runs need every run; those of a command need this command only.
    """
    cells: dict[str, tuple[Cell, float | None]] = {}
    for name, counted in results.get("counted", {}).get(row.label, {}).items():
        cells[name] = (counted, None)
    for command, record in command_records(row, results):
        for column, name in command.values.items():
            cells[column] = record["values"].get(name), record["values"].get(f"{name}_std")
    records = row_records(row, results) if row.runs and table.trained_columns() else None
    for name in table.trained_columns() if records else ():
        found: list[Cell] = [record["values"].get(name) for record in records or ()]
        if row.combine == "ratio":
            found = [_ratio(*found)]
        values = [value for value in found if isinstance(value, float | int)]
        if len(values) < len(found):
            cells[name] = (found[0] if len(found) == 1 else None, None)
            continue
        if row.baseline:
            *values, base = values
            values = [value - base for value in values]
        mean = sum(values) / len(values) if len(values) > 1 else values[0]
        many = len(values) > 1 and row.combine == "mean"
        spread = (sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5 if many else None
        cells[name] = (min(values) if row.combine == "best" else mean, spread)
    return cells


def _ratio(numerator: Cell, denominator: Cell) -> Cell:
    """Returns the ratio, "more than 8.0" for "more than 40" and 5, or None if it is unknown."""
    if not isinstance(denominator, float | int) or numerator is None:
        return None
    if isinstance(numerator, str):
        words, limit = numerator.rsplit(" ", 1)
        return f"{words} {math.floor(10 * float(limit) / denominator) / 10}"  # rounded down, to remain true
    return numerator / denominator
