"""Anchors: the boxes at each place of a map that a region proposal network classifies and refines."""

from collections.abc import Sequence

import numpy as np

SIDES = (128, 256, 512)  # of the square anchors in pixels; py-faster-rcnn, lib/rpn/generate_anchors.py
RATIOS = (0.5, 1.0, 2.0)  # height / width


def cell(stride: int = 16, sides: Sequence[float] = SIDES, ratios: Sequence[float] = RATIOS) -> np.ndarray:
    """Returns the anchors of the map's first cell, float32 [ratios * sides, 4], all sides of one ratio first.

    They are centred on the cell of stride x stride pixels. A ratio is applied to the cell and rounded to whole pixels,
    then enlarged, as in Ren et al.'s code, whose nine anchors these are for stride 16.
    """
    ratio = np.array(ratios, np.float64)
    widths = np.floor(stride / np.sqrt(ratio) + 0.5)
    heights = np.floor(widths * ratio + 0.5)
    factors = np.array(sides, np.float64) / stride
    half = np.stack([widths, heights], -1)[:, None] * factors[:, None] / 2  # [ratios, sides, 2]
    return (stride / 2 + np.concatenate([-half, half], -1)).reshape(-1, 4).astype(np.float32)


def over_map(anchors: np.ndarray, height: int, width: int, stride: int) -> np.ndarray:
    """Returns the anchors [A, 4] of a cell at each cell of a map, float32 [height, width, A, 4]."""
    y, x = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    offsets = np.stack([x, y, x, y], -1) * stride
    return anchors + offsets[:, :, None].astype(np.float32)
