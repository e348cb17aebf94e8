"""Residual and plain networks of He et al. 2015."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from deepconv.models.layers import BatchNorm, Conv, he_normal, scores, shortcut_a
from deepconv.ops import rectifier
from deepconv.ops.padding import CEIL
from deepconv.ops.pooling import max_pool, mean_of_views
from deepconv.ops.repeat import apply_blocks

# Table 1: the number of blocks in conv2_x, conv3_x, conv4_x, conv5_x
BASIC = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
BOTTLENECK = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
FILTERS = (64, 128, 256, 512)  # on maps of 56, 28, 14, 7 pixels; a bottleneck block outputs four times as many
CIFAR_FILTERS = (16, 32, 64)  # on maps of 32, 16, 8 pixels (4.2)
SHORTCUTS = ("A", "a_both_sides", "B", "C")
POOL1_PADDING = {"ceil": CEIL, "symmetric": 1}


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, with the shortcut added before the last rectifier (Fig. 2)."""

    filters: int
    stride: int
    shortcut: str  # "A", "a_both_sides", "B", "C", or "none" for a plain net
    bn_group: int
    bn_fixed: bool
    dtype: Any
    train: bool
    stride_on: str = "3x3"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.conv_bn(x, self.filters, 3, self.stride, "conv1", "bn1")
        y = self.conv_bn(rectifier.relu(y), self.filters, 3, 1, "conv2", "bn2")
        return rectifier.relu(self.add_shortcut(x, y))

    def conv_bn(self, x: jax.Array, filters: int, size: int, stride: int, conv: str, bn: str) -> jax.Array:
        """Applies a convolution and batch normalisation with these names."""
        x = Conv(filters, size, stride, padding=size // 2, dtype=self.dtype, name=conv)(x)
        return BatchNorm(self.bn_group, dtype=self.dtype, fixed=self.bn_fixed, name=bn)(x, self.train)

    def add_shortcut(self, x: jax.Array, y: jax.Array) -> jax.Array:
        """Adds the block's input x, brought to the shape of its output y (3.3), to y."""
        if self.shortcut == "none":
            return y
        if self.shortcut == "C" or (self.shortcut == "B" and x.shape != y.shape):
            return y + self.conv_bn(x, y.shape[-1], 1, self.stride, "projection", "projection_bn")
        return y + shortcut_a(x, y.shape[-1], self.stride, both_sides=self.shortcut == "a_both_sides")


class BottleneckBlock(BasicBlock):
    """1x1, 3x3 and 1x1 convolutions, the last with four times the filters (Fig. 5)."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        strides = (self.stride, 1) if self.stride_on == "1x1" else (1, self.stride)
        y = self.conv_bn(x, self.filters, 1, strides[0], "conv1", "bn1")
        y = self.conv_bn(rectifier.relu(y), self.filters, 3, strides[1], "conv2", "bn2")
        y = self.conv_bn(rectifier.relu(y), 4 * self.filters, 1, 1, "conv3", "bn3")
        return rectifier.relu(self.add_shortcut(x, y))


class ResNet(nn.Module):
    """The nets of Table 1: 18 and 34 layers of basic blocks; 50, 101 and 152 of bottlenecks.

    stride_on names the convolution of a bottleneck that has the stride: the first 1x1 in the paper, the 3x3 in ResNet
    v1.5 of torchvision and others. pool1 rounds up, as in the authors' nets, or pads all sides equally. With bn_fixed,
    BatchNorm is constant in training, as in the authors' detection. With per_place, the outputs are those of each place
    of the last map, in place of those of its mean.
    """

    classes: int
    depth: int = 50
    residual: bool = True
    shortcut: str = "B"
    stride_on: str = "1x1"
    pool1: str = "ceil"
    bn_group: int = 0
    bn_fixed: bool = False
    dtype: str = "float32"
    per_place: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for field, choices in (
            ("depth", (*BASIC, *BOTTLENECK)),
            ("shortcut", SHORTCUTS),
            ("stride_on", ("1x1", "3x3")),
            ("pool1", tuple(POOL1_PADDING)),
        ):
            if (value := getattr(self, field)) not in choices:
                raise ValueError(
                    f"config.model.{field}={value!r} is unknown; choose one of {', '.join(map(str, choices))}"
                )

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        dtype = jnp.dtype(self.dtype)
        x = Conv(FILTERS[0], 7, 2, padding=3, dtype=dtype, name="conv1")(x)
        x = BatchNorm(self.bn_group, dtype=dtype, fixed=self.bn_fixed, name="bn1")(x, train)
        x = rectifier.relu(x)  # [B, 112, 112, 64]
        x = max_pool(x, 3, 2, POOL1_PADDING[self.pool1])
        block, counts = (BasicBlock, BASIC) if self.depth in BASIC else (BottleneckBlock, BOTTLENECK)
        shortcut = self.shortcut if self.residual else "none"
        block = functools.partial(block, shortcut=shortcut, stride_on=self.stride_on)
        block = functools.partial(block, bn_group=self.bn_group, bn_fixed=self.bn_fixed, dtype=dtype, train=train)
        for part, (filters, count) in enumerate(zip(FILTERS, counts[self.depth], strict=True), 2):
            x = stage(self, x, part, block, count, filters)
        return head(x, self.classes, self.per_place)


class CifarResNet(nn.Module):
    """The nets of 6n+2 layers (4.2): a convolution, three stages of 2n, average pooling, a fully connected layer."""

    classes: int
    depth: int = 20
    residual: bool = True
    shortcut: str = "A"
    bn_group: int = 0
    bn_fixed: bool = False
    dtype: str = "float32"
    per_place: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shortcut not in SHORTCUTS[:2]:
            raise ValueError(f"config.model.shortcut={self.shortcut!r} is unknown; choose one of A, a_both_sides")
        if self.depth < 8 or (self.depth - 2) % 6:
            raise ValueError(f"config.model.depth={self.depth} is not 6n+2; the paper has 20, 32, 44, 56, 110, 1202")

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        dtype = jnp.dtype(self.dtype)
        x = Conv(CIFAR_FILTERS[0], dtype=dtype, name="conv1")(x)
        x = BatchNorm(self.bn_group, dtype=dtype, fixed=self.bn_fixed, name="bn1")(x, train)
        x = rectifier.relu(x)  # [B, 32, 32, 16]
        shortcut = self.shortcut if self.residual else "none"
        block = functools.partial(BasicBlock, shortcut=shortcut, dtype=dtype, train=train)
        block = functools.partial(block, bn_group=self.bn_group, bn_fixed=self.bn_fixed)
        for part, filters in enumerate(CIFAR_FILTERS, 2):
            x = stage(self, x, part, block, (self.depth - 2) // 6, filters)
        return head(x, self.classes, self.per_place)


def stage(
    net: nn.Module, x: jax.Array, part: int, block: Callable[..., nn.Module], count: int, filters: int
) -> jax.Array:
    """Applies the blocks of a stage, such as conv2_1, conv2_2, ...; from conv3_x on, the first one halves the map."""
    blocks = []
    for number in range(1, count + 1):
        stride = 2 if part > 2 and number == 1 else 1
        blocks.append(block(filters, stride, name=f"conv{part}_{number}"))
    return apply_blocks(net, blocks, x)


def head(x: jax.Array, classes: int, per_place: bool) -> jax.Array:
    """Applies the mean over the map and the fully connected layer; returns float32 scores.

    In a dense test, there is one mean per window of a view's size, as in the authors' released net. With per_place, the
    layer is a 1x1 convolution of the map; its weights begin as those of region proposals (Ren et al. 2015, 3.1.3).
    """
    x = x.astype(jnp.float32)
    if per_place:
        return nn.Dense(classes, kernel_init=nn.initializers.normal(0.01), name="fc")(x)
    x = mean_of_views(x)
    return scores(nn.Dense(classes, kernel_init=he_normal, name="fc")(x))
