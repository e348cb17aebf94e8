"""Paths, JSON files, and text that fits in one line."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

Content = TypeVar("Content", dict, list)


class WriteError(OSError):
    """The result of a command cannot be written, as on a full disk."""


def expanded(path: str | Path) -> Path:
    """Expands ~ and ~user in a path. Raises ValueError if that home directory is unknown."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ValueError(f"the home directory in {path} is unknown; write the path without ~") from None


def printable(text: str) -> str:
    """Escapes control characters and undecodable bytes as \\xNN or \\uNNNN, which leaves one line."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" if c < "\u0100" else f"\\u{ord(c):04x}" for c in text)


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file atomically."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary file to write, which replaces the file at `path` once it is on the disk.

    If the block fails, the file at `path` stays as it was. Two processes that write the same file do not mix. A process
    that is killed leaves its temporary file. A link at `path` stays, and the file that it names is replaced.
    """
    path = path.resolve()
    temporary = path.with_name(f"{path.name}.{os.uname().nodename}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: Path, kind: type[Content], *keys: str, remedy: str = "remove it, and start again") -> Content:
    """Reads a JSON file. Raises OSError with the file's name if it is damaged or a key is missing."""
    try:
        content = json.loads(path.read_bytes())
        if not isinstance(content, kind):
            raise ValueError(f"it holds a {type(content).__name__}, not a {kind.__name__}")
        if missing := [key for key in keys if key not in content]:
            raise ValueError(f"it has no {missing[0]!r}")
    except (RecursionError, ValueError) as error:  # not JSON, or not UTF-8
        raise OSError(f"{path} is damaged: {error}; {remedy}") from None
    return content
