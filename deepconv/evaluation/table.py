"""A table of outputs that survives a kill: a row an image, on disk."""

import os
from pathlib import Path

import numpy as np


def new_table(examples: int, width: int, file: Path | None = None) -> np.ndarray:
    """A row an image: "output" float32 [width], such as the probability of each class; "label", "seconds", and "done".

    With a file, the table is on disk, and is what an earlier start has left there. Raises OSError.
    """
    fields = [("output", np.float32, (width,)), ("label", np.int32), ("seconds", np.float32), ("done", np.bool_)]
    row = np.dtype(fields)
    if file is None:
        return np.zeros(examples, row)
    if not file.exists():
        new = file.with_name(file.name + ".tmp")
        np.lib.format.open_memmap(new, "w+", row, (examples,))
        with new.open("r+b") as out:  # a mapped file on a full disk would be the end of the process
            os.posix_fallocate(out.fileno(), 0, new.stat().st_size)
        new.replace(file)
    try:
        table = np.lib.format.open_memmap(file, "r+")
    except ValueError as error:
        raise OSError(f"{file} is damaged: {error}; remove it") from None
    if (table.dtype, table.shape) != (row, (examples,)):
        raise OSError(f"{file} was left by another test; remove it")
    return table
