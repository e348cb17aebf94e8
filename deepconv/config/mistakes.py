"""Collection of mistakes, which are reported together."""

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def collecting(mistakes: list[str]) -> Iterator[None]:
    """Catches a ValueError or OSError in this block and adds its message to the mistakes."""
    try:
        yield
    except (ValueError, OSError) as error:
        mistakes.append(str(error))


def raise_all(mistakes: list[str]) -> None:
    """Raises ValueError with a line for each mistake, if there are any."""
    if mistakes:
        raise ValueError("\n".join(dict.fromkeys(mistakes)))
