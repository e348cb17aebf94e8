"""Decoding of images, with damaged ones refused, and the crops that nets are trained and tested on.

JPEG has no checksums: most flipped bits change pixels without an error. The checksums of --verify_data detect this.
"""

import io
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg
from PIL import Image, ImageFile

MAX_PIXELS = 50_000_000  # checked in the header, before memory is allocated; ImageNet's largest image has 38 million
cv2.setNumThreads(1)  # several images are decoded at the same time already
MAX_ASPECT_RATIO = 8  # DIFFERS: VGG 3.2 and ResNet 3.4 test full images of any shape, with no bound on memory
UNUSUAL_SCAN = "Invalid SOS parameters for sequential JPEG"  # a warning of libjpeg's, an error for strict=True
FORMATS = ("PNG", "GIF", "BMP", "WEBP", "TIFF")  # read as well as JPEG; some other formats of Pillow run programs


class CorruptImage(ValueError):
    """Bytes are not an image, or are damaged; the message gives the reason."""


@dataclass(frozen=True)
class Geometry:
    """The part of an image that the host passes to the device.

    The shorter side becomes S, drawn from `scale`, both ends included. The part is the central square of S x S pixels
    or, if `square` is false, a random or central crop of `crop` x `crop` pixels.
    """

    scale: tuple[int, int]
    crop: int
    square: bool
    random: bool

    @property
    def size(self) -> int:
        """Returns the height and width of that part in pixels."""
        return self.scale[0] if self.square else self.crop


class Area(NamedTuple):
    """A part of an image, in its pixels."""

    top: int
    left: int
    height: int
    width: int

    def cut(self, image: np.ndarray) -> np.ndarray:
        """Returns this part of an image [H, W, 3]."""
        return image[self.top : self.top + self.height, self.left : self.left + self.width]


def central_square(size: int) -> Geometry:
    """Returns the geometry of packed images, of images of one size, and of statistics."""
    return Geometry((size, size), size, square=True, random=False)


def decode(data: bytes) -> np.ndarray:
    """Decodes a JPEG, PNG, GIF, BMP, WebP or TIFF file to uint8 [H, W, 3]. Raises CorruptImage.

    Transparency is dropped; values of 16 bits become 8 bits. EXIF orientation is ignored, as in the papers' data,
    except in TIFF files, which Pillow turns.
    """
    if not data:
        raise CorruptImage("the file is empty")
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data, strict=False)
    except (KeyError, ValueError):  # not a JPEG, even if its name ends in .jpg, or one with rare subsampling
        return _by_pillow(data, ("JPEG", *FORMATS))
    _check_size(int(width), int(height))
    plain = colours in ("YCbCr", "Gray", "RGB")
    try:
        # strict: notices most damage of many bytes in the middle of a file, unlike other decoders
        image = simplejpeg.decode_jpeg(data, colorspace="RGB" if plain else "CMYK", strict=True)
    except ValueError as error:
        if str(error).startswith(UNUSUAL_SCAN) and (usual := _with_usual_scan(data)) != data:
            return decode(usual)
        raise CorruptImage(str(error)) from None
    return image if plain else _by_pillow(data, ("JPEG",))  # Pillow shows CMYK as other programs do


def _with_usual_scan(data: bytes) -> bytes:
    """Sets the three bytes of a scan's header that mean nothing in a sequential JPEG; some cameras write others."""
    start = data.rfind(b"\xff\xda") + 2
    end = start + int.from_bytes(data[start : start + 2])
    return data[: end - 3] + b"\0\x3f\0" + data[end:]


def view(image: np.ndarray, geometry: Geometry, rng: np.random.Generator) -> np.ndarray:
    """Returns the part of an image, uint8 [H, W, 3], that the geometry selects, uint8 [size, size, 3]."""
    height, width = image.shape[:2]
    square = choose_square(height, width, geometry, rng)
    return resize(square.cut(image), geometry.size, geometry.size)


def choose_square(height: int, width: int, geometry: Geometry, rng: np.random.Generator) -> Area:
    """Returns the square of an image of this size that `view` cuts out and rescales.

    It has whole pixels; rounding its side also changes S.
    """
    low, high = geometry.scale
    shorter = int(rng.integers(low, high + 1)) if geometry.random else low
    side = max(1, round(geometry.size * min(height, width) / shorter))
    if geometry.random and not geometry.square:
        top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    else:
        top, left = (height - side) // 2, (width - side) // 2
    return Area(top, left, side, side)


def rescale(image: np.ndarray, shorter: int, square: bool = False) -> np.ndarray:
    """Rescales an image, uint8 [H, W, 3], or its central square, to this shorter side, for tests."""
    height, width = image.shape[:2]
    part = tested_area(height, width, square)
    return resize(part.cut(image), *rescaled_size(part, shorter))


def tested_area(height: int, width: int, square: bool = False) -> Area:
    """Returns the part of an image of this size that tests use: its central square, or all of it.

    An image longer than MAX_ASPECT_RATIO times its shorter side is reduced to its middle.
    """
    longest = min(height, width) * (1 if square else MAX_ASPECT_RATIO)
    top, left = (max(0, length - longest) // 2 for length in (height, width))
    return Area(top, left, min(height, longest), min(width, longest))


def rescaled_size(part: Area, shorter: int) -> tuple[int, int]:
    """Returns the height and width of a part of an image that is rescaled to this shorter side."""
    side = min(part.height, part.width)
    return round(shorter * part.height / side), round(shorter * part.width / side)


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Averages over the area of each pixel along axes that shrink, then interpolates bilinearly along others."""
    shrunk = min(height, image.shape[0]), min(width, image.shape[1])
    if shrunk != image.shape[:2]:
        image = cv2.resize(image, shrunk[::-1], interpolation=cv2.INTER_AREA)
    if shrunk != (height, width):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return image


def as_jpeg(image: np.ndarray, quality: int) -> bytes:
    """Encodes uint8 [H, W, 3] as a JPEG file."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return file.getvalue()


def _by_pillow(data: bytes, formats: tuple[str, ...]) -> np.ndarray:
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # TFDS sets it to True for the process when it decodes
    try:
        with Image.open(io.BytesIO(data), formats=formats) as image:
            _check_size(*image.size)
            if image.mode.startswith("I;16"):  # 16 bits a pixel, which Pillow would clip
                tags = getattr(image, "tag_v2", {})  # of a TIFF: 258 is the number of bits, 262 is 0 if white is 0
                if tags.get(258, (16,)) != (16,) or tags.get(262) == 0:
                    raise CorruptImage("a grey TIFF of 12 bits, or of 16 bits in which white is 0; save it with 8 bits")
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            if image.mode in ("I", "F"):
                raise CorruptImage("it has 32 bits per pixel and no defined white")
            return np.asarray(image.convert("RGB"))
    except CorruptImage:
        raise
    except Image.UnidentifiedImageError:
        raise CorruptImage(f"not an image in a supported format: JPEG, {', '.join(FORMATS)}") from None
    except Exception as error:  # Pillow's readers raise OSError, SyntaxError, struct.error and more
        raise CorruptImage(str(error)) from None


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise CorruptImage(f"{width} x {height} pixels are more than the {MAX_PIXELS // 10**6} million allowed")
