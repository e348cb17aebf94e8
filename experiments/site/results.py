"""The pages of results: an overview, and one page for each paper. Markdown with HTML, without mkdocs."""

import re
from collections.abc import Mapping
from html import escape

from experiments import pages
from experiments.entries import PAPERS
from experiments.entry import Table
from experiments.measurements import Results
from experiments.site import details, figures, tables
from experiments.site.states import RULE, STATES, shown
from experiments.site.tables import css_class

TITLES = {"alexnet": "AlexNet", "vgg": "VGG", "resnet": "ResNet"}
CITATIONS = {
    "alexnet": "Krizhevsky, Sutskever, Hinton, *ImageNet Classification with Deep Convolutional Neural Networks*, 2012",
    "vgg": "Simonyan, Zisserman, *Very Deep Convolutional Networks for Large-Scale Image Recognition*, 2015",
    "resnet": "He, Zhang, Ren, Sun, *Deep Residual Learning for Image Recognition*, 2015",
}
INTRODUCTION = (
    "Every table and figure of the papers, with our numbers beside the paper's. Only runs without departures from "
    "the paper fill our cells. Open a cell for the commands and the provenance of its number."
)
Entries = Mapping[str, Table]
AllResults = Mapping[str, Results]


def of_paper(paper: str, entries: Entries) -> dict[str, Table]:
    """Returns the entries of a paper."""
    return {name: table for name, table in entries.items() if name.startswith(f"{paper}/")}


def overview(entries: Entries, results: AllResults) -> str:
    """Returns the page that leads to the papers: the state of all rows, and of each table and figure."""
    page = ["# Results", "", INTRODUCTION, "", tables.progress(tables.counts(entries, results), "All papers"), ""]
    page += [f"- {_key(state, symbol)} **{state}**: {meaning}." for state, (symbol, meaning) in STATES.items()]
    page += [
        "",
        f"{RULE} A row deviates if one of its numbers does. Rows that a paper quotes from other work are not counted.",
    ]
    for paper in PAPERS:
        chosen = of_paper(paper, entries)
        progress = tables.progress(tables.counts(chosen, results), "This paper")
        page += ["", f"## {TITLES[paper]} {{#{paper}}}", "", progress, "", _list(paper, chosen, results)]
    return "\n".join(page) + "\n"


def _key(state: str, symbol: str) -> str:
    return f'<span class="dc-key dc-{css_class(state)}" aria-hidden="true">{symbol}</span>'


def _list(paper: str, entries: Entries, results: AllResults) -> str:
    """Returns a table of a paper's entries with the number of rows in each state."""
    head = "".join(f'<th scope="col">{state}</th>' for state in STATES)
    lines = []
    for name, table in entries.items():
        numbers = tables.counts({name: table}, results)
        link = f'<a href="{paper}.html#{name.partition("/")[2]}">{escape(table.title)}</a>'
        states = "".join(f"<td>{numbers.get(state) or ''}</td>" for state in STATES)
        lines.append(f'<tr><th scope="row">{link}</th>{states}</tr>')
    title = f"Tables and figures of {TITLES[paper]}"
    return tables.grid(title, f"<tr><td></td>{head}</tr>", "\n".join(lines), kind="dc-list")


def page(paper: str, entries: Entries, results: AllResults) -> str:
    """Returns the page of a paper: its tables and figures, and the details of each row."""
    chosen, known = of_paper(paper, entries), details.curves(results)
    others = " · ".join(TITLES[name] if name == paper else f"[{TITLES[name]}]({name}.md)" for name in PAPERS)
    parts = [f"# {TITLES[paper]}", "", f"{CITATIONS[paper]}.", "", f"[All results](README.md) · {others}", ""]
    parts += [tables.progress(tables.counts(chosen, results), "This paper"), "", _filter(chosen, results)]
    for name, table in chosen.items():
        title = re.sub(r"([*_`\[\]])", r"\\\1", table.title)
        parts += ["", f"## {title} {{#{name.partition('/')[2]}}}", "", _entry(name, table, results[name], known)]
    return "\n".join(parts) + "\n"


def _entry(name: str, table: Table, results: Results, known: details.Curves) -> str:
    """Returns what follows the heading of an entry."""
    short = name.partition("/")[2]
    parts = [tables.table(short, table, results), *(f"<p>{escape(note)}</p>" for note in pages.notes(table))]
    if pages.has_picture(name, table, results):
        parts.append(figures.figure(f"{short}-figure", table, results))
    rows = [number for number, row in enumerate(table.rows) if row.runs or row.commands]
    parts += [details.dialog(name, number, table, results, known) for number in rows]
    body = "\n".join(parts)
    return f'<div class="dc-entry" data-title="{escape(table.title)}">\n{body}\n</div>'


def _filter(entries: Entries, results: AllResults) -> str:
    """Returns the controls that choose which rows of a page are shown; they list the states and their symbols."""
    cells = [
        cell.state
        for name, table in entries.items()
        for row in table.rows
        for cell in shown(table, row, results[name])
        if cell.state
    ]
    boxes = [
        f'<label><input type="checkbox" name="state" value="{css_class(state)}" checked> '
        f'{_key(state, symbol)} {state} <span class="dc-count">{cells.count(state)}</span></label>'
        for state, (symbol, _) in STATES.items()
        if state in cells
    ]
    return (
        '<form class="dc-filter" role="search" aria-label="Filter the tables">\n'
        '<label>Show rows with <input type="search" name="words" placeholder="words of a row or title"></label>\n'
        f"<fieldset><legend>and cells that are</legend>{''.join(boxes)}"
        '<label><input type="checkbox" name="state" value="quoted" checked> quoted only</label></fieldset>\n'
        '<output aria-live="polite"></output>\n'
        "<p>Open a cell of ours for its commands and provenance. Arrow keys move between cells.</p>\n</form>"
    )
