"""Runs the missing runs of tables on this machine, one after the other.

    python -m launch.local resnet/table6 --data_dir=DIR

A run starts when the run whose weights it starts from is done. Repeat the command to resume. Besides entries, it takes
only --data_dir and --workers, and passes them to every run.
"""

if __name__ == "__main__":
    from deepconv.run import preemption

    preemption.install()  # before the imports

import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping

from absl import flags

from deepconv import cli
from deepconv.run import preemption
from experiments import entries, entry, jobs, records
from experiments.entry import Run

PASSED_ON = ("data_dir", "workers")


def main(arguments: list[str]) -> int:
    """Runs the commands for the missing rows of entries."""
    given = flags.FLAGS
    passed = [f"--{name}={given[name].value}" for name in PASSED_ON if given[name].present]
    try:
        if len(arguments) == 1:
            raise ValueError("no entry is given, such as resnet/table6; python -m experiments lists them")
        if single := [name for name in ("config", "smoke") if given[name].present]:
            raise ValueError(f"--{single[0]} belongs to one run; remove it: an entry fixes its runs")
        chosen = entries.load(arguments[1:])
        done = {name: records.read(entries.RESULTS / f"{name}.json") for name in chosen}
        todo = jobs.missing(chosen, done, "runs", passed)
        check_data(run for run, _ in entry.jobs(jobs.missing_runs(chosen, done)).values())
    except (ValueError, OSError) as error:
        return cli.refuse(str(error), code=2)
    failed = run_all(todo)
    for name, code in failed.items():
        print(f"launch: not done: {name} (exit code {code})", file=sys.stderr)
    print(f"{len(todo) - len(failed)} of {len(todo)} runs are done; python -m experiments collect reads them")
    codes = {*failed.values()}
    return preemption.EXIT_CODE if preemption.EXIT_CODE in codes else 2 if codes == {2} else int(bool(codes))


def check_data(runs: Iterable[Run]) -> None:
    """Raises ValueError with a line for each missing data set of the runs."""
    from deepconv.data import sources

    problems = {}
    for run in runs:
        data = run.load().data
        for split in (data.train_split, data.eval_split):
            try:
                sources.find(data.name, split, cli.DATA_DIR.value, data.image_size, data.get("train_scale"))
            except (ValueError, OSError) as error:
                problems.setdefault(data.name, str(error))
    if problems:
        raise ValueError("\n".join(problems.values()))


def run_all(todo: Mapping[str, jobs.Job]) -> dict[str, int]:
    """Runs all jobs and returns the nonzero exit codes. A signal stops the current run, and no other starts."""
    processes: list[subprocess.Popen] = []
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)

    def start(name: str, command: jobs.Command) -> Callable[[], int | None]:
        if stopped:
            return lambda: preemption.EXIT_CODE
        print(f"== {name}: python -m {' '.join(command)}", flush=True)
        processes.append(subprocess.Popen([sys.executable, "-m", *command]))
        return lambda process=processes[-1]: exit_code(process.poll())

    def exit_code(code: int | None) -> int | None:
        killed = code is not None and code < 0  # the signal came before the run installed its handlers
        return preemption.EXIT_CODE if stopped and killed else code

    preemption.unsaved(True)  # from here on, `stop` handles signals
    for number in preemption.SIGNALS:
        signal.signal(number, stop)
    return jobs.run_all(todo, 1, start)


if __name__ == "__main__":
    cli.run(main)
