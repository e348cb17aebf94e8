"""Convolutions with stride and groups, in the forms that XLA compiles well."""

import jax
import jax.numpy as jnp
from jax import lax

from deepconv.ops import forms, towers
from deepconv.ops.padding import Padding, pads

NHWC = ("NHWC", "HWIO", "NHWC")
Pads = tuple[tuple[int, int], tuple[int, int]]


def convolve(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding, groups: int = 1) -> jax.Array:
    """Convolves x [B, H, W, C] with kernel [k, k, C / groups, D]; each group has its own part of the channels."""
    x, groups = towers.inputs(x, kernel, groups)
    size = kernel.shape[0]
    if groups > 1 and forms.form("groups") == "split":
        # XLA's own grouped convolution has slow gradients on a CPU: 7 to 11 times as long
        parts = zip(jnp.split(x, groups, -1), jnp.split(kernel, groups, -1), strict=True)
        return jnp.concatenate([convolve(*part, stride, padding) for part in parts], -1)
    if groups == 1 and stride == 1 and padding == (size - 1) / 2:
        return conv_unit_stride(x, kernel)
    return _convolve(x, kernel, stride, pads(x, size, stride, padding), groups)


def fully_connected(x: jax.Array, kernel: jax.Array, groups: int) -> jax.Array:
    """Convolves with a kernel [H, W, C / groups, D] as large as the training map, where this is a matrix product."""
    x, groups = towers.inputs(x, kernel, groups)
    if x.shape[1:3] != kernel.shape[:2]:
        return convolve(x, kernel, 1, 0, groups)
    parts = zip(jnp.split(x, groups, -1), jnp.split(kernel, groups, -1), strict=True)
    products = [x.reshape(len(x), -1) @ kernel.reshape(-1, kernel.shape[-1]) for x, kernel in parts]
    return jnp.concatenate(products, -1)[:, None, None]


@jax.custom_vjp
def add_bias(y: jax.Array, bias: jax.Array) -> jax.Array:
    """Adds a bias [D], or one per pixel [H, W, D], to y [B, H, W, D]. The gradient of the bias is summed in float32.

    A GPU would sum JAX's own gradient in the precision of y. In bfloat16, that adds errors of about 0.6 %.
    """
    return y + jnp.expand_dims(bias, tuple(range(y.ndim - bias.ndim))).astype(y.dtype)


def _bias_forward(y: jax.Array, bias: jax.Array) -> tuple[jax.Array, jax.Array]:
    return add_bias(y, bias), bias


def _bias_backward(bias: jax.Array, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    return dy, dy.sum(range(dy.ndim - bias.ndim), dtype=jnp.float32).astype(bias.dtype)


add_bias.defvjp(_bias_forward, _bias_backward)


def _convolve(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads, groups: int = 1) -> jax.Array:
    """Applies XLA's convolution."""
    if min(x.shape[1:3]) < 4 and forms.form("small_maps") == "padded":
        x, pads = lax.optimization_barrier(jnp.pad(x, ((0, 0), *pads, (0, 0)))), ((0, 0), (0, 0))
    strides = (stride, stride)
    return lax.conv_general_dilated(x, kernel, strides, pads, dimension_numbers=NHWC, feature_group_count=groups)


def _same(kernel: jax.Array) -> Pads:
    pad = (kernel.shape[0] - 1) // 2
    return ((pad, pad), (pad, pad))


@jax.custom_vjp
def conv_unit_stride(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves with stride 1 and keeps the map's size; x [B, H, W, C], kernel [k, k, C, D], k odd.

    The gradients equal JAX's own, in a form for which XLA:CPU has fast kernels: those are for NHWC x HWIO only. XLA:CPU
    converts other orders only outside loops, and is 30 times slower without these kernels.
    """
    return _convolve(x, kernel, 1, _same(kernel))


def _conv_forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return conv_unit_stride(x, kernel), (x, kernel)


def _conv_backward(saved: tuple[jax.Array, jax.Array], dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    return (_gradients if forms.form("convolution_gradients") == "plain" else _gradients_as_convolutions)(*saved, dy)


def _gradients(x: jax.Array, kernel: jax.Array, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jax.vjp(lambda x, kernel: _convolve(x, kernel, 1, _same(kernel)), x, kernel)[1](dy)


def _gradients_as_convolutions(x: jax.Array, kernel: jax.Array, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    dx = _convolve(dy, kernel[::-1, ::-1].transpose(0, 1, 3, 2), 1, _same(kernel))
    if kernel.shape[:2] == (1, 1):  # a matrix product, which takes 0.7 to 1.0 times as long
        over_pixels = ((0, 1, 2), (0, 1, 2)), ((), ())
        return dx, lax.dot_general(x, dy, over_pixels)[None, None]
    # channels become the batch, images become the channels, and dy becomes the kernel
    dkernel = _convolve(x.transpose(3, 1, 2, 0), dy.transpose(1, 2, 0, 3), 1, _same(kernel))  # [C, k, k, D]
    return dx, dkernel.transpose(1, 2, 0, 3)


conv_unit_stride.defvjp(_conv_forward, _conv_backward)
