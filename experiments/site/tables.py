"""The tables of the papers as HTML: the paper's numbers, ours beside each, and the state of each cell."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from experiments import pages
from experiments.entry import Row, Table
from experiments.measurements import Results
from experiments.site.states import QUOTED, STATES, Shown, of_row, shown


def css_class(state: str) -> str:
    """Returns the name of a state in the style sheet."""
    return state.replace(" ", "-")


def table(name: str, entry: Table, results: Results) -> str:
    """Returns a table. name: of the entry, such as table6; the cells that can be opened name the details of their row.

    Tables without measured columns have one last column (or line) for the states of their rows.
    """
    measured = any(row.runs or row.commands for row in entry.rows)
    rows = [(row, shown(entry, row, results)) for row in entry.rows]
    if not measured:
        rows = [(row, [*cells, _whole(row, cells)]) for row, cells in rows]
    headings = [*entry.columns, *([] if measured else ["ours"])]
    lines = [
        (row.label, [(cell, _opens(name, number, row)) for cell in cells]) for number, (row, cells) in enumerate(rows)
    ]
    heads = headings
    if len(entry.columns) > pages.MOST_COLUMNS:
        heads = [label for label, _ in lines]
        columns = zip(*(cells for _, cells in lines), strict=True)
        lines = [(heading, [*cells]) for heading, cells in zip(headings, columns, strict=True)]
    quoted = any(cell.paper for _, cells in lines for cell, _ in cells)
    body = "\n".join(_line(label, cells, measured, quoted) for label, cells in lines)
    return grid(entry.title, _head(heads, measured, quoted), body)


def grid(title: str, head: str, body: str, kind: str = "") -> str:
    """Returns a table that scrolls by itself where the page is too narrow. head, body: its rows."""
    return (
        f'<div class="dc-scroll" role="region" tabindex="0" aria-label="{escape(title)}" data-search-exclude>\n'
        f'<table class="dc-table {kind}">\n<thead>{head}</thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</div>'
    )


def _whole(row: Row, cells: Sequence[Shown]) -> Shown:
    """Returns the state of a row without columns of ours."""
    return Shown(row.label, "ours", "", f"needs {row.needs}" if row.needs else "", "", cells[0].state)


def _opens(name: str, number: int, row: Row) -> str:
    return f"{name}-{number}" if row.runs or row.commands else ""


def _head(heads: Sequence[str], measured: bool, quoted: bool) -> str:
    if not measured:
        named = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
        return f"<tr><td></td>{named}</tr>"
    sides = ('<th scope="col">paper</th>' if quoted else "") + '<th scope="col">ours</th>'
    named = "".join(f'<th colspan="{1 + quoted}" scope="colgroup">{escape(head)}</th>' for head in heads)
    return f'<tr><td rowspan="2"></td>{named}</tr>\n<tr class="dc-sides">{sides * len(heads)}</tr>'


def _line(label: str, cells: Iterable[tuple[Shown, str]], measured: bool, quoted: bool) -> str:
    cells = [*cells]
    states = " ".join(dict.fromkeys(css_class(cell.state) for cell, _ in cells if cell.state)) or "quoted"
    parts = []
    for cell, opens in cells:
        if (measured and quoted) or (not measured and cell.column != "ours"):
            parts.append(f'<td class="dc-paper">{escape(cell.paper)}</td>')
        if measured or cell.column == "ours":
            parts.append(_ours(cell, opens))
    return f'<tr data-states="{states}"><th scope="row">{escape(label)}</th>{"".join(parts)}</tr>'


def _ours(cell: Shown, opens: str) -> str:
    if cell.state == QUOTED:
        return "<td></td>"
    symbol, _ = STATES[cell.state]
    number = "" if cell.state == "not run" else f' <span class="dc-number">{escape(cell.ours)}</span>'
    difference = f' <span class="dc-difference">{cell.difference}</span>' if cell.difference else ""
    content = (
        f'<span aria-hidden="true">{symbol}</span><span class="dc-hidden">{cell.state}:</span>{number}{difference}'
    )
    if opens and cell.state != "out of reach":
        hidden = f'<span class="dc-hidden">, details of {escape(cell.label)}, {escape(cell.column)}</span>'
        data = f'data-opens="{opens}" data-column="{escape(cell.column)}"'
        content = f'<button type="button" {data}>{content}{hidden}</button>'
    return f'<td class="dc-ours dc-{css_class(cell.state)}">{content}</td>'


def counts(tables: Mapping[str, Table], results: Mapping[str, Results]) -> Counter[str]:
    """Returns the number of rows in each state, without those quoted."""
    states = [of_row(entry, row, results[name]) for name, entry in tables.items() for row in entry.rows]
    return Counter(state for state in states if state != QUOTED)


def progress(numbers: Mapping[str, int], what: str) -> str:
    """Returns a bar with a segment for each state, and its legend."""
    total = sum(numbers.values())
    if not total:
        return ""
    done = sum(numbers.get(state, 0) for state in ("reproduced", "deviating", "measured"))
    present = [(state, numbers.get(state, 0)) for state in STATES if numbers.get(state, 0)]
    bars = "".join(f'<span class="dc-{css_class(state)}" style="flex-grow:{count}"></span>' for state, count in present)
    keys = "".join(
        f'<li class="dc-{css_class(state)}"><span class="dc-key" aria-hidden="true">{STATES[state][0]}</span> '
        f"{count} {state}</li>"
        for state, count in present
    )
    return (
        f'<div class="dc-progress">\n<p>{what}: <strong>{done} of {total}</strong> rows measured</p>\n'
        f'<div class="dc-bar" aria-hidden="true">{bars}</div>\n<ul>{keys}</ul>\n</div>'
    )
