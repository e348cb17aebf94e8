"""Areas, overlaps and moves of boxes, and conversions from and to the conventions of data sets.

Every function takes NumPy arrays on the host or JAX's arrays on a device, and returns arrays of the same kind. Sizes,
distances and factors are numbers, or arrays that broadcast to boxes without their last axis.
"""

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    import jax

Array = TypeVar("Array", np.ndarray, "jax.Array")


def namespace(*arrays: Any) -> Any:
    """Returns the module numpy if all arrays are NumPy's, or else jax.numpy."""
    if all(isinstance(array, np.ndarray) for array in arrays):
        return np
    import jax.numpy as jnp  # takes seconds, and readers of boxes do not need it

    return jnp


def corners(boxes: Any) -> tuple[Any, Any, Any, Any]:  # a type checker cannot tell which kind of array indexing gives
    """Returns x1, y1, x2, y2 of boxes [..., 4], each [...]."""
    return boxes[..., 0], boxes[..., 1], boxes[..., 2], boxes[..., 3]


def from_voc(boxes: Array) -> Array:
    """Converts xmin, ymin, xmax, ymax of VOC and ImageNet: whole pixels counted from 1, both ends inside the box."""
    x1, y1, x2, y2 = corners(boxes.astype(np.float32))
    return namespace(boxes).stack([x1 - 1, y1 - 1, x2, y2], -1)


def to_voc(boxes: Array) -> Array:
    """Converts boxes to VOC's xmin, ymin, xmax, ymax; the inverse of `from_voc`. Does not round."""
    x1, y1, x2, y2 = corners(boxes)
    return namespace(boxes).stack([x1 + 1, y1 + 1, x2, y2], -1)


def from_coco(boxes: Array) -> Array:
    """Converts COCO's x, y, width, height, in pixels counted from 0."""
    x, y, width, height = corners(boxes.astype(np.float32))
    return namespace(boxes).stack([x, y, x + width, y + height], -1)


def to_coco(boxes: Array) -> Array:
    """Converts boxes to COCO's x, y, width, height; the inverse of `from_coco`."""
    x1, y1, x2, y2 = corners(boxes)
    return namespace(boxes).stack([x1, y1, x2 - x1, y2 - y1], -1)


def area(boxes: Array) -> Array:
    """Returns the areas [...] of boxes [..., 4] in square pixels."""
    x1, y1, x2, y2 = corners(boxes)
    return (x2 - x1) * (y2 - y1)


def intersection(a: Array, b: Array) -> Array:
    """Returns the area that each box of a [..., N, 4] shares with each of b [..., M, 4], as [..., N, M]."""
    xp = namespace(a, b)
    ax1, ay1, ax2, ay2 = corners(a[..., :, None, :])
    bx1, by1, bx2, by2 = corners(b[..., None, :, :])
    width = xp.minimum(ax2, bx2) - xp.maximum(ax1, bx1)
    height = xp.minimum(ay2, by2) - xp.maximum(ay1, by1)
    return xp.maximum(width, 0) * xp.maximum(height, 0)


def iou(a: Array, b: Array) -> Array:
    """Returns the intersection over union of boxes a [..., N, 4] and b [..., M, 4], as [..., N, M].

    It is 0 for two boxes without area.
    """
    shared = intersection(a, b)
    return _ratio(shared, area(a)[..., :, None] + area(b)[..., None, :] - shared)


def share_inside(boxes: Array, crop: Array) -> Array:
    """Returns the share [..., N] of the area of boxes [..., N, 4] inside a crop [..., 4]; 0 for a box without area."""
    return _ratio(intersection(boxes, namespace(crop).expand_dims(crop, -2))[..., 0], area(boxes))


def _ratio(part: Any, whole: Any) -> Any:
    """Divides areas; 0 / 0 is 0."""
    return part / namespace(part, whole).maximum(whole, np.finfo(np.float32).tiny)


def clip(boxes: Array, height: float | Array, width: float | Array) -> Array:
    """Moves what lies outside an image of this size in pixels to its edge."""
    xp = namespace(boxes)
    height, width = (xp.asarray(side, boxes.dtype) for side in (height, width))
    x1, y1, x2, y2 = corners(boxes)
    return xp.stack([xp.clip(x, 0, end) for x, end in ((x1, width), (y1, height), (x2, width), (y2, height))], -1)


def mirror(boxes: Array, width: float | Array) -> Array:
    """Returns the boxes in the mirror image, left for right, of an image of this width in pixels."""
    xp = namespace(boxes)
    width = xp.asarray(width, boxes.dtype)
    x1, y1, x2, y2 = corners(boxes)
    return xp.stack([width - x2, y1, width - x1, y2], -1)


def translate(boxes: Array, right: float | Array, down: float | Array) -> Array:
    """Moves boxes by pixels; minus a crop's left and top gives boxes in the crop."""
    x1, y1, x2, y2 = corners(boxes)
    return namespace(boxes).stack([x1 + right, y1 + down, x2 + right, y2 + down], -1)


def scale(boxes: Array, horizontal: float | Array, vertical: float | Array) -> Array:
    """Multiplies boxes by the factors by which an image is rescaled."""
    x1, y1, x2, y2 = corners(boxes)
    return namespace(boxes).stack([x1 * horizontal, y1 * vertical, x2 * horizontal, y2 * vertical], -1)
