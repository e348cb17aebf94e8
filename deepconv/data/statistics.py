"""Averages over a training set."""

import numpy as np


def pixel_mean(images: np.ndarray) -> np.ndarray:
    """Mean image, float32 [1, H, W, 3], of uint8 [N, H, W, 3]; accumulated exactly, in integers."""
    return (images.sum(0, dtype=np.int64, keepdims=True) / len(images)).astype(np.float32)


def channel_mean(images: np.ndarray) -> np.ndarray:
    """Mean colour, float32 [1, 1, 1, 3], of uint8 [N, H, W, 3]."""
    return pixel_mean(images).mean((1, 2), dtype=np.float64, keepdims=True).astype(np.float32)


MEANS = {"pixel": pixel_mean, "channel": channel_mean}
