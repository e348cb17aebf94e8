"""The form of each operation that has more than one, by platform.

"plain" is the obvious form, with which the tests compare the other forms. All forms of an operation give the same
result up to rounding, with two exceptions: max pooling by "slices" divides the gradient of equal values among them, and
the other forms give it to the first; the rectifier "from_output" may hide NaN on a CPU. The platform is JAX's default
one, except within `for_platform`. `--forms=blocks:plain,max_pool:plain` overrides the table.
"""

import contextlib
from collections.abc import Iterator, Sequence

FORMS = {
    # repeat.py: a scan compiles the equal blocks of a stage once; on a GPU it moves 1.6 times the bytes of a loop
    "blocks": {"cpu": "scan", "gpu": "plain", "tpu": "plain"},
    # convolution.py: XLA:CPU has fast kernels only for gradients that are written as convolutions
    "convolution_gradients": {"cpu": "convolutions", "gpu": "plain", "tpu": "plain"},
    # convolution.py: XLA's own grouped convolution has slow gradients on a CPU. On a GPU it saves AlexNet 12 % of the
    # bytes, but nobody has measured its time there.
    "groups": {"cpu": "split", "gpu": "split", "tpu": "split"},
    # convolution.py: XLA:CPU is up to 70 times as slow on maps smaller than 4 pixels, unless they are padded first
    "small_maps": {"cpu": "padded", "gpu": "plain", "tpu": "plain"},
    # pooling.py: the gradient of XLA's window reduction is slow on a CPU. On a GPU, it is a scatter and moves 3.6 times
    # the bytes of "index" (3x3 windows at stride 2); "slices" moves 3.9 times the bytes
    "max_pool": {"cpu": "slices", "gpu": "index", "tpu": "slices"},
    # rectifier.py: JAX's own gradient keeps the input in memory beside the output, which the next layer keeps
    "rectifier": {"cpu": "plain", "gpu": "from_output", "tpu": "plain"},
    # batch_norm.py: XLA:GPU runs a second kernel for each of two sums over the same map
    "batch_norm": {"cpu": "plain", "gpu": "together", "tpu": "plain"},
    # response_norm.py: JAX's own gradient stores and rereads every shifted copy; "recomputed" stores the input only
    "response_norm": {"cpu": "by_hand", "gpu": "recomputed", "tpu": "by_hand"},
}
_chosen: dict[str, str] = {}
_platforms: list[str] = []  # of the enclosing `for_platform` statements


def platform() -> str:
    """Returns the platform that functions are traced for: "cpu", "gpu" or "tpu"."""
    import jax  # here, since commands that only check their flags need not wait for it

    return _platforms[-1] if _platforms else jax.default_backend()


def form(operation: str) -> str:
    """Returns the form of an operation: the chosen one, or the one for the platform."""
    return _chosen.get(operation) or FORMS[operation].get(platform(), "plain")


def choose(choices: Sequence[str]) -> None:
    """Uses these forms, written as operation:form, in functions traced from now on. Raises ValueError."""
    chosen = {}
    for choice in choices:
        operation, _, name = choice.partition(":")
        if operation not in FORMS:
            raise ValueError(f"--forms={choice} does not name an operation; choose one of {', '.join(FORMS)}")
        known = dict.fromkeys(["plain", *FORMS[operation].values()])
        if name not in known:
            raise ValueError(f"--forms={choice}: {operation} has no such form; choose {' or '.join(known)}")
        chosen[operation] = name
    _chosen.update(chosen)


@contextlib.contextmanager
def using(*choices: str) -> Iterator[None]:
    """Uses these forms within a with statement."""
    before = dict(_chosen)
    try:
        choose(choices)
        yield
    finally:
        _chosen.clear()
        _chosen.update(before)


@contextlib.contextmanager
def for_platform(name: str) -> Iterator[None]:
    """Uses the forms of a platform within a with statement, to compile for it on a machine without it."""
    _platforms.append(name)
    try:
        yield
    finally:
        _platforms.pop()


def current_forms() -> dict[str, str]:
    """Returns the form of every operation in this process."""
    return {operation: form(operation) for operation in FORMS}
