"""The comparison, in which one process per library takes turns."""

import functools
import importlib.util
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from typing import IO, Any

from rich.console import Console
from rich.table import Column, Table

from deepconv.benchmark.peers import DTYPES, INFERENCE_BATCH, MODES, NETS, Job
from deepconv.benchmark.record import Figures
from deepconv.benchmark.timing import short
from deepconv.config import recipes
from deepconv.ops import forms

PEERS = {"deepconv": "", "flax": "", "torch": "torch", "compile": "torch", "keras": "keras"}  # name: module it needs
TITLES = {
    "deepconv": "deepconv",
    "flax": "plain Flax",
    "torch": "PyTorch",
    "compile": "torch.compile",
    "keras": "Keras on JAX",
}
ROUND_SECONDS = {"cpu": 1.0, "gpu": 0.3}  # the time of deepconv's steps in a round


@dataclass(frozen=True)
class Choice:
    """The nets, modes, types and libraries to compare, and how often each takes its turn."""

    nets: Sequence[str]
    modes: Sequence[str]
    dtypes: Sequence[str]
    peers: Sequence[str]
    rounds: int
    batch: int | None = None  # images of a step, if not those of peers.NETS or of the recipe
    starts: int = 1  # processes that compile at the same time


def check(choice: Choice) -> None:
    """Raises ValueError for an unknown name, a recipe that is not in ./configs, or a comparison without deepconv."""
    known = {"nets": NETS, "modes": MODES, "dtypes": DTYPES, "peers": PEERS}
    for flag, names in known.items():
        given = getattr(choice, flag)
        if unknown := [name for name in given if name not in names]:
            raise ValueError(f"--{flag}={unknown[0]} is unknown; choose from {', '.join(names)}")
        if not given:
            raise ValueError(f"--{flag} is empty; choose from {', '.join(names)}")
    if "deepconv" not in choice.peers:
        raise ValueError(f"--peers={','.join(choice.peers)} lacks deepconv, with which the others are compared")
    for net in choice.nets:
        recipes.find(net)


def show_peers(choice: Choice, platform: str = "cpu") -> Figures:
    """Measures and prints the speed of each net in each library."""
    peers = [peer for peer in choice.peers if _is_installed(peer)]
    return _show(choice, lambda job: [replace(job, peer=peer) for peer in peers], platform)


def show_forms(choice: Choice, platform: str = "cpu") -> Figures:
    """Measures and prints the speed of each net with the platform's forms, and with each other form of an operation."""
    others = [
        f"{operation}:{form}"
        for operation, names in forms.FORMS.items()
        for form in dict.fromkeys(["plain", *names.values()])
        if form != names[platform]
    ]
    return _show(choice, lambda job: [job, *(replace(job, forms=[form]) for form in others)], platform)


def _show(choice: Choice, jobs_of: Callable[[Job], Sequence[Job]], platform: str) -> Figures:
    """Compares the jobs made of each net, mode and type."""
    lines: list[dict[str, Any]] = []
    failures: list[str] = []
    for net, mode, dtype in itertools.product(choice.nets, choice.modes, choice.dtypes):
        job = Job("deepconv", net, mode, dtype, choice.batch or _batch(net, mode, platform), platform)
        found, failed = _compare(jobs_of(job), choice.rounds, choice.starts)
        _print(job, found, choice.rounds)
        lines += found
        failures += failed
    return {"rounds": choice.rounds, "speeds": lines, "not_compared": failures}


def _batch(net: str, mode: str, platform: str) -> int:
    """Returns the images of a step: not those of the recipe on a CPU, which would take minutes for them."""
    if platform == "cpu":
        return NETS[net] if mode == "train" else INFERENCE_BATCH
    return recipes.load(recipes.find(net)).batch_size


def _is_installed(peer: str) -> bool:
    module = PEERS[peer]
    if module and importlib.util.find_spec(module) is None:
        print(f"{module} is not installed (pip install -e '.[parity]'), so {TITLES[peer]} is not compared")
        return False
    return True


def title(job: Job) -> str:
    """Returns the name of a job in a comparison: its library, or deepconv's forms that differ."""
    return ",".join(job.forms) or TITLES[job.peer]


class Worker:
    """A process that runs steps on request."""

    def __init__(self, job: Job, log: IO[bytes]) -> None:
        self.job, self._log = job, log
        command = [sys.executable, "-m", "deepconv.benchmark.peers.worker", json.dumps(asdict(job))]
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, bufsize=1)
        # without filtering, JAX's last line of messages is the error itself
        environment = os.environ | {"JAX_TRACEBACK_FILTERING": "off"}
        if job.platform == "cpu":
            environment["JAX_PLATFORMS"] = "cpu"
        else:  # one GPU, since the other libraries use one
            environment["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
        self.process: subprocess.Popen[str] = subprocess.Popen(command, env=environment, **pipes)  # pyrefly: ignore

    def answer(self) -> dict[str, Any]:
        """Reads an answer. Raises OSError with the last line of the process's messages if it has ended."""
        assert self.process.stdout
        if line := self.process.stdout.readline():
            return json.loads(line)
        self._log.seek(0)
        messages = self._log.read().decode(errors="replace").strip().splitlines() or ["no message"]
        raise OSError(f"{title(self.job)} ended with code {self.process.wait()}: {messages[-1]}")

    def run(self, steps: int) -> dict[str, Any]:
        """Runs steps; returns the mean cost of one."""
        assert self.process.stdin
        with suppress(BrokenPipeError):  # the process has ended, and `answer` says why
            self.process.stdin.write(f"{steps}\n")
        return self.answer()


@contextmanager
def started(job: Job) -> Iterator[Worker]:
    """Starts a worker, and ends it at the end."""
    with tempfile.TemporaryFile() as log:
        worker = Worker(job, log)
        with worker.process as process:
            try:
                yield worker
            finally:
                process.kill()


def _compare(jobs: Sequence[Job], rounds: int, starts: int) -> tuple[list[dict[str, Any]], list[str]]:
    """Runs the jobs in turns; returns a line for each job that finishes, and a message for each that fails.

    The first job of deepconv is the one that the others are compared with. Raises OSError if it fails, or if the nets
    differ.
    """
    failures: list[str] = []
    baseline = next(job for job in jobs if job.peer == "deepconv")
    with ExitStack() as stack:

        def answer(worker: Worker, ask: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
            try:
                return ask()
            except OSError as error:
                if worker.job == baseline:
                    raise
                job = worker.job
                failures.append(f"{job.net}, {job.mode}, {job.dtype}: {title(job)}: not compared: {error}")
                print(failures[-1])
                return None

        ready: dict[Worker, dict[str, Any]] = {}
        for first in range(0, len(jobs), starts):
            workers = [stack.enter_context(started(job)) for job in jobs[first : first + starts]]
            ready |= {worker: found for worker in workers if (found := answer(worker, worker.answer))}
        if len({first["parameters"] for first in ready.values()}) > 1:
            counts = ", ".join(f"{first['parameters']} in {title(w.job)}" for w, first in ready.items())
            raise OSError(f"the nets called {jobs[0].net} differ: their parameters are {counts}")
        own = next(worker for worker in ready if worker.job == baseline)
        # the first run of each worker does not count: it may compile
        warm = {worker: cost for worker in ready if (cost := answer(worker, functools.partial(worker.run, 1)))}
        steps = max(1, round(ROUND_SECONDS[baseline.platform] / warm[own]["seconds"]))
        costs: dict[Worker, list[dict[str, Any]]] = {worker: [] for worker in warm}
        for _, worker in itertools.product(range(rounds), warm):
            if worker in costs:
                if cost := answer(worker, functools.partial(worker.run, steps)):
                    costs[worker].append(cost)
                else:
                    del costs[worker]
    seconds = statistics.median(cost["seconds"] for cost in costs[own])
    return [
        _line(worker.job, found, steps, seconds, ready[worker]["versions"]) for worker, found in costs.items()
    ], failures


def _line(
    job: Job, costs: Sequence[dict[str, Any]], steps: int, baseline: float, versions: dict[str, str]
) -> dict[str, Any]:
    """Returns the figures of a job: medians over rounds, and the speed relative to deepconv's."""
    medians = {name: statistics.median(cost[name] for cost in costs) for name in costs[0]}
    seconds = medians.pop("seconds")
    return {
        **asdict(job),
        "pixels": job.pixels,
        "steps_of_a_round": steps,
        "images_per_second": job.batch / seconds,
        "slowest_images_per_second": job.batch / max(cost["seconds"] for cost in costs),
        "fastest_images_per_second": job.batch / min(cost["seconds"] for cost in costs),
        "speed_of_deepconv_relative_to_it": seconds / baseline,
        **medians,
        "versions": versions,
    }


def _print(job: Job, lines: Sequence[dict[str, Any]], rounds: int) -> None:
    memory = "peak_memory_bytes" if job.platform == "cpu" else "peak_device_bytes"
    heading = f"{job.net}, {job.mode}, {job.dtype}, batch of {job.batch}, {job.pixels} pixels"
    table = Table(Column(no_wrap=True), "images/s", "from", "to", "deepconv / it", "GB")
    for line in lines:
        table.add_row(
            ",".join(line["forms"]) or TITLES[line["peer"]],
            short(line["images_per_second"]),
            short(line["slowest_images_per_second"]),
            short(line["fastest_images_per_second"]),
            f"{line['speed_of_deepconv_relative_to_it']:.2f}",
            f"{line[memory] / 1e9:.1f}",
        )
    print(f"{heading}; medians of {rounds} rounds, and the speed of deepconv relative to each")
    Console().print(table)
