"""Imports that leave out what is not needed."""

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def without(library: str) -> Iterator[None]:
    """Lets imports of a library fail in this block, for others that take seconds to import it and can do without.

    A library that is imported already stays.
    """
    if library in sys.modules:
        yield
        return
    sys.modules[library] = None  # pyrefly: ignore[unsupported-operation]
    try:
        yield
    finally:
        del sys.modules[library]
