"""Figures as SVG inside pages: they take the colours of the page and can be zoomed."""

import io
import re
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from experiments import cells, drawing
from experiments.entry import Table
from experiments.measurements import Results, Values

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ZOOM = (("in", "+", "Zoom in"), ("out", "−", "Zoom out"), ("reset", "Reset", "Reset the zoom"))


def figure(name: str, table: Table, results: Results) -> str:
    """Returns the figure of an entry, with the paper's digitised curves and ours."""
    if table.draw is None:
        raise ValueError(f"{table.title}: the table has no function `draw`")
    return zoomable(name, table.title, table.draw(cells.on_paper_data(results)))


def curve(name: str, title: str, named: Sequence[tuple[str, Values]]) -> str:
    """Returns the errors of runs over training. named: (name of the run, its record's values)."""
    xlabel = "step" if "test" in named[0][1] else "epoch"  # as in experiments.records and alexnet.fig1_rates
    drawn, (plot,) = drawing.panels(1, xlabel, "error, %", [title])
    for color, (run, values) in zip(drawing.COLORS * len(named), named, strict=False):
        for split, style in (("train", "--"), ("test", "-")):
            if split in values:
                label = " ".join(filter(None, (run, {"train": "training error", "test": "test error"}[split])))
                plot.plot(*zip(*values[split], strict=True), style, color=color, label=label)
    plot.legend(fontsize=7)
    plot.set_ylim(0)
    return zoomable(name, title, drawn)


def zoomable(name: str, title: str, drawn: "Figure") -> str:
    """Returns a drawing with buttons to zoom. name: a prefix for its ids."""
    buttons = "".join(
        f'<button type="button" data-zoom="{what}" aria-label="{label}">{text}</button>' for what, text, label in ZOOM
    )
    view = f'<div class="dc-view" tabindex="0" role="group" aria-label="{escape(title)}; + and - zoom, arrows move">'
    picture, zoom = svg(name, title, drawn), f'<div class="dc-zoom">{buttons}</div>'
    width = 1.5 * 72 * drawn.get_figwidth()  # pixels: at most 1.5 times the size of the drawing, which is in points
    style = f"max-width: {width:.0f}px"
    return f'<figure class="dc-figure" style="{style}">\n{view}\n{picture}\n</div>\n{zoom}\n</figure>'


def svg(name: str, title: str, drawn: "Figure") -> str:
    """Returns a drawing as SVG with text as text, the page's colours in place of black and white, and unique ids."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        drawn.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{name}-", text)
    text = re.sub(r"#000000|#262626\b", "currentColor", text).replace("#ffffff", "var(--md-default-bg-color)")
    text = re.sub(r"<style.*?</style>| font-family: [^;]*;", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text))
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1).strip()
