"""Results as text and pictures: a table in the terminal, a page of Markdown, the plots of figures."""

import hashlib
import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from experiments import cells, entries, entry, records
from experiments.entry import WITHHELD, Command, Row, Run, Table
from experiments.measurements import Cell, Environment, Measurement, Results

MEAN = re.compile(r"([\d.]+) ± [\d.]+$")  # matches a mean with its standard deviation
MOST_COLUMNS = 5  # tables with more are transposed
STATES = ("done", "missing", "out of reach", "quoted")


def counts(table: Table, results: Results) -> dict[str, int]:
    """Returns the number of rows in each state."""
    states = [cells.state(table, row, results) for row in table.rows]
    return {state: states.count(state) for state in STATES}


def lines(table: Table, results: Results) -> list[list[str]]:
    """Returns the heading and a line for each row: label, the paper's numbers beside ours, other results.

    A table of many columns is transposed.
    """
    measured = any(row.runs or row.commands for row in table.rows)
    heads = [heading for name in table.columns for heading in ([name, "ours"] if measured else [name])]
    grid = [["", *heads], *(_cells(table, row, results, measured) for row in table.rows)]
    others = [other_results(table, row, results) for row in table.rows]
    if any(others):
        grid = [[*line, text] for line, text in zip(grid, ["other results", *others], strict=True)]
    if not measured:
        needs = ["ours", *(f"needs {row.needs}" if row.needs else "" for row in table.rows)]
        grid = [[*line, text] for line, text in zip(grid, needs, strict=True)]
    return [list(line) for line in zip(*grid, strict=True)] if len(table.columns) > MOST_COLUMNS else grid


def _cells(table: Table, row: Row, results: Results, measured: bool) -> list[str]:
    numbers, line = cells.numbers(table, row, results), [row.label]
    for paper, name in zip(row.paper, table.columns.values(), strict=True):
        line += [text(paper), *([_our_cell(row, name, paper, *numbers.get(name, (None, None)))] if measured else [])]
    return line


def text(cell: Cell) -> str:
    """Formats a number of the paper, without trailing zeros."""
    return "" if cell is None else str(cell)


def _our_cell(row: Row, name: str, paper: Cell, value: Cell, spread: float | None) -> str:
    shown, difference = our_number(row, name, paper, value, spread)
    return f"{shown} ({difference})" if difference else shown


def our_number(row: Row, name: str, paper: Cell, value: Cell, spread: float | None) -> tuple[str, str]:
    """Formats our number with its spread over seeds, or the reason it is missing, and its difference from the paper's.

    The difference is "" if there is none.
    """
    if row.quoted:
        return "", ""
    if row.needs:
        return f"needs {row.needs}", ""
    if name == WITHHELD:
        return "test server", ""
    if value is None or (value == paper and not isinstance(paper, float)):
        return "–" if value is None else "same", ""
    if isinstance(value, str):
        return value, ""
    digits = _digits(value)
    if isinstance(paper, str) and (mean := MEAN.match(paper)):
        paper = float(mean[1])
    difference = f"{value - paper:+{digits}}" if isinstance(paper, float | int) else ""
    images = "".join(f" on {command.images}" for command in row.commands if command.images and name in command.values)
    return f"{value:{digits}}{'' if spread is None else f' ± {spread:.2f}'}{images}", difference


def _digits(value: float) -> str:
    return "d" if isinstance(value, int) else ".2f"


def _shown(value: Cell) -> str:
    if value is None:
        return "–"
    return value if isinstance(value, str) else f"{value:{_digits(value)}}"


def other_results(table: Table, row: Row, results: Results) -> str:
    """Formats the records that do not fill the row: departing runs, some of the row's runs, repeated runs."""
    if row.baseline or row.combine == "ratio":  # one run alone does not give such a row's number
        return ""
    found = []
    for record in results.get("rows", {}).get(row.label, []):
        if record["departs"] or not cells.is_used(row, record, results):
            fields = next((command.values for command in row.commands if command.name == record["run"]), None)
            names = [name if fields is None else fields.get(name, "") for name in table.trained_columns()]
            values = (record["values"].get(name) for name in names)
            shown = " / ".join(map(_shown, values))
            directory = "" if record["directory"] in ("", record["run"]) else f"{record['directory']}, "
            repeated = f"again, {directory}{records.started(record)[:10]}"
            partial = row.runs and cells.row_records(row, results) is None
            reason = [f"one of {len(row.runs)}, seed={record['seed']}" if partial else repeated]
            found.append(f"{shown}: {', '.join(record['departs'] or reason)}")
    return "; ".join(found)


def commands(table: Table, results: Results) -> list[str]:
    """Returns the commands for the missing runs, in the order in which they can run."""
    return _command_lines(table, cells.missing(table, results), cells.missing_commands(table, results))


def row_commands(table: Table, row: Row) -> list[str]:
    """Returns the commands for all runs of a row, in the order in which they can run."""
    return _command_lines(table, row.needed_pairs(), row.commands)


def _command_lines(table: Table, pairs: Sequence[tuple[Run, str]], commands: Iterable[Command]) -> list[str]:
    lines = []
    for run, tests in entry.jobs(pairs).values():
        arguments = [shlex.quote(argument) for argument in run.arguments(tests)]
        lines.append(" ".join(["python -m deepconv.main", *arguments, "--data_dir=DIR"]))
    for run, _ in pairs:
        lines += [f"python -m {run.format_command(line)} --data_dir=DIR" for line in table.extra_commands]
    lines += [f"python -m {shlex.join(command.line())} --data_dir=DIR" for command in commands]
    return list(dict.fromkeys(lines))


def has_picture(name: str, table: Table, results: Results) -> bool:
    """Returns whether an entry has a picture: it has results on the paper's data or digitised curves."""
    return bool(table.draw) and (bool(cells.on_paper_data(results)) or (entries.HERE / f"{name}.csv").exists())


def page(chosen: Mapping[str, Table], results: Mapping[str, Results]) -> str:
    """Returns README.md: every table, the paper's numbers beside ours."""
    page = [
        "# Every table and figure",
        "",
        "Generated by `python -m experiments render` from the entries and from `results/`. Each table has the paper's",
        "numbers and ours, with the standard deviation over seeds or splits (±) and, in brackets, ours minus the",
        "paper's. Only runs without departures from the paper fill these columns; *other results* lists the rest, with",
        "their departures, except in rows of a difference or a ratio of runs. `–` means not measured yet; `python -m",
        "experiments show <entry>` lists what to run.",
    ]
    for name, table in chosen.items():
        found = results[name]
        heading, *rows = lines(table, found)
        page += ["", f"## {name}", "", f"**{table.title}**", "", _line(heading), _line(["---"] * len(heading))]
        page += [_line(row) for row in rows]
        page += ["\n" + re.sub(r"^([*+])", r"\\\1", note) for note in notes(table)]
        page += ["", f"![{table.title}](results/{name}.png)"] if has_picture(name, table, found) else []
        page += _unassigned(found) + _sources(found)
    return "\n".join(page) + "\n"


def notes(table: Table) -> list[str]:
    """Returns the notes of a table and of its rows."""
    row_notes = [f"{row.label}: {row.note}." for row in table.rows if row.note]
    quoted = [row.quoted for row in table.rows if row.quoted]
    notes = [*([table.note] if table.note else []), *([f"Not measured here: {quoted[0]}."] if quoted else [])]
    return [*([" ".join(notes)] if notes else []), *row_notes]


def _unassigned(results: Results) -> list[str]:
    """Lists the records without a row, because the row, the recipe or the run's config has changed."""
    lines = []
    for record in results.get("unassigned", []):
        values = {name: value for name, value in record["values"].items() if isinstance(value, float | int | str)}
        shown = ", ".join(f"{name} {value}" for name, value in values.items())
        lines.append(f"- `{_run(record)}`, test {record['test']}: {shown}")
    return ["", "Results without a row in this table:", "", *lines] if lines else []


def _sources(results: Results) -> list[str]:
    """Lists the provenance of all numbers."""
    records = [record for row_records in results.get("rows", {}).values() for record in row_records]
    lines = provenance([*records, *results.get("unassigned", [])])
    return ["", *(f"- {line}" for line in lines)] if lines else []


def provenance(records: Sequence[Measurement]) -> list[str]:
    """Returns how records were made, one line per run, with the test's environment if it differs."""
    lines = {_measured(record) for record in records if "arguments" in record}
    trainings = [run for record in records for run in record.get("of", [record])]
    for record in trainings:
        trained, tests = record["trained"], ""
        starts = ", then ".join(f"{_environment(start)}, {start['time'][:10]}" for start in trained)
        if tested := record.get("tested"):
            same = all(tested[name] == trained[-1][name] for name in ("commit", "dirty"))
            if not (same and trained[-1]["device"].startswith(tested["device"])):
                tests = f"; {record['test']} tested on {_environment(tested)}"
        lines.add(f"`{_run(record)}`: {record['steps']} steps in {record['hours']:.2f} h on {starts}{tests}")
    return sorted(lines)


def _measured(record: Measurement) -> str:
    """Says where the command of a record has measured which runs."""
    runs = " + ".join(f"{member['directory']} {member['test']}".strip() for member in record["of"])
    where = f" on {_environment(tested)}" if (tested := record["tested"]) else ""
    return f"`{record['directory']}`: {record['test']} of `{runs}`{where}"


def _run(record: Measurement) -> str:
    return record["directory"] or " + ".join(f"{member['directory']} {member['test']}" for member in record["of"])


def _environment(environment: Environment) -> str:
    versions = f", jax {environment['versions']['jax']}" if environment["versions"] else ""
    commit = f"{str(environment['commit'])[:10]}{' (dirty)' if environment['dirty'] else ''}"
    return f"{environment['device']}, commit {commit}{versions}"


def _line(parts: Iterable[str]) -> str:
    return f"| {' | '.join(part.replace('|', '/') for part in parts)} |"


def stamp(table: Table, results: Results, sources: Iterable[Path]) -> str:
    """Returns a digest of a picture's sources: the results, the paper's curves and the drawing code."""
    digest = hashlib.sha256(json.dumps(cells.on_paper_data(results), sort_keys=True).encode())
    for file in sources:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def read_stamp(picture: Path) -> str | None:
    """Returns the stamp stored in a picture; None if the picture does not exist."""
    from PIL import Image

    if not picture.exists():
        return None
    with Image.open(picture) as image:
        return image.info.get("Source")


def draw(table: Table, results: Results, picture: Path, mark: str) -> None:
    """Writes a picture as a PNG file with its stamp."""
    if table.draw is None:
        raise ValueError(f"{table.title}: the table has no function `draw`")
    picture.parent.mkdir(parents=True, exist_ok=True)
    table.draw(cells.on_paper_data(results)).savefig(picture, dpi=110, metadata={"Source": mark, "Software": None})
