"""Mistakes of users: they are reported together, in words that say what to do."""

import contextlib
import difflib
import re
from collections.abc import Iterable, Iterator

# absl's messages about a flag's value, and ours
WORDING = (
    (r"invalid literal for int\(\) .*", "it must be a whole number"),
    (r"could not convert string to float: .*", "it must be a number"),
    (r"Failed to parse .* as a ConfigDict.*", "this is a part of the config; set its fields, as in --{flag}.name=..."),
)


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


def suggestion(name: str, known: Iterable[str]) -> str:
    """Returns the nearest of the known names as a question or, without one, all of them."""
    known = [*known]
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"choose one of {', '.join(known)}"


def reworded(message: str) -> str:
    """Returns absl's message about the value of a flag in our words; other messages as they are."""
    if not (found := re.fullmatch(r"flag --([^=]+)=(.*?): (.*)", message)):
        return message
    flag, value, problem = found.groups()
    if choices := re.fullmatch(r"value should be one of <(.*)>", problem):
        return f"--{flag}={value} is unknown; {suggestion(value, choices[1].split('|'))}"
    for pattern, words in WORDING:
        if re.fullmatch(pattern, problem):
            return f"--{flag}={value}: {words.format(flag=flag)}"
    return f"--{flag}={value}: {problem}"
