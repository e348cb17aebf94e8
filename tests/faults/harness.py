"""Starts commands, injects faults, and compares what runs leave, bit for bit."""

import contextlib
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from conftest import CACHE, ROOT

SEED = int(os.environ.get("DEEPCONV_FAULTS_SEED", 2026))
REPORTED = "DEEPCONV_FAULTS_REPORT" in os.environ
HANGS_AFTER_SECONDS = 300  # nothing here takes a tenth of it on an idle machine
QUICK = f"--config={ROOT}/configs/quickstart.py"
RECIPE = ROOT / "configs" / "resnet_cifar.py"
# 40 steps of 8 images, two epochs; logs, epochs and checkpoints fall on different steps
CHANGES = {"model.depth": 8, "data.image_size": 16, "batch_size": 8, "total_steps": 40}
CHANGES |= {"checkpoint_every_steps": 10, "eval_every_steps": 20, "log_every_steps": 3}
CHANGES |= {"optimizer.drop_at_steps": (20, 30)}
RUN = [f"--config={RECIPE}", "--smoke", *(f"--config.{name}={value}" for name, value in CHANGES.items())]
TIMES = ("images_per_second", "seconds")
OF_A_TEST = ("protocol", "examples", "top1_error", "top5_error", "step", "views", "scales")

# What can be injected into a command, before it starts
AT_STEP = """
import os, pathlib, shutil, signal, subprocess, time
from deepconv import train

def jit_step(*arguments, make=train.jit_step):
    step_fn = make(*arguments)

    def step_and_fault(state, batch):
        state, metrics = step_fn(state, batch)
        if int(state.step) == {step}:
            {fault}
        return state, metrics

    return step_and_fault

train.jit_step = jit_step
"""
AT_CALL = """
import os, pathlib, shutil, signal, subprocess, time
from deepconv import curves, resume, task, train
from deepconv.evaluation import batch_stats
from deepconv.evaluation import run as evaluate
from deepconv.run import checkpoint, checkpoint_files
from deepconv.run import log as runlog

def faulty(*arguments, original={module}.{function}, calls=[], **keywords):
    calls.append(0)
    if len(calls) == {call}:
        {fault}
    return original(*arguments, **keywords)

{module}.{function} = faulty
"""


def tries(most: int) -> int:
    """The number of random tries of a fault: all for the report, a fifth elsewhere, for CI's sake."""
    return most if REPORTED else max(1, most // 5)


def at_step(step: int, fault: str) -> str:
    """Source that runs statements after a step of training; they may change `state`."""
    return AT_STEP.format(step=step, fault=textwrap.indent(fault, " " * 12).strip())


def at_call(function: str, fault: str, call: int = 1) -> str:
    """Source that runs statements before the n-th call of a function such as "checkpoint.save"."""
    module, _, function = function.partition(".")
    return AT_CALL.format(module=module, function=function, fault=textwrap.indent(fault, " " * 8).strip(), call=call)


def send(name: str) -> str:
    """A statement that sends a signal to the process itself."""
    return f"os.kill(os.getpid(), signal.{name})"


@dataclass
class Tally:
    """Tries of one kind of fault, and which of them lost something."""

    tries: int = 0
    losses: list[str] = field(default_factory=list)
    rng: random.Random = field(default_factory=lambda: random.Random(SEED))

    @contextlib.contextmanager
    def attempt(self, label: str) -> Iterator[None]:
        """One try; whatever goes wrong within the block is a loss, and the next try follows."""
        self.tries += 1
        try:
            yield
        except Exception as error:
            self.losses.append(f"{label}: {type(error).__name__}: {error}")


@dataclass(frozen=True)
class Answer:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def last_words(self) -> str:
        """The end of what it said."""
        return f"{self.out[-100:]!r}, {self.err[-400:]!r}"

    def ends(self, *codes: int) -> "Answer":
        """Demands an exit code, and that no traceback is seen."""
        assert self.code in codes, f"exit code {self.code}, not {' or '.join(map(str, codes))}: {self.last_words}"
        assert "Traceback" not in self.out + self.err, f"a traceback: {self.last_words}"
        return self

    def says(self, *words: str) -> "Answer":
        """Demands words on standard error, in one line and nothing else, printable."""
        lines = self.err.strip().splitlines()
        assert len(lines) == 1, f"{len(lines)} lines instead of one: {self.last_words}"
        assert lines[0].startswith("deepconv: ") and lines[0].isprintable(), repr(lines[0])
        for word in words:
            assert word in lines[0], f"no {word!r} in {lines[0]!r}"
        return self


@dataclass(frozen=True)
class Process:
    """A command at work, the leader of a session of its own."""

    pid: int
    reap: Callable[[], int]
    out: Path
    err: Path

    def alive(self) -> bool:
        """Whether it has not ended yet."""
        descriptor = os.pidfd_open(self.pid)
        try:
            return not select.select([descriptor], [], [], 0)[0]
        finally:
            os.close(descriptor)

    def wait_for(self, condition: Callable[[], Any], what: str = "what a test waits for") -> None:
        """Until the condition holds; the process must not end before."""
        end = time.monotonic() + HANGS_AFTER_SECONDS
        while not condition():
            assert self.alive(), f"ended before {what}: {self.out.read_text()[-500:]} {self.err.read_text()[-1500:]}"
            if time.monotonic() > end:
                self.kill(signal.SIGKILL)
                raise AssertionError(f"{what} did not come")
            time.sleep(0.01)

    def kill(self, number: int, group: bool = False) -> None:
        """Send a signal, to it alone or to its workers too."""
        (os.killpg if group else os.kill)(self.pid, number)

    def finish(self) -> Answer:
        """Wait for its end. Neither it nor a process that it started may stay."""
        descriptor = os.pidfd_open(self.pid)
        ended = select.select([descriptor], [], [], HANGS_AFTER_SECONDS)[0]
        os.close(descriptor)
        if not ended:
            os.killpg(self.pid, signal.SIGKILL)
        code = self.reap()
        left_over = _in_session(self.pid)
        end = time.monotonic() + 30  # workers may have to see first that their parent was killed
        while left_over and time.monotonic() < end:
            time.sleep(0.05)
            left_over = _in_session(self.pid)
        for pid in left_over:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        answer = Answer(code, *(file.read_text(errors="surrogateescape") for file in (self.out, self.err)))
        assert ended, f"hangs: {answer.out[-500:]} {answer.err[-1500:]}"
        assert not left_over, f"processes {left_over} stay behind"
        return answer


def _in_session(leader: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it has just ended
                state, _, _, session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
                if int(session) == leader and state != "Z":
                    found.append(int(entry.name))
    return found


class Shell:
    """Runs commands, in a mount namespace of its own where the system permits one."""

    def __init__(self, folder: Path, flags: str = "") -> None:
        self.folder, self.started = folder, 0
        self.variables = {"PYTHONPATH": str(ROOT), "XLA_FLAGS": flags, "JAX_COMPILATION_CACHE_DIR": CACHE}
        self.variables["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        own_mounts = ["unshare", "-m" if os.getuid() == 0 else "-rm"]
        self.can_mount = subprocess.run([*own_mounts, "true"], capture_output=True).returncode == 0
        self.server = subprocess.Popen(
            [*(own_mounts if self.can_mount else []), sys.executable, str(Path(__file__).with_name("forks.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | self.variables,
            start_new_session=True,
        )
        self.pid = int(self.server.stdout.readline())

    def close(self) -> None:
        """End the server, and with it whatever it started and mounted."""
        self.server.stdin.close()
        self.server.wait()
        self.server.stdout.close()

    def _ask(self, request: dict[str, Any]) -> int:
        print(json.dumps(request), file=self.server.stdin, flush=True)
        return int(self.server.stdout.readline())

    def _streams(self) -> tuple[Path, Path]:
        self.started += 1
        return self.folder / f"{self.started}.out", self.folder / f"{self.started}.err"

    def start(
        self,
        arguments: Sequence[str],
        cwd: Path,
        module: str = "deepconv.main",
        inject: str = "",
        **variables: str,
    ) -> Process:
        """Start a command in a fork. Variables that libraries read at import have no effect here: see start_fresh."""
        out, err = self._streams()
        writing = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        request = {"module": module, "arguments": [*map(str, arguments)], "cwd": str(cwd), "inject": inject}
        request |= {"streams": [(str(out), writing), (str(err), writing)], "variables": variables}
        pid = self._ask(request)
        return Process(pid, lambda: self._ask({"wait": pid}), out, err)

    def run(self, arguments: Sequence[str], cwd: Path, **options: str) -> Answer:
        """Start a command in a fork, and wait for its end."""
        return self.start(arguments, cwd, **options).finish()

    def start_fresh(
        self,
        arguments: Sequence[str],
        cwd: Path,
        module: str = "deepconv.main",
        python: Sequence[str] = (),
        without: Sequence[str] = (),
        **variables: str,
    ) -> Process:
        """Start a command as a person does, with the interpreter's options and environment variables."""
        out, err = self._streams()
        environment = {**os.environ, **self.variables, **variables}
        for name in without:
            environment.pop(name, None)
        with out.open("w") as to_out, err.open("w") as to_err:
            process = subprocess.Popen(
                [*self.inside(cwd), sys.executable, *python, "-m", module, *map(str, arguments)],
                cwd=cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=to_out,
                stderr=to_err,
                start_new_session=True,
            )
        return Process(process.pid, process.wait, out, err)

    def run_fresh(self, arguments: Sequence[str], cwd: Path, **options: Any) -> Answer:
        """Start a command as a person does, and wait for its end."""
        return self.start_fresh(arguments, cwd, **options).finish()

    def inside(self, cwd: Path) -> list[str]:
        """What has to stand before a command so that it sees the mounts."""
        if not self.can_mount:
            return []
        user = ["-U", "--preserve-credentials"] if os.getuid() else []
        return ["nsenter", "-t", str(self.pid), "-m", *user, f"--wdns={cwd}"]

    def mount(self, directory: Path, options: str) -> Path:
        """Mount a small disk on a directory, or mount it again with other options; gives the path to look from here."""
        if not self.can_mount:
            pytest.skip("a mount namespace is not permitted here (unshare -m)")
        directory.mkdir(exist_ok=True)
        subprocess.run(
            [*self.inside(directory.parent), "mount", "-t", "tmpfs", "-o", options, "none", str(directory)], check=True
        )
        return Path(f"/proc/{self.pid}/root{directory}")


def newest(workdir: Path) -> int:
    """The step of the newest checkpoint."""
    return max((int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdigit()), default=0)


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """The arrays of a checkpoint, read by orbax alone."""
    with ocp.PyTreeCheckpointer() as checkpointer:
        shapes = dict(checkpointer.metadata(folder.absolute() / "default").item_metadata.tree)
        to_host = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
        args = ocp.args.PyTreeRestore(shapes, restore_args=to_host)
        return checkpointer.restore(folder.absolute() / "default", args=args)


def all_finite(folder: Path) -> bool:
    """Whether all numbers of a checkpoint are finite."""
    return all(np.isfinite(array).all() for array in jax.tree.leaves(read_checkpoint(folder)))


def _bits(array: np.ndarray) -> tuple[Any, ...]:
    return str(array.dtype), array.shape, array.tobytes()


def metrics_of(workdir: Path) -> dict[int, dict[str, Any]]:
    """What metrics.jsonl says of each step, later lines first, less how fast it was."""
    by_step: dict[int, dict[str, Any]] = {}
    for line in (workdir / "metrics.jsonl").read_text().splitlines():
        with contextlib.suppress(json.JSONDecodeError):  # a kill cut it off
            record = json.loads(line)
            if isinstance(record, dict) and "step" in record:
                by_step.setdefault(record["step"], {}).update(record)
    return {
        step: {name: value for name, value in sorted(record.items()) if name not in TIMES}
        for step, record in sorted(by_step.items())
    }


def outcome(workdir: Path) -> dict[str, Any]:
    """All that a run is for, comparable bit for bit: state, metrics, test probabilities, errors."""
    found: dict[str, Any] = {"step": newest(workdir)}
    state = read_checkpoint(workdir / "checkpoints" / str(found["step"]))
    for path, array in jax.tree.leaves_with_path(state):
        found[f"state{jax.tree_util.keystr(path)}"] = _bits(np.asarray(array))
    found |= {f"metrics of step {at}": repr(record) for at, record in metrics_of(workdir).items()}
    found |= {file.name: _bits(np.load(file)) for file in workdir.glob("probs.*.npy")}
    for file in workdir.glob("eval.*.json"):
        record = json.loads(file.read_text())
        found[file.name] = repr({name: record[name] for name in OF_A_TEST if name in record})
    return found


def assert_same(workdir: Path, wanted: dict[str, Any]) -> None:
    """Demands that a run has left what the undisturbed one did, to the last bit."""
    found = outcome(workdir)
    wrong = [name for name in sorted({*found, *wanted}) if found.get(name) != wanted.get(name)]
    shown = [f"{name}: {_short(found.get(name))} instead of {_short(wanted.get(name))}" for name in wrong[:3]]
    assert not wrong, f"{len(wrong)} differ, such as {'; '.join(shown)}"


def _short(value: Any) -> str:
    return f"array {hash(value) & 0xFFFF:04x}" if isinstance(value, tuple) else str(value)[:200]


def has_line(file: Path, words: str) -> bool:
    """Whether a file is there, and has these words."""
    return file.exists() and words in file.read_text(errors="replace")


def reached(workdir: Path) -> int:
    """The step of the last whole line in metrics.jsonl; cheap, for it is asked all the time."""
    file = workdir / "metrics.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)[-2:] if file.exists() else []
    whole = [line for line in lines if line.startswith(b"{") and line.endswith(b"}\n")]
    return json.loads(whole[-1])["step"] if whole else 0


def copy(source: Path, target: Path) -> Path:
    """A copy of a run's directory, in place of what is there."""
    shutil.rmtree(target, ignore_errors=True)
    return Path(shutil.copytree(source, target, symlinks=True))
