"""Training and testing in a run's directory; the work of the commands main and evaluate."""

import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from deepconv import cli, processes
from deepconv.config import recipes
from deepconv.run import preemption
from deepconv.run.directory import code_of, failure_noted, job_patience, lock
from deepconv.run.evaluations import read_eval
from deepconv.run.files import write_json
from deepconv.run.starts import versions
from deepconv.settings import Settings

DECIDING = ("dry_run", "init_from", "init_layers", "proposals_from", "run", "train", "weights", "workdir")


def define_flags(module: str) -> None:
    """Defines the flags of a command that can run in several processes; `module` is the command's __name__."""
    place = {"module_name": sys.argv[0] if module == "__main__" else module}  # as absl names modules
    flags.DEFINE_string(
        "coordinator",
        "",
        "Host and port of process 0, for a run of several processes; not needed with Slurm's srun.",
        **place,
    )
    flags.DEFINE_integer("processes", 0, "Number of processes of this run.", lower_bound=0, **place)
    flags.DEFINE_integer("process", None, "Number of this process, from 0.", lower_bound=0, **place)


def run(
    check: Callable[[], Settings],
    announce: Callable[[Settings], Sequence[str]],
    advise: Callable[[Settings], Sequence[str]] = lambda settings: (),
    dry: bool = False,
) -> int:
    """Trains a run to its end and tests it; returns the exit code.

    check returns the settings of the run, or raises ValueError and OSError with a line for each mistake. announce
    returns lines to print before the work, advise those that follow the results. With `dry`, steps are timed, and
    nothing is written.
    """
    given = flags.FLAGS
    try:
        if address := processes.address(given.coordinator, given.processes, given.process):
            processes.join(address, cli.HEARTBEAT_SECONDS.value)
            # first: the number of agreements during the check depends on these flags
            processes.check_same({name: given[name].value for name in DECIDING if name in given})
        settings = check()
        from deepconv import distributed, dry_run, report  # imported here, as JAX is in check

        task, workdir = settings.task, settings.workdir
        devices = distributed.describe_devices()
        division = {"tests": [*settings.tests]} | distributed.settings(task.mesh, task.accumulate)
        division |= {"versions": versions()}
        processes.check_same(settings.record | division)  # all processes are ready: from here on, process 0 may write
    except (ValueError, OSError) as error:
        return cli.refuse(str(error), code=2)

    code = 2
    try:
        with lock(workdir, patience=job_patience()) if processes.primary() and not dry else contextlib.nullcontext():
            processes.agree(lambda: _claim(workdir, settings.record, task.train_source.classes, write=not dry))
            if processes.primary():
                for warning in report.warnings(task, settings.weights, workdir):
                    print(f"deepconv: {warning}", file=sys.stderr)
                print(*devices, *announce(settings), sep="\n", flush=True)
            code = 1  # from here on, failures are failures during work
            if dry:
                dry_run.compute_steps(task, settings.weights)
                return 0
            with failure_noted(workdir):
                results = _work(settings)
            if processes.primary():
                report.summary(task, workdir, [read_eval(file, *report.SUMMARY) for file in results])
                for line in advise(settings):
                    print(line)
    except preemption.Preempted as signal:
        preemption.stop(str(signal), collective=True)
    except (OSError, FloatingPointError) as error:
        return cli.refuse(str(error), code_of(error, code))
    return 0


def _work(settings: Settings) -> list[Path]:
    """Trains the net, unless it is trained, and tests it; returns the files of the tests, which process 0 writes."""
    from deepconv import curves, resume, train
    from deepconv import state as state_lib
    from deepconv import task as task_lib
    from deepconv.evaluation import batch_stats, probabilities
    from deepconv.evaluation import run as evaluate

    task, workdir = settings.task, settings.workdir
    files = {name: workdir / f"eval.{name}.json" for name in settings.tests}

    def untested() -> list[str]:
        return processes.agree(lambda: [name for name, file in files.items() if not file.exists()])

    if unfinished := untested():
        if task.total_steps:
            state, computed = train.train(task, workdir, settings.weights, "center" in files, settings.trackers)
        else:
            state, computed = resume.leave_untrained(task, workdir, settings.weights)
        state = state_lib.averaged(state)
        net, data, missing = task_lib.net_for(task, computed), task.eval_source.open(), untested()
        size = dict(examples=task.eval_source.examples, classes=len(task.train_source.classes))
        tests = {part.name: part for name in missing for part in task.protocols[name]}
        precise_state = state
        if any(part.precise for part in tests.values()):
            file = workdir / "precise_batch_stats.npz"
            images = train.images_of_an_epoch(task, computed, state.step, workdir)
            count = max(1, task.train_source.examples // task.config.batch_size)
            precise_state = batch_stats.precise(net, state, images, count, file)
        states = [precise_state if part.precise else state for part in tests.values()]
        evaluate.run(net, [*zip(tests.values(), states, strict=True)], data, workdir, **size)
        if processes.primary():
            for name in missing:
                if name not in tests:
                    probabilities.average(workdir, name, [part.name for part in task.protocols[name]])
    if task.total_steps and processes.primary() and (unfinished or not (workdir / "curves.png").exists()):
        curves.draw(workdir)
    return [*files.values()]


def _claim(workdir: Path, new: dict[str, Any], classes: Sequence[str], write: bool) -> None:
    """Writes config.json once, and the classes. Raises FileExistsError if it is the directory of another run.

    Without `write`, it only checks this.
    """
    path = workdir / "config.json"
    old = recipes.read_run(workdir) if path.exists() else new
    # a digest is missing if an earlier version wrote the file, or if the weights are gone and no longer needed
    unknown = {digest for digest in recipes.DIGESTS.values() if (digest in old) != (digest in new)}
    if "init_sha256" in old and "init_sha256" not in new and "init_bgr" in old:  # as the weights that are gone said
        new = new | {"init_bgr": old["init_bgr"]}
    before, now = (
        recipes.identity({field: value for field, value in config.items() if field not in unknown})
        for config in (old, new)
    )
    if not path.exists() and write:
        write_json(path, new)
    elif changes := recipes.differences(before, now):
        raise FileExistsError(
            f"{workdir} holds a run of another config or other data; give another --workdir. {'; '.join(changes)}"
        )
    if write:
        write_json(workdir / "classes.json", classes)
