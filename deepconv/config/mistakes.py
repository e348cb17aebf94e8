"""Collects mistakes, so that a user is told all of them at once."""

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def collecting(mistakes: list[str]) -> Iterator[None]:
    """Adds the message of a ValueError or OSError within this block to the mistakes, so that the next can be found."""
    try:
        yield
    except (ValueError, OSError) as error:
        mistakes.append(str(error))


def raise_all(mistakes: list[str]) -> None:
    """Raises ValueError with a line for each mistake, if there are any."""
    if mistakes:
        raise ValueError("\n".join(dict.fromkeys(mistakes)))
