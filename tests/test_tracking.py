"""What TensorBoard, W&B and MLflow are given."""

import contextlib
import importlib.util
import io
import json
import struct
import subprocess
import sys
import threading

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from deepconv.run import preemption, trackers, tracking

CONFIG_FIELDS = {"seed": 3, "model.name": "vgg", "model.half": True, "optimizer.drop_at_steps": (4, 5)}
CONFIG_FIELDS |= {"optimizer.momentum": 0.9}
FIELDS = CONFIG_FIELDS | {"optimizer.drop_at_steps": "4,5"}
TRAIN = {"step": 2, "epoch": 0.5, "train_loss": 1.5, "train_top1_error": 40.0, "learning_rate": 0.1}
TEST = {"step": 2, "epoch": 0.5, "test_top1_error": 50.0}
GROUPED = {"run/epoch": 0.5, "train/loss": 1.5, "train/top1_error": 40.0, "run/learning_rate": 0.1}
GROUPED |= {"test/top1_error": 50.0}


def events(workdir):
    """(step, value) of all summaries, read by TFRecord's definition: length, sum, content, sum."""
    for file in sorted(workdir.glob("events.*")):
        content = io.BytesIO(file.read_bytes())
        while head := content.read(12):
            event = Event.FromString(content.read(struct.unpack("<Q", head[:8])[0]))
            content.read(4)
            yield from ((event.step, value) for value in event.summary.value)


def test_tensorboard_is_written_without_an_import_of_torch(tmp_path):
    if not importlib.util.find_spec("torch"):
        pytest.skip("torch is not installed")
    code = (
        "import importlib.util, pathlib, sys; from deepconv.run import tracking\n"
        "with tracking.opened(pathlib.Path(), {}) as board: board.log({'step': 1, 'loss': 2.0})\n"
        "assert 'tensorboardX' in sys.modules and 'torch' not in sys.modules\n"
        "assert importlib.util.find_spec('torch')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    assert [*tmp_path.glob("events*")]


def test_tensorboard_has_groups_of_scalars_fields_and_filters(tmp_path):
    kernel = np.zeros((5, 5, 3, 20), np.float32)
    kernel[1, 2, :, 17] = (4, -4, 2)  # the second filter of the second row
    with tracking.opened(tmp_path, CONFIG_FIELDS) as board:
        board.log(TRAIN)
        board.log(TEST)
        board.filters(7, {"fc": {"kernel": jnp.zeros((3, 3))}, "conv1": {"kernel": jnp.asarray(kernel)}})
    found = [*events(tmp_path)]
    scalars = {value.tag: (step, value.simple_value) for step, value in found if value.HasField("simple_value")}
    assert {name: value for name, (_, value) in scalars.items()} == pytest.approx(GROUPED)
    assert {step for step, _ in scalars.values()} == {2}
    plugin = [HParamsPluginData.FromString(value.metadata.plugin_data.content) for _, value in found[:2]]
    assert plugin[0].experiment.metric_infos[0].name.tag == "test/top1_error"
    given = {name: value.ListFields()[0][1] for name, value in plugin[1].session_start_info.hparams.items()}
    assert given == FIELDS
    ((step, value),) = ((step, value) for step, value in found if value.HasField("image"))
    assert (step, value.tag) == (7, "filters/conv1")
    picture = np.asarray(Image.open(io.BytesIO(value.image.encoded_image_string)))
    side = 8 * 5 + 2  # a weight is 8 pixels wide; a white frame of a pixel
    assert picture.shape == (2 * side, 16 * side, 3)
    filter_17 = picture[side : 2 * side, side : 2 * side]
    assert (filter_17[0] == 255).all() and (filter_17[1 + 8 : 1 + 16, 1 + 16 : 1 + 24] == (255, 0, 191)).all()
    assert (filter_17[1:9, 1:9] == 128).all()  # zero
    assert (picture[side + 1 :, 4 * side + 1 :] == 255).all()  # there is no 21st filter


def test_a_tracker_that_fails_or_hangs_says_so_once_and_stops_nothing(tmp_path, monkeypatch, capsys):
    calls, wait = [], threading.Event()

    def fails(workdir, fields):
        def log(step, values):
            calls.append((step, values, fields))
            raise SystemExit("the server\nis gone")

        return trackers.Tracker(log, lambda *image: None, lambda end: None)

    def hangs(workdir, fields):
        wait.wait()

    monkeypatch.setattr(trackers, "CLOSE_SECONDS", 0.1)
    monkeypatch.setattr(trackers, "OPENERS", {"mlflow": fails, "wandb": hangs})
    with tracking.opened(tmp_path, CONFIG_FIELDS, names=["mlflow", "wandb"]) as board:
        for _ in range(3):
            board.log(TEST)
    wait.set()
    assert calls == [(2, {"run/epoch": 0.5, "test/top1_error": 50.0}, FIELDS)]
    assert sorted(capsys.readouterr().err.splitlines()) == [
        "deepconv: --mlflow has failed, training continues without it: SystemExit: the server is gone",
        "deepconv: --wandb does not answer; its last records are lost",
    ]


def test_a_tracker_that_is_missing_is_named_before_the_work(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"--wandb: wandb is not installed; pip install 'deepconv\[wandb\]', or leave"):
        trackers.check("wandb")


def record_in_two_starts(workdir, name):
    """A run that is stopped, and resumed."""
    with contextlib.suppress(preemption.Preempted), tracking.opened(workdir, CONFIG_FIELDS, names=[name]) as board:
        board.log(TRAIN)
        raise preemption.Preempted("SIGTERM")
    yield
    with tracking.opened(workdir, CONFIG_FIELDS, names=[name]) as board:
        board.log(TEST | {"step": 4})
        board.filters(4, {"conv1": {"kernel": jnp.ones((3, 3, 3, 16))}})
    yield


@pytest.mark.slow  # for the imports, and the tables of a database
@pytest.mark.filterwarnings("ignore")  # of the libraries
def test_mlflow_records_a_run_and_continues_it(tmp_path, monkeypatch, capsys):
    for library in ("mlflow", "sqlalchemy"):
        pytest.importorskip(library, reason=f"{library} is not installed; it is in deepconv[mlflow]")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/store.db")
    starts = record_in_two_starts(tmp_path, "mlflow")
    next(starts)
    import mlflow

    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("deepconv").experiment_id])
    assert run.info.status == "KILLED" and run.info.run_name == tmp_path.name
    assert run.data.params == {name: str(value) for name, value in FIELDS.items()}
    next(starts)
    (run,) = client.search_runs([run.info.experiment_id])
    assert run.info.status == "FINISHED" and run.data.metrics == pytest.approx(GROUPED)
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "run/epoch")] == [2, 4]
    assert [file.path for file in client.list_artifacts(run.info.run_id, "filters")] == ["filters/conv1.png"]
    captured = capsys.readouterr()
    assert captured.out.count(f"MLflow: run {run.info.run_id} in sqlite:///") == 2 and not captured.err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_wandb_records_a_run_and_continues_it(tmp_path, monkeypatch, capsys):
    pytest.importorskip("wandb", reason="wandb is not installed; it is in deepconv[wandb]")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    starts = record_in_two_starts(tmp_path, "wandb")
    next(starts), next(starts)
    saved = json.loads((tmp_path / "wandb.json").read_text())["run"]
    captured = capsys.readouterr()
    assert captured.out.count(f"W&B: run {saved}") == 2 and not captured.err
    recorded = b"".join(file.read_bytes() for file in tmp_path.glob(f"wandb/offline-run-*-{saved}/*.wandb"))
    assert all(name.encode() in recorded for name in [*GROUPED, "optimizer", "filters/conv1"])
