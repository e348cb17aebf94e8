"""What has been measured, as text: a table in the terminal, a page of Markdown, the pictures of figures."""

import hashlib
import json
import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

from experiments import entries, entry, records
from experiments.entry import WITHHELD, Row, Table
from experiments.measurements import Cell, Environment, Measurement, Results

STATES = ("done", "missing", "out of reach", "quoted")


def counts(table: Table, results: Results) -> dict[str, int]:
    """How many rows are in each state."""
    states = [entry.state(table, row, results) for row in table.rows]
    return {state: states.count(state) for state in STATES}


def lines(table: Table, results: Results) -> list[list[str]]:
    """The heading and a line for each row: label, the paper's numbers with ours beside them, what else was measured.

    A table of many columns is turned, so that a row of the paper's is a column.
    """
    measured = any(row.runs for row in table.rows)
    heads = [heading for name in table.columns for heading in ([name, "ours"] if measured else [name])]
    whole = [["", *heads], *(_cells(table, row, results, measured) for row in table.rows)]
    if others := [_departing(table, row, results) for row in table.rows]:
        last = ["otherwise than in the paper", *others]
        whole = [[*line, text] for line, text in zip(whole, last, strict=True)] if any(others) else whole
    if not measured:
        needs = ["ours", *(f"needs {row.needs}" if row.needs else "" for row in table.rows)]
        whole = [[*line, text] for line, text in zip(whole, needs, strict=True)]
    return [list(line) for line in zip(*whole, strict=True)] if len(table.columns) > 5 else whole


def _cells(table: Table, row: Row, results: Results, measured: bool) -> list[str]:
    mine, line = entry.numbers(table, row, results), [row.label]
    for paper, name in zip(row.paper, table.columns.values(), strict=True):
        line += [text(paper), *([_ours(row, name, paper, *mine.get(name, (None, None)))] if measured else [])]
    return line


def text(cell: Cell) -> str:
    """What the paper has, less zeros at the end."""
    return "" if cell is None else str(cell)


def _ours(row: Row, name: str, paper: Cell, value: Cell, spread: float | None) -> str:
    """Our number, its spread over seeds, and by how much it is above the paper's; else why there is none."""
    if row.quoted:
        return ""
    if row.needs:
        return f"needs {row.needs}"
    if name == WITHHELD:
        return "test server"
    if value is None or (value == paper and not isinstance(paper, float)):
        return "–" if value is None else "same"
    if isinstance(value, str):
        return value
    digits = "d" if isinstance(value, int) else ".2f"
    difference = f" ({value - paper:+{digits}})" if isinstance(paper, float | int) else ""
    return f"{value:{digits}}{'' if spread is None else f' ± {spread:.2f}'}{difference}"


def _departing(table: Table, row: Row, results: Results) -> str:
    """Numbers of runs that did something otherwise, of some of a row's runs, and of runs that were made again."""
    if row.less or row.combine == "ratio":  # a run's own numbers are none of the row's
        return ""
    used, found = entry.ours(row, results), []
    for record in results.get("rows", {}).get(row.label, []):
        if record["departs"] or used is None or record not in used:
            values = (record["values"].get(name) for name in table.trained())
            shown = " / ".join(f"{value:.2f}" if isinstance(value, float | int) else "–" for value in values)
            where = "" if record["directory"] == record["run"] else f"{record['directory']}, "
            again = f"again, {where}{records.started(record)[:10]}"
            more = [f"one of {len(row.runs)}, seed={record['seed']}" if used is None else again]
            found.append(f"{shown}: {', '.join(record['departs'] or more)}")
    return "; ".join(found)


def commands(table: Table, results: Results) -> list[str]:
    """Of the runs that are missing, in an order in which they can be given."""
    missing, told = entry.missing(table, results), []
    for run, tests in entry.jobs(missing).values():
        arguments = [shlex.quote(argument) for argument in run.arguments(tests)]
        told.append(" ".join(["python -m deepconv.main", *arguments, "--data_dir=DIR"]))
    told += [f"python -m {run.after(line)} --data_dir=DIR" for run, _ in missing for line in table.after]
    return list(dict.fromkeys(told))


def pictured(name: str, table: Table, results: Results) -> bool:
    """Whether there is a picture: of what was measured on the paper's data, or of the paper's curves at least."""
    return bool(table.draw) and (bool(entry.on_paper_data(results)) or (entries.HERE / f"{name}.csv").exists())


def page(chosen: Mapping[str, Table], results: Mapping[str, Results]) -> str:
    """README.md: every table, the paper's numbers beside ours."""
    page = [
        "# Every table and figure",
        "",
        "Written by `python -m experiments render` from the entries and from `results/`; not by hand. In each table:",
        "what the paper has, then ours, with the spread over seeds (±) and, in brackets, how far it is above the",
        "paper's. Only what was done as in the paper stands there; the last column has what was done otherwise, and",
        "how. `–`: not measured yet; `python -m experiments show <entry>` has the commands.",
    ]
    for name, table in chosen.items():
        found = results[name]
        heading, *rows = lines(table, found)
        page += ["", f"## {name}", "", f"**{table.title}**", "", _line(heading), _line(["---"] * len(heading))]
        page += [_line(row) for row in rows]
        page += ["\n" + re.sub(r"^([*+])", r"\\\1", note) for note in notes(table)]
        page += ["", f"![{table.title}](results/{name}.png)"] if pictured(name, table, found) else []
        page += _unassigned(found) + _sources(found)
    return "\n".join(page) + "\n"


def notes(table: Table) -> list[str]:
    """What there is to say of a table and of its rows."""
    of_rows = [f"{row.label}: {row.note}." for row in table.rows if row.note]
    quoted = [row.quoted for row in table.rows if row.quoted]
    told = [f"Rows without ours: {quoted[0]}."] if quoted else []
    return ([" ".join([*([table.note] if table.note else []), *told])] if table.note or told else []) + of_rows


def _unassigned(results: Results) -> list[str]:
    """Records that belong to no row any more, since a row, a recipe or a run's config has changed."""
    told = []
    for record in results.get("unassigned", []):
        values = {name: value for name, value in record["values"].items() if isinstance(value, float | int | str)}
        shown = ", ".join(f"{name} {value}" for name, value in values.items())
        told.append(f"- `{_run(record)}`, test {record['test']}: {shown}")
    return ["", "Measured, but of no row of this table now:", "", *told] if told else []


def _sources(results: Results) -> list[str]:
    """Where the numbers come from, a line a run, and where it was tested if that is elsewhere."""
    records = [record for of_row in results.get("rows", {}).values() for record in of_row]
    told = set()
    for record in [*records, *results.get("unassigned", [])]:
        trained, tested, tests = record["trained"], record["tested"], ""
        where = ", then ".join(f"{_environment(start)}, {start['time'][:10]}" for start in trained)
        if tested:
            same = all(tested[name] == trained[-1][name] for name in ("commit", "dirty"))
            if not (same and trained[-1]["device"].startswith(tested["device"])):
                tests = f"; {record['test']} tested on {_environment(tested)}"
        told.add(f"- `{_run(record)}`: {record['steps']} steps in {record['hours']:.2f} h on {where}{tests}")
    return ["", *sorted(told)] if told else []


def _run(record: Measurement) -> str:
    return record["directory"] or " + ".join(f"{member['directory']} {member['test']}" for member in record["of"])


def _environment(told: Environment) -> str:
    versions = f", jax {told['versions']['jax']}" if told["versions"] else ""
    return f"{told['device']}, commit {str(told['commit'])[:10]}{' (dirty)' if told['dirty'] else ''}{versions}"


def _line(parts: Iterable[str]) -> str:
    return f"| {' | '.join(part.replace('|', '/') for part in parts)} |"


def stamp(table: Table, results: Results, sources: Iterable[Path]) -> str:
    """What a picture was drawn from: results, the paper's curves, and the code that draws."""
    digest = hashlib.sha256(json.dumps(entry.on_paper_data(results), sort_keys=True).encode())
    for file in sources:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def stamp_of(picture: Path) -> str | None:
    """That of a picture that is there."""
    from PIL import Image

    if not picture.exists():
        return None
    with Image.open(picture) as image:
        return image.info.get("Source")


def draw(table: Table, results: Results, picture: Path, mark: str) -> None:
    """A PNG file with its stamp."""
    if table.draw is None:
        raise ValueError(f"{table.title}: there is nothing that draws it")
    picture.parent.mkdir(parents=True, exist_ok=True)
    table.draw(entry.on_paper_data(results)).savefig(picture, dpi=110, metadata={"Source": mark, "Software": None})
