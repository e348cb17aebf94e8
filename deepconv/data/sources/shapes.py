"""The built-in data set "shapes": drawn images, so there is nothing to download."""

from collections.abc import Iterable
from dataclasses import dataclass

from deepconv.data.images import Arrays, Encoded, Record
from deepconv.data.sources import shape_drawing
from deepconv.data.sources.source import Source, parse_split
from deepconv.data.sources.tfds import IN_MEMORY_BYTES

SPLITS = {"train": 10_000, "test": 2_000}
OFFSETS = {"train": 0, "test": 1_000_000_000}  # index of a split's first image
SHAPES_SIDE = 1024  # pixels of the built-in shapes; the papers' largest scale is 640


@dataclass(frozen=True)
class ShapeRecords(Encoded):
    """Draws the pictures of the data set as JPEG files."""

    first: int
    sides: tuple[int, int]

    def read(self, indices: Iterable[int]) -> list[Record]:
        drawn = ((i, *shape_drawing.draw_jpeg(self.first + int(i), self.sides)) for i in indices)
        return [Record(data, label, f"shape {i}") for i, data, label, _ in drawn]


def sides(scale: tuple[int, int]) -> tuple[int, int]:
    """Returns the smallest and largest side in pixels of pictures for recipes with this train_scale."""
    return scale[0], scale[1] * 3 // 2


def find_shapes(split: str, image_size: int, scale: tuple[int, int] | None) -> Source:
    """Finds the built-in data set."""
    if image_size < 8:
        raise ValueError(f"config.data.image_size={image_size}; it must be at least 8")
    if (largest := max((image_size, *(scale or ())))) > SHAPES_SIDE:
        raise ValueError(f"shapes of {largest} pixels are not drawn; {SHAPES_SIDE} is the largest size")
    base, first, last = parse_split(split, SPLITS)
    if not scale and (size_bytes := (last - first) * image_size**2 * 3) > IN_MEMORY_BYTES:
        raise ValueError(
            f"{last - first} shapes of config.data.image_size={image_size} pixels need {size_bytes / 1e9:.3g} GB of "
            f"memory; {IN_MEMORY_BYTES / 1e9:.3g} GB are allowed. Take smaller images, or "
            "a part of the split, as in train[:100]"
        )
    first, last = first + OFFSETS[base], last + OFFSETS[base]
    common = dict(name="shapes", split=split, examples=last - first, classes=shape_drawing.CLASSES)
    if scale:
        records = ShapeRecords(first, sides(scale))
        return Source(**common, size=None, open=lambda: records)
    size = (image_size, image_size)
    return Source(**common, size=size, open=lambda: Arrays(*shape_drawing.draw_many(first, last, image_size)))
