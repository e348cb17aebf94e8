"""Settings of the C library's memory allocator."""

import contextlib
import ctypes
import time

MALLOC = (  # options of malloc.h, and their values
    (-8, 1),  # M_ARENA_MAX: one arena
    (-4, 0),  # M_MMAP_MAX: large blocks lie in it, too
    (-1, -1),  # M_TRIM_THRESHOLD: it never shrinks
)

_given_back = float("-inf")  # time


def keep_freed_memory() -> None:
    """Makes glibc keep freed memory for the next step.

    By default, it gives the memory of a step back, and the page faults of the next step cost a quarter of its time on a
    CPU. Arenas other than the first would still give memory back, hence the limit to one. By default, there are eight
    arenas per core, in which the threads that orbax starts for each checkpoint would keep 0.3 MB more each time.
    """
    with contextlib.suppress(AttributeError):  # not glibc
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in MALLOC:
            mallopt(option, value)


def give_back_unused() -> None:
    """Gives the system the memory of blocks that are free at present; the next step takes back what it needs.

    It does nothing in the second after it did so: small nets may log every step, and would wait for memory each time.

    A process of ResNet-50 grew from 2.6 to 10 GB, probably since a small block inside the free memory of a step keeps
    the next step from using it (docs/speed.md). Between two calls it may still grow.
    """
    global _given_back
    if time.monotonic() > _given_back + 1:
        _given_back = time.monotonic()
        with contextlib.suppress(AttributeError):  # not glibc
            ctypes.CDLL(None).malloc_trim(0)
