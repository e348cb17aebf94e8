"""Statistics of training images and checksums of their files, in one pass."""

import os
import time
from pathlib import Path

from deepconv.data import sources, statistics
from deepconv.data.prepare import tfds_writer
from deepconv.data.prepare.pack import check_size, squares
from deepconv.data.sources import checksums
from deepconv.run import log as runlog

SAVE_EVERY_SECONDS = 300  # the sums of ImageNet's files take 5 seconds to write


def compute_statistics(name: str, data_dir: Path, split: str, size: int, replace: bool = False) -> Path:
    """Writes the mean image, mean colour and principal components of the central squares to a file beside the data.

    For a folder, SHA-256 sums of its files are written as well.
    """
    source = sources.find(name, split, str(data_dir), size, (size, size))
    if source.folder is None:
        raise ValueError(f"the images of {name} fit into memory; their statistics are computed when training begins")
    check_size(source, size)
    file, summed = statistics.path(source.folder, split, size), checksums.summed(source)
    report = runlog.corrupt_list(file.with_suffix(".corrupt.txt")) if replace else None
    if file.exists():
        statistics.load(file, source.fingerprint)
        if not summed or summed.sums.any(1).all():
            return file
    if not os.access(source.folder, os.W_OK):
        raise ValueError(
            f"{source.folder} cannot be written, and statistics are stored beside the data; make a folder with links "
            "to its files, and give that in --data_dir"
        )

    unfinished, saved = file.with_name(file.name + ".unfinished"), time.monotonic()
    sums, data = statistics.NO_IMAGES, summed or source.open()
    if unfinished.exists():
        sums = statistics.load(unfinished, source.fingerprint, statistics.Sums)
        if summed and not summed.sums[: int(sums.examples)].any(1).all():
            sums = statistics.NO_IMAGES  # the list was removed in the meantime: read every file again
    with tfds_writer.progress(f"statistics of {name} {split}", source.examples, int(sums.examples)) as show:
        for batch in squares(source, data, size, report, int(sums.examples)):
            sums = sums.add(batch["image"])
            show(sums.examples)
            if time.monotonic() - saved > SAVE_EVERY_SECONDS:
                if summed:
                    checksums.write_sums(summed)  # first, since every image that is counted must have its sum
                statistics.save(unfinished, sums, source.fingerprint)
                saved = time.monotonic()
    if summed:
        checksums.write_sums(summed)
    statistics.save(file, sums.statistics(), source.fingerprint)
    unfinished.unlink(missing_ok=True)
    return file
