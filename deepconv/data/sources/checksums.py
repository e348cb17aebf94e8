"""Checksums of a folder's images."""

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from deepconv.data.images import DataError, Encoded, Record
from deepconv.data.sources.folders import FolderRecords
from deepconv.data.sources.source import Source
from deepconv.run.files import printable, replacing


@dataclass(frozen=True)
class Summed(Encoded):
    """Records of a folder, each checked against its SHA-256; a missing sum is added."""

    records: FolderRecords
    sums: np.ndarray  # uint8 [N, 32]; zeros for a missing sum

    def read(self, indices: Iterable[int]) -> list[Record]:
        found = self.records.read(indices)
        for index, record in zip(indices, found, strict=True):
            digest = np.frombuffer(hashlib.sha256(record.data).digest(), np.uint8)
            if not self.sums[index].any():
                self.sums[index] = digest
            elif (self.sums[index] != digest).any():
                raise DataError(
                    f"{record.name} has changed since its sum was written to {sums_file(self.records)}; restore it, or "
                    f"remove its line there and compute the statistics again"
                )
        return found


def summed(source: Source) -> Summed | None:
    """Returns a folder's records with their known sums; None for other sources. Raises DataError."""
    records = source.open() if source.folder and not source.size else None
    if not isinstance(records, FolderRecords):
        return None
    known = _read_sums(sums_file(records))
    rows = [known.get(name, b"").ljust(32, b"\0") for name in records.files.tolist()]
    return Summed(records, np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 32).copy())


def verified(source: Source) -> Source:
    """Returns the source with every file checked against its sum when it is read.

    Raises ValueError for data sets that cannot have sums, FileNotFoundError if theirs are not written yet, DataError
    for a file that is not listed.
    """
    if not (records := summed(source)):
        raise ValueError(
            f"--verify_data is for folders of photographs without boxes, which {source.name} is not; TFDS's files have "
            f"their own checksums, which are always checked"
        )
    file, missing = sums_file(records.records), np.flatnonzero(~records.sums.any(1))
    data_dir, split = Path(str(source.folder).removesuffix(source.name)), file.suffixes[0].lstrip(".")
    command = f"python -m deepconv.data.prepare statistics {source.name} --data_dir={data_dir} --split={split}"
    if not file.exists():
        raise FileNotFoundError(f"{file} is missing, which --verify_data needs; to write it: {command}")
    if len(missing):
        name = printable(os.fsdecode(records.records.files[missing[0]]))
        raise DataError(f"{len(missing)} files are not in {file}, such as {name}; to add them: {command}")
    return replace(source, open=lambda: records)


def sums_file(records: FolderRecords) -> Path:
    """Returns the file of a split's sums, which has the format of sha256sum."""
    return Path(records.folder, f"SHA256SUMS.{os.fsdecode(records.files[0]).split('/')[0]}.txt")


def write_sums(summed: Summed) -> None:
    """Adds the known sums to the file of sums atomically."""
    file = sums_file(summed.records)
    known = _read_sums(file)
    known |= {n: s.tobytes() for n, s in zip(summed.records.files.tolist(), summed.sums, strict=True) if s.any()}
    with replacing(file) as temporary, temporary.open("wb") as out:
        for name, digest in sorted(known.items()):
            written = name.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
            out.write(b"\\" * (written != name) + digest.hex().encode() + b"  " + written + b"\n")


def _read_sums(file: Path) -> dict[bytes, bytes]:
    """Returns SHA-256 sums by file name; none without a file."""
    known, escapes = {}, {b"\\\\": b"\\", b"\\n": b"\n", b"\\r": b"\r"}
    for number, line in enumerate(file.read_bytes().rstrip(b"\n").split(b"\n") if file.exists() else [], 1):
        if not (parts := re.fullmatch(rb"(\\?)([0-9a-f]{64}) [ *](.+)", line)):
            raise DataError(f"{file} is damaged in line {number}; remove it, and compute the statistics again")
        name = re.sub(rb"\\[\\nr]", lambda found: escapes[found[0]], parts[3]) if parts[1] else parts[3]
        known[name] = bytes.fromhex(parts[2].decode())
    return known
