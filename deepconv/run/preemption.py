"""Stopping on SIGTERM, SIGUSR1 or Ctrl-C: at once or, while there is a state to save, between two steps.

Python runs signal handlers in the main thread, but not while that thread compiles. A second thread therefore watches
for signals, and ends the process if nothing would be lost. If a run has several processes, all stop when one gets a
signal.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

from deepconv import processes

EXIT_CODE = 75  # EX_TEMPFAIL: repeat the command
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)

_last_signal: signal.Signals | None = None
_pending: signal.Signals | None = None  # came while there was a state to save, and is not yet handled
_waiting = False
_unsaved = False


class Preempted(Exception):
    """The run was asked to stop."""


def install() -> None:
    """Installs the handlers. Commands call this before their imports, which take seconds."""
    global _last_signal, _pending
    _last_signal = _pending = None
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for number in SIGNALS:
        signal.signal(number, _handle)
    threading.Thread(target=_watch, args=(reader,), daemon=True).start()


def unsaved(value: bool) -> None:
    """Sets whether there is a state to save; while there is none, a signal ends the process at once."""
    global _pending, _unsaved
    _unsaved = value
    if value:
        _pending = _pending or _last_signal


def check() -> None:
    """Raises Preempted if a signal has come; called between steps, where the state is complete.

    All processes of a run must call it equally often. It raises at the same call in all, soon after a signal to one.
    """
    if processes.stops(_pending is not None):
        raise Preempted(_pending.name if _pending else "a signal to another process")


@contextlib.contextmanager
def waiting() -> Iterator[None]:
    """Lets a signal interrupt a block that changes no state. With several processes, only checks before the block."""
    global _waiting
    _waiting = not processes.several()
    try:
        check()
        yield
    finally:
        _waiting = False


@contextlib.contextmanager
def blocked() -> Iterator[None]:
    """Hides signals from threads and processes started in this block; Ctrl-C would reach the whole process group."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave(code: int, collective: bool = False) -> NoReturn:
    """Ends the process and its loader processes at once, without waiting for threads that a disk may block.

    With several processes, all end; `collective` means that all of them call this.
    """
    for worker in multiprocessing.active_children():
        worker.kill()
    processes.leave(code, collective)


def stop(name: str, collective: bool = False) -> NoReturn:
    """Prints which signal came and ends the process, or all processes."""
    message = f"stopped by {name}"
    if processes.primary() if collective else processes.ends_first(EXIT_CODE, message):
        if os.isatty(1):
            os.write(1, b"\033[?25h\n")  # a progress bar has hidden the cursor
        os.write(2, f"deepconv: {message}; run the same command again to continue\n".encode())
    leave(EXIT_CODE, collective)


def _handle(number: int, frame: FrameType | None) -> None:
    global _last_signal, _pending, _waiting
    _last_signal = signal.Signals(number)
    if not _unsaved:
        return  # _watch ends the process, unless there is a state to save by then
    _pending = _last_signal
    if _waiting:
        _waiting = False
        raise Preempted(_pending.name)


def _watch(reader: int) -> None:
    interrupts = 0
    while True:
        (number,) = os.read(reader, 1)
        interrupts += number == signal.SIGINT
        safe = not _unsaved and _pending is None  # if _handle came first, the main thread saves and stops
        if number in SIGNALS and (safe or interrupts == 2):  # a second Ctrl-C does not wait
            stop(signal.Signals(number).name)
