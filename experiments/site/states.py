"""The state of each cell and row of a table: reproduced, deviating, measured, not run, out of reach. Without JAX."""

import re
from dataclasses import dataclass

from experiments import cells, pages
from experiments.entry import WITHHELD, Row, Table
from experiments.measurements import Cell, Results

STATES = {  # {state: (symbol, meaning)}
    "reproduced": ("✓", "ours equals the paper's number within its spread"),
    "deviating": ("≠", "ours differs from the paper's number by more than its spread"),
    "measured": ("•", "the paper gives no number that ours can be compared with"),
    "not run": ("–", "not measured yet"),
    "out of reach": ("×", "needs a part that is not implemented, or labels that are not public"),
}
RULE = (
    "The spread is the largest of three: the standard deviation that the paper gives, that of our runs over seeds or "
    "splits, and the precision of the paper's number. This is half of its last digit or, for a number read from a "
    "figure, the precision of the reading."
)
QUOTED = ""  # the state of a cell that is not measured here
NUMBER = re.compile(r"(?:about )?(\d+\.?\d*)(?: ± (\d+\.?\d*))?")
OVER = re.compile(r"over (\d+\.?\d*)")
MORE_THAN = re.compile(r"more than (\d+\.?\d*)")
READ = re.compile(r"read from the figure, within (\d+\.?\d*)")  # in the note of a figure


@dataclass(frozen=True)
class Shown:
    """A cell as a page shows it."""

    label: str  # of its row
    column: str  # the heading of its column
    paper: str
    ours: str
    difference: str  # ours minus the paper's
    state: str


def shown(table: Table, row: Row, results: Results) -> list[Shown]:
    """Returns the cells of a row."""
    numbers, found = cells.numbers(table, row, results), []
    for (heading, name), paper in zip(table.columns.items(), row.paper, strict=True):
        value, spread = numbers.get(name, (None, None))
        text, difference = pages.our_number(row, name, paper, value, spread)
        difference = difference.replace("-", "−") if difference.strip("+-0.") else ""
        state = _state(table, row, name, paper, value, spread)
        found.append(Shown(row.label, heading, pages.text(paper), text, difference, state))
    return found


def of_row(table: Table, row: Row, results: Results) -> str:
    """Returns the state of a row; a row that is done deviates if one of its cells does."""
    state = cells.state(table, row, results)
    if state != "done":
        return {"missing": "not run", "quoted": QUOTED}.get(state, state)
    found = [cell.state for cell in shown(table, row, results)]
    # the runs of a row may be done and give no number, such as a ratio of "more than 40" epochs
    return next((state for state in ("deviating", "reproduced") if state in found), "measured")


def compare(paper: Cell, value: float | str, spread: float, precision: float) -> str:
    """Returns "reproduced", "deviating", or "measured" if the numbers cannot be compared.

    spread: of ours. precision: of the paper's number.
    """
    number = NUMBER.fullmatch(str(paper))
    if isinstance(value, str):
        if limit := MORE_THAN.fullmatch(value):
            return "deviating" if number and float(limit[1]) >= float(number[1]) else "measured"
        return "reproduced" if value == paper else "deviating" if isinstance(paper, str) else "measured"
    if bound := OVER.fullmatch(str(paper)):
        return "reproduced" if value > float(bound[1]) else "deviating"
    if not number:
        return "measured"
    allowed = max(spread, precision, float(number[2] or 0)) + 1e-9  # for rounding of floats
    return "reproduced" if abs(value - float(number[1])) <= allowed else "deviating"


def _state(table: Table, row: Row, name: str, paper: Cell, value: Cell, spread: float | None) -> str:
    if row.quoted:
        return QUOTED
    if row.needs or name == WITHHELD:
        return "out of reach"
    if value is None:
        return "not run"
    if any(command.images and name in command.values for command in row.commands):
        return "measured"  # on other images than the paper's
    return compare(paper, value, spread or 0.0, _precision(table, name, paper))


def _precision(table: Table, name: str, paper: Cell) -> float:
    """Returns the precision of a number of the paper.

    Measured numbers of a column have equally many digits, of which entries drop trailing zeros; counts do not.
    """
    if read := READ.search(table.note):
        return float(read[1])
    column = [row.paper[[*table.columns.values()].index(name)] for row in table.rows]
    alike = [cell for cell in column if isinstance(cell, float)] if isinstance(paper, float) else []
    alike = [paper] if name in table.counts or not alike else alike
    digits = max(len(re.sub(r" ±.*", "", str(cell)).partition(".")[2]) for cell in alike)
    return 0.5 * 0.1**digits
