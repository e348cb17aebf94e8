"""A batch computed in parts: equal to the whole batch, in less memory."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT, STATISTICS, narrow

from deepconv import distributed, resume, train
from deepconv import task as task_lib
from deepconv.benchmark import collectives
from deepconv.config import recipes
from deepconv.models import alexnet, vgg
from deepconv.ops import parts
from deepconv.run.starts import record_start

RATE = {"optimizer.learning_rate": 0.001, "batch_size": 16}  # at which rounding does not grow
FAMILIES = {
    "alexnet_code": {},
    "vgg11": {"data.image_size": 32},
    "resnet_cifar": {"model.depth": 8, "data.image_size": 16, "model.bn_group": 4},
}


def small_task(recipe, accumulate=1, model_parallel=1, **options):
    config = recipes.load(ROOT / "configs" / f"{recipe}.py", RATE | FAMILIES.get(recipe, {}) | options, smoke=True)
    return task_lib.prepare(config, None, model_parallel=model_parallel, accumulate=accumulate)


def two_steps(task, state, batch):
    size = task.config.data.image_size
    pixels = dataclasses.replace(STATISTICS, pixel_mean=np.full((size, size, 3), 120, np.float32))
    step, batch, found = train.jit_step(task, pixels), distributed.put_batch(batch, task.mesh), []
    for _ in range(2):
        state, metrics = step(state, batch)
        found.append({name: float(value) for name, value in metrics.items()})
    return jax.device_get(state), found


@pytest.mark.parametrize(
    ("recipe", "model_parallel"),
    [
        pytest.param("alexnet_code", 1, marks=pytest.mark.slow),
        ("alexnet_code", 2),
        ("vgg11", 1),
        ("resnet_cifar", 1),
    ],
)
def test_parts_give_the_step_of_the_whole_batch(recipe, model_parallel, monkeypatch):
    """With crops, colours and dropout, on two devices; the whole batch is computed without towers apart."""
    monkeypatch.setitem(vgg.CONFIGURATIONS, "A", ("3-8", "3-16 3-16"))
    for module in (alexnet, vgg):
        narrow(monkeypatch, module)
    tasks = small_task(recipe), small_task(recipe, accumulate=2, model_parallel=model_parallel)
    rng, size = np.random.default_rng(0), tasks[0].config.data.image_size
    batch = {
        "image": rng.integers(0, 256, (16, size, size, 3), np.uint8),
        "label": rng.integers(0, 10, 16).astype(np.int32),
    }
    before = jax.device_get(resume.initial_state(tasks[0])())
    (whole, metrics), (in_parts, metrics_in_parts) = (two_steps(task, before, batch) for task in tasks)
    for one, other in zip(metrics, metrics_in_parts, strict=True):
        assert other == pytest.approx(one, rel=2e-6)
    for (path, a), b, start in zip(
        jax.tree.leaves_with_path(whole), jax.tree.leaves(in_parts), jax.tree.leaves(before), strict=True
    ):
        change = np.abs(np.asarray(a, np.float64) - start).max()
        np.testing.assert_allclose(b, a, atol=2e-5 * change, rtol=3e-7, err_msg=jax.tree_util.keystr(path))
    if recipe == "resnet_cifar":
        assert abs(whole.batch_stats["bn1"]["mean"] - before.batch_stats["bn1"]["mean"]).max() > 0.01


def test_parts_draw_the_random_numbers_of_their_rows():
    """On two devices, a part has the next rows of each device."""
    mesh, key = distributed.make_mesh(), jax.random.key(3)
    sample = lambda shape: jax.random.normal(key, shape)  # noqa: E731
    whole = np.asarray(sample((8, 2)))
    seen = []

    def look(rows):
        jax.debug.callback(
            lambda *arrays: seen.append([*map(np.asarray, arrays)]), rows, parts.draw(sample, rows.shape)
        )
        return rows.mean(0)

    means = jax.jit(lambda batch: parts.mean(look, batch, 2, mesh))(jnp.asarray(whole))
    jax.effects_barrier()
    np.testing.assert_allclose(means, whole.mean(0), rtol=1e-6)
    assert len(seen) == 2 and all((rows == drawn).all() for rows, drawn in seen)
    assert sorted(rows[0, 0] for rows, _ in seen) == sorted(whole[[0, 2], 0])


def test_parts_take_less_memory():
    options = {"batch_size": 64, "data.image_size": 32}
    whole, quarters = (
        collectives.compiled_step(small_task("resnet_cifar", count, **options)).memory_analysis().temp_size_in_bytes
        for count in (1, 4)
    )
    assert quarters < 0.35 * whole


@pytest.mark.parametrize(
    ("recipe", "accumulate", "options", "line"),
    [
        ("resnet50", 2, {"batch_size": 16, "model.bn_group": 8}, "bn_group=8; take another batch or other devices"),
        ("vgg11", 3, {}, "--accumulate=3 cannot divide config.batch_size=16 .* on 2 devices; take a divisor of 8"),
        (
            "resnet_cifar",
            4,
            {},
            "parts on 2 devices, each of whole groups of config.model.bn_group=4; take a divisor of 2",
        ),
        ("resnet_cifar", 2, {"model.bn_group": 0}, "set config.model.bn_group to the images .* such as 4"),
    ],
)
def test_batches_that_cannot_be_divided_are_refused(recipe, accumulate, options, line):
    with pytest.raises(ValueError, match=line) as error:
        small_task(recipe, accumulate, **options)
    assert len(str(error.value).splitlines()) == 1


def test_a_start_with_another_number_of_parts_is_named(tmp_path):
    record_start(tmp_path)
    assert record_start(tmp_path, accumulate=4) == ["accumulate: 1 before, 4 now"]
