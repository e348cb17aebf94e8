"""A table of outputs, one row per image; on disk, it survives a kill."""

import os
from pathlib import Path

import numpy as np

Fields = list[tuple]  # of a row, as NumPy describes them


def new_table(examples: int, width: int, file: Path | None = None) -> np.ndarray:
    """Returns a table with a row per image: "output" float32 [width] (class probabilities), "label", "seconds", "done".

    With a file, the table is on disk and holds the rows that an earlier start has written. Raises OSError.
    """
    fields = [("output", np.float32, (width,)), ("label", np.int32), ("seconds", np.float32), ("done", np.bool_)]
    return np.zeros(examples, fields) if file is None else open_table(examples, fields, file)


def open_table(examples: int, fields: Fields, file: Path) -> np.ndarray:
    """Opens a table of rows on disk, which is created with zeros if it is missing. Raises OSError."""
    row = np.dtype(fields)
    if not file.exists():
        new = file.with_name(file.name + ".tmp")
        np.lib.format.open_memmap(new, "w+", row, (examples,))
        with new.open("r+b") as out:  # writing to a mapped file on a full disk would kill the process
            os.posix_fallocate(out.fileno(), 0, new.stat().st_size)
        new.replace(file)
    try:
        table = np.lib.format.open_memmap(file, "r+")
    except ValueError as error:
        raise OSError(f"{file} is damaged: {error}; remove it") from None
    if (table.dtype, table.shape) != (row, (examples,)):
        raise OSError(f"{file} belongs to a different test; remove it")
    return table
