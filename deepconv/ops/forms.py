"""The form of each operation on each platform.

All forms compute the same result, up to rounding, but XLA compiles them differently. "plain" is the obvious form, with
which the tests compare the other forms. `--forms=blocks:plain,max_pool:plain` overrides the table below.
"""

import contextlib
from collections.abc import Iterator, Sequence

FORMS = {
    # repeat.py: equal blocks as one scan compile as fast as one block; a GPU's scan moves 1.6 times the bytes of a loop
    "blocks": {"cpu": "scan", "gpu": "plain", "tpu": "plain"},
    # convolution.py: XLA:CPU has fast kernels only for gradients that are written as convolutions
    "convolution_gradients": {"cpu": "convolutions", "gpu": "plain", "tpu": "plain"},
    # convolution.py: XLA's own grouped convolution has slow gradients
    "groups": {"cpu": "split", "gpu": "split", "tpu": "split"},
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
    """Uses these forms, written as operation:form, from now on. Raises ValueError if one does not exist."""
    for choice in choices:
        operation, _, name = choice.partition(":")
        if operation not in FORMS:
            raise ValueError(f"--forms={choice} does not name an operation; choose one of {', '.join(FORMS)}")
        if name not in (names := {"plain": 0} | dict.fromkeys(FORMS[operation].values())):
            choices = " or ".join(f"{operation}:{each}" for each in names)
            raise ValueError(f"--forms={choice} is not a form; choose {choices}")
        _chosen[operation] = name


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


def chosen() -> str:
    """Returns the chosen forms, as choose takes them."""
    return ",".join(f"{operation}:{name}" for operation, name in sorted(_chosen.items()))
