"""Imports without libraries that are slow to import and not needed."""

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def without(library: str) -> Iterator[None]:
    """Makes imports of a library fail in this block, for packages in which it is optional.

    A library that is imported already stays. No other thread may import it meanwhile.
    """
    if library in sys.modules:
        yield
        return
    sys.modules[library] = None  # pyrefly: ignore[unsupported-operation]
    try:
        yield
    finally:
        sys.modules.pop(library, None)
