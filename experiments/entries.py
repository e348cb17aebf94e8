"""The entries by name: a file each, its table or figure."""

import difflib
import importlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.entry import Table

HERE = Path(__file__).parent
RESULTS = HERE / "results"  # a JSON file an entry
PAPERS = ("alexnet", "vgg", "resnet")


def names() -> list[str]:
    """ "alexnet/table1", ...: papers in their order, tables by number, then figures, then what is in the text."""
    files = [file for paper in PAPERS for file in (HERE / paper).glob("*.py") if file.stem != "__init__"]

    def place(file: Path) -> tuple[Any, ...]:
        kind, number, rest = re.findall(r"^([a-z]+)(\d*)(.*)$", file.stem)[0]
        group = ("table", "fig").index(kind) if number else 2
        return PAPERS.index(file.parent.name), group, int(number or 0), rest, kind

    return [f"{file.parent.name}/{file.stem}" for file in sorted(files, key=place)]


def load(chosen: Sequence[str] = ()) -> dict[str, Table]:
    """Those of the names, which may be papers; all, if there are none. Raises ValueError."""
    known = names()
    if unknown := [name for name in chosen if name not in known and name not in PAPERS]:
        near = [name for name in known if name.split("/")[1] == unknown[0]] or difflib.get_close_matches(
            unknown[0], [*known, *PAPERS]
        )
        hint = f"did you mean {', '.join(near)}?" if near else f"choose from {', '.join([*PAPERS, *known])}"
        raise ValueError(f"{unknown[0]} is not an entry; {hint}")
    wanted = [name for name in known if not chosen or name in chosen or name.split("/")[0] in chosen]
    return {name: importlib.import_module(f"experiments.{name.replace('/', '.')}").TABLE for name in wanted}
