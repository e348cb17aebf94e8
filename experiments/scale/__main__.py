"""Estimates the hours and the cost of every table on 1, 8, 64 and 512 GPUs; docs/scale.md explains the model.

python -m experiments.scale
python -m experiments.scale --price=3.5 --speed=resnet50=3100 --network_gb_per_s=12.5
python -m experiments.scale --write

Prints the tables of docs/scale.md. --write puts them into the page, with the assumptions of model.py and work.py.
"""

import argparse
import dataclasses
import re
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence

from deepconv import cli, repository
from experiments.marks import filled
from experiments.scale import page
from experiments.scale.model import Assumptions
from experiments.scale.work import SPEEDS


def main(arguments: Sequence[str]) -> int:
    """Prints the tables or writes them to the page, and returns the exit code."""
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "python -m experiments.scale", description=__doc__, epilog=cli.EXIT_CODES, formatter_class=plain
    )
    parser.add_argument("--write", action="store_true", help="write the tables to docs/scale.md")
    parser.add_argument(
        "--speed",
        action="append",
        default=[],
        metavar="NET=IMAGES/S",
        help=f"speed of one GPU, for {', '.join(SPEEDS)}",
    )
    for field in dataclasses.fields(Assumptions):
        text = f"{field.metadata['text']} [{field.default:,}]"
        parser.add_argument(f"--{field.name}", type=float, metavar="NUMBER", help=text)
    flags = vars(parser.parse_args(arguments))
    write, speeds = flags.pop("write"), flags.pop("speed")
    changes = {name: value for name, value in flags.items() if value is not None}
    try:
        if write and (changes or speeds):
            raise ValueError("--write takes no other flags: the page has the assumptions of experiments/scale")
        if write and not repository.is_checkout():
            raise ValueError("--write writes a page of the repository; clone it, and give this command there")
        given, known = assumptions(changes), SPEEDS | parse_speeds(speeds)
    except ValueError as error:
        print(f"experiments: {error}", file=sys.stderr)
        return 2
    found = page.tables(given, known)
    if write:
        page.PAGE.write_text(filled(page.PAGE, found))
        print(f"written: {page.PAGE}")
    else:
        print("\n\n".join(found.values()))
    return 0


def assumptions(changes: Mapping[str, float]) -> Assumptions:
    """Returns the assumptions with changes. Raises ValueError."""
    for name, value in changes.items():
        least, most = (0, 1) if name == "overlap" else (1e-9, 1e9)
        if not least <= value <= most:
            raise ValueError(f"--{name}={value:g}; choose a number from {least:g} to {most:g}")
    return dataclasses.replace(Assumptions(), **changes)


def parse_speeds(texts: Iterable[str]) -> dict[str, float]:
    """Parses resnet50=3100 to {"resnet50": 3100.0}. Raises ValueError."""
    found = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in SPEEDS or not re.fullmatch(r"\d{1,9}(\.\d+)?", value) or not float(value):
            raise ValueError(f"--speed={text}; write NET=IMAGES/S, with {', '.join(SPEEDS)} for NET")
        found[name] = float(value)
    return found


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `... | head` ends the command silently
    sys.exit(main(sys.argv[1:]))
