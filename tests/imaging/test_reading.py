"""read_image takes paths, bytes, files and arrays under one declared contract."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish.errors import (
    ImageArrayError,
    ImageEmptyError,
    ImageError,
    ImageFormatError,
    ImageMissingError,
    ImageSizeError,
    ParameterError,
)
from blemish.imaging import read_image

from .pictures import FORMS, RGB8, RGB16, RNG, encoded


def test_sources_agree(tmp_path: Path) -> None:
    """A path, its text, bytes, a buffer and a file object of one image give the same pixels."""
    data = encoded(RGB8, "PNG")
    path = tmp_path / "part é.png"
    path.write_bytes(data)
    expected = RGB8 / np.float32(255)
    with path.open("rb") as file:
        sources = [path, str(path), data, bytearray(data), memoryview(data), io.BytesIO(data), file]
        for source in sources:
            np.testing.assert_array_equal(read_image(source), expected)


@pytest.mark.parametrize("source", [RGB8, RGB8[..., 0], encoded(RGB8, "JPEG"), RGB16])
def test_result_is_contiguous_float_rgb(source) -> None:
    """Whatever the source, the result is C-contiguous float32 [H, W, 3] within [0, 1]."""
    image = read_image(source)
    assert image.shape == (12, 17, 3)
    assert image.dtype == np.float32
    assert image.flags.c_contiguous
    assert 0 <= image.min() <= image.max() <= 1


# Arrays --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, ">u2", np.float16, np.float32, np.float64])
def test_array_dtypes(dtype) -> None:
    """Each allowed dtype spans [0, 1] by its own full range, in either byte order."""
    kind = np.dtype(dtype)
    top = 1 if kind.kind == "f" else np.iinfo(kind).max
    np.testing.assert_array_equal(read_image(np.array([[0, top]], dtype))[0, :, 1], [0, 1])


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 3), (4, 5, 4)])
def test_array_shapes(shape: tuple[int, ...]) -> None:
    """Grey is repeated, RGB kept, and opaque alpha changes nothing."""
    array = np.full(shape, 51, np.uint8)
    if shape[-1] == 4:
        array[..., 3] = 255
    np.testing.assert_allclose(read_image(array), np.full((4, 5, 3), 0.2), rtol=1e-6)


@pytest.mark.parametrize("channels", [3, 4])
def test_bgr_only_when_said(channels: int) -> None:
    """order='bgr' swaps red and blue of an array, alpha apart; the default swaps nothing."""
    array = np.array([[[255, 0, 0, 255][:channels]]], np.uint8)
    np.testing.assert_array_equal(read_image(array)[0, 0], [1, 0, 0])
    np.testing.assert_array_equal(read_image(array, order="bgr")[0, 0], [0, 0, 1])


def test_order_does_not_swap_files() -> None:
    """A file states its own channel order, so order='bgr' leaves it alone."""
    data = encoded(RGB8, "PNG")
    np.testing.assert_array_equal(read_image(data, order="bgr"), read_image(data))


def test_result_never_shares_memory() -> None:
    """Changing the caller's array afterwards does not change the image that was read."""
    array = RNG.random((4, 4, 3), dtype=np.float32)
    assert not np.shares_memory(read_image(array), array)


@pytest.mark.parametrize(
    ("array", "match"),
    [
        (np.full((4, 4, 3), 200.0, np.float32), "from 200 to 200.*divide by 255"),
        (np.full((4, 4), -0.5), "from -0.5"),
        (np.array([[0.5, np.nan]]), "nan"),
        (np.array([[0.5, np.inf]], np.float32), "inf"),
        (np.full((4, 4), 1e300), "divide by 255"),
        (np.zeros((4, 4), np.int64), "dtype is int64"),
        (np.zeros((4, 4), bool), "dtype is bool"),
        (np.zeros((4, 4), complex), "dtype is complex128"),
        (np.array([["a"]]), "dtype is <U1"),
        (np.zeros((3, 40, 50), np.uint8), "channels first"),
        (np.zeros((40, 50, 2), np.uint8), "the shape is 40x50x2"),
        (np.zeros((1, 4, 4, 3), np.uint8), "the shape is 1x4x4x3"),
        (np.array(3, np.uint8), "the shape is empty"),
        (np.zeros(9, np.uint8), "the shape is 9"),
        ([[1, 2], [3, 4]], "got builtins.list"),
        (None, "got builtins.NoneType"),
        (Image.new("RGB", (2, 2)), "got PIL.Image.Image"),
    ],
)
def test_bad_arrays(array, match: str) -> None:
    """Each way to break the array contract is named with what was given."""
    with pytest.raises(ImageArrayError, match=match):
        read_image(array)


@pytest.mark.parametrize("shape", [(0, 4, 3), (4, 0), (0, 0, 1)])
def test_empty_array(shape: tuple[int, ...]) -> None:
    """An array without pixels is a size error."""
    with pytest.raises(ImageSizeError, match=r"^array: .* no pixels"):
        read_image(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    "options",
    [{"order": "grb"}, {"bit_depth": 7}, {"bit_depth": 17}, {"bit_depth": 12.0}, {"max_pixels": 0}],
)
def test_bad_options(options: dict) -> None:
    """An option that cannot work is named before the image is looked at."""
    with pytest.raises(ParameterError, match=next(iter(options))):
        read_image(RGB8, **options)


# Paths and streams ---------------------------------------------------------------------


def test_path_errors_name_the_path(tmp_path: Path) -> None:
    """Missing file, folder, empty file, null character: each error names what was given."""
    empty = tmp_path / "empty.png"
    empty.touch()
    for source, error in [
        (tmp_path / "none.png", ImageMissingError),
        (empty / "below.png", ImageMissingError),
        (tmp_path, ImageFormatError),
        (empty, ImageEmptyError),
    ]:
        with pytest.raises(error) as caught:
            read_image(source)
        assert str(source) in str(caught.value)
    with pytest.raises(ImageMissingError):
        read_image("part\0.png")
    with pytest.raises(ImageError, match="cannot be read"):
        read_image("a" * 5000)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    """A named pipe is refused at once, since reading it would wait for a writer for ever."""
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageFormatError, match="not a regular file"):
        read_image(tmp_path / "pipe.png")


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that may not be opened is an ImageError that names it and its permissions."""
    path = tmp_path / "locked.png"
    path.write_bytes(FORMS["png"])

    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ImageError, match=r"locked\.png: .*Permission denied.*permissions"):
        read_image(path)


def test_stream_errors() -> None:
    """A text stream, a closed one and one that fails are each an ImageError."""
    with pytest.raises(ImageFormatError, match="binary mode"):
        read_image(io.StringIO("text"))
    closed = io.BytesIO(FORMS["png"])
    closed.close()
    with pytest.raises(ImageError, match="closed file"):
        read_image(closed)


def test_import_is_light() -> None:
    """Importing blemish.imaging loads neither OpenCV, Pillow nor PyTorch."""
    import subprocess

    code = (
        "import sys, blemish.imaging; "
        "print([name for name in ('cv2', 'PIL', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
