"""The metrics and timing of the training steps that are not yet logged."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import jax
import numpy as np

from deepconv.run import checkpoint
from deepconv.run import log as runlog

Metrics = Mapping[str, jax.Array | float]  # of one step; on the device until they are logged or saved


@dataclass
class Window:
    """The metrics and timing of steps not yet logged."""

    metrics: list[Metrics]
    timed_from: int  # the step at which the clock was read
    clock: float = field(default_factory=time.perf_counter)  # seconds

    def fetch(self, last_step: int) -> list[checkpoint.StepMetrics]:
        """Copies the metrics to the host. Raises FloatingPointError if any is not finite."""
        rows = [{name: float(value) for name, value in row.items()} for row in jax.device_get(self.metrics)]
        bad = [last_step - len(rows) + 1 + i for i, row in enumerate(rows) if not np.isfinite(list(row.values())).all()]
        if bad:
            raise FloatingPointError(
                f"the loss or the update is not finite at step {bad[0]} (checked up to step {last_step}); "
                "the checkpoints before it are good. A lower config.optimizer.learning_rate or a warm-up may help"
            )
        return rows

    def summary(self, step: int, batch_size: int) -> runlog.Record:
        """Returns means over a window that ends at this step, the last learning rate, and the speed if known."""
        rows = self.fetch(step)
        record = {name: float(np.mean([row[name] for row in rows])) for name in rows[0] if name.startswith("train_")}
        record["learning_rate"] = rows[-1]["learning_rate"]
        if step > self.timed_from:
            seconds = time.perf_counter() - self.clock
            record["images_per_second"] = (step - self.timed_from) * batch_size / seconds
        return record
