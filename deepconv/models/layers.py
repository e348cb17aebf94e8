"""What the networks are built from."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

NHWC = ("NHWC", "HWIO", "NHWC")

he_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")  # He et al. 2015 (rectifiers): std sqrt(2 / n)


class Conv(nn.Module):
    """Square convolution without bias, padded alike on all sides; He initialisation."""

    filters: int
    size: int = 3
    stride: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", he_normal, (self.size, self.size, x.shape[-1], self.filters))
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        pad = (self.size - 1) // 2
        return conv_unit_stride(x, kernel) if self.stride == 1 else _conv(x, kernel, self.stride, pad)


def _conv(x: jax.Array, kernel: jax.Array, stride: int, pad: int) -> jax.Array:
    return lax.conv_general_dilated(x, kernel, (stride, stride), ((pad, pad), (pad, pad)), dimension_numbers=NHWC)


@jax.custom_vjp
def conv_unit_stride(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolution with stride 1 that keeps the map's size; x [B, H, W, C], kernel [k, k, C, D], k odd.

    The gradients are JAX's own, written so that XLA:CPU finds its fast kernels for them: it knows only NHWC x HWIO,
    rewrites other orders only outside loops, and is 30 times slower where it does not.
    """
    return _conv(x, kernel, 1, (kernel.shape[0] - 1) // 2)


def _conv_forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return conv_unit_stride(x, kernel), (x, kernel)


def _conv_backward(saved: tuple[jax.Array, jax.Array], dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    return lax.platform_dependent(*saved, dy, cpu=_gradients_as_convolutions, default=_gradients)


def _gradients(x: jax.Array, kernel: jax.Array, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jax.vjp(lambda x, kernel: _conv(x, kernel, 1, (kernel.shape[0] - 1) // 2), x, kernel)[1](dy)


def _gradients_as_convolutions(x: jax.Array, kernel: jax.Array, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    pad = (kernel.shape[0] - 1) // 2
    dx = _conv(dy, kernel[::-1, ::-1].transpose(0, 1, 3, 2), 1, pad)
    # channels as the batch, images as the channels, the whole of dy as the kernel
    dkernel = _conv(x.transpose(3, 1, 2, 0), dy.transpose(1, 2, 0, 3), 1, pad)  # [C, k, k, D]
    return dx, dkernel.transpose(1, 2, 0, 3)


conv_unit_stride.defvjp(_conv_forward, _conv_backward)


class BatchNorm(nn.Module):
    """Batch normalisation over groups of `group` images (0: all of the batch), running statistics for testing.

    The papers' authors normalised each GPU's share of a batch by itself. Mean and variance are computed in float32.
    """

    group: int = 0
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        channels = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels)
        group = (self.group if train else 0) or x.shape[0]
        grouped = x.reshape(-1, group, *x.shape[1:])  # [G, B/G, H, W, C]
        if train:
            wide = grouped.astype(jnp.float32)
            mean = wide.mean((1, 2, 3), keepdims=True)  # [G, 1, 1, 1, C]
            var = jnp.square(wide).mean((1, 2, 3), keepdims=True) - jnp.square(mean)
            var = jnp.maximum(var, 0)  # rounding may leave less
            # DIFFERS: a moving average; the authors' release holds averages over the training set, taken at the end
            keep = self.momentum
            running_mean.value = keep * running_mean.value + (1 - keep) * mean.mean((0, 1, 2, 3))
            running_var.value = keep * running_var.value + (1 - keep) * var.mean((0, 1, 2, 3))
        else:
            mean, var = (v.value[None, None, None, None] for v in (running_mean, running_var))
        factor = scale[None, None, None, None] * lax.rsqrt(var + self.epsilon)
        shift = bias[None, None, None, None] - mean * factor
        return (grouped * factor + shift).astype(self.dtype).reshape(x.shape)


def shortcut_a(x: jax.Array, filters: int, stride: int) -> jax.Array:
    """Option A: every stride-th pixel, new channels zero (He et al. 2015, 3.3).

    That pixels are picked, not averaged, and that the new channels come last is our reading.
    """
    x = x[:, ::stride, ::stride]
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, filters - x.shape[-1])))
