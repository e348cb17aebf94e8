"""Steps of JAX, queued as training does."""

from collections.abc import Callable
from typing import Any

import jax


class Queue:
    """Runs a function whose steps JAX computes in the background, at most two of them at a time."""

    def __init__(self, run: Callable[[], Any]) -> None:
        self.run, self.result = run, None

    def step(self) -> None:
        """Queues a step, and waits for the one before it."""
        previous, self.result = self.result, self.run()
        jax.block_until_ready(previous)

    def finish(self) -> None:
        """Waits for all steps."""
        jax.block_until_ready(self.result)


def device_bytes() -> int:
    """Returns the most memory of the first device that arrays have taken so far; 0 if the device does not tell."""
    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)
