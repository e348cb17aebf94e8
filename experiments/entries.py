"""The entries, one file for each table or figure, by name."""

import difflib
import importlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deepconv import repository
from experiments import records
from experiments.entry import Table
from experiments.measurements import Results

HERE = Path(__file__).parent
COMMITTED = HERE / "results"  # one JSON file per entry
# where `collect` writes; from an installed wheel, which is not the place for measurements, into the current folder
RESULTS = COMMITTED if repository.is_checkout() else Path("results")
PAPERS = ("alexnet", "vgg", "resnet")


def names() -> list[str]:
    """Returns "alexnet/table1", ...: for each paper its tables, figures, and numbers from the text."""
    files = [file for paper in PAPERS for file in (HERE / paper).glob("*.py") if file.stem != "__init__"]

    def sort_key(file: Path) -> tuple[Any, ...]:
        kind, number, rest = re.findall(r"^([a-z]+)(\d*)(.*)$", file.stem)[0]
        group = ("table", "fig").index(kind) if number else 2
        return PAPERS.index(file.parent.name), group, int(number or 0), rest, kind

    return [f"{file.parent.name}/{file.stem}" for file in sorted(files, key=sort_key)]


def load(chosen: Sequence[str] = ()) -> dict[str, Table]:
    """Returns the tables of the given entries and papers, or of all entries if none are given. Raises ValueError."""
    available = names()
    if unknown := [name for name in chosen if name not in available and name not in PAPERS]:
        similar = [name for name in available if name.split("/")[1] == unknown[0]] or difflib.get_close_matches(
            unknown[0], [*available, *PAPERS]
        )
        hint = f"did you mean {', '.join(similar)}?" if similar else f"choose from {', '.join([*PAPERS, *available])}"
        raise ValueError(f"{unknown[0]} is not an entry; {hint}")
    wanted = [name for name in available if not chosen or name in chosen or name.split("/")[0] in chosen]
    return {name: importlib.import_module(f"experiments.{name.replace('/', '.')}").TABLE for name in wanted}


def results(name: str, folder: Path | None = None) -> Results:
    """Returns an entry's results in a folder, empty without any. Raises OSError.

    By default, they are those collected in RESULTS, or else those that come with deepconv.
    """
    file = (folder or RESULTS) / f"{name}.json"
    own = folder not in (None, RESULTS) or file.exists()
    return records.read(file if own else COMMITTED / f"{name}.json")
