"""Logs of training steps: records, the progress line, and how long steps take."""

import time
from dataclasses import dataclass

import jax

from deepconv import malloc
from deepconv.run import log as runlog
from deepconv.run import tracking
from deepconv.run.window import Metrics, Window
from deepconv.task import Task

TIMED_STEPS = 20  # after these, a start prints the time left


@dataclass
class StepLog:
    """Takes the metrics of each step, and logs their means when config.log_every_steps is due."""

    task: Task
    board: tracking.Board
    show: runlog.Show
    window: Window  # the steps not yet logged
    first_step: int  # of this start

    def add(self, step: int, metrics: Metrics, test_error: float | None) -> None:
        """Adds the metrics of a step; `step` counts the steps done, this one included."""
        config, window = self.task.config, self.window
        window.metrics.append(metrics)
        jax.block_until_ready(window.metrics[-2:-1])  # at most two steps ahead of the device
        if step == self.first_step + 1:  # compilation is over: time training from here on
            jax.block_until_ready(metrics)
            window.clock, window.timed_from = time.perf_counter(), step
            self.show(step, "", log=False)
        text = None
        if step == self.first_step + 1 + TIMED_STEPS:
            text = runlog.summary_line(self.task.position(step), test_error)
        if step % config.log_every_steps == 0 or step == self.task.total_steps:
            record = self.task.position(step) | window.summary(step, config.batch_size)
            self.board.log(record)
            text, self.window = runlog.summary_line(record, test_error), Window([], timed_from=step)
        self.show(step, text, log=text is not None)
        if text:
            malloc.give_back_unused()
