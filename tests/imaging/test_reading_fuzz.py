"""No bytes whatever make read_image raise anything but an ImageError."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from blemish.errors import ImageError
from blemish.imaging import read_image

SIGNATURES = [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"BM", b"II*\0", b"MM\0*"]
SIGNATURES += [b"II+\0", b"GIF89a", b"RIFF\x20\0\0\0WEBPVP8 ", b"RIFF\x20\0\0\0WEBPVP8L"]


def _samples() -> dict[str, bytes]:
    """One small valid file of each kind."""
    rng = np.random.default_rng(1)
    rgb = Image.fromarray(rng.integers(0, 256, (9, 11, 3), dtype=np.uint8))
    deep = Image.fromarray(rng.integers(0, 65536, (9, 11), dtype=np.uint16))
    real = Image.fromarray(rng.random((9, 11), dtype=np.float32))
    pictures = {
        "png": (rgb, {}),
        "jpeg": (rgb, {}),
        "bmp": (rgb, {}),
        "tiff": (rgb, {}),
        "webp": (rgb, {}),
        "gif": (rgb, {}),
        "png-grey16": (deep, {}),
        "tiff-grey16": (deep, {}),
        "tiff-float": (real, {}),
        "tiff-lzw": (rgb, {"compression": "tiff_lzw"}),
        "tiff-jpeg": (rgb, {"compression": "jpeg"}),
        "jpeg-cmyk": (rgb.convert("CMYK"), {}),
        "png-palette": (rgb.convert("P"), {"transparency": 3}),
        "bmp-bit": (rgb.convert("1"), {}),
    }
    files = {}
    for name, (picture, options) in pictures.items():
        stream = io.BytesIO()
        picture.save(stream, name.partition("-")[0], **options)
        files[name] = stream.getvalue()
    return files


FILES = _samples()


def read_or_refuse(data: bytes) -> None:
    """Either pixels under the contract or an ImageError with a sentence that names the source."""
    image, message = None, ""
    try:
        image = read_image(data, max_pixels=4_000_000)
    except ImageError as error:
        message = str(error)
    if image is None:
        assert message.startswith("image bytes: ")
        assert "\n" not in message
    else:
        assert image.dtype == np.float32
        assert image.shape[2] == 3
        assert image.min() >= 0
        assert image.max() <= 1


fuzz = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@fuzz
@given(signature=st.sampled_from(SIGNATURES), rest=st.binary(max_size=400))
def test_random_bytes(signature: bytes, rest: bytes) -> None:
    """Random bytes, bare or after a format's signature, are refused by an ImageError."""
    read_or_refuse(signature + rest)


@pytest.mark.parametrize("name", FILES)
@fuzz
@given(data=st.data())
def test_mutated_files(name: str, data: st.DataObject) -> None:
    """Valid files with bytes changed, and possibly cut, are read or refused; nothing else."""
    broken = bytearray(FILES[name])
    places = st.integers(0, len(broken) - 1)
    changes = data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=6))
    for at, value in changes:
        broken[at] = value
    end = data.draw(st.one_of(st.just(len(broken)), places))
    read_or_refuse(bytes(broken[:end]))
