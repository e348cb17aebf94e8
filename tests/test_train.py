import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import pickle
import shutil
import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import CONFIGS, ROOT, STATISTICS, TINY, narrow, tiny_task
from ml_collections import ConfigDict
from test_tracking import events

from deepconv import checks, distributed, models, objective, resume, settings, start, train, train_and_test
from deepconv import state as state_lib
from deepconv import task as task_lib
from deepconv.config import fields, recipes
from deepconv.data import decode, pipeline, statistics
from deepconv.data.images import DataError
from deepconv.data.prepare import image_statistics
from deepconv.data.sources import shape_drawing
from deepconv.evaluation import run as evaluate
from deepconv.models import alexnet, vgg
from deepconv.ops import counting, forms, repeat
from deepconv.run import checkpoint, checkpoint_files, preemption, trackers
from deepconv.run import log as runlog
from deepconv.run.starts import read_starts


def leaves(state):
    return [np.asarray(x) for x in jax.tree.leaves(state)]


def equal(a, b):
    return all((x == y).all() for x, y in zip(leaves(a), leaves(b), strict=True))


def once(function, key):
    """The function's result of each key, made when it is first asked for."""
    made = {}

    @functools.wraps(function)
    def known(*args):
        found = key(*args)
        if found not in made:
            made[found] = function(*args)
        return made[found]

    return known


def of_task(task, computed=None):
    sizes = task.train_source.examples, len(task.train_source.classes), task.lighting_steps, str(forms.current_forms())
    division = task.mesh, task.accumulate
    return task.config.to_json(), *sizes, task.model, *division, train.train_step, pickle.dumps(computed)


def of_net(net, protocol):
    return net.model, pickle.dumps((net.input, net.size, net.square, net.batch_size)), net.mesh, protocol


COMPILED = [(train, "jit_step", once(train.jit_step, of_task)), (evaluate, "jit", once(evaluate.jit, of_net))]
COMPILED += [(resume, "initial_state", once(resume.initial_state, of_task))]


@pytest.fixture(autouse=True, scope="module")
def equal_runs_are_compiled_once():
    """In a process; the cache on the disk spares compiling, but not tracing."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name, known in COMPILED:
            patch.setattr(module, name, known)
        yield


@pytest.fixture
def signals(monkeypatch):
    monkeypatch.setattr(preemption, "_watch", lambda reader: None)  # it would end the process that tests
    before = {number: signal.getsignal(number) for number in preemption.SIGNALS}
    preemption.install()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    signal.set_wakeup_fd(-1)
    preemption._last_signal = preemption._pending = None


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    directory = tmp_path_factory.mktemp("uninterrupted")
    state, _ = train.train(tiny_task(), directory)
    return state, runlog.read_metrics(directory)


def test_the_step_is_compiled_once(tmp_path, monkeypatch):
    steps = []
    monkeypatch.setattr(train, "jit_step", lambda *args, make=train.jit_step: steps.append(make(*args)) or steps[-1])
    task = tiny_task(total_steps=3)
    train.train(task, tmp_path / "run")
    assert [step._cache_size() for step in steps] == [1]


def test_golden_losses(uninterrupted):
    """If a change of the recipe, the data or the model means to change these, write down the new ones and say so."""
    state, records = uninterrupted
    losses = {record["step"]: record["train_loss"] for record in records if "train_loss" in record}
    assert int(state.step) == 6 and losses == pytest.approx({2: 2.6339, 4: 2.9192, 6: 3.6042}, rel=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["resnet50", "alexnet", "vgg11", "vgg16"])
def test_initial_weights_are_those_of_a_program_that_is_optimised_in_full(recipe, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")  # without the level of other tests
    for module in (alexnet, vgg):
        narrow(monkeypatch, module)
    config = recipes.load(ROOT / "configs" / f"{recipe}.py", {"data.image_size": 64}, smoke=True)
    init = resume.initial_state.__wrapped__(task_lib.prepare(config, None))  # not one that another test compiled
    full = jax.jit(init.__wrapped__, compiler_options={"xla_backend_optimization_level": 3})
    for a, b in zip(leaves(init()), leaves(full()), strict=True):
        np.testing.assert_array_equal(a, b)


def test_one_device_gives_the_same_within_rounding(uninterrupted, tmp_path, monkeypatch):
    one = distributed.make_mesh(1, jax.devices()[:1])
    monkeypatch.setattr(distributed, "make_mesh", lambda model_parallel: one)
    state, _ = train.train(tiny_task(), tmp_path)
    for a, b in zip(leaves(state), leaves(uninterrupted[0]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("stop", [1, 3, 4, 5])
def test_interrupted_and_resumed_is_bit_identical(uninterrupted, tmp_path, signals, monkeypatch, stop):
    batches = train.batches

    def batches_with_a_signal(*args):
        for i, batch in enumerate(batches(*args)):
            if i == stop:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    monkeypatch.setattr(train, "batches", batches_with_a_signal)
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    with pytest.raises(preemption.Preempted, match="SIGTERM"):
        train.train(tiny_task(workers=1 if stop == 4 else 0), here)
    assert (here / "checkpoints" / str(stop)).is_dir()
    shutil.copytree(here, elsewhere)  # a run may continue in a copy of its directory
    shutil.rmtree(here)
    monkeypatch.setattr(train, "batches", batches)
    preemption.install()
    state, _ = train.train(tiny_task(), elsewhere)
    assert equal(state, uninterrupted[0])
    again, _ = train.train(tiny_task(), elsewhere)
    assert equal(again, state)
    steps = [record["step"] for record in runlog.read_metrics(elsewhere) if "test_top1_error" in record]
    assert steps == [3, 6]
    assert [step for step, value in events(elsewhere) if value.tag == "filters/conv1"] == [6]


def test_averages_of_the_weights_are_tested_and_exported(uninterrupted, tmp_path, signals, monkeypatch):
    """The literal recurrence, over a stop and a resumption; training itself does not change."""
    decay, tested, states = 0.28, [], []
    task = tiny_task(optimizer__ema_decay=decay)
    jit_step, make_test, batches = train.jit_step, evaluate.Test, train.batches

    def recorded_step(*args):
        step = jit_step(*args)

        def run(state, batch):
            state, metrics = step(state, batch)
            states.append(jax.tree.map(np.array, state))  # copied, since the next step overwrites it
            return state, metrics

        return run

    def batches_with_a_signal(*args):
        for i, batch in enumerate(batches(*args)):
            if i == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    monkeypatch.setattr(train, "jit_step", recorded_step)
    monkeypatch.setattr(evaluate, "Test", lambda *args: tested.append(args[2]) or make_test(*args))
    monkeypatch.setattr(train, "batches", batches_with_a_signal)
    with pytest.raises(preemption.Preempted, match="SIGTERM"):
        train.train(task, tmp_path)
    monkeypatch.setattr(train, "batches", batches)
    preemption.install()
    train.train(task, tmp_path)

    first = resume.initial_state(task)()
    expected = {"params": first.params, "batch_stats": first.batch_stats}
    for number, state in enumerate(states, 1):
        kept = [2 / 11, 3 / 12][number - 1] if number < 3 else decay
        now = {"params": state.params, "batch_stats": state.batch_stats}
        expected = jax.tree.map(lambda a, x: kept * a + (1 - kept) * x, expected, now)  # noqa: B023
        for a, b in zip(leaves(state.ema), leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    assert len(states) == 6
    for a, b in zip(leaves(states[-1].params), leaves(uninterrupted[0].params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    averages = states[-1].ema
    assert equal([tested[-1].params, tested[-1].batch_stats], [averages["params"], averages["batch_stats"]])
    read = checkpoint.read(tmp_path / "checkpoints")
    assert equal({kind: read[kind] for kind in averages}, repeat.by_block(averages))


def test_tests_after_training_are_of_the_averages(tmp_path, monkeypatch):
    changes = TINY | {"optimizer.ema_decay": 0.9, "total_steps": 3}
    config = recipes.load(ROOT / "configs/resnet_cifar.py", changes, smoke=True)
    task, tested = task_lib.prepare(config, None, evals=["ten_crop"]), []
    monkeypatch.setattr(evaluate, "run", lambda net, tests, *args, **options: tested.extend(tests))
    train_and_test._work(settings.Settings(task, tmp_path, {}, ["ten_crop"], {}))
    read = checkpoint.read(tmp_path / "checkpoints")
    assert len(tested) == 1 and equal(repeat.by_block(tested[0][1].params), read["params"])


def test_averages_begin_with_the_weights_that_a_run_starts_from(tmp_path):
    task = tiny_task(optimizer__ema_decay=0.9)
    weights = {"params": {"fc": jax.tree.map(np.ones_like, resume.initial_state(task)().params["fc"])}}
    with checkpoint.opened(tmp_path, task.total_steps) as manager:
        state, _ = resume.begin(task, manager, weights)
    assert (np.asarray(state.ema["params"]["fc"]["kernel"]) == 1).all()
    assert equal(state.ema, {"params": state.params, "batch_stats": state.batch_stats})


def test_a_stopped_run_is_saved_before_its_trackers_are_closed(tmp_path, signals, monkeypatch):
    """A tracker may take a minute to close, longer than the time that a cluster gives a stopped job."""
    found, given, original = [], {}, train.batches

    def batches_with_a_signal(*args):
        for i, batch in enumerate(original(*args)):
            if i == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    def open_tracker(workdir, fields):
        given.update(fields)
        return trackers.Tracker(lambda step, values: None, lambda step, name, image: None, close)

    def close(end):
        checkpoints = [path.name.partition(".")[0] for path in (tmp_path / "checkpoints").glob("[0-9]*")]
        found.append((end, checkpoints))  # one that a thread still writes has a temporary name

    monkeypatch.setattr(train, "batches", batches_with_a_signal)
    monkeypatch.setitem(trackers.OPENERS, "wandb", open_tracker)
    with pytest.raises(preemption.Preempted):
        train.train(tiny_task(), tmp_path, trackers=["wandb"])
    assert found == [("stopped", ["1"])]
    assert given["optimizer.learning_rate"] == tiny_task().config.optimizer.learning_rate


def test_a_crash_after_a_checkpoint_repeats_the_steps(uninterrupted, tmp_path, monkeypatch):
    def crash(*args):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "fill_tables", crash)  # at step 3, where a checkpoint has just been saved
        with pytest.raises(MemoryError):
            train.train(tiny_task(), tmp_path)
    state, _ = train.train(tiny_task(), tmp_path)
    assert equal(state, uninterrupted[0])
    records = runlog.read_metrics(tmp_path)
    assert [record["step"] for record in records if "test_top1_error" in record] == [3, 6]
    losses = [record.get("train_loss") for record in records if record["step"] in (4, 6)]
    assert losses[1] == next(r["train_loss"] for r in uninterrupted[1] if r["step"] == 6)


def test_a_crash_in_the_last_evaluation_still_gets_the_last_test_error(tmp_path, monkeypatch):
    evaluate_all, calls = evaluate.fill_tables, []

    def crash_at_the_second(*args):
        calls.append(args)
        if len(calls) == 2:
            raise MemoryError
        return evaluate_all(*args)

    monkeypatch.setattr(evaluate, "fill_tables", crash_at_the_second)
    with pytest.raises(MemoryError):
        train.train(tiny_task(), tmp_path)
    assert "test_top1_error" not in runlog.read_metrics(tmp_path)[-1]
    train.train(tiny_task(), tmp_path)
    assert "test_top1_error" in runlog.read_metrics(tmp_path)[-1] and len(calls) == 3


def test_the_last_test_is_kept_and_is_that_of_the_protocol(tmp_path, monkeypatch):
    evaluate_all, calls = evaluate.fill_tables, []
    monkeypatch.setattr(evaluate, "fill_tables", lambda *args: calls.append(args) or evaluate_all(*args))
    task = tiny_task()
    state, computed = train.train(task, tmp_path / "kept", keep_test=True)
    train.train(task, tmp_path / "separate")
    tests_of_training, net, (center,) = len(calls) // 2, task_lib.net_for(task, computed), task.protocols["center"]
    for name in ("kept", "separate"):
        size = dict(examples=task.eval_source.examples, classes=10)
        evaluate.run(net, [(center, state)], task.eval_source.open(), tmp_path / name, **size)
    assert tests_of_training == 2 and len(calls) == 2 * tests_of_training + 1  # only the separate one is computed
    kept, separate = (json.loads((tmp_path / name / "eval.center.json").read_text()) for name in ("kept", "separate"))
    assert all(kept[key] == separate[key] for key in kept if key not in ("time", "seconds", "images_per_second"))
    arrays = [
        [np.load(tmp_path / name / file) for file in ("probs.center.npy", "labels.npy")]
        for name in ("kept", "separate")
    ]
    assert all((a == b).all() for a, b in zip(*arrays, strict=True))
    assert kept["top1_error"] == runlog.read_metrics(tmp_path / "kept")[-1]["test_top1_error"]
    assert not [*tmp_path.glob("*/*.partial.npy")]


@pytest.mark.parametrize("function", ["save", "fill_tables"])
def test_a_crash_in_the_last_test_loses_neither_the_log_nor_the_results(tmp_path, monkeypatch, function):
    original, calls = getattr(evaluate, function), []

    def crash(*args):
        calls.append(args)
        if len(calls) == (1 if function == "save" else 2):
            raise MemoryError
        return original(*args)

    task = tiny_task()
    monkeypatch.setattr(evaluate, function, crash)
    with pytest.raises(MemoryError):
        train.train(task, tmp_path, keep_test=True)
    assert ("test_top1_error" in runlog.read_metrics(tmp_path)[-1]) == (function == "save")
    state, computed = train.train(task, tmp_path, keep_test=True)
    evaluate.run(
        task_lib.net_for(task, computed),
        [(task.protocols["center"][0], state)],
        task.eval_source.open(),
        tmp_path,
        examples=task.eval_source.examples,
        classes=10,
    )
    record = json.loads((tmp_path / "eval.center.json").read_text())
    assert record["top1_error"] == runlog.read_metrics(tmp_path)[-1]["test_top1_error"]


def test_steps_taken_again_are_tested_again(tmp_path, monkeypatch):
    train.train(tiny_task(), tmp_path)
    runlog.append_metrics(tmp_path, {"step": 6, "test_top1_error": -1.0})  # of a trajectory that was lost
    shutil.rmtree(tmp_path / "checkpoints" / "6")
    train.train(tiny_task(), tmp_path)
    assert runlog.read_metrics(tmp_path)[-1]["test_top1_error"] >= 0


def values(records):
    """All that does not depend on the machine's speed."""
    return [{name: value for name, value in record.items() if name != "images_per_second"} for record in records]


SPARSE = {"log_every_steps": 4, "checkpoint_every_steps": 3}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The metrics of a run that logs seldom."""
    directory = tmp_path_factory.mktemp("undisturbed")
    train.train(tiny_task(**SPARSE), directory)
    return values(runlog.read_metrics(directory))


@pytest.mark.parametrize("stop", [1, 2, 3, 4, 5])
def test_metrics_of_a_stopped_and_resumed_run_are_those_of_an_undisturbed_one(
    undisturbed, tmp_path, signals, monkeypatch, stop
):
    batches = train.batches

    def batches_with_a_signal(*args):
        for i, batch in enumerate(batches(*args)):
            if i == stop:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(train, "batches", batches_with_a_signal)
        with pytest.raises(preemption.Preempted):
            train.train(tiny_task(**SPARSE), tmp_path)
    preemption.install()
    train.train(tiny_task(**SPARSE), tmp_path)
    assert [record["step"] for record in undisturbed] == [3, 4, 6]
    assert values(runlog.read_metrics(tmp_path)) == undisturbed


def test_metrics_after_a_crash_are_those_of_an_undisturbed_run(undisturbed, tmp_path, monkeypatch):
    batches = train.batches

    def batches_with_a_crash(*args):
        for i, batch in enumerate(batches(*args)):
            if i == 5:
                raise MemoryError
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(train, "batches", batches_with_a_crash)
        with pytest.raises(MemoryError):
            train.train(tiny_task(**SPARSE), tmp_path)
    assert checkpoint_files.steps(tmp_path / "checkpoints") == [3]  # not at a multiple of log_every_steps
    train.train(tiny_task(**SPARSE), tmp_path)
    assert values(runlog.read_metrics(tmp_path)) == undisturbed


def test_a_speed_is_logged_only_where_steps_were_timed(tmp_path):
    train.train(tiny_task(log_every_steps=1, checkpoint_every_steps=6), tmp_path)
    speeds = {r["step"]: r.get("images_per_second") for r in runlog.read_metrics(tmp_path) if "train_loss" in r}
    assert speeds.pop(1) is None and len(speeds) == 5 and all(speed > 0 for speed in speeds.values())


def test_tests_follow_epochs_that_are_no_whole_number_of_steps(tmp_path):
    """160 examples in batches of 48: 3 1/3 steps an epoch."""
    changes = {"batch_size": 48, "total_epochs": 3, "data.image_size": 16, "optimizer.drop_at_epochs": ()}
    config = recipes.load(ROOT / "configs" / "quickstart.py", changes, smoke=True)
    train.train(task_lib.prepare(config, None), tmp_path)
    tested = [record["step"] for record in runlog.read_metrics(tmp_path) if "test_top1_error" in record]
    assert tested == [3, 7, 10]


@pytest.mark.parametrize("number", preemption.SIGNALS)
def test_a_signal_reaches_a_loader_that_waits(tmp_path, signals, monkeypatch, number):
    batches = train.batches

    def stuck_at_the_second(*args):
        yield next(batches(*args))
        threading.Timer(0.5, os.kill, (os.getpid(), number)).start()
        threading.Event().wait(60)

    monkeypatch.setattr(train, "batches", stuck_at_the_second)
    with pytest.raises(preemption.Preempted, match=signal.Signals(number).name):
        train.train(tiny_task(), tmp_path)
    assert (tmp_path / "checkpoints" / "1").is_dir()


def test_a_directory_that_was_removed_is_not_made_again(tmp_path, monkeypatch):
    batches, run = train.batches, tmp_path / "run"

    def remove_at_the_third(*args):
        for i, batch in enumerate(batches(*args)):
            if i == 2:
                shutil.rmtree(run)
            yield batch

    monkeypatch.setattr(train, "batches", remove_at_the_third)
    with pytest.raises(checkpoint.CheckpointError, match="was removed; the state of step 3 was not saved"):
        train.train(tiny_task(log_every_steps=6), run)
    assert not run.exists()


def test_a_signal_stops_evaluation(tmp_path, signals, monkeypatch):
    put = distributed.put_batch

    def put_with_a_signal(batch, mesh):
        if "label" not in batch:  # a batch of the evaluation
            os.kill(os.getpid(), signal.SIGUSR1)
        return put(batch, mesh)

    monkeypatch.setattr(distributed, "put_batch", put_with_a_signal)
    with pytest.raises(preemption.Preempted, match="SIGUSR1"):
        train.train(tiny_task(), tmp_path)
    assert (tmp_path / "checkpoints" / "3").is_dir()


@pytest.mark.parametrize(("step", "whole"), [(5, [3]), (3, [])])  # the latter at a checkpoint, before it is logged
def test_a_loss_that_is_not_finite_stops_and_leaves_the_last_good_checkpoint(tmp_path, monkeypatch, step, whole):
    batches = train.batches

    def with_nan(*args):
        for i, batch in enumerate(batches(*args)):
            yield batch | {"image": batch["image"] * np.float32(np.nan)} if i >= step - 1 else batch

    monkeypatch.setattr(train, "batches", with_nan)
    with pytest.raises(FloatingPointError, match=f"not finite at step {step}"):
        train.train(tiny_task(), tmp_path)
    manager = checkpoint.open_manager(tmp_path / "checkpoints", 6)
    assert manager.all_steps() == whole
    assert not any(checkpoint_files.damage(tmp_path / "checkpoints" / str(saved)) for saved in whole)


# Millions of parameters by the papers' tables, or as computed from their layers. Here, one step is only traced: the
# other tests train resnet_cifar with 8 layers, and .ci/run trains a recipe of each paper.
PARAMETERS = dict(alexnet=60.97, alexnet_code=60.97, alexnet_owt=61.10, resnet18=11.52, resnet34=21.62, resnet50=25.56)
PARAMETERS |= dict(resnet101=44.55, resnet152=60.19, vgg11=132.86, vgg11_lrn=132.86, vgg13=133.05, vgg16_1x1=133.64)
PARAMETERS |= dict(vgg16=138.36, vgg19=143.67, vgg13_5x5=134.50, resnet_cifar=0.27, alexnet_cifar=1.90, quickstart=0.08)
PARAMETERS |= dict(alexnet_cifar_13pct=1.12, alexnet_cifar_11pct=2.11, vgg16_fc=138.36)
PARAMETERS |= dict(shapes_localization=0.96, vgg16_localization=150.65, vgg16_localization_fc=150.65)  # 4000 outputs
PARAMETERS |= dict(shapes_proposals=0.20, resnet101_localization=134.71)  # 45,000 outputs
PARAMETERS |= dict(resnet101_rcnn=52.75)  # 5000 outputs
PARAMETERS |= dict(
    alexnet_finetuned=61.56, alexnet_fall2009=57.50, alexnet_fall2011=57.50
)  # the latter with 10 classes


SEVERAL = {"alexnet", "alexnet_cifar", "vgg16", "resnet50", "resnet_cifar", "shapes_localization"}  # one of each kind


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=() if path.stem in SEVERAL else pytest.mark.slow, id=path.stem) for path in CONFIGS],
)
def test_every_shipped_config_takes_a_step_by_shape(path):
    whole = recipes.load(path)
    fields.check_fields(whole)
    classes = 1000 if whole.data.name == "imagenet2012" else 10
    aim = objective.create(whole, classes)
    model = models.create(whole.model, aim.outputs, aim.per_place)
    params = state_lib.shapes_of(model, whole.data.image_size)["params"]
    assert round(counting.count_parameters(params) / 1e6, 2) == PARAMETERS[path.stem]

    task = task_lib.prepare(recipes.load(path, smoke=True), None)
    batch = task_lib.batch_shapes(task)
    before = jax.eval_shape(resume.initial_state(task))
    after, metrics = jax.eval_shape(train.jit_step(task, STATISTICS), before, batch)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), before)
    assert metrics["train_loss"].shape == ()


def test_a_shipped_config_shrunk_runs(tmp_path):
    path = ROOT / "configs" / "quickstart.py"
    task = task_lib.prepare(recipes.load(path, smoke=True), None)
    state, _ = train.train(task, tmp_path)
    records = runlog.read_metrics(tmp_path)
    assert int(state.step) == task.total_steps == records[-1]["step"]
    fields = {
        "step",
        "epoch",
        "train_loss",
        "train_top1_error",
        "learning_rate",
        "images_per_second",
        "test_top1_error",
    }
    assert set(records[-1]) == fields
    assert any(file.name.startswith("events") for file in tmp_path.iterdir())


def test_bfloat16_and_grouped_statistics_train(tmp_path):
    overrides = dict(model__dtype="bfloat16", model__bn_group=4, data__augment="none", optimizer__learning_rate=0.02)
    overrides |= dict(total_steps=120, optimizer__drop_at_steps=(), log_every_steps=10)
    state, _ = train.train(tiny_task(**overrides, eval_every_steps=120, checkpoint_every_steps=120), tmp_path)
    assert all(x.dtype == np.float32 for x in leaves(state.params))
    records = [record["train_loss"] for record in runlog.read_metrics(tmp_path) if "train_loss" in record]
    assert np.mean(records[-2:]) < 1.7 < records[0]  # that of chance is 2.3


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"data__augment": "cutout"}, "cutout"),
        ({"data__mean": "x"}, "mean='x'"),
    ],
)
def test_unknown_names_are_refused_before_any_work(overrides, named):
    with pytest.raises(ValueError, match=named):
        tiny_task(**overrides)


@pytest.fixture
def photos(tmp_path):
    """Two classes of 24 pictures, one of which is cut off."""
    for split, count in (("train", 24), ("val", 6)):
        for i in range(count):
            data, label, _ = shape_drawing.draw_jpeg(i if split == "train" else i + 1000, (20, 40))
            path = tmp_path / "photos" / split / ("even" if label % 2 == 0 else "odd") / f"{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data[:-200] if (split, i) == ("train", 7) else data)
    return tmp_path


def photo_task(photos, evals=(), tests_only=False, **overrides):
    """Six small steps on them, by a recipe that rescales as those of ImageNet do."""
    config = recipes.load(ROOT / "configs" / "resnet_cifar.py", TINY, smoke=True).unlock()
    config.data = ConfigDict(dict(name="photos", train_split="train", eval_split="val", image_size=32, mean="channel"))
    config.data.update(train_scale=(32, 48), test_scale=32, central_square=False, augment="crop_flip")
    config.data.update(lighting="eigenvalue", on_corrupt="fail")
    config.update_from_flattened_dict(overrides)
    return task_lib.prepare(config.lock(), str(photos), evals=evals, tests_only=tests_only)


def store_statistics(photos):
    image_statistics.compute_statistics("photos", photos, "train", 32, replace=True)


def test_statistics_that_are_missing_are_named_with_the_command(photos):
    with pytest.raises(ValueError, match=f"prepare statistics photos --data_dir={photos} --split='train' --size=32"):
        photo_task(photos)


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"data.train_scale": (48, 32)}, r"train_scale=\(48, 32\); it must be two sizes"),
        ({"data.train_scale": (24, 48)}, r"train_scale=\(24, 48\) is less than config.data.image_size=32"),
        ({"data.test_scale": 16}, "test_scale=16 is less"),
        ({"data.central_square": True}, "central squares need one size"),
        ({"data.lighting": "bright"}, "lighting='bright' is unknown; choose one of eigenvalue"),
        ({"data.on_corrupt": "skip"}, "on_corrupt='skip' is unknown; choose one of fail, replace"),
        ({"data.train_split": "training"}, "no split 'training'"),
    ],
)
def test_data_that_cannot_be_prepared_so_is_refused(photos, overrides, named):
    store_statistics(photos)
    with pytest.raises((ValueError, OSError), match=named):
        photo_task(photos, **overrides)


def test_missing_statistics_are_named_beside_a_scale_that_is_too_small(photos):
    with pytest.raises(ValueError, match="(?s)test_scale=16 is less.*prepare statistics photos"):
        photo_task(photos, **{"data.test_scale": 16})


def test_a_recipe_for_images_of_one_size_refuses_photographs(photos):
    config = recipes.load(ROOT / "configs/quickstart.py", {"data.name": "photos", "data.eval_split": "val"})
    with pytest.raises(ValueError, match="train_scale is missing, and the images of photos have many sizes; take a"):
        task_lib.prepare(config, photos)


def test_all_mistakes_are_told_at_once_a_line_each(photos):
    wrong = {"optimizer.drop_at_steps": (6,), "model.depth": 8}
    with pytest.raises(ValueError) as error:
        photo_task(photos, evals=["tencrop", "ten_crop", "dense"], **wrong)
    lines = str(error.value).splitlines()
    assert len(lines) == 4
    assert "a drop comes at step 6, not before the end" in lines[0] and "statistics.train" in lines[1]
    assert lines[2].startswith("tencrop is not a protocol") and lines[3].startswith("dense: CifarResNet has no dense")


def test_an_image_that_cannot_be_decoded_stops_with_the_state_saved(photos):
    store_statistics(photos)
    with pytest.raises(
        DataError, match=r"record \d+ \(train/(odd|even)/7.jpg in .*\) cannot be decoded.*on_corrupt=replace"
    ):
        train.train(photo_task(photos), photos / "run")
    saved = checkpoint_files.steps(photos / "run" / "checkpoints")
    task = photo_task(photos, **{"data.on_corrupt": "replace"})
    state, _ = train.train(task, photos / "run")
    assert int(state.step) == 6 and saved
    lines = (photos / "run" / "corrupt.txt").read_text().splitlines()
    assert len(lines) == 1 and "7.jpg in" in lines[0] and "remature end" in lines[0]


def test_imagenet_has_published_statistics_but_no_mean_image(tmp_path):
    data, _, _ = shape_drawing.draw_jpeg(0, (20, 40))
    for number in range(1000):
        path = tmp_path / "photos" / "train" / f"n{number:08d}" / "0.jpg"
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
    settings = {"data.eval_split": "train[:9]"}
    assert photo_task(tmp_path, **settings).statistics is statistics.PUBLISHED
    with pytest.raises(ValueError, match="prepare statistics photos.*--config.data.mean=channel"):
        photo_task(tmp_path, **settings, **{"data.mean": "pixel"})
    # a net that is tested as it is given needs test images only, as long as nothing is averaged over others
    settings |= {"data.train_split": "nothing"}
    assert photo_task(tmp_path, tests_only=True, **settings).train_source.examples == 9
    with pytest.raises(ValueError, match="no split 'nothing'"):
        photo_task(tmp_path, tests_only=True, evals=["center_precise_batch_stats"], **settings)


# What config.data says of ImageNet, from the papers: AlexNet 4.1, VGG 3.1 and 4, ResNet 3.4
DATA = dict(alexnet=(256, 256, 256, True, "pixel", "eigenvalue"), vgg16=(256, 256, 256, False, "channel", "eigenvalue"))
DATA |= dict(resnet50=(256, 480, 256, False, "pixel", "eigenvalue"))
DATA |= dict(alexnet_code=(256, 256, 256, True, "pixel", "standard_deviation"))


@pytest.mark.parametrize("recipe", DATA)
def test_recipes_look_at_images_as_the_papers_do(recipe):
    data = recipes.load(ROOT / "configs" / f"{recipe}.py").data
    low, high, test, square, mean, lighting = DATA[recipe]
    assert pipeline.geometry(data, None) == decode.Geometry((low, high), 224, square, random=not square)
    assert (data.test_scale, data.central_square) == (test, square)
    assert (data.image_size, data.augment, data.mean, data.lighting) == (224, "crop_flip", mean, lighting)


@pytest.mark.parametrize(
    ("augment", "scale", "named"),
    [
        ("none", (256, 480), "takes the central crop at one size"),
        ("pad_crop_flip", (256, 256), "for images of one size"),
    ],
)
def test_photographs_are_not_silently_seen_at_one_scale(augment, scale, named):
    data = recipes.load(ROOT / "configs" / "resnet50.py").data
    data.augment, data.train_scale = augment, scale
    with pytest.raises(ValueError, match=named):
        pipeline.geometry(data, None)
    data.augment, data.train_scale = "none", (256, 256)
    assert not pipeline.geometry(data, None).random


def test_a_mean_image_must_be_as_large_as_the_images():
    given = dataclasses.replace(STATISTICS, pixel_mean=np.zeros((16, 16, 3), np.float32))
    config = tiny_task(data__mean="pixel").config
    assert task_lib.prepare(config, given=given, tests_only=True).statistics is given
    config.data.image_size = 20
    with pytest.raises(ValueError, match="the mean image has 16 x 16 pixels, fewer than config.data.image_size=20"):
        task_lib.prepare(config, given=given, tests_only=True)


def test_items_are_made_ahead():
    made = []
    found = pipeline.ahead((made.append(number) or number for number in range(4)), 2)
    assert next(found) == 0 and made == [0, 1, 2]
    assert [*found] == [1, 2, 3]


def test_a_closed_pipe_ends_training_with_the_state_saved(tmp_path, monkeypatch):
    task, shown = tiny_task(log_every_steps=1), []

    def broken(*arguments, **options):
        shown.append(arguments)
        if len(shown) == 4:
            raise BrokenPipeError

    monkeypatch.setattr(train.StepLog, "add", broken)
    with pytest.raises(BrokenPipeError):
        train.train(task, tmp_path)
    assert checkpoint_files.steps(tmp_path / "checkpoints") == [3, 4]


def test_what_is_larger_than_the_memory_is_refused(monkeypatch):
    """16 images in bytes and in float32, and two numbers of four bytes a parameter."""
    needed = 16 * 16 * 16 * 3 * (1 + 4) + 8 * sum(
        x.size for x in jax.tree.leaves(resume.initial_state(tiny_task())().params)
    )
    sizes = {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": needed}
    monkeypatch.setattr(checks.os, "sysconf", sizes.get)
    tiny_task()
    sizes["SC_PHYS_PAGES"] = needed - 1
    with pytest.raises(
        ValueError, match=r"config.batch_size=16 images of config.data.image_size=16 pixels .* of memory"
    ):
        tiny_task()


def test_a_signal_that_comes_just_before_there_is_something_to_save_is_kept(signals, monkeypatch):
    monkeypatch.setattr(preemption, "_unsaved", False)
    preemption._handle(signal.SIGTERM, None)  # which leaves it to the watching thread
    preemption.check()
    preemption.unsaved(True)  # before that thread has looked
    with pytest.raises(preemption.Preempted):
        preemption.check()


def test_averages_of_batch_norm_that_are_not_finite_stop_the_run(tmp_path, monkeypatch):
    step = train.train_step

    def broken(state, batch, **options):
        state, metrics = step(state, batch, **options)
        averages = state.batch_stats | {"bn1": jax.tree.map(lambda x: x * np.nan, state.batch_stats["bn1"])}
        return state.replace(batch_stats=averages), metrics

    monkeypatch.setattr(train, "train_step", broken)
    with pytest.raises(FloatingPointError, match="BatchNorm's bn1.mean holds 16 of 16 values that are not finite"):
        train.train(tiny_task(), tmp_path)
    assert checkpoint_files.steps(tmp_path / "checkpoints") == []


@pytest.mark.parametrize(
    ("field", "works"), [("learning_rate", False), ("weight_decay", False), ("freeze_at_steps", True)]
)
def test_batch_norm_has_no_rate_of_its_own(field, works):
    config = recipes.load(ROOT / "configs" / "resnet_cifar.py", {"model.depth": 8}, smoke=True)
    with config.unlocked():
        config.optimizer.layers = {"bn1": {field: 0}}
    with (
        contextlib.nullcontext() if works else pytest.raises(ValueError, match=f"layers.bn1.{field} is for layers with")
    ):
        task_lib.prepare(config, None)


def test_options_of_a_block_need_it_computed_by_itself():
    config = recipes.load(ROOT / "configs" / "resnet_cifar.py", {"model.depth": 20}, smoke=True)
    with config.unlocked():
        config.optimizer.layers = {"conv2_3": {"learning_rate": 0.5}}
    with pytest.raises(ValueError, match="names conv2_3, one of several blocks .* --forms=blocks:plain"):
        task_lib.prepare(config, None)
    with forms.using("blocks:plain"):
        task = task_lib.prepare(config, None)
        state = resume.initial_state(task)()
        gradients = jax.tree.map(jnp.ones_like, state.params)
        updates, _ = task.tx.update(gradients, state.opt_state, state.params, error=0.0)
    changes = {name: float(-updates[name]["conv1"]["kernel"].mean()) for name in ("conv2_2", "conv2_3")}
    assert changes == pytest.approx({"conv2_2": 0.1, "conv2_3": 0.5}, rel=0.05)


@pytest.mark.parametrize("before", ["scan", pytest.param("plain", marks=pytest.mark.slow)])
def test_a_run_goes_on_in_another_form(before, tmp_path):
    """Saved with scans and resumed in loops, or the other way round, as on a CPU and a GPU."""
    after = {"scan": "plain", "plain": "scan"}[before]
    options = dict(model__depth=20, checkpoint_every_steps=2, optimizer__learning_rate=0.01)
    with forms.using(f"blocks:{before}"):
        expected, _ = train.train(tiny_task(**options), tmp_path / "undisturbed")
        shutil.copytree(tmp_path / "undisturbed", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "6")
    with forms.using(f"blocks:{after}"):
        state, _ = train.train(tiny_task(**options), tmp_path / "run")
    assert ("conv2_2_to_3" in state.params) == (after == "scan") != ("conv2_2_to_3" in expected.params)
    ours, theirs = repeat.by_block(state), repeat.by_block(expected)
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(leaves(ours), leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    forms_recorded = [start["forms"]["blocks"] for start in read_starts(tmp_path / "run")]
    assert forms_recorded == [before, after]


def test_averages_of_given_weights_are_over_augmented_images(photos):
    """Colours are shifted for them, although the net itself needs no statistics."""
    store_statistics(photos)
    task = photo_task(photos, ["center_precise_batch_stats"], tests_only=True, **{"data.mean": "120,120,120"})
    assert np.isfinite(task.statistics.eigenvalues).all()
    task = photo_task(photos, ["center"], tests_only=True, **{"data.mean": "120,120,120"})
    assert task.statistics is statistics.NOT_NEEDED


def test_given_weights_are_tested_with_and_without_training_images(tmp_path):
    """The second test looks for them, the first does not."""
    record = json.loads(recipes.load(CONFIGS[0]).to_json())
    record |= {"train": False, "eval_data": "6 examples", "init_from": "x", "init_sha256": "y"}
    train_and_test._claim(tmp_path, record | {"train_data": "6 examples"}, ["a"], write=True)
    train_and_test._claim(tmp_path, record | {"train_data": "20 examples"}, ["a"], write=True)
    with pytest.raises(FileExistsError, match="eval_data: 6 examples in the run, 7 examples now"):
        train_and_test._claim(tmp_path, record | {"eval_data": "7 examples"}, ["a"], write=True)


def test_weights_that_are_tested_are_those_of_the_first_test_and_of_the_data_s_classes(tmp_path):
    record = json.loads(recipes.load(CONFIGS[0]).to_json()) | {
        "train": False,
        "eval_data": "6 examples",
        "init_from": "x",
    }
    train_and_test._claim(tmp_path, record | {"init_sha256": "a"}, ["a"], write=True)
    train_and_test._claim(tmp_path, dict(record), ["a"], write=True)  # they are gone, and no longer needed
    with pytest.raises(FileExistsError, match="init_sha256: a in the run, b now"):
        train_and_test._claim(tmp_path, record | {"init_sha256": "b"}, ["a"], write=True)
    elsewhere = record | {"init_from": "./x"}
    train_and_test._claim(tmp_path, elsewhere | {"init_sha256": "a"}, ["a"], write=True)
    with pytest.raises(FileExistsError, match="init_from: x in the run, ./x now"):  # which weights, nobody knows
        train_and_test._claim(tmp_path, elsewhere, ["a"], write=True)
    (tmp_path / "earlier").mkdir()
    train_and_test._claim(tmp_path / "earlier", dict(record), ["a"], write=True)
    train_and_test._claim(tmp_path / "earlier", record | {"init_sha256": "b"}, ["a"], write=True)
    sums = tmp_path / "source/checkpoints/7/SHA256SUMS.json"
    sums.parent.mkdir(parents=True)
    sums.write_text("{}")
    weights = start.Start(str(tmp_path / "source"), [], "", "")
    assert weights.record()["init_sha256"] == hashlib.sha256(b"{}").hexdigest()
    (tmp_path / "source/classes.json").write_text('["a"]')
    trained = recipes.load(ROOT / "configs/resnet_cifar.py", {"total_steps": 7, "optimizer.drop_at_steps": ()})
    content = json.loads(trained.to_json()) | {"train_data": "6 examples"}
    (tmp_path / "source/config.json").write_text(json.dumps(content))
    task = dataclasses.replace(tiny_task(), total_steps=0)
    with pytest.raises(ValueError, match="the classes of .* are not those of shapes, or in another order"):
        weights.weights(task, tmp_path / "new")


def test_images_that_were_replaced_by_packing_are_listed_with_the_run(tmp_path):
    task = tiny_task()
    task = dataclasses.replace(task, train_source=dataclasses.replace(task.train_source, replaced=("a.jpg", "b.jpg")))
    for _ in range(2):
        assert train.replacements(task, tmp_path) is None
        assert (tmp_path / "corrupt.txt").read_text() == "a.jpg\nb.jpg\n"


def test_a_run_keeps_the_statistics_with_which_it_began(photos, tmp_path):
    """Those of the data may be computed anew, by other versions of the libraries that decode photographs."""
    store_statistics(photos)
    task = photo_task(photos)
    first = resume.keep_statistics(task.statistics, tmp_path)
    other = dataclasses.replace(task.statistics, channel_mean=task.statistics.channel_mean + 1)
    kept = resume.keep_statistics(other, tmp_path)
    assert (kept.channel_mean == first.channel_mean).all() and (kept.pixel_mean == first.pixel_mean).all()
    assert resume.keep_statistics(statistics.NOT_NEEDED, tmp_path) is statistics.NOT_NEEDED


def test_what_tests_of_an_earlier_net_began_is_removed_before_training(tmp_path):
    """A net whose last checkpoint is lost is trained further, and may differ in its last bits."""
    task, began = tiny_task(), ("precise_batch_stats.npz", "probs.ten_crop.partial.npy")
    finished = ("eval.dense.json", "probs.dense.npy")
    for name in (*began, *finished):
        (tmp_path / name).write_text("")
    train.train(task, tmp_path)
    assert not any((tmp_path / name).exists() for name in finished) and not any(
        (tmp_path / name).exists() for name in began
    )
    for name in began:
        (tmp_path / name).write_text("")
    found = statistics.load(tmp_path / "statistics.npz", "")
    statistics.save(tmp_path / "statistics.npz", dataclasses.replace(found, channel_mean=np.full(3, 7, np.float32)), "")
    _, computed = train.train(task, tmp_path)  # it is trained already, so they are of this net
    assert all((tmp_path / name).exists() for name in began) and (computed.channel_mean == 7).all()
