"""The commands status, show, collect and render."""

import re
from collections.abc import Mapping
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Column
from rich.table import Table as Grid

from deepconv import repository
from experiments import collect as collect_lib
from experiments import entries, pages, records
from experiments.entry import Table
from experiments.measurements import Results


def read(chosen: Mapping[str, Table], folder: Path) -> dict[str, Results]:
    """Returns the results of entries, empty for entries without any."""
    return {name: entries.results(name, folder) for name in chosen}


def status(chosen: Mapping[str, Table], folder: Path) -> None:
    """Prints a line for each entry, and the sums."""
    states = (Column(name.replace(" of ", " of\n"), justify="right", min_width=6) for name in pages.STATES)
    title = Column("", no_wrap=True, overflow="ellipsis", ratio=1)
    grid = Grid(
        Column("entry", no_wrap=True, min_width=18), title, *states, box=SIMPLE_HEAD, pad_edge=False, expand=True
    )
    total = dict.fromkeys(pages.STATES, 0)
    for name, table in chosen.items():
        counts = pages.counts(table, entries.results(name, folder))
        total = {state: total[state] + count for state, count in counts.items()}
        grid.add_row(
            name,
            re.sub(r"^(Table|Fig\.|Text|Section).*?[.,] ", "", table.title),
            *(str(count or "") for count in counts.values()),
        )
    grid.add_section()
    grid.add_row("rows", "", *map(str, total.values()))
    Console().print(grid)
    print("deepconv experiments show <entry>: the paper's numbers beside ours, and the commands for missing rows")


def show(name: str, table: Table, results: Results) -> None:
    """Prints the table and the commands for its missing rows."""
    heading, *rows = pages.lines(table, results)
    print(f"{name}: {table.title}")
    grid = Grid(*map(escape, heading), box=SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        grid.add_row(*map(escape, row))
    Console().print(grid)
    for note in pages.notes(table):
        print(note)
    if commands := pages.commands(table, results):
        print("\nCommands for the missing rows; repeat one to resume it. Then: deepconv experiments collect")
        print("\n".join(commands))


def collect(chosen: Mapping[str, Table], runs: Path, folder: Path) -> None:
    """Collects the results of runs and writes them, together with the earlier results."""
    directories = collect_lib.directories(runs)
    for name, table in chosen.items():
        file = folder / f"{name}.json"
        before = entries.results(name, folder)
        after = collect_lib.collect(table, directories, before)
        if after != before and (before or len(after) > 2 or after["rows"]):
            records.write(file, after)
            print(f"written: {file}")
    then = "; deepconv experiments render writes the page" if repository.is_checkout() else ""
    print(f"{len(directories)} runs in {runs} were read{then}")


def render(chosen: Mapping[str, Table], folder: Path, page: Path) -> None:
    """Writes the page of all tables, and the pictures that are missing or out of date."""
    results = read(chosen, folder)
    for name, table in chosen.items():
        picture, mark = folder / f"{name}.png", stamp(name, table, results[name])
        if not pages.has_picture(name, table, results[name]):
            picture.unlink(missing_ok=True)
        elif pages.read_stamp(picture) != mark:
            pages.draw(table, results[name], picture, mark)
            print(f"drawn:   {picture}")
    page.write_text(pages.page(chosen, results))
    print(f"written: {page}")


def stamp(name: str, table: Table, results: Results) -> str:
    """Returns the stamp of an entry's picture."""
    entry = entries.HERE / f"{name}.py"
    files = [entries.HERE / "drawing.py", entry, entry.with_suffix(".csv")]
    return pages.stamp(table, results, [file for file in files if file.exists()])
