"""Residual and plain networks of He et al. 2015."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from deepconv.models.layers import BatchNorm, Conv, he_normal, shortcut_a
from deepconv.ops.extent import Dense
from deepconv.ops.padding import CEIL, windows
from deepconv.ops.pooling import average_pool, max_pool
from deepconv.ops.repeat import repeat

# Table 1: the number of blocks in conv2_x, conv3_x, conv4_x, conv5_x
BASIC = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
BOTTLENECK = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
FILTERS = (64, 128, 256, 512)  # on maps of 56, 28, 14, 7 pixels; a bottleneck block gives four times as many
CIFAR_FILTERS = (16, 32, 64)  # on maps of 32, 16, 8 pixels (4.2)
SHORTCUTS = ("A", "a_both_sides", "B", "C")
POOL1_PADDING = {"ceil": CEIL, "symmetric": 1}


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, the shortcut added before the last rectifier (Fig. 2); the carry of a scan over blocks."""

    filters: int
    stride: int
    shortcut: str  # "A", "a_both_sides", "B", "C", or "none" for a plain net
    bn_group: int
    dtype: Any
    train: bool
    stride_on: str = "3x3"

    @nn.compact
    def __call__(self, x: jax.Array, extent: jax.Array | None) -> tuple[jax.Array, None]:
        y = self.conv_bn(x, self.filters, 3, self.stride, "conv1", "bn1", extent)
        y = self.conv_bn(nn.relu(y), self.filters, 3, 1, "conv2", "bn2", windows(extent, 3, self.stride, 1))
        return nn.relu(self.add_shortcut(x, y)), None

    def conv_bn(
        self, x: jax.Array, filters: int, size: int, stride: int, conv: str, bn: str, extent: jax.Array | None = None
    ) -> jax.Array:
        """Convolution and normalisation under these names."""
        x = Conv(filters, size, stride, padding=size // 2, dtype=self.dtype, name=conv)(x, extent)
        return BatchNorm(self.bn_group, dtype=self.dtype, name=bn)(x, self.train)

    def add_shortcut(self, x: jax.Array, y: jax.Array) -> jax.Array:
        """The block's input, brought to its output's shape (3.3), plus its output."""
        if self.shortcut == "none":
            return y
        if self.shortcut == "C" or (self.shortcut == "B" and x.shape != y.shape):
            return y + self.conv_bn(x, y.shape[-1], 1, self.stride, "projection", "projection_bn")
        return y + shortcut_a(x, y.shape[-1], self.stride, both_sides=self.shortcut == "a_both_sides")


class BottleneckBlock(BasicBlock):
    """1x1, 3x3 and 1x1 convolutions, the last with four times the filters (Fig. 5)."""

    @nn.compact
    def __call__(self, x: jax.Array, extent: jax.Array | None) -> tuple[jax.Array, None]:
        strides = (self.stride, 1) if self.stride_on == "1x1" else (1, self.stride)
        y = self.conv_bn(x, self.filters, 1, strides[0], "conv1", "bn1")
        extent = windows(extent, 1, strides[0], 0)
        y = self.conv_bn(nn.relu(y), self.filters, 3, strides[1], "conv2", "bn2", extent)
        y = self.conv_bn(nn.relu(y), 4 * self.filters, 1, 1, "conv3", "bn3")
        return nn.relu(self.add_shortcut(x, y)), None


class ResNet(nn.Module):
    """The nets of Table 1: 18 and 34 layers of basic blocks; 50, 101 and 152 of bottlenecks.

    stride_on says which convolution of a bottleneck has the stride: the first 1x1 in the paper, the 3x3 in what
    torchvision and others call ResNet v1.5. pool1 rounds up as the authors' or pads all sides alike.

    Asked for dense scores, it gives those of all views, [B, h, w, classes], and how many of them are of each image,
    [B, 2]: the last map is averaged over the windows of a view, as in the net that the authors released.
    """

    classes: int
    depth: int = 50
    residual: bool = True
    shortcut: str = "B"
    stride_on: str = "1x1"
    pool1: str = "ceil"
    bn_group: int = 0
    dtype: str = "float32"

    def __post_init__(self) -> None:
        super().__post_init__()
        for field, known in (
            ("depth", (*BASIC, *BOTTLENECK)),
            ("shortcut", SHORTCUTS),
            ("stride_on", ("1x1", "3x3")),
            ("pool1", tuple(POOL1_PADDING)),
        ):
            if (value := getattr(self, field)) not in known:
                raise ValueError(
                    f"config.model.{field}={value!r} is unknown; choose one of {', '.join(map(str, known))}"
                )

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool, dense: Dense | None = None
    ) -> jax.Array | tuple[jax.Array, jax.Array]:
        dtype, pool1 = jnp.dtype(self.dtype), POOL1_PADDING[self.pool1]
        extent, view = dense or (None, None)
        x = Conv(FILTERS[0], 7, 2, padding=3, dtype=dtype, name="conv1")(x, extent)
        extent, view = (windows(side, 7, 2, 3) for side in (extent, view))
        x = nn.relu(BatchNorm(self.bn_group, dtype=dtype, name="bn1")(x, train))  # [B, 112, 112, 64]
        x = max_pool(x, 3, 2, pool1, extent)
        extent, view = (windows(side, 3, 2, pool1) for side in (extent, view))
        block, counts = (BasicBlock, BASIC) if self.depth in BASIC else (BottleneckBlock, BOTTLENECK)
        shared = dict(shortcut=self.shortcut if self.residual else "none", stride_on=self.stride_on)
        shared |= dict(bn_group=self.bn_group, dtype=dtype, train=train)
        for part, (filters, count) in enumerate(zip(FILTERS, counts[self.depth], strict=True), 2):
            stride = 1 if part == 2 else 2
            x = stage(x, f"conv{part}", block, count, filters, stride, shared, extent)
            extent, view = (windows(side, 1, stride, 0) for side in (extent, view))
        scores = head(x, self.classes, view)
        return (scores, windows(extent, view, 1, 0)) if dense else scores


class CifarResNet(nn.Module):
    """The 6n+2 layers of 4.2: a convolution, three stages of 2n, average pooling, a fully connected layer."""

    classes: int
    depth: int = 20
    residual: bool = True
    shortcut: str = "A"
    bn_group: int = 0
    dtype: str = "float32"

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
        x = nn.relu(BatchNorm(self.bn_group, dtype=dtype, name="bn1")(x, train))  # [B, 32, 32, 16]
        shared = dict(
            shortcut=self.shortcut if self.residual else "none", bn_group=self.bn_group, dtype=dtype, train=train
        )
        for part, filters in enumerate(CIFAR_FILTERS, 1):
            x = stage(x, f"stage{part}", BasicBlock, (self.depth - 2) // 6, filters, 1 if part == 1 else 2, shared)
        return head(x, self.classes)


def stage(
    x: jax.Array,
    name: str,
    block: type[nn.Module],
    count: int,
    filters: int,
    stride: int,
    shared: dict[str, Any],
    extent: jax.Array | None = None,
) -> jax.Array:
    """`count` blocks, the first with the stride.

    All others are equal. They are one scan, their parameters stacked along a first axis, so that the time to compile
    does not grow with depth.
    """
    x, _ = block(filters, stride, **shared, name=f"{name}_first")(x, extent)
    if count > 1:
        extent = windows(extent, 1, stride, 0)
        x, _ = repeat(block, count - 1)(filters, 1, **shared, name=f"{name}_rest")(x, extent)
    return x


def head(x: jax.Array, classes: int, view: int | None = None) -> jax.Array:
    """Mean over the map, or over every window of it that is as large as a view; fully connected layer.

    Scores [B, classes] or [B, h, w, classes].
    """
    x = x.astype(jnp.float32)
    x = x.mean((1, 2)) if view is None else average_pool(x, view, 1, 0)
    return nn.Dense(classes, kernel_init=he_normal, name="fc")(x)
