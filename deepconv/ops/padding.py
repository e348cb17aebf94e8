"""Padding in pixels, and the number of windows."""

from typing import Literal, TypeVar

import jax

# Padding on the right and bottom until the last window covers the last pixel, as in cuda-convnet and Caffe
CEIL: Literal["ceil"] = "ceil"
Padding = int | Literal["ceil"]  # pixels on all sides, or CEIL
Side = TypeVar("Side", int, jax.Array)


def windows(side: Side, size: int, stride: int, padding: Padding) -> Side:
    """Returns the number of windows along a side of `side` pixels."""
    added = -(side - size) % stride if padding == CEIL else 2 * padding
    return (side + added - size) // stride + 1


def pads(x: jax.Array, size: int, stride: int, padding: Padding) -> tuple[tuple[int, int], tuple[int, int]]:
    """Returns the pixels to add to (top, bottom), (left, right) of x [B, H, W, C]."""
    if padding == CEIL:
        bottom, right = (-(side - size) % stride for side in x.shape[1:3])
        return ((0, bottom), (0, right))
    return ((padding, padding), (padding, padding))
