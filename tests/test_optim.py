import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from deepconv import optim

CONFIG = ConfigDict(
    dict(learning_rate=0.1, drop_factor=0.1, momentum=0.9, weight_decay=0.01)
    | dict(warm_up_learning_rate=0.01, warm_up_until_error=80.0)
)


def run(tx, params, grads, errors):
    state, rates, path = tx.init(params), [], []
    for grad, error in zip(grads, errors, strict=True):
        updates, state = tx.update(grad, state, params, top1_error=jnp.float32(error))
        params = jax.tree.map(jnp.add, params, updates)
        rates.append(float(optim.learning_rate(state)))
        path.append(jax.tree.map(np.asarray, params))
    return path, rates


def test_momentum_as_caffe_does_it_across_a_drop():
    rng = np.random.default_rng(0)
    grads = [{"fc": {"kernel": rng.normal(size=3), "bias": rng.normal(size=2)}} for _ in range(6)]
    params = {"fc": {"kernel": rng.normal(size=3), "bias": rng.normal(size=2)}}
    path, rates = run(optim.create(CONFIG, (3,), warm_up=False), params, grads, [50] * 6)
    assert rates == pytest.approx([0.1] * 3 + [0.01] * 3)
    w, b, vw, vb = params["fc"]["kernel"], params["fc"]["bias"], 0.0, 0.0
    for t, grad in enumerate(grads):
        rate = 0.1 if t < 3 else 0.01
        vw = 0.9 * vw + rate * (grad["fc"]["kernel"] + 0.01 * w)
        vb = 0.9 * vb + rate * grad["fc"]["bias"]  # not decayed
        w, b = w - vw, b - vb
        np.testing.assert_allclose(path[t]["fc"]["kernel"], w, rtol=1e-5)
        np.testing.assert_allclose(path[t]["fc"]["bias"], b, rtol=1e-5)


def test_only_kernels_are_decayed():
    params = {"conv1": {"kernel": 1}, "bn1": {"scale": 1, "bias": 1}, "fc": {"kernel": 1, "bias": 1}}
    expected = {
        "conv1": {"kernel": True},
        "bn1": {"scale": False, "bias": False},
        "fc": {"kernel": True, "bias": False},
    }
    assert optim.kernels(params) == expected


def test_warm_up_ends_below_80_percent_and_does_not_come_back():
    params = {"kernel": jnp.zeros(1)}
    errors = [90.0] * 200 + [70.0] * 200 + [95.0] * 200
    path, rates = run(optim.create(CONFIG, (500,), warm_up=True), params, [params] * 600, errors)
    ends = next(i for i, rate in enumerate(rates) if rate > 0.05)
    means = itertools.accumulate(errors, lambda mean, error: 0.98 * mean + 0.02 * error, initial=100.0)
    assert ends == next(steps for steps, mean in enumerate(means) if mean < 80) and 200 < ends < 300
    assert rates[:ends] == pytest.approx([0.01] * ends)
    assert rates[ends:500] == pytest.approx([0.1] * (500 - ends)) and rates[500:] == pytest.approx([0.01] * 100)
