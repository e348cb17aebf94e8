"""The processes of a run as one of them sees the others: messages, agreement and end."""

import contextlib
import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

LOST = 134  # exit code after the loss of another process; SIGABRT's, as JAX aborts processes that lose process 0
LOST_MESSAGE = "of this run was lost, or cannot be reached; run the same command again to continue"
LONG_MS = 3_600_000  # for calls that are repeated until they succeed
FAREWELL_MS = 3_000  # for other processes to end after a failure
FINISH_MS = 60_000  # for other processes to end after their work
LAST_STEPS_SECONDS = 1  # from a process's last message to its end

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
        """Runs `wait` in a thread. Ends this process if process 0 is lost, or if `wait` cannot write."""

        def listen() -> None:
            try:
                wait()
            except OSError as error:  # process 0 cannot write what another process has sent
                if self.ends_first(1, str(error)):
                    print(f"deepconv: {error}", file=sys.stderr, flush=True)
                os._exit(self.leave(1, collective=False))
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
        """Sets the check at which all processes stop: the one after the last that any of them has made.

        While a process holds its lock, it makes no other check.
        """
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
