"""Tests of a net while it is trained."""

import time
from dataclasses import dataclass
from pathlib import Path

import orbax.checkpoint as ocp

from deepconv import processes
from deepconv import state as state_lib
from deepconv.config import durations
from deepconv.data.images import Images
from deepconv.data.statistics import Statistics
from deepconv.evaluation import run as evaluate
from deepconv.evaluation.net import Net
from deepconv.evaluation.probabilities import Hits
from deepconv.evaluation.protocols import Protocol
from deepconv.evaluation.table import new_table
from deepconv.run import checkpoint, tracking
from deepconv.run import log as runlog
from deepconv.state import TrainState
from deepconv.task import Task, net_for


@dataclass(frozen=True)
class Tested:
    """The last test of a run: the step (-1 without a test) and the error in percent (None without a test).

    seconds is the time that it took, or 0 if an earlier start of training did it.
    """

    step: int
    error: float | None
    seconds: float = 0


@dataclass(frozen=True)
class Tester:
    """Tests a net by the protocol "center", after the steps that its config chooses and the last."""

    task: Task
    net: Net
    protocol: Protocol
    predict: evaluate.Predict
    data: Images
    workdir: Path

    def is_due(self, step: int, last: Tested) -> bool:
        """Returns whether the net is to be tested after this step; a resumed run may lack that of its first step."""
        examples, batch_size = self.task.train_source.examples, self.task.config.batch_size
        due = durations.is_due(self.task.config, "eval_every", examples, batch_size, step)
        return step > 0 and step != last.step and (due or step == self.task.total_steps)

    def test(
        self,
        state: TrainState,
        last: Tested,
        board: tracking.Board,
        show: runlog.Show,
        manager: ocp.CheckpointManager | None,
    ) -> Tested:
        """Tests the net, logs and shows its error.

        With a manager, it waits for its saves, then also writes the results of the test.
        """
        step, start = int(state.step), time.perf_counter()
        examples = self.task.eval_source.examples
        show(step, "testing ...", log=False)
        if manager:
            checkpoint.wait(manager)  # first, since a run with a finished test is not trained again
        measure = evaluate.measure(self.protocol, self.net, self.data, len(self.task.eval_source.classes))
        if manager:
            logged, table = measure, evaluate.open_table(self.protocol, measure, self.workdir, examples)
        else:
            logged = measure if self.protocol.boxes else Hits()  # its probabilities are not kept
            table = new_table(examples, logged.width)
        test = evaluate.Test(self.protocol, self.predict, state_lib.averaged(state), table, logged.rows)
        (shapes,) = evaluate.fill_tables(self.net, [test], self.data)
        error, position = logged.error(table), self.task.position(step)
        board.log(position | {f"test_{self.task.objective.error}": error})
        if manager and processes.primary():  # last, since a later start does not log a test that has results
            evaluate.save(test, measure, shapes, self.workdir)
        seconds = time.perf_counter() - start
        uncounted = 0 if last.seconds else seconds  # the first test compiles: the estimate of the time left omits it
        show(step, runlog.summary_line(position, error), log=True, uncounted=uncounted)
        return Tested(step, error, seconds)


def create(task: Task, computed: Statistics, data: Images, workdir: Path) -> Tester:
    """Returns the tester of a training; data are the test images."""
    net, (protocol,) = net_for(task, computed), task.protocols["center"]
    return Tester(task, net, protocol, evaluate.jit(net, protocol), data, workdir)


def last_test(workdir: Path, step: int) -> Tested:
    """Returns the last test in a run's records, up to this step."""
    tested_step, error = processes.agree(lambda: runlog.last_test(workdir, step))
    return Tested(int(tested_step), error)
