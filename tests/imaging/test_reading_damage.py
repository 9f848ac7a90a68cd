"""Too large, cut short or damaged: an error that says so, never a wrong picture."""

from __future__ import annotations

import struct
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest

from blemish.errors import (
    ImageEmptyError,
    ImageError,
    ImageFormatError,
    ImageSizeError,
    ImageTruncatedError,
)
from blemish.imaging import read_image

from .pictures import FORMS, RGB8, chunk, encoded, png


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF"])
def test_size_limit(kind: str) -> None:
    """One pixel over the limit is refused with the limit's name; at the limit it is read."""
    data = encoded(RGB8, kind)
    assert read_image(data, max_pixels=12 * 17).shape == (12, 17, 3)
    with pytest.raises(ImageSizeError, match=r"17 x 12 = 204 pixels.*203; raise max_pixels"):
        read_image(data, max_pixels=12 * 17 - 1)


def test_size_limit_comes_before_decoding() -> None:
    """A header that claims 2.5 billion pixels is refused, without a warning or a decode."""
    with pytest.raises(ImageSizeError, match="2500000000 pixels"):
        read_image(png(50_000, 50_000, 8, 2, b""))
    bomb = bytearray(encoded(RGB8, "BMP"))
    bomb[18:26] = struct.pack("<ii", 50_000, 50_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageSizeError, match="2500000000 pixels"):
            read_image(bytes(bomb))


def test_array_and_file_size_limits(tmp_path: Path) -> None:
    """The limit holds for arrays, and a file too large for any allowed image is not read."""
    with pytest.raises(ImageSizeError, match="raise max_pixels"):
        read_image(RGB8, max_pixels=10)
    path = tmp_path / "huge.png"
    with path.open("wb") as file:
        file.truncate(32 * 2**20)
    with pytest.raises(ImageSizeError, match=r"huge\.png: the file has 33554432 bytes"):
        read_image(path, max_pixels=10)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_cut_image_is_an_error(form: str, share: float) -> None:
    """An image cut anywhere is an error that says so, never a part-grey picture."""
    data = FORMS[form]
    with pytest.raises(ImageTruncatedError, match="image bytes: the image is damaged or cut short"):
        read_image(data[: int(len(data) * share)])


@pytest.mark.parametrize("form", ["png", "png16", "jpeg", "progressive", "tiff", "webp"])
def test_last_byte_missing_is_an_error(form: str) -> None:
    """Even one missing byte at the end is told, since it means an unfinished copy."""
    with pytest.raises(ImageTruncatedError):
        read_image(FORMS[form][:-1])


def test_png_with_too_few_rows_is_an_error() -> None:
    """A PNG whose chunks are sound but hold too few rows is refused (Pillow fills with black)."""
    rows = b"".join(b"\0" + row.tobytes() for row in RGB8[:6])
    with pytest.raises(ImageTruncatedError):
        read_image(png(17, 12, 8, 2, rows))


def test_every_flipped_bit_of_a_png_is_an_error() -> None:
    """No single changed byte of a PNG passes: checksums guard pixels and header alike."""
    data = FORMS["png"]
    for at in range(len(data)):
        broken = bytearray(data)
        broken[at] ^= 1
        with pytest.raises(ImageError):
            read_image(bytes(broken))


def test_damaged_exif_keeps_sound_pixels() -> None:
    """Nonsense in EXIF does not cost a good picture; it is taken as stored."""
    rows = b"".join(b"\0" + row.tobytes() for row in RGB8)
    image = read_image(png(17, 12, 8, 2, rows, chunk(b"eXIf", b"\xff\x00nonsense")))
    np.testing.assert_array_equal(image, RGB8 / np.float32(255))


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", ImageEmptyError),
        (b"hello", ImageFormatError),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", ImageFormatError),
        (b"\x89PNG\r\n\x1a\n", ImageTruncatedError),
        (b"BM", ImageTruncatedError),
        (b"II*\0", ImageTruncatedError),
        (png(0, 4, 8, 2, b""), ImageSizeError),
    ],
)
def test_bytes_that_are_no_image(data: bytes, error: type[ImageError]) -> None:
    """Empty, foreign, header-only and zero-wide bytes each have their own error."""
    with pytest.raises(error, match=r"^image bytes: "):
        read_image(data)


def test_texts_in_a_png_are_not_unpacked() -> None:
    """Compressed texts, a tenth of a second each, cost nothing; the pixels are the same."""
    rows = b"".join(b"\0" + row.tobytes() for row in RGB8)
    text = chunk(b"zTXt", b"name\0\0" + zlib.compress(bytes(7_900_000)))
    started = time.process_time()
    image = read_image(png(17, 12, 8, 2, rows, *[text] * 100))
    assert time.process_time() - started < 2
    np.testing.assert_array_equal(image, RGB8 / np.float32(255))


def test_a_jpeg_of_very_many_scans_is_refused() -> None:
    """Scans of few bytes and many pixels, which take minutes, are counted before they are read."""
    data = encoded(RGB8, "JPEG", progressive=True)
    assert read_image(data).shape == RGB8.shape
    last = data[data.rindex(b"\xff\xda") : -2]
    with pytest.raises(ImageFormatError, match=r"image bytes: this JPEG has \d+ scans"):
        read_image(data[:-2] + last * 200 + data[-2:])
