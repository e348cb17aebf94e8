"""Averages over a training set."""

import numpy as np


def pixel_mean(images: np.ndarray) -> np.ndarray:
    """Mean image, float32 [H, W, 3], of uint8 [N, H, W, 3]; accumulated exactly, in integers."""
    return (images.sum(0, dtype=np.int64) / len(images)).astype(np.float32)


def channel_mean(images: np.ndarray) -> np.ndarray:
    """Mean colour, float32 [3], of uint8 [N, H, W, 3]."""
    return pixel_mean(images).mean((0, 1), dtype=np.float64).astype(np.float32)


MEANS = {"pixel": pixel_mean, "channel": channel_mean}
