"""What nets regress in place of boxes, and back. Functions take NumPy's or JAX's arrays, as in `geometry`."""

import math

from deepconv.boxes.geometry import Array, corners, namespace

# DIFFERS: the code of Faster R-CNN's authors has no limit. In a net that has hardly been trained, sizes overflow.
MAXIMUM_LOG_SIZE = math.log(1000 / 16)  # relative to the anchor, as in Detectron and torchvision


def encode(boxes: Array, anchors: Array) -> Array:
    """Returns R-CNN's codes dx / width, dy / height, log width, log height of boxes relative to anchors, [..., 4].

    As in py-faster-rcnn, lib/fast_rcnn/bbox_transform.py. Anchors may be proposals. The code of a box without area is
    not finite, so padding must be masked before a sum.
    """
    xp = namespace(boxes, anchors)
    x, y, width, height = _center_and_size(boxes)
    anchor_x, anchor_y, anchor_width, anchor_height = _center_and_size(anchors)
    return xp.stack(
        [
            (x - anchor_x) / anchor_width,
            (y - anchor_y) / anchor_height,
            xp.log(width / anchor_width),
            xp.log(height / anchor_height),
        ],
        -1,
    )


def decode(codes: Array, anchors: Array) -> Array:
    """Returns the boxes of codes; the inverse of `encode` for boxes up to 62.5 times as wide and high as their anchors.

    Larger sizes become the largest.
    """
    xp = namespace(codes, anchors)
    dx, dy, *log_sizes = corners(codes)
    x, y, width, height = _center_and_size(anchors)
    wider, higher = (xp.exp(xp.minimum(log_size, MAXIMUM_LOG_SIZE)) for log_size in log_sizes)
    return _from_center_and_size(x + dx * width, y + dy * height, width * wider, height * higher)


def encode_in_crop(boxes: Array, side: int) -> Array:
    """Returns (center x - side / 2, center y - side / 2, width, height) / side of boxes in a square crop, [..., 4].

    Simonyan & Zisserman 2015, appendix A, regresses center and size and does not give their unit; this is our reading.
    """
    x, y, width, height = _center_and_size(boxes)
    return namespace(boxes).stack([x / side - 0.5, y / side - 0.5, width / side, height / side], -1)


def decode_in_crop(codes: Array, side: int) -> Array:
    """Returns the boxes of codes in a square crop; the inverse of `encode_in_crop`."""
    x, y, width, height = corners(codes)
    return _from_center_and_size((x + 0.5) * side, (y + 0.5) * side, width * side, height * side)


def _center_and_size(boxes: Array) -> tuple[Array, Array, Array, Array]:
    x1, y1, x2, y2 = corners(boxes)
    return (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1


def _from_center_and_size(x: Array, y: Array, width: Array, height: Array) -> Array:
    return namespace(x).stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], -1)
