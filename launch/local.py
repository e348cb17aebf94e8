"""The missing runs of tables, on this machine, one after the other.

    python -m launch.local resnet/table6 --data_dir=DIR

A run begins when the one whose weights it starts from is done. The same command again goes on where it was stopped, as
every run does. Flags that all of deepconv's commands have may follow the entries.
"""

import signal
import subprocess
import sys
from collections.abc import Callable

from deepconv import jobs, results
from experiments import entries


def main(arguments: list[str]) -> int:
    """Give the commands of what the entries lack."""
    names = [argument for argument in arguments if not argument.startswith("--")]
    flags = [argument for argument in arguments if argument.startswith("--")]
    if not names:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        if alone := [flag for flag in flags if "=" not in flag]:
            raise ValueError(f"{alone[0]} has no value; flags are written --name=value")
        chosen = entries.load(names)
    except ValueError as error:
        print(f"launch: {error}", file=sys.stderr)
        return 2
    begun: list[subprocess.Popen] = []

    def start(name: str, command: jobs.Command) -> Callable[[], int | None]:
        print(f"== {name}: python -m {' '.join(command)}", flush=True)
        begun.append(subprocess.Popen([sys.executable, "-m", *command]))
        return begun[-1].poll

    # A run that is told to stop saves its state and says so by its exit code. Ctrl-C in a terminal tells it by itself.
    signal.signal(signal.SIGTERM, lambda *_: [process.terminate() for process in begun if process.poll() is None])
    signal.signal(signal.SIGINT, lambda *_: None)
    todo = jobs.missing(
        chosen, {name: results.read(entries.RESULTS / f"{name}.json") for name in chosen}, "runs", flags
    )
    failed = jobs.follow(todo, 1, start)
    for name, code in failed.items():
        print(f"launch: not done: {name} (exit code {code})", file=sys.stderr)
    print(f"{len(todo) - len(failed)} of {len(todo)} runs are done; python -m experiments collect reads them")
    return jobs.STOPPED if jobs.STOPPED in failed.values() else int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
