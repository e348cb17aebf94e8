import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from ml_collections import ConfigDict

from deepconv import models, state
from deepconv.models import layers
from deepconv.models.resnet import BasicBlock, CifarResNet

# weights of convolutions and of the last layer; with BatchNorm's scales and shifts (computed from the paper's 4.2)
COUNTS = {
    20: (268_346, 269_722),
    32: (461_882, 464_154),
    44: (655_418, 658_586),
    56: (848_954, 853_018),
    110: (1_719_866, 1_727_962),
    1202: (19_331_642, 19_421_274),
}


@pytest.mark.parametrize("depth", COUNTS)
@pytest.mark.parametrize("residual", [True, False])
def test_parameter_counts(depth, residual):
    model = CifarResNet(10, depth, residual)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False))
    norms = [x for path, x in jax.tree.leaves_with_path(shapes["params"]) if "bn" in path[-2].key]
    total = state.count_parameters(shapes["params"])
    assert (total - state.count_parameters(norms), total) == COUNTS[depth]


def test_maps_of_the_three_stages():
    seen = {}
    model = CifarResNet(10, 8)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False)
    _, caught = model.apply(variables, jnp.zeros((2, 32, 32, 3)), train=False, capture_intermediates=True)
    for name, value in caught["intermediates"].items():
        if name.endswith("_first"):
            seen[name] = value["__call__"][0][0].shape
    assert seen == {"stage1_first": (2, 32, 32, 16), "stage2_first": (2, 16, 16, 32), "stage3_first": (2, 8, 8, 64)}


@pytest.mark.parametrize("residual", [True, False])
def test_scan_over_blocks_equals_one_block_after_the_other(residual):
    model = CifarResNet(10, 14, residual)
    images = jax.random.normal(jax.random.key(1), (4, 16, 16, 3))
    variables = model.init(jax.random.key(0), images, train=False)
    logits, updated = model.apply(variables, images, train=True, mutable=["batch_stats"])

    def sub(name, index=None):
        part = {kind: tree[name] for kind, tree in variables.items() if name in tree}
        return part if index is None else jax.tree.map(lambda x: x[index], part)

    x = conv_by_definition(np.asarray(images), np.asarray(sub("conv1")["params"]["kernel"]), 1)
    x, _ = layers.BatchNorm().apply(sub("bn1"), jnp.asarray(x), True, mutable=["batch_stats"])
    x = jnp.maximum(x, 0)
    stats = []
    for stage, filters in enumerate((16, 32, 64)):
        for block in range(2):
            stride = 2 if stage and not block else 1
            name, index = (f"stage{stage + 1}_rest", block - 1) if block else (f"stage{stage + 1}_first", None)
            module = BasicBlock(filters, stride, "A" if residual else "none", 0, jnp.float32, True)
            (x, _), new = module.apply(sub(name, index), x, None, mutable=["batch_stats"])
            stats.append(new["batch_stats"]["bn2"]["mean"])
    fc = variables["params"]["fc"]
    np.testing.assert_allclose(x.mean((1, 2)) @ fc["kernel"], logits - fc["bias"][None], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(updated["batch_stats"]["stage3_rest"]["bn2"]["mean"][0], stats[-1], rtol=1e-4, atol=1e-5)


def test_conv_and_its_gradients_by_definition():
    keys = jax.random.split(jax.random.key(0), 3)
    x, kernel = jax.random.normal(keys[0], (3, 6, 5, 2)), jax.random.normal(keys[1], (3, 3, 2, 4))
    dy = jax.random.normal(keys[2], (3, 6, 5, 4))
    y, vjp = jax.vjp(layers.conv_unit_stride, x, kernel)
    np.testing.assert_allclose(y, conv_by_definition(x, kernel, 1), rtol=1e-4, atol=1e-5)

    def plain(x, kernel):
        return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    for ours, reference in zip(vjp(dy), jax.vjp(plain, x, kernel)[1](dy), strict=True):
        np.testing.assert_allclose(ours, reference, rtol=1e-5, atol=1e-5)


def test_strided_conv_by_definition():
    x = jax.random.normal(jax.random.key(0), (2, 8, 6, 3))
    conv = layers.Conv(5, stride=2)
    variables = conv.init(jax.random.key(1), x)
    expected = conv_by_definition(x, variables["params"]["kernel"], 2)
    np.testing.assert_allclose(conv.apply(variables, x), expected, rtol=1e-4, atol=1e-5)


def conv_by_definition(x, kernel, stride):
    """Literal 3x3 convolution, one pixel of zeros around."""
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows, columns = range(0, x.shape[1], stride), range(0, x.shape[2], stride)
    out = np.zeros((len(x), len(rows), len(columns), kernel.shape[-1]))
    for i, top in enumerate(rows):
        for j, left in enumerate(columns):
            out[:, i, j] = np.einsum("bhwc,hwcd->bd", padded[:, top : top + 3, left : left + 3], kernel)
    return out.astype(np.float32)


@pytest.mark.parametrize("group", [0, 2])
def test_batch_norm_by_definition(group):
    x = np.random.default_rng(0).normal(3, 2, (6, 4, 4, 5)).astype(np.float32)
    norm = layers.BatchNorm(group)
    variables = norm.init(jax.random.key(0), x, False)
    y, updated = norm.apply(variables, x, True, mutable=["batch_stats"])
    parts = np.split(x.astype(np.float64), 6 // group if group else 1)
    expected = [(p - p.mean((0, 1, 2))) / np.sqrt(p.var((0, 1, 2)) + 1e-5) for p in parts]
    np.testing.assert_allclose(y, np.concatenate(expected), rtol=1e-4, atol=1e-4)
    mean, var = np.mean([p.mean((0, 1, 2)) for p in parts], 0), np.mean([p.var((0, 1, 2)) for p in parts], 0)
    np.testing.assert_allclose(updated["batch_stats"]["mean"], 0.1 * mean, rtol=1e-4)
    np.testing.assert_allclose(updated["batch_stats"]["var"], 0.9 + 0.1 * var, rtol=1e-4)
    at_test = norm.apply({"params": variables["params"], **updated}, x, False)
    np.testing.assert_allclose(at_test, (x - 0.1 * mean) / np.sqrt(0.9 + 0.1 * var + 1e-5), rtol=1e-4, atol=1e-4)


def test_shortcut_a_takes_every_second_pixel_and_adds_zeros():
    x = np.arange(2 * 4 * 4 * 3, dtype=np.float32).reshape(2, 4, 4, 3)
    y = np.asarray(layers.shortcut_a(x, 5, 2))
    assert (y[..., :3] == x[:, ::2, ::2]).all() and y.shape == (2, 2, 2, 5) and not y[..., 3:].any()


def test_he_initialisation():
    kernel = layers.he_normal(jax.random.key(0), (3, 3, 64, 256))
    assert np.std(kernel) == pytest.approx(np.sqrt(2 / (9 * 64)), rel=0.01)
    assert np.abs(kernel).max() > 3.5 * np.std(kernel)  # a normal, not a truncated one


@pytest.mark.parametrize(("fields", "named"), [({"name": "resnot"}, "resnot"), ({"depth": 21}, "depth=21")])
def test_what_is_not_a_model_is_named(fields, named):
    with pytest.raises(ValueError, match=named):
        models.create(ConfigDict({"name": "resnet_cifar", "depth": 20} | fields), 10)
