"""Runs the missing runs of tables, or the runs of a grid, on this machine.

    python -m launch.local resnet/table6 --data_dir=DIR
    python -m launch.local resnet/table6 --data_dir=DIR --devices=0,1,2,3
    python -m launch.local grid.py --config=resnet_cifar --data_dir=DIR

A grid is a Python file with a function sweep() that yields dicts of changes, as in {"optimizer.learning_rate": 0.1}.
A run, or a command that reads runs, starts when the runs that it needs are finished: those that give its weights or its
proposals, or that it reads. Repeat the command to resume. All runs get --data_dir, --workers, --model_parallel,
--accumulate and --heartbeat_seconds.
"""

if __name__ == "__main__":
    from deepconv.run import preemption

    preemption.install()  # before the imports

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from absl import flags
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Column, Table

from deepconv import cli
from deepconv.run import directory, preemption
from experiments import jobs
from launch import selection, state
from launch.script import GPU_PLATFORM
from launch.selection import RUNS

_DEVICES = flags.DEFINE_list(
    "devices",
    [],
    "NVIDIA GPUs, as in 0,1,2,3: one run on each at a time, and none on the CPU, by JAX_PLATFORMS=cuda. With more than "
    "one, output goes to runs/local/.",
)
_PARALLEL = flags.DEFINE_integer("parallel", None, "Number of runs at a time, without assigning GPUs [1].", 1)
SHOWN_LINES = 10  # of the log of a failed run


def main(arguments: list[str]) -> int:
    """Runs the commands of the missing runs."""
    try:
        devices = _DEVICES.value
        if devices and _PARALLEL.value:
            raise ValueError("give either --devices or --parallel: --devices=0,1 trains two runs at a time")
        if wrong := [device for device in devices if not device.isdigit() or devices.count(device) > 1]:
            raise ValueError(f"--devices={','.join(devices)}: {wrong[0]!r}; give different numbers, as in 0,1,2,3")
        selected = selection.select(arguments)
        selection.check_data(selected)
    except (ValueError, OSError) as error:
        return cli.refuse(str(error), code=2)
    todo = selected.jobs
    devices = devices or [""] * (_PARALLEL.value or 1)
    failed = run_all(todo, devices)
    for name, code in failed.items():
        if needed := [need for need in todo[name].needs if need in failed]:
            print(f"launch: not begun: {name}, which needs {needed[0]}", file=sys.stderr)
            continue
        print(f"launch: not finished: {name} (exit code {code})", file=sys.stderr)
        if len(devices) > 1 and (log := _log(name)).exists() and code != preemption.EXIT_CODE:
            print("".join(f"    {line}\n" for line in state.tail(log)[-SHOWN_LINES:] if line), end="", file=sys.stderr)
    reader = "deepconv runs lists them" if arguments[1].endswith(".py") else "deepconv experiments collect reads them"
    print(f"{len(todo) - len(failed)} of {len(todo)} runs are finished; {reader}")
    codes = {*failed.values()}
    return preemption.EXIT_CODE if preemption.EXIT_CODE in codes else 2 if codes == {2} else int(bool(codes))


@dataclass
class Running:
    """A command at work on a device."""

    process: subprocess.Popen
    device: str
    retried: bool


@dataclass
class Machine:
    """Starts runs on free devices; with several devices, logs go to files, and failed runs are tried once more."""

    devices: Sequence[str]  # numbers of GPUs, or "" for any
    running: dict[str, Running] = field(default_factory=dict)
    stopped: bool = False

    def stop(self, *_: object) -> None:
        """Handles a signal: runs save and end, and no further run starts."""
        self.stopped = True
        for run in self.running.values():
            if run.process.poll() is None:
                run.process.send_signal(signal.SIGTERM)

    def start(self, name: str, command: jobs.Arguments, retried: bool = False) -> Callable[[], int | None]:
        """Starts a command on a free device; returns a function that polls its exit code."""
        if self.stopped:
            return lambda: preemption.EXIT_CODE
        used = [run.device for run in self.running.values()]
        device = next(device for device in self.devices if used.count(device) < [*self.devices].count(device))
        environment = os.environ | {directory.LAUNCHED: "1"}
        if device:
            environment |= {"CUDA_VISIBLE_DEVICES": device}
            environment.setdefault("JAX_PLATFORMS", GPU_PLATFORM)
        with _log(name).open("a") if len(self.devices) > 1 else contextlib.nullcontext() as log:
            place = f" on device {device}" if device else ""
            print(f"== {name}{place}: python -m {' '.join(command)}", flush=True, file=log)
            errors = subprocess.STDOUT if log else None
            process = subprocess.Popen([sys.executable, "-m", *command], env=environment, stdout=log, stderr=errors)
        self.running[name] = Running(process, device, retried)
        if self.stopped:  # a signal has come since
            self.stop()
        return lambda: self._poll(name, command)

    def _poll(self, name: str, command: jobs.Arguments) -> int | None:
        if name not in self.running:
            return preemption.EXIT_CODE
        run = self.running[name]
        if (code := run.process.poll()) is None:
            return None
        del self.running[name]
        if self.stopped and code < 0:  # the signal came before the run installed its handlers
            code = preemption.EXIT_CODE
        if len(self.devices) > 1:
            with _log(name).open("a") as log:
                print(f"{state.ENDED} {code}", file=log)
            if code not in (0, 2, preemption.EXIT_CODE) and not (run.retried or self.stopped):
                self.start(name, command, retried=True)
                return None
        return code


def run_all(todo: Mapping[str, jobs.Job], devices: Sequence[str] = ("",)) -> dict[str, int]:
    """Runs all jobs, one on each device at a time, and returns the nonzero exit codes.

    After a signal, the current runs stop, and no further run starts.
    """
    machine = Machine(devices)
    preemption.unsaved(True)  # from here on, `stop` handles signals
    for number in preemption.SIGNALS:
        signal.signal(number, machine.stop)
    if len(devices) == 1:
        return jobs.run_all(todo, 1, machine.start)
    Path(RUNS, state.LOCAL).mkdir(parents=True, exist_ok=True)
    console, ended = Console(), []

    def start(name: str, command: jobs.Arguments) -> Callable[[], int | None]:
        if not console.is_terminal:
            print(f"begun: {name}; log: {_log(name)}", flush=True)
        return machine.start(name, command)

    def report(name: str, code: int, seconds: float) -> None:
        ended.append(name)
        result = f"failed with exit code {code}" if code else "finished"
        result = "stopped" if code == preemption.EXIT_CODE else result
        console.print(f"{len(ended)}/{len(todo)} {name}: {result} after {seconds:.0f} s", markup=False, soft_wrap=True)

    def table() -> Table:
        heads = ("device", Column("run", overflow="fold"), "state", "step", "test error", "time left")
        grid = Table(*heads, box=SIMPLE_HEAD, pad_edge=False, caption=f"{len(ended)} of {len(todo)} runs have ended")
        for name, run in [*machine.running.items()]:
            shown = state.row(state.of_job(Path(RUNS, name), ["eval.center.json"]))
            grid.add_row(run.device, *map(escape, shown[:5]))
        return grid

    live = Live(get_renderable=table, console=console, refresh_per_second=1)
    with live if console.is_terminal else contextlib.nullcontext():
        return jobs.run_all(todo, len(devices), start, report)


def _log(name: str) -> Path:
    return Path(RUNS, state.LOCAL, f"{name}.log")


if __name__ == "__main__":
    cli.run(main)
