"""The windows of all images at a scale, on disk: a table that survives a kill.

FILE.npy has a row per image: where its windows begin in FILE.bin and how many there are. FILE.bin has a row of K x 5
numbers per window, in the order in which images were done, since images have different numbers of windows.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deepconv import processes
from deepconv.evaluation.table import open_table

NUMBERS = 5  # x1, y1, x2, y2, score
FIELDS = [("first", np.int64), ("windows", np.int32), ("seconds", np.float32), ("done", np.bool_)]


@dataclass(frozen=True)
class WindowTable:
    """The windows of all images at a scale."""

    rows: np.ndarray  # with FIELDS, mapped to FILE.npy
    values: Path  # FILE.bin, float32 [windows of all images, K, 5]
    classes: int  # K, of each image


def open_windows(file: Path, images: int, classes: int) -> WindowTable:
    """Opens the table FILE, with the images that an earlier start has done. Raises OSError.

    With several processes, process 0 keeps the table; the others know which images are done.
    """
    table = _open(file, images, classes) if processes.primary() else None
    done = processes.agree(lambda: np.packbits(table.rows["done"]).tobytes().hex() if table else "")
    if table:
        return table
    rows = np.zeros(images, FIELDS)
    rows["done"] = np.unpackbits(np.frombuffer(bytes.fromhex(done), np.uint8), count=images)
    return WindowTable(rows, file, classes)


def _open(file: Path, images: int, classes: int) -> WindowTable:
    rows, values = open_table(images, FIELDS, file.with_name(f"{file.name}.npy")), file.with_name(f"{file.name}.bin")
    values.touch()
    row_bytes = 4 * NUMBERS * classes
    ends = rows["first"] + rows["windows"]
    rows["done"] &= (rows["windows"] > 0) & (ends * row_bytes <= values.stat().st_size)  # all, unless it was changed
    os.truncate(values, int(ends[rows["done"]].max(initial=0)) * row_bytes)
    return WindowTable(rows, values, classes)


def append(table: WindowTable, images: list[int], windows: list[np.ndarray], seconds: float) -> None:
    """Writes the windows, float32 [n, K, 5], of each of several images. Raises OSError, as on a full disk.

    With several processes, process 0 does this.
    """
    if not processes.primary():
        return
    first = table.values.stat().st_size // (4 * NUMBERS * table.classes)
    with table.values.open("ab") as out:
        out.write(np.concatenate(windows, dtype=np.float32).tobytes())
        out.flush()
        os.fsync(out.fileno())
    counts = np.array([len(found) for found in windows])
    table.rows["first"][images] = first + np.cumsum(counts) - counts
    table.rows["windows"][images], table.rows["seconds"][images] = counts, seconds / len(images)
    table.rows["done"][images] = True  # last: a row that is marked done is complete, whenever the process ends


def read_windows(table: WindowTable, images: np.ndarray) -> list[np.ndarray]:
    """Returns the windows of images, float32 [n, K, 5] each."""
    values = np.memmap(table.values, np.float32, "r").reshape(-1, table.classes, NUMBERS)
    rows = table.rows[images]
    return [values[first : first + count] for first, count in zip(rows["first"], rows["windows"], strict=True)]
