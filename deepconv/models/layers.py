"""What the networks are built from."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

NHWC = ("NHWC", "HWIO", "NHWC")
CEIL = "ceil"  # padding on the right and bottom, so that the last window covers the last pixel: cuda-convnet, Caffe

Padding = int | str  # pixels on all sides, or CEIL
Initializer = jax.nn.initializers.Initializer
Side = TypeVar("Side", int, jax.Array, None)

he_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")  # He et al. 2015 (rectifiers): std sqrt(2 / n)


class Dense(NamedTuple):
    """Asks a net for the scores of every view of images that are larger than those it is trained on.

    The images may have different sizes: each lies at the top left of its part of the batch, and the rest is as if it
    were not there.
    """

    extent: jax.Array  # int32 [B, 2]: height and width of each image
    view: int  # height and width of the images in training


def inside(x: jax.Array, extent: jax.Array | None, outside: float = 0.0) -> jax.Array:
    """x [B, H, W, C], and this value beyond the extent [B, 2] of each image."""
    if extent is None:
        return x
    rows, columns = (jnp.arange(x.shape[axis])[None] < extent[:, axis - 1, None] for axis in (1, 2))
    return jnp.where((rows[:, :, None] & columns[:, None])[..., None], x, outside)


def windows(side: Side, size: int, stride: int, padding: Padding) -> Side:
    """How many windows lie along a side of so many pixels, or of an extent's; None gives None."""
    if side is None:
        return None
    added = -(side - size) % stride if padding == CEIL else 2 * padding
    return (side + added - size) // stride + 1


class Conv(nn.Module):
    """Square convolution, kernel [k, k, C / groups, D]; without bias_init, without bias.

    Each of the groups sees its own part of the channels. Padding is zero, and so is what lies beyond the extent.
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
    def __call__(self, x: jax.Array, extent: jax.Array | None = None) -> jax.Array:
        x = inside(x, extent)
        kernel = self.param(
            "kernel", self.kernel_init, (self.size, self.size, x.shape[-1] // self.groups, self.filters)
        )
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        if self.stride == 1 and self.padding != CEIL and self.size == 2 * self.padding + 1:
            one = conv_unit_stride
        else:
            one = functools.partial(_conv, stride=self.stride, pads=pads(x, self.size, self.stride, self.padding))
        x = _grouped(one, x, kernel, self.groups)
        if self.bias_init is not None:
            x += self.param("bias", self.bias_init, (self.filters,)).astype(self.dtype)[None, None, None]
        return x


class LocallyConnected(nn.Module):
    """A 3x3 convolution at stride 1 that shares nothing: each pixel has a kernel and biases of its own."""

    filters: int
    kernel_init: Initializer
    bias_init: Initializer = nn.initializers.zeros
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        _, height, width, channels = x.shape
        padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))).astype(self.dtype)
        windows = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
        kernel = self.param("kernel", self.kernel_init, (height, width, 3, 3, channels, self.filters))
        bias = self.param("bias", self.bias_init, (height, width, self.filters))
        kernel = kernel.reshape(height, width, 9 * channels, self.filters).astype(self.dtype)
        return jnp.einsum("bhwp,hwpd->bhwd", jnp.concatenate(windows, -1), kernel) + bias.astype(self.dtype)[None]


class FullyConnected(nn.Module):
    """All pixels of the map to each output: a convolution whose kernel [H, W, C / groups, D] is as large as the map.

    [B, H, W, C] -> [B, 1, 1, D]; on a larger map, the same parameters give an output for every window of it.
    """

    outputs: int
    kernel_init: Initializer
    bias_init: Initializer = nn.initializers.zeros
    groups: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        if self.is_initializing():  # the map of a training image decides; later ones may be larger
            shape = (*x.shape[1:3], x.shape[-1] // self.groups, self.outputs)
            kernel = self.param("kernel", self.kernel_init, shape)
        else:
            kernel = self.get_variable("params", "kernel")
        bias = self.param("bias", self.bias_init, (self.outputs,)).astype(self.dtype)
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        one = _dense if x.shape[1:3] == kernel.shape[:2] else functools.partial(_conv, stride=1, pads=((0, 0), (0, 0)))
        return _grouped(one, x, kernel, self.groups) + bias[None, None, None]


def _dense(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return (x.reshape(len(x), -1) @ kernel.reshape(-1, kernel.shape[-1]))[:, None, None]


def _grouped(
    one: Callable[[jax.Array, jax.Array], jax.Array], x: jax.Array, kernel: jax.Array, groups: int
) -> jax.Array:
    # XLA's own grouped convolution has slow gradients: 7 to 11 times as long on a CPU, and not specialised on GPUs
    parts = zip(jnp.split(x, groups, -1), jnp.split(kernel, groups, -1), strict=True)
    return jnp.concatenate([one(*part) for part in parts], -1)


def pads(x: jax.Array, size: int, stride: int, padding: Padding) -> tuple[tuple[int, int], tuple[int, int]]:
    """Pixels to add to (top, bottom), (left, right) of x [B, H, W, C]."""
    if padding == CEIL:
        return tuple((0, -(side - size) % stride) for side in x.shape[1:3])
    return ((padding, padding), (padding, padding))


def max_pool(
    x: jax.Array, size: int, stride: int, padding: Padding = CEIL, extent: jax.Array | None = None
) -> jax.Array:
    """Largest value of each window, x [B, H, W, C]; where several are largest, they share the gradient.

    Slices and maximum, rows first: the gradient of XLA's window reduction takes 3 to 4 times as long on a CPU and, on
    a GPU, has no deterministic form.
    """
    x = inside(x, extent, -jnp.inf)
    x = jnp.pad(x, ((0, 0), *pads(x, size, stride, padding), (0, 0)), constant_values=-jnp.inf)
    for axis in (1, 2):
        outputs = windows(x.shape[axis], size, stride, 0)
        ends = [start + stride * (outputs - 1) + 1 for start in range(size)]
        x = functools.reduce(
            jnp.maximum, [lax.slice_in_dim(x, start, end, stride, axis) for start, end in enumerate(ends)]
        )
    return inside(x, windows(extent, size, stride, padding))


def average_pool(x: jax.Array, size: int, stride: int, padding: Padding = CEIL) -> jax.Array:
    """Mean over those pixels of each window that lie in the image, x [B, H, W, C]."""
    window = functools.partial(
        lax.reduce_window,
        init_value=0.0,
        computation=lax.add,
        window_dimensions=(1, size, size, 1),
        window_strides=(1, stride, stride, 1),
        padding=((0, 0), *pads(x, size, stride, padding), (0, 0)),
    )
    return window(x) / window(jnp.ones((1, *x.shape[1:3], 1), x.dtype))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4))
def response_norm(x: jax.Array, axes: tuple[int, ...], size: int, k: float, alpha: float) -> jax.Array:
    """x / (k + alpha * s)^0.75, s the sum of squares over windows of odd size along the axes; in float32.

    Krizhevsky et al. 2012, 3.3, with axes=(-1,): over neighbouring channels. Windows end at the border.
    """
    return _response_norm_forward(x, axes, size, k, alpha)[0]


def _response_norm_forward(
    x: jax.Array, axes: tuple[int, ...], size: int, k: float, alpha: float
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    wide = x.astype(jnp.float32)
    root = lax.rsqrt(k + alpha * _window_sum(wide * wide, axes, size))
    return (wide * root * jnp.sqrt(root)).astype(x.dtype), (x, root)


def _response_norm_backward(
    axes: tuple[int, ...],
    size: int,
    k: float,
    alpha: float,
    saved: tuple[jax.Array, jax.Array],
    dy: jax.Array,
) -> tuple[jax.Array]:
    # written out, since JAX's own keeps and reads again every shifted copy
    (x, root), dtype = saved, dy.dtype
    x, dy = x.astype(jnp.float32), dy.astype(jnp.float32)
    factor = root * jnp.sqrt(root)  # (k + alpha s)^-0.75
    shared = _window_sum(dy * x * factor * root * root, axes, size)
    return ((dy * factor - 1.5 * alpha * x * shared).astype(dtype),)


def _window_sum(x: jax.Array, axes: tuple[int, ...], size: int) -> jax.Array:
    for axis in axes:
        side = x.shape[axis]
        widths = [(0, 0)] * x.ndim
        widths[axis] = (size // 2, size // 2)
        padded = jnp.pad(x, widths)
        x = sum(lax.slice_in_dim(padded, start, start + side, axis=axis) for start in range(size))
    return x


response_norm.defvjp(_response_norm_forward, _response_norm_backward)


def channel_norm(x: jax.Array, size: int, k: float, alpha: float, towers: int = 1) -> jax.Array:
    """Local response normalisation over channels, x [B, H, W, C]; windows stay inside each of the towers."""
    split = x.reshape(*x.shape[:-1], towers, -1)
    return response_norm(split, (-1,), size, k, alpha).reshape(x.shape)


def _conv(x: jax.Array, kernel: jax.Array, stride: int, pads: tuple[tuple[int, int], tuple[int, int]]) -> jax.Array:
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
    return _conv(x, kernel, 1, _same(kernel))


def _conv_forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return conv_unit_stride(x, kernel), (x, kernel)


def _conv_backward(saved: tuple[jax.Array, jax.Array], dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    return lax.platform_dependent(*saved, dy, cpu=_gradients_as_convolutions, default=_gradients)


def _gradients(x: jax.Array, kernel: jax.Array, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jax.vjp(lambda x, kernel: _conv(x, kernel, 1, _same(kernel)), x, kernel)[1](dy)


def _gradients_as_convolutions(x: jax.Array, kernel: jax.Array, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    dx = _conv(dy, kernel[::-1, ::-1].transpose(0, 1, 3, 2), 1, _same(kernel))
    # channels as the batch, images as the channels, the whole of dy as the kernel
    dkernel = _conv(x.transpose(3, 1, 2, 0), dy.transpose(1, 2, 0, 3), 1, _same(kernel))  # [C, k, k, D]
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


def shortcut_a(x: jax.Array, filters: int, stride: int, both_sides: bool = False) -> jax.Array:
    """Option A: every stride-th pixel, new channels zero (He et al. 2015, 3.3).

    That pixels are picked, not averaged, and that the new channels come last is our reading. With both_sides, half of
    them come first, as in some nets for CIFAR-10 that are trained elsewhere.
    """
    x = x[:, ::stride, ::stride]
    new = filters - x.shape[-1]
    before = new // 2 if both_sides else 0
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (before, new - before)))
