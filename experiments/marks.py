"""Generated tables in pages of Markdown, between marks <!-- name --> and <!-- end -->."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path


def markdown(heading: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Returns a table with its numbers aligned to the right."""
    rows = [heading, ["---", *["---:"] * (len(heading) - 1)], *lines]
    if heading[-1] == "source":
        rows[1] = ["---", "---:", "---"]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def filled(page: Path, found: Mapping[str, str]) -> str:
    """Returns a page's text with these tables between its marks. Raises ValueError if a mark is missing."""
    text = page.read_text()
    for name, table in found.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
        text, times = re.subn(pattern, lambda mark, table=table: f"{mark[1]}{table}\n{mark[2]}", text, flags=re.DOTALL)
        if times != 1:
            raise ValueError(f"{page.name} has {times} marks <!-- {name} -->; it needs one")
    return text
