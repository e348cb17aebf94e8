"""AlexNet's towers on two devices: equal to one device, with the communication of the paper's Fig. 2 and no more."""

import collections
import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT, STATISTICS, narrow

from deepconv import checks, distributed, models, objective, resume, train
from deepconv import task as task_lib
from deepconv.benchmark import collectives
from deepconv.config import recipes
from deepconv.evaluation import run as evaluate
from deepconv.evaluation.table import new_table
from deepconv.models import alexnet
from deepconv.ops import towers
from deepconv.run import log as runlog
from deepconv.run.starts import read_starts

ONE, TWO = distributed.make_mesh(1, jax.devices()[:1]), distributed.make_mesh(2)
SIZE = 64  # pixels, the fewest that leave a map after the third pool
PIXELS = dataclasses.replace(STATISTICS, pixel_mean=np.full((SIZE, SIZE, 3), 120, np.float32))


def smoke_task(recipe="alexnet_code", model_parallel=1, **changes):
    changes = {name.replace("__", "."): value for name, value in changes.items()}
    config = recipes.load(ROOT / "configs" / f"{recipe}.py", changes, smoke=True)
    return task_lib.prepare(config, None, model_parallel=model_parallel)


def a_batch(count, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)
    return {"image": images, "label": rng.integers(0, 10, count).astype(np.int32)}


def loss_and_gradients(model, mesh):
    """Of a batch in training, with dropout."""
    batch = a_batch(4)
    images = (batch["image"].astype(np.float32) - 120) / 60

    @jax.jit
    def run(params):
        def loss(params):
            logits, _ = towers.apply(model, {"params": params}, images, jax.random.key(1), mesh)
            return objective.cross_entropy(logits, batch["label"])

        return jax.value_and_grad(loss)(params)

    params = jax.jit(lambda: model.init(jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)), train=False)["params"])()
    params = jax.tree.map(np.asarray, params)  # either mesh takes them
    value, gradients = run(params)
    return np.float32(value), jax.device_get(gradients)


@pytest.mark.parametrize(
    "options",
    [
        dict(variant="code", lrn_in_towers=True),
        dict(variant="paper", lrn_in_towers=False),  # windows of the normalisation reach into the other tower
        pytest.param(dict(variant="code", lrn_in_towers=True, conv6=True), marks=pytest.mark.slow),
        pytest.param(dict(variant="code", lrn_in_towers=True, communication=False), marks=pytest.mark.slow),
        pytest.param(dict(variant="paper", without="conv3", lrn=False, activation="tanh"), marks=pytest.mark.slow),
    ],
    ids=lambda options: ",".join(f"{name}={value}" for name, value in options.items()),
)
def test_two_devices_give_the_loss_and_gradients_of_one(options, monkeypatch):
    narrow(monkeypatch, alexnet)
    model = alexnet.AlexNet(10, **options)
    (loss, gradients), (expected, expected_gradients) = (loss_and_gradients(model, mesh) for mesh in (TWO, ONE))
    assert abs(loss - expected) <= np.spacing(expected)
    for (path, ours), theirs in zip(
        jax.tree.leaves_with_path(gradients), jax.tree.leaves(expected_gradients), strict=True
    ):
        assert abs(theirs).max() > 0
        np.testing.assert_allclose(ours, theirs, atol=2e-6 * abs(theirs).max(), err_msg=jax.tree_util.keystr(path))


FORWARD = [("forward", layer, "all-gather") for layer in ("conv3", "fc6", "fc7", "fc8")]
BACKWARD = [("backward", layer, "reduce-scatter") for layer in ("conv3", "fc6", "fc7", "fc8")]
BORDERS = 4 * [("forward", "lrn", "collective-permute")] + 4 * [("backward", "lrn", "collective-permute")]


def exchanges(task):
    """The exchanges of maps between layers, and all others."""
    found = collectives.find(collectives.compiled_step(task).as_text(), task.mesh)
    in_layers = [each for each in found if each.layer.startswith(("conv", "fc", "lrn"))]
    return in_layers, [each for each in found if each not in in_layers]


# as GPUs have them; the first is in the form of a JAX program's, the second in that of XLA's tests
STARTED = """
  %a = (f32[2,3]{1,0}, f32[4,3]{1,0}) all-gather-start(%x), channel_id=1, replica_groups={{0,1}}, dimensions={0}, META
  %b = ((f32[20]{0}), f32[10]{0}) reduce-scatter-start(%x), channel_id=2, replica_groups={{0,1}}, dimensions={0}, META
  %c = (f32[4]{0}, f32[4]{0}, u32[], u32[]) collective-permute-start(%x), source_target_pairs={{0,1},{1,0}}, META
  %d = (f32[4]{0}, f32[2]{0}) all-reduce-start(%x, %y), channel_id=4, replica_groups={{0,1}}, to_apply=%add, META
"""


def test_exchanges_that_are_started_count_what_is_received():
    found = collectives.find(STARTED.replace("META", 'metadata={op_name="jit(step)/jvp(AlexNet)/conv3/dot"}'), TWO)
    assert [(each.kind, each.arrays, each.received) for each in found] == [
        ("all-gather", 1, 24),
        ("reduce-scatter", 1, 40),
        ("collective-permute", 1, 16),
        ("all-reduce", 2, 24),
    ]


@pytest.mark.parametrize(
    ("recipe", "borders"), [pytest.param("alexnet_code", [], marks=pytest.mark.slow), ("alexnet", BORDERS)]
)
def test_towers_meet_where_the_paper_says(recipe, borders, monkeypatch):
    narrow(monkeypatch, alexnet)
    task = smoke_task(recipe, model_parallel=2)
    in_layers, others = exchanges(task)
    kinds = [(each.phase, each.layer, each.kind) for each in in_layers]
    assert sorted(kinds) == sorted(FORWARD + BACKWARD + borders)
    batch = task.config.batch_size
    sizes = {each.layer: each.received for each in in_layers if each.kind == "all-gather"}
    assert sizes == {
        "conv3": batch * 3 * 3 * 128 * 4,
        "fc6": batch * 128 * 4,
        "fc7": batch * 32 * 4,
        "fc8": batch * 32 * 4,
    }
    # the softmax's maximum and sum, the top-1 error's places of the maximum, and the norm of the update
    kinds = collections.Counter((each.phase, each.kind) for each in others)
    assert kinds == {("forward", "all-reduce"): 2, ("forward", "all-gather"): 2, ("update", "all-reduce"): 1}
    assert all(each.received <= 2 * batch * 4 for each in others)
    assert {each.axis for each in in_layers + others} == {"model"}


@pytest.mark.slow
def test_each_device_holds_a_tower_of_parameters_momentum_and_maps(monkeypatch):
    narrow(monkeypatch, alexnet)
    pair = smoke_task(model_parallel=2)
    state = resume.initial_state(pair)()
    momentum = [part.trace for part in state.opt_state if hasattr(part, "trace")]
    whole = jax.tree.leaves((state.params, momentum))
    assert len(whole) == 32  # a kernel and a bias in each of eight layers, and their momentum
    for x in whole:
        assert x.sharding.shard_shape(x.shape) == (*x.shape[:-1], x.shape[-1] // 2)
    started = resume.start_from(state, {"params": {"fc7": jax.device_get(state.params["fc7"])}}, TWO)
    assert jax.tree.all(jax.tree.map(lambda x, y: x.sharding == y.sharding, started, state))

    single = dataclasses.replace(pair, mesh=ONE)
    of_pair, of_one = (collectives.compiled_step(task).memory_analysis() for task in (pair, single))
    assert of_pair.argument_size_in_bytes < 0.52 * of_one.argument_size_in_bytes
    assert of_pair.temp_size_in_bytes < 0.6 * of_one.temp_size_in_bytes


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_devices_per_net(tmp_path, monkeypatch, capsys):
    """From a checkpoint of two devices on one per net: the same files, equal results within rounding."""
    narrow(monkeypatch, alexnet)
    settings = dict(batch_size=32, checkpoint_every_steps=3, optimizer__learning_rate=0.001)  # five steps
    state, _ = train.train(smoke_task(model_parallel=2, **settings), tmp_path / "pair")
    shutil.copytree(tmp_path / "pair", tmp_path / "single")
    shutil.rmtree(tmp_path / "single" / "checkpoints" / "5")
    again, _ = train.train(smoke_task(**settings), tmp_path / "single")
    assert "model_parallel: 2 before, 1 now" in capsys.readouterr().out
    assert [start["model_parallel"] for start in read_starts(tmp_path / "single")] == [2, 1]
    for ours, theirs in zip(jax.tree.leaves(again), jax.tree.leaves(state), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    last, other = (
        [record for record in runlog.read_metrics(tmp_path / name) if "train_loss" in record][-1]
        for name in ("pair", "single")
    )
    assert last["step"] == other["step"] == 5 and last["train_loss"] == pytest.approx(other["train_loss"], rel=1e-6)


def test_tests_use_every_device_for_images_and_give_the_same_probabilities(monkeypatch):
    narrow(monkeypatch, alexnet)
    tables = []
    for model_parallel in (2, 1):
        task = smoke_task(model_parallel=model_parallel)
        net, (center,) = task_lib.net_for(task, PIXELS), task.protocols["center"]
        assert dict(net.mesh.shape) == {"data": 2, "model": 1}
        table = new_table(task.eval_source.examples, 10)
        state = resume.initial_state(task)()
        test = evaluate.Test(center, evaluate.jit(net, center), state, table)
        evaluate.fill_tables(net, [test], task.eval_source.open())
        tables.append(table["output"])
    np.testing.assert_allclose(*tables, rtol=1e-5)


@pytest.mark.parametrize(
    ("recipe", "changes", "named"),
    [
        ("resnet18", {}, "this net, resnet, has 1; take 1"),
        ("alexnet_owt", {}, "this net, alexnet, has 1; take 1"),
        ("alexnet", {"model__half": True}, "this net, alexnet, has 1; take 1"),
        ("alexnet", {"model__grouped": False}, "this net, alexnet, has 1; take 1"),
    ],
)
def test_a_net_without_two_towers_is_refused(recipe, changes, named):
    with pytest.raises(ValueError, match=named) as error:
        smoke_task(recipe, model_parallel=2, **changes)
    assert len(str(error.value).splitlines()) == 1


def test_an_odd_number_of_classes_or_devices_is_refused(monkeypatch):
    config = recipes.load(ROOT / "configs" / "alexnet.py")
    (line,) = checks.wrong_division(config, models.create(config.model, 7), False, TWO, 1)
    assert line == "--model_parallel=2 cannot divide the 7 outputs of the last layer; leave it out"
    monkeypatch.setattr(jax, "local_device_count", lambda: 1)
    with pytest.raises(ValueError, match="needs a multiple of 2 devices in each process, not 1; leave it out"):
        smoke_task(model_parallel=2)
