"""The form of each operation that has more than one, by platform.

"plain" is the obvious form, with which the tests compare the other forms. All forms of an operation give the same
result up to rounding, except that XLA's max pooling gives the gradient of equal values to the first of them, and
"slices" divides it. The platform is JAX's default one. `--forms=blocks:plain,max_pool:plain` overrides the table.
"""

import contextlib
from collections.abc import Iterator, Sequence

FORMS = {
    # repeat.py: a scan compiles the equal blocks of a stage once; on a GPU it moves 1.6 times the bytes of a loop
    "blocks": {"cpu": "scan", "gpu": "plain", "tpu": "plain"},
    # convolution.py: XLA:CPU has fast kernels only for gradients that are written as convolutions
    "convolution_gradients": {"cpu": "convolutions", "gpu": "plain", "tpu": "plain"},
    # convolution.py: XLA's own grouped convolution has slow gradients
    "groups": {"cpu": "split", "gpu": "split", "tpu": "split"},
    # convolution.py: XLA:CPU is up to 70 times as slow on maps smaller than 4 pixels, unless they are padded first
    "small_maps": {"cpu": "padded", "gpu": "plain", "tpu": "plain"},
    # pooling.py: the gradient of XLA's window reduction is slow on a CPU, and not deterministic on a GPU
    "max_pool": {"cpu": "slices", "gpu": "slices", "tpu": "slices"},
    # response_norm.py: JAX's own gradient stores and rereads every shifted copy
    "response_norm": {"cpu": "by_hand", "gpu": "by_hand", "tpu": "by_hand"},
}
_chosen: dict[str, str] = {}


def form(operation: str) -> str:
    """Returns the form of an operation: the chosen one, or the one for the platform that JAX uses."""
    import jax  # here, since commands that only check their flags need not wait for it

    return _chosen.get(operation) or FORMS[operation].get(jax.default_backend(), "plain")


def choose(choices: Sequence[str]) -> None:
    """Uses these forms, written as operation:form, in functions traced from now on. Raises ValueError for others."""
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


def current_forms() -> dict[str, str]:
    """Returns the form of every operation in this process."""
    return {operation: form(operation) for operation in FORMS}
