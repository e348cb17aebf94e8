"""Drawing of the built-in data set's images: coloured shapes over textured backgrounds, from (seed, index)."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from deepconv.data import decode

CLASSES = ("circle", "ring", "square", "frame", "triangle", "cross", "star", "crescent", "half disc", "bar")
REACH = 1.07  # radii from a shape's centre to its farthest point, a square's corner
PIXELS_AT_A_TIME = 50_000  # faster than 5,000 and than 400,000
Box = tuple[int, int, int, int]  # top, left, bottom, right in pixels; bottom and right are one past the last


@dataclass(frozen=True)
class Shape:
    """A shape in an image."""

    label: int
    cover: np.ndarray  # float [H, W], the part of each pixel that it covers

    @property
    def box(self) -> Box:
        """Returns the box around the pixels that are covered by more than half."""
        rows, columns = np.nonzero(self.cover.max(1) > 0.5)[0], np.nonzero(self.cover.max(0) > 0.5)[0]
        return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


class Place(NamedTuple):
    """The random numbers that place a shape."""

    label: int
    radius: float  # in pixels, like the centre
    center_y: float
    center_x: float
    angle: float


class Paint(NamedTuple):
    """The random numbers that paint an image with one shape."""

    ground: np.ndarray  # [3], a colour
    colour: np.ndarray  # [3], that of the shape
    waves: list[tuple[np.ndarray, np.ndarray]]  # two for the ground, two for the shape: _texture explains them
    noise: np.ndarray  # [H, W, 3]


def draw(index: int, height: int, width: int, seed: int = 0) -> tuple[np.ndarray, int, Box]:
    """Draws an image, uint8 [height, width, 3]; returns it with its class and the box around the shape."""
    (image,), (label,), (cover,) = _draw([index], height, width, seed)
    return image, int(label), Shape(int(label), cover).box


def place(index: int, height: int, width: int, seed: int = 0) -> Shape:
    """Returns the shape of `draw` without painting the image, which takes most of the time."""
    placed = _place(np.random.default_rng((seed, index)), (0, 0, height, width))
    return _shapes([placed], height, width)[0]


def draw_several(index: int, height: int, width: int, most: int, seed: int = 0) -> tuple[np.ndarray, list[Shape]]:
    """Draws an image, uint8 [height, width, 3], with one to `most` shapes; returns it with them."""
    shapes = place_several(index, height, width, most, seed)
    rng = np.random.default_rng((seed, index, most, 3))
    ground = rng.uniform(40, 215, 3)
    colours = [ground, *(_contrasting(rng, ground) for _ in shapes)]
    waves = np.array([_waves(rng, 2) for _ in colours])
    image, *textures = _texture(np.array(colours), waves, *_positions(height, width))
    for shape, texture in zip(shapes, textures, strict=True):
        image = (1 - shape.cover) * image + shape.cover * texture
    return _pixels(image, rng.normal(0, 6, (height, width, 3))), shapes


def place_several(index: int, height: int, width: int, most: int, seed: int = 0) -> list[Shape]:
    """Returns the shapes of `draw_several`: each is in a cell of a grid of its own, so none overlap."""
    rng = np.random.default_rng((seed, index, most, 2))  # trailing zeros would make no difference
    side = math.ceil(math.sqrt(most))
    cells = rng.permutation(side**2)[: rng.integers(1, most + 1)].tolist()
    rows, columns = (np.linspace(0, length, side + 1).round().astype(int).tolist() for length in (height, width))
    corners = [divmod(cell, side) for cell in cells]
    places = [_place(rng, (rows[i], columns[j], rows[i + 1], columns[j + 1]), REACH) for i, j in corners]
    return _shapes(places, height, width)


def draw_many(first: int, last: int, size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draws images first to last - 1, uint8 [N, size, size, 3], and their classes, int32 [N]."""
    images, labels = np.empty((last - first, size, size, 3), np.uint8), np.empty(last - first, np.int32)
    for rows, drawn, classes, _ in draw_parts(first, last, size, seed):
        images[rows], labels[rows] = drawn, classes
    return images, labels


def draw_parts(
    first: int, last: int, size: int, seed: int = 0
) -> Iterator[tuple[slice, np.ndarray, np.ndarray, np.ndarray]]:
    """Yields images first to last - 1 in parts: their rows, from 0, and what `_draw` returns for them."""
    count = max(1, PIXELS_AT_A_TIME // size**2)
    for start in range(first, last, count):  # in one thread: two took as long, for Python's lock
        indices = range(start, min(start + count, last))
        yield slice(indices.start - first, indices.stop - first), *_draw(indices, size, size, seed)


def _draw(indices: Sequence[int], height: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws images of one size; returns them, their classes, and the part of each pixel the shape covers, [N, H, W].

    An image does not depend on the others; many at a time are drawn faster.
    """
    places, paints = [], []
    for index in indices:
        rng = np.random.default_rng((seed, index))
        places.append(_place(rng, (0, 0, height, width)))
        paints.append(_paint(rng, height, width))
    ground, colour, waves, noise = map(np.array, zip(*paints, strict=True))
    cover, at = _cover(places, height, width), _positions(height, width)
    image = (1 - cover)[:, None] * _texture(ground, waves[:, :2], *at)
    image += cover[:, None] * _texture(colour, waves[:, 2:], *at)
    return _pixels(image, noise), np.array([placed.label for placed in places]), cover


def _place(rng: np.random.Generator, cell: Box, reach: float = 1.0) -> Place:
    """Places a shape in a cell of an image, with its centre at least `reach` radii from the cell's border."""
    first_row, first_column, last_row, last_column = cell
    label = int(rng.integers(len(CLASSES)))
    radius = min(last_row - first_row, last_column - first_column) * rng.uniform(0.26, 0.42)
    center_y = rng.uniform(first_row + reach * radius, last_row - reach * radius)
    center_x = rng.uniform(first_column + reach * radius, last_column - reach * radius)
    return Place(label, radius, center_y, center_x, rng.uniform(0, 2 * np.pi))


def _cover(places: Sequence[Place], height: int, width: int) -> np.ndarray:
    """Returns the part of each pixel that each shape covers, [N, height, width]."""
    label, radius, center_y, center_x, angle = map(np.array, zip(*places, strict=True))
    y, x = np.mgrid[:height, :width].astype(np.float32)
    radius, angle = radius[:, None, None], angle[:, None, None]
    right, down = (at + 0.5 - centre.astype(np.float32)[:, None, None] for at, centre in ((x, center_x), (y, center_y)))
    u = (right * np.cos(angle) + down * np.sin(angle)) / radius
    v = (down * np.cos(angle) - right * np.sin(angle)) / radius
    distance = np.empty_like(u)
    for number in np.unique(label):
        chosen = label == number
        distance[chosen] = _distance(CLASSES[number], u[chosen], v[chosen])
    return np.clip(0.5 - distance * radius, 0, 1)  # one pixel of soft edge


def _shapes(places: Sequence[Place], height: int, width: int) -> list[Shape]:
    covers = _cover(places, height, width)
    return [Shape(placed.label, cover) for placed, cover in zip(places, covers, strict=True)]


def _paint(rng: np.random.Generator, height: int, width: int) -> Paint:
    ground = rng.uniform(40, 215, 3)
    colour = _contrasting(rng, ground)
    return Paint(ground, colour, _waves(rng, 4), rng.normal(0, 6, (height, width, 3)))


def _contrasting(rng: np.random.Generator, ground: np.ndarray) -> np.ndarray:
    """Returns a colour that differs from the ground's in each channel."""
    return ground + (2 * rng.integers(2, size=3) - 1) * rng.uniform(60, 110, 3)


def _waves(rng: np.random.Generator, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(rng.uniform(0, 2 * np.pi, 3) * (1, 1, 4), rng.uniform(-18, 18, 3)) for _ in range(count)]


def _positions(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the columns and rows of the pixels, relative to the shorter side, [height, width] each."""
    y, x = np.mgrid[:height, :width].astype(np.float32) / min(height, width)
    return x, y


def _pixels(image: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Returns an image [..., 3, H, W] with noise [..., H, W, 3] as uint8 [..., H, W, 3]."""
    return np.clip(np.moveaxis(image, -3, -1) + noise, 0, 255).round().astype(np.uint8, order="C")


def draw_jpeg(index: int, sides: tuple[int, int], seed: int = 0) -> tuple[bytes, int, Box]:
    """Draws a shape as a JPEG file; height and width are random numbers from sides = (smallest, largest)."""
    image, label, box = draw(index, *jpeg_size(index, sides, seed), seed)
    return decode.as_jpeg(image, 90), label, box


def jpeg_size(index: int, sides: tuple[int, int], seed: int = 0) -> tuple[int, int]:
    """Returns the height and width of a picture drawn as a JPEG file."""
    height, width = np.random.default_rng((seed, index, 1)).integers(sides[0], sides[1] + 1, 2)
    return int(height), int(width)


def _texture(colours: np.ndarray, waves: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns colours [N, 3] with waves across them, [N, 3, H, W].

    The waves, [N, 2, 2, 3], are (direction, phase, frequency) and the amplitude of each channel.
    """
    values = np.zeros((len(colours), 3, *x.shape), np.float32)
    for form, amplitude in waves.transpose(1, 2, 0, 3):
        direction, phase, frequency = form.T[..., None, None]
        wave = np.sin(frequency * (x * np.cos(direction) + y * np.sin(direction)) + phase)
        values += wave[:, None] * amplitude[..., None, None]
    return colours[..., None, None] + values


def _distance(name: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Returns the approximate distance to the shape's edge, negative inside; the shape reaches REACH at most."""
    r = np.hypot(u, v)
    square = np.maximum(abs(u), abs(v)) - 0.75
    match name:
        case "circle":
            return r - 0.9
        case "ring":
            return abs(r - 0.75) - 0.2
        case "square":
            return square
        case "frame":
            return np.maximum(square, 0.35 - np.maximum(abs(u), abs(v)))
        case "triangle":
            return np.maximum(-v - 0.5, abs(u) * 0.866 + v * 0.5 - 0.5)
        case "cross":
            return np.maximum(np.minimum(abs(u), abs(v)) - 0.25, np.maximum(abs(u), abs(v)) - 0.9)
        case "star":
            turn = abs((np.arctan2(u, v) / (2 * np.pi) * 5) % 1 - 0.5) * 2  # 1 at a point, 0 between two
            return (r - (0.35 + 0.65 * turn**1.5)) * 0.6
        case "crescent":
            return np.maximum(r - 0.9, 0.75 - np.hypot(u - 0.5, v))
        case "half disc":
            return np.maximum(r - 0.95, -v)
        case "bar":
            return np.maximum(abs(u) - 0.95, abs(v) - 0.25)
    raise ValueError(f"{name!r} is not a shape; choose one of {CLASSES}")
