"""The repository's folders configs/, experiments/ and launch/. A wheel holds copies of them beside this file."""

from pathlib import Path

_HERE = Path(__file__).parent


def root() -> Path:
    """Returns the folder that holds configs/, experiments/ and launch/: the checkout, or this package in a wheel."""
    return _HERE.parents[1] if is_checkout() else _HERE


def is_checkout() -> bool:
    """Returns whether deepconv is used from a checkout of its repository, and not from an installed wheel."""
    return not (_HERE / "configs").is_dir()
