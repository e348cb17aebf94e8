"""Stopping on SIGTERM, SIGUSR1 or Ctrl-C: at once or, while there is something to save, between two steps.

Python runs the handler of a signal in the main thread, and not while that thread compiles. A thread of its own
therefore watches for signals, and ends the process where nothing would be lost.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

EXIT_CODE = 75  # EX_TEMPFAIL: start the same command again
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)

_noted: signal.Signals | None = None  # the last signal
_received: signal.Signals | None = None  # one that came while there was something to save
_waiting = False
_unsaved = False


class Preempted(Exception):
    """The run was asked to stop."""


def install() -> None:
    """Take over the signals. Commands call this before their imports, which take seconds."""
    global _noted, _received
    _noted = _received = None
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for number in SIGNALS:
        signal.signal(number, _handle)
    threading.Thread(target=_watch, args=(reader,), daemon=True).start()


def unsaved(value: bool) -> None:
    """Say whether there is a state to save; while there is none, a signal ends the process at once."""
    global _received, _unsaved
    _unsaved = value
    if value:
        _received = _received or _noted


def check() -> None:
    """Raise Preempted if a signal has come; called between steps, where the state is whole."""
    if _received is not None:
        raise Preempted(_received.name)


@contextlib.contextmanager
def waiting() -> Iterator[None]:
    """Within this block, which must not change any state, a signal interrupts at once."""
    global _waiting
    _waiting = True
    try:
        check()
        yield
    finally:
        _waiting = False


@contextlib.contextmanager
def blocked() -> Iterator[None]:
    """Threads and processes started within this block never see the signals, which reach the whole group."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave(code: int) -> NoReturn:
    """End the process at once, whatever its threads wait for: a disk may not answer. Loader processes end with it."""
    for worker in multiprocessing.active_children():
        worker.kill()
    os._exit(code)


def stop(name: str) -> NoReturn:
    """Say which signal came, and end the process."""
    if os.isatty(1):
        os.write(1, b"\033[?25h\n")  # a progress bar has hidden the cursor
    os.write(2, f"deepconv: stopped by {name}; run the same command again to continue\n".encode())
    leave(EXIT_CODE)


def _handle(number: int, frame: FrameType | None) -> None:
    global _noted, _received, _waiting
    _noted = signal.Signals(number)
    if not _unsaved:
        return  # _watch ends the process, unless there is something to save by then
    _received = _noted
    if _waiting:
        _waiting = False
        raise Preempted(_received.name)


def _watch(reader: int) -> None:
    interrupts = 0
    while True:
        (number,) = os.read(reader, 1)
        interrupts += number == signal.SIGINT
        safe = not _unsaved and _received is None  # where _handle came first, the main thread saves and stops
        if number in SIGNALS and (safe or interrupts == 2):  # whoever types Ctrl-C twice does not want to wait
            stop(signal.Signals(number).name)
