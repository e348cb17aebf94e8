"""Convolutions with stride and groups, in the forms that XLA compiles well."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

NHWC = ("NHWC", "HWIO", "NHWC")


def dense(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """A convolution whose kernel is as large as the map: a matrix product."""
    return (x.reshape(len(x), -1) @ kernel.reshape(-1, kernel.shape[-1]))[:, None, None]


def in_groups(
    one: Callable[[jax.Array, jax.Array], jax.Array], x: jax.Array, kernel: jax.Array, groups: int
) -> jax.Array:
    """Applies a convolution to each group of channels by itself."""
    # XLA's own grouped convolution has slow gradients: 7 to 11 times as long on a CPU, and not specialised on GPUs
    parts = zip(jnp.split(x, groups, -1), jnp.split(kernel, groups, -1), strict=True)
    return jnp.concatenate([one(*part) for part in parts], -1)


def convolve(x: jax.Array, kernel: jax.Array, stride: int, pads: tuple[tuple[int, int], tuple[int, int]]) -> jax.Array:
    """XLA's convolution; x [B, H, W, C], kernel [k, k, C, D]."""
    if min(x.shape[1:3]) < 4:  # XLA:CPU is up to 70 times as slow with so small a map, unless it finds it padded
        x, pads = lax.optimization_barrier(jnp.pad(x, ((0, 0), *pads, (0, 0)))), ((0, 0), (0, 0))
    return lax.conv_general_dilated(x, kernel, (stride, stride), pads, dimension_numbers=NHWC)


def _same(kernel: jax.Array) -> tuple[tuple[int, int], tuple[int, int]]:
    pad = (kernel.shape[0] - 1) // 2
    return ((pad, pad), (pad, pad))


@jax.custom_vjp
def conv_unit_stride(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolution with stride 1 that keeps the map's size; x [B, H, W, C], kernel [k, k, C, D], k odd.

    The gradients are JAX's own, written so that XLA:CPU finds its fast kernels for them: it knows only NHWC x HWIO,
    rewrites other orders only outside loops, and is 30 times slower where it does not.
    """
    return convolve(x, kernel, 1, _same(kernel))


def _conv_forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return conv_unit_stride(x, kernel), (x, kernel)


def _conv_backward(saved: tuple[jax.Array, jax.Array], dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    return lax.platform_dependent(*saved, dy, cpu=_gradients_as_convolutions, default=_gradients)


def _gradients(x: jax.Array, kernel: jax.Array, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jax.vjp(lambda x, kernel: convolve(x, kernel, 1, _same(kernel)), x, kernel)[1](dy)


def _gradients_as_convolutions(x: jax.Array, kernel: jax.Array, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    dx = convolve(dy, kernel[::-1, ::-1].transpose(0, 1, 3, 2), 1, _same(kernel))
    # channels as the batch, images as the channels, the whole of dy as the kernel
    dkernel = convolve(x.transpose(3, 1, 2, 0), dy.transpose(1, 2, 0, 3), 1, _same(kernel))  # [C, k, k, D]
    return dx, dkernel.transpose(1, 2, 0, 3)


conv_unit_stride.defvjp(_conv_forward, _conv_backward)
