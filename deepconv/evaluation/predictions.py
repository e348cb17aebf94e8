"""Predictions on photographs as text, CSV or JSON, and the progress of many."""

import contextlib
import csv
import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from deepconv.data.synsets import imagenet_words, label
from deepconv.run.files import printable

CLASS_COLUMNS = "file", "rank", "class", "words", "probability"
BOX_COLUMNS = "file", "x1", "y1", "x2", "y2"
CLASS_BOX_COLUMNS = *BOX_COLUMNS, "class", "words", "probability"
Guess = tuple[str, float]  # the class of a box, and its probability


def classes_as_text(photo: str, row: np.ndarray, classes: Sequence[str], top: int) -> str:
    """Returns a photograph's likeliest classes, with bars as in Krizhevsky et al. 2012, Fig. 4."""
    encoding = getattr(sys.__stdout__, "encoding", "")  # sys.stdout may be a progress bar's stand-in, which has none
    bar = "█" if "utf" in encoding.lower() else "#"
    lines = [
        f"  {row[number]:4.2f}  {bar * round(30 * row[number]):30}  {printable(label(classes[number]))}"
        for number in likeliest(row, top)
    ]
    return "\n".join([printable(photo), *lines, ""])


def classes_as_json(photo: str, row: np.ndarray, classes: Sequence[str], top: int) -> str:
    """Returns a line of JSON: {"file": ..., "classes": [{"class": ..., "probability": ...}, ...]}, likeliest first.

    A class of ImageNet also has "words".
    """
    found = [_record(classes[number], row[number]) for number in likeliest(row, top)]
    return json.dumps({"file": photo, "classes": found}) + "\n"


def classes_as_csv(photo: str, row: np.ndarray, classes: Sequence[str], top: int) -> str:
    """Returns a line of CSV for each of the likeliest classes, with CLASS_COLUMNS; words are those of ImageNet."""
    ranked = ((rank, classes[number], row[number]) for rank, number in enumerate(likeliest(row, top), 1))
    return _csv(*((photo, rank, name, imagenet_words().get(name, ""), f"{p:.6f}") for rank, name, p in ranked))


def likeliest(row: np.ndarray, top: int) -> list[int]:
    """Returns the numbers of the likeliest classes, likeliest first, from probabilities [classes]."""
    return (-row).argsort(kind="stable")[:top].tolist()


def box_as_text(photo: str, box: np.ndarray, guess: Guess | None = None) -> str:
    """Returns a photograph's box, x1, y1, x2, y2 in pixels, as a line, with its class if there is one."""
    line = f"{printable(photo)}  {' '.join(f'{value:.1f}' for value in box)}"
    return f"{line}  {describe(guess)}\n" if guess else f"{line}\n"


def box_as_json(photo: str, box: np.ndarray, guess: Guess | None = None) -> str:
    """Returns a line of JSON: {"file": ..., "box": [x1, y1, x2, y2]} in pixels, and a class as in `classes_as_json`."""
    record = {"file": photo, "box": [round(float(value), 2) for value in box]}
    return json.dumps(record | (_record(*guess) if guess else {})) + "\n"


def box_as_csv(photo: str, box: np.ndarray, guess: Guess | None = None) -> str:
    """Returns a line of CSV with BOX_COLUMNS, in pixels, or with CLASS_BOX_COLUMNS."""
    name, probability = guess or ("", 0.0)
    columns = (name, imagenet_words().get(name, ""), f"{probability:.6f}") if guess else ()
    return _csv((photo, *(f"{value:.2f}" for value in box), *columns))


def describe(guess: Guess) -> str:
    """Returns a probability and the class, as in "0.98  circle"."""
    name, probability = guess
    return f"{probability:.2f}  {printable(label(name))}"


def _record(name: str, probability: float) -> dict[str, str | float]:
    words = {"words": imagenet_words()[name]} if name in imagenet_words() else {}
    return {"class": name, **words, "probability": round(float(probability), 6)}


CLASSES = {"text": classes_as_text, "json": classes_as_json, "csv": classes_as_csv}
BOXES = {"text": box_as_text, "json": box_as_json, "csv": box_as_csv}


def head(form: str, boxes: bool, of_classes: bool = False) -> str:
    """Returns the line that comes before the first photograph; empty for all forms but CSV.

    of_classes: whether the boxes have classes.
    """
    columns = (CLASS_BOX_COLUMNS if of_classes else BOX_COLUMNS) if boxes else CLASS_COLUMNS
    return _csv(columns) if form == "csv" else ""


def _csv(*rows: Sequence[str | int]) -> str:
    """Returns lines of CSV; control characters in names are escaped, as elsewhere. JSON keeps names exactly."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([printable(str(value)) for value in row] for row in rows)
    return out.getvalue()


@contextlib.contextmanager
def progress(total: int) -> Iterator[Callable[[], None]]:
    """Yields advance(), to be called after each photograph, which moves a bar on standard error if it is a terminal.

    Standard output holds results only, and may be a file.
    """
    console = Console(stderr=True)
    columns = BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn()
    options = dict(transient=True, disable=not console.is_terminal or total == 1, redirect_stdout=sys.stdout.isatty())
    with Progress(*columns, console=console, **options) as bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)
