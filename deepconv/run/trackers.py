"""Optional trackers, Weights & Biases and MLflow, which never stop a training and do not slow its steps.

A tracker works in a thread of its own. Its first failure prints a line; the training continues without it. A run that
is resumed continues the tracker's run, whose id lies in <tracker>.json.
"""

import contextlib
import importlib.util
import logging
import os
import queue
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepconv.run import preemption
from deepconv.run.files import printable, read_json, write_json

if TYPE_CHECKING:
    import numpy as np  # which --help need not wait for

Values = Mapping[str, float]  # scalars in groups, such as train/loss
PROJECT = "deepconv"  # W&B's project, MLflow's experiment
CLOSE_SECONDS = 60  # the time that a tracker has to send its last records


@dataclass(frozen=True)
class Tracker:
    """The writers of a tracker."""

    log: Callable[[int, Values], None]  # a step and its values
    picture: Callable[[int, str, "np.ndarray"], None]  # a step, a name, and an image, uint8 [h, w, 3]
    close: Callable[[str], None]  # "finished", "stopped" or "failed"


def check(name: str) -> None:
    """Raises ValueError if a tracker is not installed."""
    if importlib.util.find_spec(name) is None:
        raise ValueError(f"--{name}: {name} is not installed; pip install 'deepconv[{name}]', or leave the flag out")


@contextlib.contextmanager
def in_background(name: str, workdir: Path, fields: Mapping[str, Any]) -> Iterator[Tracker]:
    """Yields a tracker whose writers return at once and never raise."""
    calls: queue.SimpleQueue[Callable[[Tracker], None] | None] = queue.SimpleQueue()

    def work() -> None:
        try:
            tracker = OPENERS[name](workdir, fields)
            while call := calls.get():
                call(tracker)
        except (Exception, SystemExit) as error:  # of a library that may raise anything
            reason = printable(" ".join(f"{type(error).__name__}: {error}".split()))[:300]
            print(f"deepconv: --{name} has failed, training continues without it: {reason}", file=sys.stderr)

    with preemption.blocked():  # signals are for the main thread
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
    end = "failed"
    try:
        yield Tracker(
            lambda step, values: calls.put(lambda tracker: tracker.log(step, values)),
            lambda step, title, image: calls.put(lambda tracker: tracker.picture(step, title, image)),
            lambda end: None,
        )
        end = "finished"
    except preemption.Preempted:
        end = "stopped"
        raise
    finally:
        calls.put(lambda tracker: tracker.close(end))
        calls.put(None)
        thread.join(CLOSE_SECONDS)
        if thread.is_alive():
            print(f"deepconv: --{name} does not answer; its last records are lost", file=sys.stderr)


def _open_wandb(workdir: Path, fields: Mapping[str, Any]) -> Tracker:
    """Opens a run of Weights & Biases; without an API key, it is recorded on disk, for `wandb sync`."""
    import wandb  # optional, and slow to import

    without_key = not (os.environ.get("WANDB_MODE") or wandb.login(prompt=False))
    saved = _saved_id("wandb", workdir) or secrets.token_hex(8)
    write_json(workdir / "wandb.json", {"run": saved})
    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        id=saved,
        name=workdir.name,
        resume="allow",
        dir=str(workdir),
        config=dict(fields),
        mode="offline" if without_key else None,
        settings=wandb.Settings(silent=True, console="off"),
    )
    # W&B counts calls by itself, and drops a record of a step that it has seen in an earlier start
    run.define_metric("step")
    run.define_metric("*", step_metric="step")
    place = f"on disk; to send it: wandb sync {workdir}/wandb/offline-run-*" if run.offline else run.url
    print(f"W&B: run {run.id}, {place}", flush=True)
    return Tracker(
        lambda step, values: run.log({**values, "step": step}),
        lambda step, name, image: run.log({name: wandb.Image(image), "step": step}),
        lambda end: run.finish(exit_code=0 if end == "finished" else 1),
    )


def _open_mlflow(workdir: Path, fields: Mapping[str, Any]) -> Tracker:
    """Opens a run of MLflow, at MLFLOW_TRACKING_URI or in MLflow's local store."""
    import mlflow  # optional, and slow to import

    for library in ("mlflow", "alembic"):
        logging.getLogger(library).setLevel(logging.ERROR)
    client = mlflow.MlflowClient()
    if run_id := _saved_id("mlflow", workdir):
        client.update_run(run_id, status="RUNNING")
    else:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else client.create_experiment(name)
        run_id = client.create_run(experiment, run_name=workdir.name).info.run_id
        params = [mlflow.entities.Param(name, str(value)) for name, value in fields.items()]
        client.log_batch(run_id, params=params)
        write_json(workdir / "mlflow.json", {"run": run_id})
    print(f"MLflow: run {run_id} in {mlflow.get_tracking_uri()}", flush=True)

    def log(step: int, values: Values) -> None:
        now = int(time.time() * 1000)
        client.log_batch(run_id, metrics=[mlflow.entities.Metric(*pair, now, step) for pair in values.items()])

    states = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
    return Tracker(
        log,
        lambda step, name, image: client.log_image(run_id, image, artifact_file=f"{name}.png"),
        lambda end: client.set_terminated(run_id, states[end]),
    )


def _saved_id(name: str, workdir: Path) -> str:
    """Returns the id of a tracker's run from an earlier start; empty if there is none. Raises OSError."""
    file = workdir / f"{name}.json"
    return str(read_json(file, dict, "run")["run"]) if file.exists() else ""


OPENERS: Mapping[str, Callable[[Path, Mapping[str, Any]], Tracker]] = {"wandb": _open_wandb, "mlflow": _open_mlflow}
