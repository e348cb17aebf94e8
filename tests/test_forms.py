"""The forms that GPUs use, on a CPU, beside the plain ones: values and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from deepconv import distributed
from deepconv.models import layers
from deepconv.ops import batch_norm, convolution, forms, pooling, rectifier, response_norm

TYPES = [jnp.float32, jnp.bfloat16]
ROUNDING = {jnp.float32: 1e-5, jnp.bfloat16: 2e-2}  # of a value and of the few that a gradient sums, relative


def both(operation, function, *arguments):
    """(value, gradients) in the plain form and in that of a GPU, both compiled, in float32."""
    found = []
    for form in ("plain", forms.FORMS[operation]["gpu"]):
        with forms.using(f"{operation}:{form}"):

            def value_and_gradients(dy, *arguments):
                value, vjp = jax.vjp(function, *arguments)
                return value, *vjp(dy)

            shape = jax.eval_shape(function, *arguments)
            dy = jax.random.normal(jax.random.key(9), shape.shape).astype(shape.dtype)
            answer = jax.jit(value_and_gradients)(dy, *arguments)
            found.append([np.asarray(each, np.float32) for each in answer])
    return found


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("size", "stride", "padding"), [(3, 2, "ceil"), (2, 2, "ceil"), (3, 2, 1), (2, 2, 0), (3, 1, 0)]
)
def test_max_pooling_by_index_gives_ties_to_the_first_as_xla_does(dtype, size, stride, padding):
    x = jnp.round(2 * jax.random.normal(jax.random.key(0), (2, 8, 11, 3))).astype(dtype)  # many values are equal
    pool = functools.partial(pooling.max_pool, size=size, stride=stride, padding=padding)
    (value, gradient), (ours, our_gradient) = both("max_pool", pool, x)
    np.testing.assert_array_equal(ours, value)
    np.testing.assert_allclose(our_gradient, gradient, rtol=ROUNDING[dtype], atol=ROUNDING[dtype])


def test_max_pooling_by_index_passes_nan_on():
    """The training loop stops at a loss that is not finite."""
    x = jnp.ones((1, 2, 2, 1)).at[0, 1, 0, 0].set(jnp.nan)
    with forms.using("max_pool:index"):
        assert np.isnan(jax.vjp(lambda x: pooling.max_pool(x, 2, 2), x)[0]).all()


def test_a_mean_of_rectified_nan_is_nan():
    """XLA:CPU makes the mean of max(x, 0) over NaN a zero, and a net with NaN inside would give probabilities."""

    def mean(x):
        return rectifier.relu(x).mean((1, 2))

    x = jnp.full((2, 8, 8, 16), jnp.nan)
    assert jnp.isnan(jax.jit(mean, compiler_options=distributed.compiler_options())(x)).all()
    np.testing.assert_array_equal(jax.vmap(jax.grad(rectifier.relu))(jnp.array([-1.0, -0.0, 0.0, 1.0])), [0, 0, 0, 1])


@pytest.mark.parametrize("dtype", TYPES)
def test_rectifier_with_the_mask_of_its_output(dtype):
    x = jnp.round(2 * jax.random.normal(jax.random.key(0), (2, 3, 3, 16))).astype(dtype)
    assert (x == 0).any()
    for expected, ours in zip(*both("rectifier", rectifier.relu, x), strict=True):
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("axes", [(-1,), (1, 2)])
def test_response_normalisation_with_a_recomputed_root(dtype, axes):
    x = (20 * jax.random.normal(jax.random.key(0), (2, 6, 7, 12))).astype(dtype)
    norm = functools.partial(response_norm.response_norm, axes=axes, size=5, k=2.0, alpha=1e-2)
    for expected, ours in zip(*both("response_norm", norm, x), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=ROUNDING[dtype], atol=ROUNDING[dtype])


@pytest.mark.parametrize("dtype", TYPES)
def test_sums_of_batch_normalisation_in_one_reduction(dtype):
    x = (3 + 2 * jax.random.normal(jax.random.key(0), (2, 4, 5, 6, 8))).astype(dtype)
    factor, shift = jax.random.normal(jax.random.key(1), (2, 2, 1, 1, 1, 8))

    def normalize(x, factor, shift):
        mean, square = batch_norm.moments(x)
        return batch_norm.scale_and_shift(x, factor + mean, shift * square)

    for expected, ours in zip(*both("batch_norm", normalize, x, factor, shift), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=ROUNDING[dtype], atol=ROUNDING[dtype] * abs(expected).max())
    np.testing.assert_allclose(
        batch_norm.moments(x)[0][..., 0, :], np.asarray(x, np.float64).mean((1, 2, 3))[:, None, None], rtol=1e-4
    )


def test_sums_of_batch_normalisation_are_over_the_images_of_all_devices():
    x = 3 + 2 * jax.random.normal(jax.random.key(0), (8, 4, 4, 6))
    split = NamedSharding(Mesh(np.asarray(jax.devices()), ("data",)), PartitionSpec("data"))
    layer = layers.BatchNorm()
    variables = layer.init(jax.random.key(1), x, True)

    def gradient(x):
        return jax.grad(lambda x: (layer.apply(variables, x, True, mutable=["batch_stats"])[0] ** 3).sum())(x)

    with forms.using("batch_norm:together"):
        ours = jax.jit(gradient, in_shardings=split, out_shardings=split)(x)
    with forms.using("batch_norm:plain"):
        np.testing.assert_allclose(ours, jax.jit(gradient)(x), rtol=1e-4, atol=1e-4)


def test_gradients_of_biases_are_summed_in_float32():
    """Rounded to bfloat16, a sum has an error of 1e-3; summed in it, 6e-3."""
    dy = jax.random.normal(jax.random.key(0), (8, 16, 16, 64)).astype(jnp.bfloat16)
    bias = jax.random.normal(jax.random.key(1), (64,))
    value, vjp = jax.vjp(convolution.add_bias, jnp.zeros_like(dy), bias)
    assert value.dtype == jnp.bfloat16
    np.testing.assert_array_equal(value[0, 0, 0], bias.astype(jnp.bfloat16))
    of_y, of_bias = jax.jit(vjp)(dy)
    np.testing.assert_array_equal(of_y, dy)
    expected = np.asarray(dy, np.float64).sum((0, 1, 2))
    assert np.sqrt(np.mean((np.asarray(of_bias) - expected) ** 2) / np.mean(expected**2)) < 1e-5


def test_layers_sum_the_gradients_of_their_biases_in_float32():
    x = jax.random.normal(jax.random.key(0), (32, 6, 6, 3)).astype(jnp.bfloat16)
    ones = jax.nn.initializers.ones
    for layer in (
        layers.Conv(5, bias_init=ones, dtype=jnp.bfloat16),
        layers.FullyConnected(5, ones, dtype=jnp.bfloat16),
        layers.LocallyConnected(5, ones, dtype=jnp.bfloat16),
    ):
        variables = layer.init(jax.random.key(1), x)
        y, vjp = jax.vjp(lambda variables: layer.apply(variables, x), variables)  # noqa: B023
        dy = jax.random.normal(jax.random.key(2), y.shape).astype(y.dtype)
        of_bias = np.asarray(vjp(dy)[0]["params"]["bias"])
        expected = np.asarray(dy, np.float64).sum(tuple(range(dy.ndim - of_bias.ndim)))
        np.testing.assert_allclose(of_bias, expected, rtol=1e-5, atol=1e-5)


def test_a_platform_can_be_chosen_to_compile_for_it():
    default = forms.current_forms()
    assert default == {operation: choices[forms.platform()] for operation, choices in forms.FORMS.items()}
    with forms.for_platform("gpu"):
        assert forms.current_forms() == {operation: choices["gpu"] for operation, choices in forms.FORMS.items()}
        assert not distributed.compiler_options()
    assert forms.current_forms() == default
