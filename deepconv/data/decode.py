"""Encoded images -> pixels; damage that a decoder finds is refused, not filled in. And the part that a net sees.

JPEG has no checksums: most flipped bits give other pixels and no error. sources.verified finds them.
"""

import io
from dataclasses import dataclass

import cv2
import numpy as np
import simplejpeg
from PIL import Image, ImageFile

MAX_PIXELS = 50_000_000  # looked up in the header, before memory is taken; ImageNet's largest has 38 million
cv2.setNumThreads(1)  # images are decoded side by side already
LONGEST = 8  # times the shorter side. DIFFERS: VGG 3.2 and ResNet 3.4 test whole images, which needs memory without end
FORMATS = ("PNG", "GIF", "BMP", "WEBP", "TIFF")  # beside JPEG; some of Pillow's others run programs


class CorruptImage(ValueError):
    """Bytes that are not an image, or are found to be damaged; the message says what is wrong with them."""


@dataclass(frozen=True)
class Geometry:
    """Which pixels of an image the host hands over.

    The shorter side becomes S, drawn from `scale`, its ends included. Of that, the central square of S x S, or, where
    `square` is false, `crop` x `crop` pixels: at random, or the central ones.
    """

    scale: tuple[int, int]
    crop: int
    square: bool
    random: bool

    @property
    def size(self) -> int:
        """Height and width of what is handed over, in pixels."""
        return self.scale[0] if self.square else self.crop


def central_square(size: int) -> Geometry:
    """What packed images are, and all images of one size are taken for; what statistics are taken over."""
    return Geometry((size, size), size, square=True, random=False)


def decode(data: bytes) -> np.ndarray:
    """uint8 [H, W, 3] of a JPEG, PNG, GIF, BMP, WebP or TIFF file. Raises CorruptImage.

    Transparency is dropped, 16 bits a value become 8. An orientation in EXIF is not applied, as in the papers' data.
    """
    if not data:
        raise CorruptImage("the file is empty")
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data, strict=False)
    except (KeyError, ValueError):  # not a JPEG, whatever its name
        return _by_pillow(data, FORMATS)
    _check_size(int(width), int(height))
    plain = colours in ("YCbCr", "Gray", "RGB")
    try:
        # strict, which notices most damage of many bytes in the middle of a file, as other decoders do not
        image = simplejpeg.decode_jpeg(data, colorspace="RGB" if plain else "CMYK", strict=True)
    except ValueError as error:
        raise CorruptImage(str(error)) from None
    return image if plain else _by_pillow(data, ("JPEG",))  # whose CMYK looks as other programs show it


def view(image: np.ndarray, geometry: Geometry, rng: np.random.Generator) -> np.ndarray:
    """The pixels of uint8 [H, W, 3] that the geometry asks for, uint8 [size, size, 3].

    They come from a square of whole pixels of the image, and only that is rescaled; its side is rounded, and S with it.
    """
    low, high = geometry.scale
    shorter = int(rng.integers(low, high + 1)) if geometry.random else low
    height, width = image.shape[:2]
    side = max(1, round(geometry.size * min(height, width) / shorter))
    if geometry.random and not geometry.square:
        top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    else:
        top, left = (height - side) // 2, (width - side) // 2
    return _resize(image[top : top + side, left : left + side], geometry.size, geometry.size)


def rescale(image: np.ndarray, shorter: int, square: bool = False) -> np.ndarray:
    """The whole image, or its central square, with the shorter side given, uint8 [H, W, 3]: what tests look at.

    Of an image longer than LONGEST times its shorter side, the middle.
    """
    side = min(image.shape[:2])
    longest = side * (1 if square else LONGEST)
    top, left = (max(0, length - longest) // 2 for length in image.shape[:2])
    image = image[top : top + longest, left : left + longest]
    return _resize(image, *(round(shorter * length / side) for length in image.shape[:2]))


def _resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Averages over the area of a pixel where the image shrinks, bilinear where it grows."""
    way = cv2.INTER_AREA if height < image.shape[0] else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=way)


def as_jpeg(image: np.ndarray, quality: int) -> bytes:
    """A JPEG file of uint8 [H, W, 3]."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return file.getvalue()


def _by_pillow(data: bytes, formats: tuple[str, ...]) -> np.ndarray:
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # TFDS sets it for the whole process when it decodes
    try:
        with Image.open(io.BytesIO(data), formats=formats) as image:
            _check_size(*image.size)
            if image.mode.startswith("I;16"):  # 16 bits a pixel, which Pillow would clip
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            if image.mode in ("I", "F"):
                raise CorruptImage("it has 32 bits a pixel, and nothing says which value is white")
            return np.asarray(image.convert("RGB"))
    except CorruptImage:
        raise
    except Image.UnidentifiedImageError:
        raise CorruptImage(f"not an image of a kind that is read: JPEG, {', '.join(FORMATS)}") from None
    except Exception as error:  # Pillow's readers raise what they come upon: OSError, SyntaxError, struct.error, ...
        raise CorruptImage(str(error)) from None


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise CorruptImage(f"{width} x {height} pixels are more than the {MAX_PIXELS // 10**6} million allowed")
