"""Coordination of the processes of a run: connection, agreement and end. JAX is imported only when it is needed.

Processes talk through the key-value store of JAX's coordinator, which is in process 0. That process writes the run's
files, except the other processes' parts of checkpoints. If a process fails, it sends a message to the other processes,
which end at once, even if they wait in a collective.
"""

import contextlib
import itertools
import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

LOST = 134  # exit code after the loss of another process; SIGABRT's, as JAX aborts processes that lose process 0
LOST_MESSAGE = "of this run was lost; run the same command again to continue"
LONG_MS = 3_600_000  # for calls that are repeated until they succeed
FAREWELL_MS = 3_000  # for other processes to end after a failure
FINISH_MS = 60_000  # for other processes to end after their work
LAST_STEPS_SECONDS = 1  # from a process's last message to its end
PEER_ERRORS = ("Gloo", "NCCL", "UNAVAILABLE", "oordination", "onnection", "eartbeat")  # in JAX's messages

Value = TypeVar("Value")


@dataclass(frozen=True)
class Address:
    """The place of this process in its run."""

    coordinator: str  # host:port
    processes: int
    process: int


class Group:
    """The connected processes of a run, seen from this one."""

    def __init__(self, client: Any, address: Address) -> None:
        self.process, self.processes = address.process, address.processes
        self._client = client
        self._agreements = 0
        self._lock = threading.Lock()
        self._checks = 0  # calls of `stops`, at equal places in all processes
        self._stop_at: int | None = None  # the check at which all processes stop
        self._stopping = self._leaving = False
        self._receivers: dict[str, Callable[[str], None]] = {}  # by subject
        self._listen(self._end_with_others)
        self._listen(self._agree_to_stop)

    def _listen(self, wait: Callable[[], None]) -> None:
        """Runs `wait` in a thread. If process 0 is lost, ends this process."""

        def listen() -> None:
            try:
                wait()
            except RuntimeError:
                if not self._leaving:
                    print(f"deepconv: another process {LOST_MESSAGE}", file=sys.stderr, flush=True)
                    os._exit(LOST)

        threading.Thread(target=listen, daemon=True).start()

    def get(self, key: str) -> str:
        """Waits for a value and returns it."""
        while True:
            try:
                return self._client.blocking_key_value_get(f"deepconv/{key}", LONG_MS)
            except RuntimeError as error:
                if "DEADLINE_EXCEEDED" not in str(error):
                    raise

    def set_first(self, key: str, value: str) -> bool:
        """Sets a value; returns False if another process has set it before."""
        try:
            self._client.key_value_set(f"deepconv/{key}", value)
        except RuntimeError as error:
            if "ALREADY_EXISTS" not in str(error):
                raise
            return False
        return True

    def agree(self, value: Callable[[], Value]) -> Value:
        """Returns the value of a function that process 0 calls; all processes call this in the same order."""
        self._agreements += 1
        key = f"agreement/{self._agreements}"
        if self.process == 0:
            self.set_first(key, json.dumps(value()))
        return json.loads(self.get(key))

    def collect(self, value: str) -> list[str]:
        """Returns the values that the processes give, in order."""
        self._agreements += 1
        self.set_first(f"collection/{self._agreements}/{self.process}", value)
        return [self.get(f"collection/{self._agreements}/{process}") for process in range(self.processes)]

    def send(self, subject: str, text: str) -> None:
        """Sends a text to process 0."""
        number = self._client.key_value_increment(f"deepconv/{subject}/sent", 1)
        self.set_first(f"{subject}/{number}", text)

    def receive(self, subject: str, take: Callable[[str], None]) -> None:
        """Passes the texts of a subject to a function, in process 0; a later call replaces the function."""

        def take_all() -> None:
            for number in itertools.count(1):
                text = self.get(f"{subject}/{number}")
                self._receivers[subject](text)

        new = subject not in self._receivers
        self._receivers[subject] = take
        if new and self.process == 0:
            self._listen(take_all)

    def stops(self, pending: bool) -> bool:
        """Returns whether to stop. All processes get True at the same check, soon after a signal to one of them."""
        if pending and not self._stopping:
            self._stopping = True
            self.set_first("stop", "")
        with self._lock:
            self._checks += 1
            return self._stop_at is not None and self._checks >= self._stop_at

    def _agree_to_stop(self) -> None:
        """Sets the check at which all stop, after the last that any has passed. Meanwhile, none passes another."""
        self.get("stop")
        with self._lock:
            self.set_first(f"checks/{self.process}", str(self._checks))
            self._stop_at = 1 + max(int(self.get(f"checks/{process}")) for process in range(self.processes))

    def ends_first(self, code: int, message: str) -> bool:
        """Announces that this process ends, and why; returns whether it is the first, whose message is shown."""
        try:
            return self.set_first("end", json.dumps([self.process, code, message]))
        except RuntimeError:  # process 0 is lost
            return True

    def _end_with_others(self) -> None:
        process, code, message = json.loads(self.get("end"))
        if process == self.process:
            return
        if self.process == 0:
            reason = message.replace("\n", "; ")
            print(f"deepconv: process {process} has ended (exit code {code}): {reason}", file=sys.stderr, flush=True)
        os._exit(self.leave(code, collective=False))

    def leave(self, code: int, collective: bool) -> int:
        """Waits until this process can end, and returns its exit code.

        That is the code of the process that ended first, unless all processes call this at the same point of their work
        (`collective`). Process 0 ends last, since JAX aborts processes whose coordinator is gone.
        """
        self._leaving = True
        with contextlib.suppress(RuntimeError):  # process 0 is lost, or another process does not leave
            if not collective:
                code = json.loads(self._client.blocking_key_value_get("deepconv/end", FAREWELL_MS))[1]
            if self.process:
                if collective:
                    self.get("done")
                self.set_first(f"left/{self.process}", "")
                return code
            if collective:
                self.set_first("done", "")
            for process in range(1, self.processes):
                patience_ms = FINISH_MS if collective else FAREWELL_MS
                self._client.blocking_key_value_get(f"deepconv/left/{process}", patience_ms)
            time.sleep(LAST_STEPS_SECONDS)
        return code


_group: Group | None = None


def join(address: Address, heartbeat_seconds: int) -> None:
    """Connects this process with the others; ends by SIGABRT if they do not come within five minutes."""
    global _group
    import jax
    from jax._src.distributed import global_state  # JAX has no public name for its client; orbax takes it from here

    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM from run/preemption.py
    jax.distributed.initialize(
        address.coordinator,
        address.processes,
        address.process,
        cluster_detection_method="deactivate",  # under Slurm, JAX would give each process only one of its devices
        heartbeat_timeout_seconds=heartbeat_seconds,
    )
    _group = Group(global_state.client, address)
    if address.process:
        sys.stdout = open(os.devnull, "w")  # process 0 prints


def address(coordinator: str, processes: int, process: int | None) -> Address | None:
    """Returns the place that flags or `srun` give this process, None if it is the only one. Raises ValueError."""
    if coordinator or processes or process is not None:
        if not re.fullmatch(r".+:\d+", coordinator) or process is None or process not in range(processes):
            raise ValueError(
                f"--coordinator={coordinator} --processes={processes} --process={'' if process is None else process}: "
                "give all three, the host and port of process 0, the number of processes, and the number of this one, "
                "from 0"
            )
        return Address(coordinator, processes, process) if processes > 1 else None
    return slurm_address()


def slurm_address() -> Address | None:
    """Returns the place that Slurm's `srun` gives this process, None if it is the only one."""
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))  # of `srun`; a batch script has no step
    if tasks == 1:
        return None
    # as JAX does: the first of n1,n2 or n[1-2,5], and a port of the upper 4096
    first = re.fullmatch(r"([^\[,]+)(?:\[(\d+))?.*", os.environ["SLURM_STEP_NODELIST"])
    host = "".join(part or "" for part in first.groups()) if first else ""
    port = 61440 + int(os.environ["SLURM_JOB_ID"]) % 4096
    return Address(f"{host}:{port}", tasks, int(os.environ["SLURM_PROCID"]))


def several() -> bool:
    """Returns whether this run has several processes."""
    return _group is not None


def primary() -> bool:
    """Returns whether this is process 0, which writes the run's files."""
    return _group is None or _group.process == 0


def agree(value: Callable[[], Value]) -> Value:
    """Returns the value of a function that only process 0 calls. The value must survive JSON."""
    return _group.agree(value) if _group else value()


def collect(value: str) -> list[str]:
    """Returns the values that the processes give, in the order of the processes."""
    return _group.collect(value) if _group else [value]


def check_same(settings: Mapping[str, Any]) -> None:
    """Raises ValueError if a setting is not the same in all processes. The settings must survive JSON."""
    first, *others = (json.loads(text) for text in collect(json.dumps(settings)))
    for number, other in enumerate(others, 1):
        for name in first.keys() | other.keys():
            if first.get(name) != other.get(name):
                raise ValueError(
                    f"process 0 has {name}: {first.get(name)}, and process {number} {other.get(name)}; start all "
                    "processes with the same command, code and data"
                )


def send(subject: str, text: str) -> None:
    """Sends a text from another process to process 0."""
    if _group:
        _group.send(subject, text)


def receive(subject: str, take: Callable[[str], None]) -> None:
    """Passes the texts that other processes send on a subject to a function, in process 0."""
    if _group:
        _group.receive(subject, take)


def stops(pending: bool) -> bool:
    """Returns whether to stop: at once if a signal is pending or, with several processes, at the same call in all."""
    return _group.stops(pending) if _group else pending


def ends_first(code: int, message: str) -> bool:
    """Returns whether to show why this process ends; another process may have ended the run before."""
    return _group.ends_first(code, message) if _group else True


def leave(code: int, collective: bool) -> NoReturn:
    """Ends this process; unless `collective`, with the code of the process that ended first."""
    os._exit(_group.leave(code, collective) if _group else code)


def lost_another(error: Exception) -> bool:
    """Returns whether a call failed because another process has ended without a message, as after SIGKILL."""
    chain: list[BaseException] = []
    link: BaseException | None = error if _group else None
    while link and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    # JAX raises several types; an OSError comes from a disk, even if it says that a connection timed out
    return any(word in str(link) for link in chain if not isinstance(link, OSError) for word in PEER_ERRORS)
