"""The networks' layers with parameters."""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from deepconv.ops.batch_norm import moments, scale_and_shift
from deepconv.ops.convolution import add_bias, convolve, fully_connected
from deepconv.ops.extent import current_extent, mask_padding, record_extent
from deepconv.ops.padding import Padding
from deepconv.ops.parts import draw

Initializer = jax.nn.initializers.Initializer
he_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")  # He et al. 2015 (rectifiers), std sqrt(2 / n)


def parameter(layer: nn.Module, name: str, init: Callable[..., jax.Array], shape: tuple[int, ...]) -> jax.Array:
    """Returns a layer's parameter, of this shape at initialisation; later, a device may hold only one tower's part."""
    return layer.param(name, init, shape) if layer.is_initializing() else layer.get_variable("params", name)


class Conv(nn.Module):
    """A square convolution, kernel [k, k, C / groups, D], with a bias if bias_init is given.

    Each group has its own part of the channels as input. Padding is zero.
    """

    filters: int
    size: int = 3
    stride: int = 1
    padding: Padding = 1
    groups: int = 1
    kernel_init: Initializer = he_normal
    bias_init: Initializer | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = mask_padding(x).astype(self.dtype)
        shape = (self.size, self.size, x.shape[-1] // self.groups, self.filters)
        kernel = parameter(self, "kernel", self.kernel_init, shape).astype(self.dtype)
        y = record_extent(
            x, convolve(x, kernel, self.stride, self.padding, self.groups), self.size, self.stride, self.padding
        )
        if self.bias_init is not None:
            y = add_bias(y, parameter(self, "bias", self.bias_init, (self.filters,)))
        return y


class LocallyConnected(nn.Module):
    """A 3x3 convolution at stride 1 without weight sharing: each pixel has its own kernel and biases."""

    filters: int
    kernel_init: Initializer
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        _, height, width, channels = x.shape
        padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))).astype(self.dtype)
        windows = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
        kernel = self.param("kernel", self.kernel_init, (height, width, 3, 3, channels, self.filters))
        bias = self.param("bias", nn.initializers.zeros, (height, width, self.filters))
        kernel = kernel.reshape(height, width, 9 * channels, self.filters).astype(self.dtype)
        return add_bias(jnp.einsum("bhwp,hwpd->bhwd", jnp.concatenate(windows, -1), kernel), bias)


class FullyConnected(nn.Module):
    """A fully connected layer, as a convolution whose kernel [H, W, C / groups, D] is as large as the map.

    [B, H, W, C] -> [B, 1, 1, D]; on a larger map, the same parameters give one output per window.
    """

    outputs: int
    kernel_init: Initializer
    bias_init: Initializer = nn.initializers.zeros
    groups: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def init_matrix(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
            matrix = math.prod(shape[:-1]), shape[-1]  # Glorot's rule counts inputs and outputs, not places
            return self.kernel_init(key, matrix, dtype).reshape(shape)

        # the map of a training image sets the kernel's size; later maps may be larger
        shape = (*x.shape[1:3], x.shape[-1] // self.groups, self.outputs)
        kernel = parameter(self, "kernel", init_matrix, shape)
        bias = parameter(self, "bias", self.bias_init, (self.outputs,))
        y = fully_connected(x.astype(self.dtype), kernel.astype(self.dtype), self.groups)
        return add_bias(record_extent(x, y, kernel.shape[0], 1, 0), bias)


class Dropout(nn.Module):
    """Dropout as in Flax: in training, sets values to zero with probability `rate` and divides the rest by 1 - rate."""

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        if not (train and self.rate):
            return x
        key, keep = self.make_rng("dropout"), 1 - self.rate
        return jnp.where(draw(lambda shape: jax.random.bernoulli(key, keep, shape), x.shape), x / keep, 0)


class BatchNorm(nn.Module):
    """Batch normalisation over groups of `group` images (0: the full batch), with running statistics for tests.

    The papers' authors normalised each GPU's part of a batch separately. Mean and variance are computed in float32.
    """

    group: int = 0
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: Any = jnp.float32
    fixed: bool = False  # a constant scale and shift in training too, by the running statistics

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        channels = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels)
        if self.fixed:
            train, scale, bias = False, lax.stop_gradient(scale), lax.stop_gradient(bias)
        group = (self.group if train else 0) or x.shape[0]
        grouped = x.reshape(-1, group, *x.shape[1:])  # [G, B/G, H, W, C]
        if train:
            mean, square = moments(grouped)  # [G, 1, 1, 1, C]
            var = jnp.maximum(square - jnp.square(mean), 0)  # rounding may give a negative value
            # DIFFERS: a moving average; the authors' release holds averages over the training set, taken at the end
            keep = self.momentum
            running_mean.value = keep * running_mean.value + (1 - keep) * mean.mean((0, 1, 2, 3))
            running_var.value = keep * running_var.value + (1 - keep) * var.mean((0, 1, 2, 3))
        else:
            mean, var = (v.value[None, None, None, None] for v in (running_mean, running_var))
        factor = scale[None, None, None, None] * lax.rsqrt(var + self.epsilon)
        shift = bias[None, None, None, None] - mean * factor
        return scale_and_shift(grouped, factor, shift).astype(self.dtype).reshape(x.shape)


def shortcut_a(x: jax.Array, filters: int, stride: int, both_sides: bool = False) -> jax.Array:
    """Returns shortcut A: every stride-th pixel, with zeros in new channels (He et al. 2015, 3.3).

    Picking pixels without averaging and putting the new channels last is our reading. With both_sides, half of them
    come first, as in some other implementations' nets for CIFAR-10.
    """
    x = x[:, ::stride, ::stride]
    new = filters - x.shape[-1]
    before = new // 2 if both_sides else 0
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (before, new - before)))


def scores(x: jax.Array) -> jax.Array:
    """Returns a last layer's output [B, 1, 1, classes] as float32 [B, classes]; a dense test keeps the full map."""
    x = x.astype(jnp.float32)
    return jnp.squeeze(x, (1, 2)) if current_extent(x) is None else x


LAST_LAYERS = ("fc", "fc8", "fc10")
FIRST_LAYERS = ("conv1", "conv1_1")
