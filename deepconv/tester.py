"""Tests of a net while it is trained."""

import time
from pathlib import Path

import orbax.checkpoint as ocp

from deepconv import processes
from deepconv import state as state_lib
from deepconv.config import durations
from deepconv.data.images import Images
from deepconv.data.statistics import Statistics
from deepconv.evaluation import run as evaluate
from deepconv.evaluation.table import new_table
from deepconv.run import checkpoint, tracking
from deepconv.run import log as runlog
from deepconv.state import TrainState
from deepconv.task import Task, net_for


class Tester:
    """Tests the net of a training by the protocol "center", after the steps that its config chooses and the last.

    error: that of the last test, in percent; None before the first.
    """

    error: float | None

    def __init__(self, task: Task, computed: Statistics, data: Images, workdir: Path, step: int) -> None:
        """Prepares the tests of a start of training that begins at this step, on these images."""
        self._task, self._workdir = task, workdir
        self._net, (self._protocol,) = net_for(task, computed), task.protocols["center"]
        self._predict, self._compiled = evaluate.jit(self._net, self._protocol), False
        self._data = data
        self._tested_step, self.error = processes.agree(lambda: runlog.last_test(workdir, step))

    def is_due(self, step: int) -> bool:
        """Returns whether the net is to be tested after this step; a resumed run may lack the test of its first."""
        examples, batch_size = self._task.train_source.examples, self._task.config.batch_size
        due = durations.is_due(self._task.config, "eval_every", examples, batch_size, step)
        return step > 0 and step != self._tested_step and (due or step == self._task.total_steps)

    def test(
        self, state: TrainState, board: tracking.Board, show: runlog.Show, before_keeping: ocp.CheckpointManager | None
    ) -> float:
        """Tests the net, logs and shows its error; returns the seconds that this took.

        With `before_keeping`, it also writes the results of the test, after the saves of this manager.
        """
        step, start = int(state.step), time.perf_counter()
        examples = self._task.eval_source.examples
        show(step, "testing ...", log=False)
        if before_keeping:
            checkpoint.wait(before_keeping)  # first, since a run with a finished test is not trained again
        measure = evaluate.measure(self._protocol, self._net, self._data, len(self._task.eval_source.classes))
        if before_keeping:
            table = evaluate.open_table(self._protocol, measure, self._workdir, examples)
        else:
            table = new_table(examples, measure.width)
        test = evaluate.Test(self._protocol, self._predict, state_lib.to_test(state), table, measure.rows)
        (shapes,) = evaluate.probabilities(self._net, [test], self._data)
        self._tested_step, self.error = step, measure.error(table)
        position = self._task.position(step)
        board.log(position | {f"test_{self._task.objective.error}": self.error})
        if before_keeping and processes.primary():  # last, since a later start does not log a test that has results
            evaluate.save(test, measure, shapes, self._workdir)
        seconds = time.perf_counter() - start
        uncounted = 0 if self._compiled else seconds  # in the estimate of the time left
        self._compiled = True
        show(step, runlog.summary_line(position, self.error), log=True, uncounted=uncounted)
        return seconds
