import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from deepconv import optim
from deepconv.config import durations, recipes

CONFIG = ConfigDict(
    dict(learning_rate=0.1, drop_factor=0.1, momentum=0.9, weight_decay=0.01)
    | dict(warm_up_learning_rate=0.01, warm_up_until_error=80.0)
)


def create(warm_up=False, **fields):
    in_steps = functools.partial(durations.steps, examples=100, batch_size=10)
    return optim.create(ConfigDict({**CONFIG, **fields}), in_steps, warm_up)


def run(tx, params, grads, errors):
    state, rates, path = tx.init(params), [], []
    for grad, error in zip(grads, errors, strict=True):
        updates, state = tx.update(grad, state, params, error=jnp.float32(error))
        params = jax.tree.map(jnp.add, params, updates)
        rates.append(float(optim.learning_rate(state)))
        path.append(jax.tree.map(np.asarray, params))
    return path, rates


def test_alexnets_update_rule_literally_across_a_drop():
    """Krizhevsky et al. 2012, section 5: v <- 0.9 v - 0.0005 e w - e g; w <- w + v. Biases do not decay."""
    rng = np.random.default_rng(0)
    grads = [{"fc": {"kernel": rng.normal(size=3), "bias": rng.normal(size=2)}} for _ in range(6)]
    params = {"fc": {"kernel": rng.normal(size=3), "bias": rng.normal(size=2)}}
    path, rates = run(create(drop_at_steps=(3,), weight_decay=0.0005), params, grads, [50] * 6)
    assert rates == pytest.approx([0.1] * 3 + [0.01] * 3)
    w, b, vw, vb = params["fc"]["kernel"], params["fc"]["bias"], 0.0, 0.0
    for t, grad in enumerate(grads):
        e = 0.1 if t < 3 else 0.01
        vw = 0.9 * vw - 0.0005 * e * w - e * grad["fc"]["kernel"]
        vb = 0.9 * vb - e * grad["fc"]["bias"]
        w, b = w + vw, b + vb
        np.testing.assert_allclose(path[t]["fc"]["kernel"], w, rtol=1e-5)
        np.testing.assert_allclose(path[t]["fc"]["bias"], b, rtol=1e-5)


def test_only_kernels_are_decayed():
    params = {"conv1": {"kernel": 1.0}, "bn1": {"scale": 1.0, "bias": 1.0}, "fc": {"kernel": 1.0, "bias": 1.0}}
    expected = {"conv1": {"kernel": 0.01}, "bn1": {"scale": 0.0, "bias": 0.0}, "fc": {"kernel": 0.01, "bias": 0.0}}
    zeros = jax.tree.map(lambda x: 0.0, params)
    updates, _ = optim.add_decayed_weights(CONFIG).update(zeros, None, params)
    assert updates == expected


def test_biases_and_layers_with_rates_drops_and_decay_of_their_own():
    layers = {"conv1": {"drop_at_epochs": (0.2, 0.4), "freeze_at_epochs": 0.6}, "fc": {"weight_decay": 0.5}}
    own = dict(bias={"learning_rate": 0.4, "drop_at_steps": (5,), "weight_decay": 0.125}, layers=layers)
    tx = create(momentum=0.0, drop_at_steps=(3,), **own)
    params = {name: {"kernel": jnp.ones(1), "bias": jnp.ones(1)} for name in ("conv1", "conv2", "fc")}
    grads = jax.tree.map(jnp.zeros_like, params)  # so that an update is rate times decay
    state, seen = tx.init(params), []
    for _ in range(8):
        updates, state = tx.update(grads, state, params, error=jnp.float32(0))
        seen.append(jax.tree.map(lambda u: -float(u[0]), updates))
    weights = [0.1] * 3 + [0.01] * 5
    biases = [0.4] * 5 + [0.04] * 3
    conv1 = [0.1] * 2 + [0.01] * 2 + [0.001] * 2 + [0.0] * 2
    assert [u["conv2"]["kernel"] for u in seen] == pytest.approx([0.01 * rate for rate in weights])
    assert [u["fc"]["kernel"] for u in seen] == pytest.approx([0.5 * rate for rate in weights])
    assert [u["conv1"]["kernel"] for u in seen] == pytest.approx([0.01 * rate for rate in conv1])
    assert [u["fc"]["bias"] for u in seen] == pytest.approx([0.125 * rate for rate in biases])
    assert [u["conv1"]["bias"] for u in seen] == pytest.approx([0.125 * rate for rate in biases[:6]] + [0.0] * 2)


def test_warm_up_ends_below_80_percent_and_does_not_come_back():
    params = {"kernel": jnp.zeros(1)}
    errors = [90.0] * 200 + [70.0] * 200 + [95.0] * 200
    path, rates = run(create(warm_up=True, drop_at_steps=(500,)), params, [params] * 600, errors)
    ends = next(i for i, rate in enumerate(rates) if rate > 0.05)
    means = itertools.accumulate(errors, lambda mean, error: 0.98 * mean + 0.02 * error, initial=100.0)
    assert ends == next(steps for steps, mean in enumerate(means) if mean < 80) and 200 < ends < 300
    assert rates[:ends] == pytest.approx([0.01] * ends)
    assert rates[ends:500] == pytest.approx([0.1] * (500 - ends)) and rates[500:] == pytest.approx([0.01] * 100)


def test_a_warm_up_that_does_not_end_follows_the_drops():
    params = {"kernel": jnp.zeros(1)}
    _, rates = run(create(warm_up=True, drop_at_steps=(10, 20)), params, [params] * 30, [90.0] * 30)
    assert rates == pytest.approx([0.01] * 20 + [0.001] * 10)


@pytest.mark.parametrize(("model", "expected"), [({}, False), ({"depth": 110}, True)])
def test_only_the_residual_net_of_110_layers_warms_up(model, expected):
    config = recipes.load("configs/resnet_cifar.py", {f"model.{field}": value for field, value in model.items()})
    assert optim.warms_up(config) == expected
    config.model.residual = False
    assert not optim.warms_up(config)
