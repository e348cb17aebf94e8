"""The details of a row: its cells, the commands that measure it, the provenance of its numbers, and their curves."""

import re
from collections.abc import Mapping, Sequence
from html import escape

from experiments import cells, pages, records
from experiments.entry import Row, Table
from experiments.measurements import Measurement, Results
from experiments.site import figures
from experiments.site.states import STATES, Shown, shown
from experiments.site.tables import css_class, grid

Curves = Mapping[tuple[str, str], Measurement]  # by directory and start of training


def curves(results: Mapping[str, Results]) -> dict[tuple[str, str], Measurement]:
    """Returns the records that hold a curve of training: a run's curve is recorded with the figures it belongs to."""
    found = {}
    for entry_results in results.values():
        for record in (record for row_records in entry_results.get("rows", {}).values() for record in row_records):
            if "train" in record["values"]:
                found[record["directory"], records.started(record)] = record
    return found


def dialog(name: str, number: int, table: Table, results: Results, known: Curves) -> str:
    """Returns the dialog of one row. name: the entry's, such as resnet/table6."""
    row = table.rows[number]
    short, opens = name.partition("/")[2], f"{name.partition('/')[2]}-{number}"
    used = [record for record in results.get("rows", {}).get(row.label, []) if cells.is_used(row, record, results)]
    parts = [
        f'<div class="dc-head"><h2 id="{opens}-title">{escape(row.label)}</h2>'
        '<button type="button" class="dc-close" aria-label="Close" autofocus>×</button></div>',
        f'<p class="dc-of"><a href="#{short}">{escape(table.title)}</a></p>',
        _numbers(shown(table, row, results)),
        f"<p>{escape(row.note[:1].upper() + row.note[1:])}.</p>" if row.note else "",
        *_commands(name, table, row),
        *_provenance(table, used),
        *_others(pages.other_results(table, row, results)),
        *_curves(f"{opens}-curve", row, used, known),
    ]
    body = "\n".join(filter(None, parts))
    attributes = f'class="dc-dialog" id="{opens}" aria-labelledby="{opens}-title" data-search-exclude'
    return f"<dialog {attributes}>\n{body}\n</dialog>"


def _numbers(found: Sequence[Shown]) -> str:
    """Returns the table of a row's cells, one a line."""
    lines = []
    for cell in found:
        ours = "" if cell.state == "not run" else escape(cell.ours)
        symbol, column = STATES[cell.state][0], escape(cell.column)
        lines.append(
            f'<tr data-column="{column}"><th scope="row">{column}</th><td>{escape(cell.paper)}</td><td>{ours}</td>'
            f'<td>{cell.difference}</td><td class="dc-ours dc-{css_class(cell.state)}">'
            f'<span aria-hidden="true">{symbol}</span> {cell.state}</td></tr>'
        )
    heads = "".join(f'<th scope="col">{head}</th>' for head in ("paper", "ours", "difference", "state"))
    return grid("Numbers", f"<tr><td></td>{heads}</tr>", "\n".join(lines))


def _commands(name: str, table: Table, row: Row) -> list[str]:
    """Returns the commands that measure a row; a net whose numbers are only counted needs no training."""
    lines = pages.row_commands(table, row) if table.trained_columns() else [f"python -m experiments collect {name}"]
    heading = "Command" if len(lines) == 1 else f"Commands, {len(lines)} in this order"
    copy = '<button type="button" class="dc-copy">Copy</button>'
    # an argument is broken only where it is longer than a line
    code = "\n".join(" ".join(f"<span>{escape(part)}</span>" for part in line.split(" ")) for line in lines)
    return [f"<h3>{heading}</h3>", f'<div class="dc-code">{copy}<code tabindex="0">{code}</code></div>']


def _provenance(table: Table, used: Sequence[Measurement]) -> list[str]:
    counted = ["The parameters and layers are counted from the net, without training."] if table.counts else []
    lines = [re.sub(r"`(.*?)`", r"<code>\1</code>", escape(line)) for line in pages.provenance(used)]
    none = [] if lines or counted else ["No finished run without departures yet."]
    return ["<h3>Provenance</h3>", f"<ul>{''.join(f'<li>{line}</li>' for line in [*lines, *counted, *none])}</ul>"]


def _others(text: str) -> list[str]:
    return ["<h3>Other results</h3>", f"<p>{escape(text)}</p>"] if text else []


def _curves(name: str, row: Row, used: Sequence[Measurement], known: Curves) -> list[str]:
    found = [known[key] for record in used if (key := (record["directory"], records.started(record))) in known]
    if not found:
        return []
    named = [(f"seed {record['seed']}" if len(found) > 1 else "", record["values"]) for record in found]
    return ["<h3>Curve</h3>", figures.curve(name, f"Training of {row.label}", named)]
