"""Being told to stop: SIGTERM, SIGUSR1 and Ctrl-C become an exception where the run can be saved."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

EXIT_CODE = 75  # EX_TEMPFAIL: start the same command again
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)

_received: signal.Signals | None = None
_waiting = False


class Preempted(Exception):
    """The run was asked to stop."""


def install() -> None:
    """Take over the signals; nothing is interrupted before the next `check` or `waiting`."""
    global _received
    _received = None
    for number in SIGNALS:
        signal.signal(number, _handle)


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


def _handle(number: int, frame: FrameType | None) -> None:
    global _received, _waiting
    if number == signal.SIGINT and _received == signal.SIGINT:
        raise KeyboardInterrupt  # the second Ctrl-C: whoever types it does not want to wait
    _received = signal.Signals(number)
    if _waiting:
        _waiting = False
        raise Preempted(_received.name)
