"""Residual and plain networks of He et al. 2015."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from deepconv.models.layers import BatchNorm, Conv, he_normal, shortcut_a

CIFAR_FILTERS = (16, 32, 64)  # on maps of 32, 16, 8 pixels (4.2)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, the shortcut added before the last rectifier (Fig. 2); the carry of a scan over blocks."""

    filters: int
    stride: int
    residual: bool
    bn_group: int
    dtype: Any
    train: bool

    @nn.compact
    def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, None]:
        y = Conv(self.filters, stride=self.stride, dtype=self.dtype, name="conv1")(x)
        y = nn.relu(BatchNorm(self.bn_group, dtype=self.dtype, name="bn1")(y, self.train))
        y = Conv(self.filters, dtype=self.dtype, name="conv2")(y)
        y = BatchNorm(self.bn_group, dtype=self.dtype, name="bn2")(y, self.train)
        if self.residual:
            y += shortcut_a(x, self.filters, self.stride)
        return nn.relu(y), None


class CifarResNet(nn.Module):
    """The 6n+2 layers of 4.2: a convolution, three stages of 2n, average pooling, a fully connected layer.

    All but the first block of a stage are equal. They are one scan, their parameters stacked along a first axis, so
    that the time to compile does not grow with depth.
    """

    classes: int
    depth: int = 20
    residual: bool = True
    bn_group: int = 0
    dtype: str = "float32"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.depth < 8 or (self.depth - 2) % 6:
            raise ValueError(f"config.model.depth={self.depth} is not 6n+2; the paper has 20, 32, 44, 56, 110, 1202")

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        dtype = jnp.dtype(self.dtype)
        x = Conv(CIFAR_FILTERS[0], dtype=dtype, name="conv1")(x)
        x = nn.relu(BatchNorm(self.bn_group, dtype=dtype, name="bn1")(x, train))  # [B, 32, 32, 16]
        shared = dict(residual=self.residual, bn_group=self.bn_group, dtype=dtype, train=train)
        for stage, filters in enumerate(CIFAR_FILTERS):
            name, stride = f"stage{stage + 1}", 1 if stage == 0 else 2
            x, _ = BasicBlock(filters, stride, **shared, name=f"{name}_first")(x, None)
            if rest := (self.depth - 2) // 6 - 1:
                x, _ = repeat(BasicBlock, rest)(filters, 1, **shared, name=f"{name}_rest")(x, None)
        x = x.astype(jnp.float32).mean((1, 2))  # [B, 64]
        return nn.Dense(self.classes, kernel_init=he_normal, name="fc")(x)


def repeat(block: type[nn.Module], times: int) -> type[nn.Module]:
    """`times` equal blocks, one after the other, as a scan."""
    return nn.scan(block, variable_axes={"params": 0, "batch_stats": 0}, split_rngs={"params": True}, length=times)
