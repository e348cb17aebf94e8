"""The state of every table and figure of the papers, and the commands for missing results.

python -m experiments [status]
python -m experiments show resnet/table6
python -m experiments collect [entry ...]
python -m experiments render
python -m experiments smoke [entry ...]
python -m experiments site [--open] [--to=DIR]
"""

if __name__ == "__main__":
    from deepconv.run import preemption

    preemption.install()  # before the imports

import argparse
import signal
import sys
import tempfile
import webbrowser
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from deepconv import cli, repository
from deepconv.config.mistakes import suggestion
from deepconv.run.files import printable
from experiments import commands, entries, speed
from experiments.entry import Table

COMMANDS = ("status", "show", "collect", "render", "smoke", "site")
WHOLE = {"render": "writes the page of all entries", "site": "shows all entries"}  # commands that take no entry


def main(arguments: list[str]) -> int:
    """Runs the command and returns the exit code."""
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "python -m experiments", description=__doc__, epilog=cli.EXIT_CODES, formatter_class=plain
    )
    parser.add_argument("--version", action="version", version=f"deepconv {metadata.version('deepconv')}")
    parser.add_argument("command", nargs="?", default="status", help=f"{', '.join(COMMANDS)} [status]")
    parser.add_argument("entry", nargs="*", help="alexnet/table1, ..., or a paper: alexnet, vgg, resnet [all]")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="the folder of the runs' directories [runs]")
    parser.add_argument("--to", type=Path, default=Path("site"), help="the folder of the site [site]")
    parser.add_argument("--open", action="store_true", help="open the site in a browser")
    flags = parser.parse_intermixed_args(arguments)
    cli.escape_unknown_letters()
    try:
        if flags.command not in COMMANDS:
            raise ValueError(f"{flags.command!r} is not a command; {suggestion(flags.command, COMMANDS)}")
        return _run(flags, entries.load(flags.entry))
    except (ValueError, OSError) as error:
        print(f"experiments: {printable(str(error))}", file=sys.stderr)
        return 2


def _run(flags: argparse.Namespace, chosen: Mapping[str, Table]) -> int:
    if flags.entry and flags.command in WHOLE:
        raise ValueError(f"{flags.command} {WHOLE[flags.command]}; give it no entry")
    if flags.command in WHOLE and not repository.is_checkout():
        raise ValueError(f"{flags.command} needs the repository; clone it, and give this command there")
    if flags.command == "status":
        commands.status(chosen, entries.RESULTS)
    elif flags.command == "show":
        for name, table in chosen.items():
            commands.show(name, table, entries.results(name))
    elif flags.command == "collect":
        if not flags.runs.is_dir():
            raise ValueError(f"no folder {flags.runs}; name the folder of runs by --runs=DIR")
        commands.collect(chosen, flags.runs, entries.RESULTS)
    elif flags.command == "render":
        commands.render(entries.load(), entries.RESULTS, entries.HERE / "README.md")
        speed.render()
    elif flags.command == "site":
        from experiments.site import build  # with mkdocs

        first = build.build(flags.to, chosen, commands.read(chosen, entries.RESULTS)).resolve()
        print(f"written: {first}")
        if flags.open:
            webbrowser.open(first.as_uri())
    else:
        from experiments import smoke  # slow to import

        with tempfile.TemporaryDirectory(prefix="deepconv-smoke-") as folder:
            return smoke.run(chosen, Path(folder))
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `... | head` ends the command silently
    sys.exit(main(sys.argv[1:]))
