"""Every format, depth, palette, alpha and orientation gives the pixels it means."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from blemish.errors import ImageAnimatedError, ImageArrayError, ImageFormatError
from blemish.imaging import read_image

from .pictures import RGB8, RGB16, RNG, chunk, encoded, encoded_deep, png, tiff


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_lossless_rgb(kind: str) -> None:
    """A lossless 8-bit file gives exactly its samples divided by 255."""
    np.testing.assert_array_equal(read_image(encoded(RGB8, kind)), RGB8 / np.float32(255))


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {"quality": 95}), ("WEBP", {})])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_lossy_formats(kind: str, options: dict, mode: str) -> None:
    """JPEG (grey, RGB, CMYK) and WebP come near the colours that were written."""
    if (kind, mode) == ("WEBP", "CMYK"):
        mode = "RGBA"
    picture = Image.new("RGB", (24, 16), (200, 90, 40)).convert(mode)
    image = read_image(encoded(picture, kind, **options))
    expected = np.asarray(picture.convert("RGB"))[0, 0] / 255
    assert np.abs(image - expected).max() < 0.03


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_are_all_kept(suffix: str, channels: int) -> None:
    """16-bit grey and RGB files keep their low byte, which Pillow alone drops for RGB."""
    samples = RGB16 if channels == 3 else RGB16[..., 0]
    image = read_image(encoded_deep(samples, suffix))
    expected = np.broadcast_to(np.atleast_3d(samples / np.float32(65535)), (12, 17, 3))
    np.testing.assert_array_equal(image, expected)


def test_sixteen_bit_alpha_is_kept() -> None:
    """A 16-bit RGBA PNG is composited on white with all its bits."""
    alpha = RNG.integers(0, 65536, (12, 17, 1), dtype=np.uint16)
    image = read_image(encoded_deep(np.dstack([RGB16, alpha]), ".png"))
    share = alpha / 65535
    np.testing.assert_allclose(image, RGB16 / 65535 * share + 1 - share, atol=1e-6)


def test_bit_depth_scales_sixteen_bit_samples() -> None:
    """With bit_depth=12, 4095 becomes 1 in an array and in a file; without, it stays dark."""
    samples = np.array([[0, 4095]], np.uint16)
    for source in (samples, encoded_deep(samples, ".png")):
        np.testing.assert_array_equal(read_image(source, bit_depth=12)[0, :, 0], [0, 1])
        assert read_image(source).max() == pytest.approx(4095 / 65535)


def test_value_above_bit_depth_is_refused() -> None:
    """A sample above the declared depth names that sample and the depth that would hold it."""
    with pytest.raises(ImageArrayError, match=r"5000, above 4095.*bit_depth=13"):
        read_image(np.array([[5000]], np.uint16), bit_depth=12)


@pytest.mark.parametrize(("channels", "dtype"), [(1, "f4"), (3, "f4"), (1, "f8"), (3, "f8")])
def test_float_tiff(channels: int, dtype: str) -> None:
    """Float grey and RGB TIFF in [0, 1] are read as they are, and refused outside."""
    values = RNG.random((5, 7, channels)).astype(dtype)
    photometric = 1 if channels == 1 else 2
    image = read_image(tiff(values, photometric, kind=3))
    np.testing.assert_array_equal(image, np.broadcast_to(values.astype(np.float32), (5, 7, 3)))
    with pytest.raises(ImageArrayError, match=r"image bytes.*divide by 255"):
        read_image(tiff(values * 255, photometric, kind=3))


@pytest.mark.parametrize(("dtype", "top"), [("u1", 255), ("u2", 65535)])
def test_tiff_white_is_zero(dtype: str, top: int) -> None:
    """A TIFF whose zero means white (photometric 0) is turned to black is zero, at both depths."""
    samples = np.array([[[0], [top]]], dtype)
    np.testing.assert_array_equal(read_image(tiff(samples, 0))[0, :, 0], [1, 0])


def test_signed_tiff_is_refused() -> None:
    """Signed samples have no declared range, so they are refused with what to save instead."""
    with pytest.raises(ImageFormatError, match="save it as 8-bit or 16-bit"):
        read_image(tiff(RGB16.view("i2"), 2, kind=2))


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_grey_png_of_every_depth_and_its_transparent_value(depth: int) -> None:
    """Grey PNG of 1 to 8 bits spans [0, 1]; its one transparent value becomes white."""
    top = 2**depth - 1
    # One row of two pixels: black, then the brightest value, left-aligned in its bytes.
    row = bytes([0, top << (8 - 2 * depth)]) if depth < 8 else bytes([0, 0, 255])
    plain = read_image(png(2, 1, depth, 0, row))
    np.testing.assert_array_equal(plain[0, :, 0], [0, 1])
    keyed = read_image(png(2, 1, depth, 0, row, chunk(b"tRNS", struct.pack(">H", 0))))
    np.testing.assert_array_equal(keyed[0, :, 0], [1, 1])


@pytest.mark.parametrize("kind", ["PNG", "GIF", "TIFF"])
def test_palette(kind: str) -> None:
    """A palette image gives its palette's colours; a single-frame GIF is read."""
    picture = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "L").convert("P")
    picture.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    np.testing.assert_array_equal(read_image(encoded(picture, kind))[0], np.eye(3))


def test_palette_transparency_on_white() -> None:
    """A transparent palette entry becomes white, not the colour hidden under it."""
    picture = Image.new("P", (2, 1), 0)
    picture.putpalette([10, 20, 30])
    image = read_image(encoded(picture, "PNG", transparency=0))
    np.testing.assert_array_equal(image, np.ones((1, 2, 3)))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_on_white(kind: str, mode: str) -> None:
    """Half-transparent black is mid-grey in every format that holds alpha."""
    picture = Image.new("RGBA", (8, 8), (0, 0, 0, 128)).convert(mode)
    options = {"lossless": True} if kind == "WEBP" else {}
    image = read_image(encoded(picture, kind, **options))
    np.testing.assert_allclose(image, 1 - 128 / 255, atol=1e-6)


def test_bmp_with_an_empty_fourth_byte_is_not_white() -> None:
    """A 32-bit BMP whose fourth byte is all zero shows its colours (cameras write these)."""
    data = encoded(Image.new("RGBA", (4, 4), (51, 102, 204, 0)), "BMP")
    np.testing.assert_allclose(read_image(data)[0, 0], [0.2, 0.4, 0.8], atol=1e-6)


# The stored rows and columns of one upright image, by EXIF orientation.
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[::-1],
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: a.swapaxes(0, 1)[:, ::-1],
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("form", ["jpeg", "png", "png16", "webp", "tiff", "tiff16"])
def test_exif_orientation(orientation: int, form: str) -> None:
    """All eight orientations come out upright in every format and depth that carries one."""
    upright = np.repeat(np.repeat(RNG.integers(0, 256, (2, 3, 3), dtype=np.uint8), 16, 0), 16, 1)
    stored = np.ascontiguousarray(STORED[orientation](upright))
    exif = Image.Exif()
    exif[274] = orientation
    if form == "tiff":
        data = tiff(stored, 2, orientation=orientation)
    elif form == "tiff16":
        data = tiff(stored.astype(np.uint16) * 257, 2, orientation=orientation)
    elif form == "png16":
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in stored * np.uint16(257))
        height, width = stored.shape[:2]
        data = png(width, height, 16, 2, rows, chunk(b"eXIf", exif.tobytes()[6:]))
    else:
        options = {"webp": {"lossless": True}, "jpeg": {"quality": 100, "subsampling": 0}}
        data = encoded(stored, form, exif=exif, **options.get(form, {}))
    image = read_image(data)
    assert image.shape == upright.shape
    assert np.abs(image - upright / 255).mean() < (0.02 if form == "jpeg" else 1e-6)


def test_mpo_is_its_first_picture() -> None:
    """A phone's two-frame MPO is read as the JPEG it begins with, not refused as animated."""
    second = Image.new("RGB", (17, 12), "blue")
    data = encoded(RGB8, "MPO", save_all=True, append_images=[second])
    first = np.asarray(Image.open(io.BytesIO(encoded(RGB8, "JPEG"))))
    np.testing.assert_array_equal(read_image(data), first / np.float32(255))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_several_frames_are_refused(kind: str) -> None:
    """An animation or a multi-page TIFF is refused: one part has one picture."""
    data = encoded(RGB8, kind, save_all=True, append_images=[Image.fromarray(255 - RGB8)])
    with pytest.raises(ImageAnimatedError, match="image bytes: the file holds several frames"):
        read_image(data)
