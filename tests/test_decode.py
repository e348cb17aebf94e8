"""Every kind of file that comes along, and what is seen of an image."""

import io
import struct

import numpy as np
import pytest
from conftest import real_data
from PIL import Image

from deepconv.data import decode
from deepconv.data.decode import Geometry

RNG = np.random.default_rng(0)
SMOOTH = np.kron(RNG.integers(0, 256, (5, 7, 3), np.uint8), np.ones((8, 8, 1), np.uint8))  # 40 x 56, kind to JPEG


def file(image, kind="JPEG", **options):
    out = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(out, kind, **options)
    return out.getvalue()


def by_pillow(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 2}, {"quality": 100}])
def test_jpeg_is_what_pillow_makes_of_it(options):
    data = file(SMOOTH, **options)
    assert (decode.decode(data) == by_pillow(data)).all()


def test_a_jpeg_that_only_pillow_reads_is_read(monkeypatch):
    """simplejpeg does not know some kinds of subsampling."""

    def unknown(data, strict):
        raise KeyError(7)

    monkeypatch.setattr(decode.simplejpeg, "decode_jpeg_header", unknown)
    assert (decode.decode(file(SMOOTH)) == by_pillow(file(SMOOTH))).all()


def test_grey_becomes_three_equal_colours():
    image = decode.decode(file(SMOOTH[..., 0]))
    assert image.shape == (40, 56, 3) and (image == image[..., :1]).all()


def test_one_pixel():
    assert decode.decode(file(SMOOTH[:1, :1])).shape == (1, 1, 3)


def test_cmyk_becomes_rgb():
    image = decode.decode(file(Image.fromarray(SMOOTH).convert("CMYK"), quality=100))
    assert abs(image.astype(int) - SMOOTH).mean() < 3


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "WEBP", "TIFF"])
def test_other_formats_under_any_name(kind):
    options = {"WEBP": {"lossless": True}}.get(kind, {})
    image = decode.decode(file(SMOOTH, kind, **options))
    assert abs(image.astype(int) - SMOOTH).max() <= (0 if kind != "GIF" else 40)  # a GIF has 256 colours


def test_png_with_transparency_palette_and_16_bits():
    alpha = np.concatenate([SMOOTH, np.full((40, 56, 1), 7, np.uint8)], 2)
    assert (decode.decode(file(alpha, "PNG")) == SMOOTH).all()
    palette = Image.fromarray(SMOOTH).convert("P")
    assert (decode.decode(file(palette, "PNG")) == np.asarray(palette.convert("RGB"))).all()
    deep = (SMOOTH[..., 0].astype(np.uint16) << 8) + 77
    assert (decode.decode(file(deep, "PNG")) == SMOOTH[..., :1]).all()


def test_orientation_in_exif_is_not_applied():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode.decode(file(SMOOTH, exif=exif)).shape == (40, 56, 3)


def large_header(data):
    at = data.find(b"\xff\xc0")
    return data[: at + 5] + (60_000).to_bytes(2, "big") * 2 + data[at + 9 :]


WHOLE = file(RNG.integers(0, 256, (40, 56, 3), np.uint8), quality=95)
BAD = {
    "empty": (b"", "empty"),
    "text": (b"<html>404</html>", "not an image"),
    "half": (WHOLE[: len(WHOLE) // 2], "remature end"),
    "without its last bytes": (WHOLE[:-20], "remature end"),
    "noise in its middle": (WHOLE[:800] + b"\xff\x00\x55\x12" * 20 + WHOLE[880:], "Corrupt|extraneous|premature"),
    "in its header": (WHOLE[:100], "."),
    "with an odd header": (WHOLE[:11] + b"\0" + WHOLE[12:], "JFIF revision"),
    "half a PNG": (file(SMOOTH, "PNG")[:300], "truncated"),
    "too large": (large_header(WHOLE), "60000 x 60000 pixels are more than the 50 million"),
    "too large a PNG": (file(Image.new("1", (8000, 7000)), "PNG"), "8000 x 7000 pixels"),
}


def test_what_means_nothing_in_the_header_of_a_scan_is_not_damage():
    place = WHOLE.rindex(b"\xff\xda") + 12  # after the marker, the length, and two bytes for each of three channels
    assert WHOLE[place - 1 : place + 2] == b"\0\x3f\0"
    odd = WHOLE[: place - 1] + b"\0\0\0" + WHOLE[place + 2 :]
    assert (decode.decode(odd) == decode.decode(WHOLE)).all()
    with pytest.raises(decode.CorruptImage, match="remature end"):
        decode.decode(odd[:-20])


@pytest.mark.parametrize("case", BAD)
def test_what_is_damaged_is_refused(case):
    data, reason = BAD[case]
    with pytest.raises(decode.CorruptImage, match=reason):
        decode.decode(data)


@pytest.mark.parametrize(("tag", "value", "other"), [(258, 16, 12), (262, 1, 0)])
def test_grey_tiffs_that_pillow_does_not_scale_are_refused(tag, value, other):
    """Of 12 bits, and of 16 bits in which white is 0, as their tags say."""
    data = file(Image.fromarray(np.full((4, 4), 5, np.uint16)), "TIFF")
    entry, changed = (struct.pack("<HHIHH", tag, 3, 1, number, 0) for number in (value, other))
    assert data.count(entry) == 1 and (decode.decode(data) == 0).all()
    with pytest.raises(decode.CorruptImage, match="a grey TIFF of 12 bits, or of 16 bits in which white is 0"):
        decode.decode(data.replace(entry, changed))


def test_strict_after_tfds_allowed_truncated_images(monkeypatch):
    monkeypatch.setattr("PIL.ImageFile.LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(decode.CorruptImage):
        decode.decode(file(SMOOTH, "PNG")[:300])


def test_real_photographs_are_what_pillow_makes_of_them():
    files = sorted(real_data("imagenet-samples").iterdir())[:40]
    for path in files:
        data = path.read_bytes()
        assert (decode.decode(data) == by_pillow(data)).all(), path.name


def coordinates(height, width):
    """An image whose pixels tell their place: red rises downwards, green to the right."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return np.stack([y, x, 0 * x], -1)


@pytest.mark.parametrize("shape", [(375, 500), (500, 375), (300, 200), (224, 224), (60, 90), (1000, 260)])
@pytest.mark.parametrize("scale", [(256, 256), (256, 480), (384, 384)])
def test_a_random_view_is_a_crop_of_the_rescaled_image(shape, scale):
    """Where it lies and how large it is, read off its pixels, against the arithmetic of the papers."""
    image, geometry = coordinates(*shape), Geometry(scale, 224, square=False, random=True)
    scales, tops, lefts = [], [], []
    for draw in range(60):
        seen = decode.view(image, geometry, np.random.default_rng(draw))
        assert seen.shape == (224, 224, 3)
        down, across = (seen[220, 0, 0] - seen[4, 0, 0]) / 216, (seen[0, 220, 1] - seen[0, 4, 1]) / 216
        assert down == pytest.approx(across, rel=1e-3)  # the shape of things is kept
        scales.append(min(shape) / down)
        tops.append((seen[112, 0, 0] - 112 * down) / (shape[0] - 224 * down + 1e-9))
        lefts.append((seen[0, 112, 1] - 112 * down) / (shape[1] - 224 * down + 1e-9))
    half_a_pixel = 1.001 + 0.5 / (224 * min(shape) / scale[1])
    assert scale[0] / half_a_pixel <= min(scales) and max(scales) <= scale[1] * half_a_pixel
    if scale[0] < scale[1]:
        assert min(scales) < 275 and max(scales) > 460
    for places, side in ((tops, shape[0]), (lefts, shape[1])):
        if side > 224:
            assert min(places) < 0.1 and max(places) > 0.9 and 0.3 < np.mean(places) < 0.7


def test_views_are_those_of_the_whole_image_rescaled():
    """Against Pillow's rescaling of the whole image, of a real photograph."""
    photo = decode.decode((real_data("imagenet-samples") / "n01518878_ostrich.JPEG").read_bytes())
    for geometry, size in (
        (Geometry((256, 256), 224, True, False), 256),
        (Geometry((300, 300), 224, False, False), 224),
    ):
        shorter = geometry.scale[0]
        width, height = (round(side * shorter / min(photo.shape[:2])) for side in (photo.shape[1], photo.shape[0]))
        whole = Image.fromarray(photo).resize((width, height), Image.Resampling.BOX)
        left, top = (width - size) // 2, (height - size) // 2
        expected = np.asarray(whole.crop((left, top, left + size, top + size))).astype(float)
        seen = decode.view(photo, geometry, RNG).astype(float)
        assert seen.shape == (size, size, 3) and abs(seen - expected).mean() < 6
        shifted = np.roll(expected, 4, 1)
        assert abs(seen - shifted).mean() > 1.5 * abs(seen - expected).mean()


def test_the_whole_image_is_rescaled_to_its_shorter_side():
    assert decode.rescale(SMOOTH, 80).shape == (80, 112, 3)
    assert decode.rescale(SMOOTH.transpose(1, 0, 2), 20).shape == (28, 20, 3)
    averaged = SMOOTH.reshape(5, 8, 7, 8, 3).mean((1, 3))
    assert (decode.rescale(SMOOTH, 5) == averaged).all()


@pytest.mark.parametrize("turned", [False, True])
def test_an_axis_that_shrinks_is_averaged_while_the_other_grows(turned):
    """Narrow stripes, whose pixels a bilinear interpolation would skip."""
    image = RNG.integers(0, 256, (6, 400, 3), np.uint8)
    image[:, ::4] = 255
    averaged = image.reshape(6, 20, 20, 3).mean(2)  # [6, 20, 3]
    rows = np.clip((np.arange(16) + 0.5) * 6 / 16 - 0.5, 0, 5)
    low, share = np.minimum(rows.astype(int), 4), (rows - np.minimum(rows.astype(int), 4))[:, None, None]
    expected = averaged[low] * (1 - share) + averaged[low + 1] * share
    if turned:
        resized = decode.resize(np.ascontiguousarray(image.transpose(1, 0, 2)), 20, 16).transpose(1, 0, 2)
    else:
        resized = decode.resize(image, 16, 20)
    assert resized.shape == (16, 20, 3) and abs(resized - expected).max() <= 1
    same = decode.resize(image, 6, 20)  # the other axis keeps its size
    assert abs(same - averaged).max() <= 0.5


@pytest.mark.parametrize("square", [True, False])
def test_one_pixel_and_a_line_can_be_seen(square):
    for shape in ((1, 1, 3), (1, 500, 3), (500, 1, 3)):
        seen = decode.view(np.full(shape, 9, np.uint8), Geometry((256, 256), 224, square, not square), RNG)
        assert (seen == 9).all() and seen.shape == ((256, 256, 3) if square else (224, 224, 3))
