"""Made-up pictures and their bytes in every format, for the tests of reading."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
from PIL import Image

RNG = np.random.default_rng(0)
RGB8 = RNG.integers(0, 256, (12, 17, 3), dtype=np.uint8)
RGB16 = RNG.integers(0, 65536, (12, 17, 3), dtype=np.uint16)


def encoded(image: Image.Image | np.ndarray, kind: str, **options) -> bytes:
    """Bytes of `image` written by Pillow."""
    stream = io.BytesIO()
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    picture.save(stream, kind, **options)
    return stream.getvalue()


def encoded_deep(samples: np.ndarray, suffix: str) -> bytes:
    """Bytes of RGB(A) or grey samples of any depth written by OpenCV."""
    if samples.ndim == 3:
        samples = samples[..., [2, 1, 0, 3][: samples.shape[2]]]
    return cv2.imencode(suffix, np.ascontiguousarray(samples))[1].tobytes()


def chunk(kind: bytes, data: bytes) -> bytes:
    """One PNG chunk with a correct checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *extra: bytes) -> bytes:
    """A PNG from its parts, so that a test can break or add one."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(rows))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body) + chunk(b"IEND", b"")


def tiff(samples: np.ndarray, photometric: int, *, orientation: int = 1, kind: int = 1) -> bytes:
    """A plain little-endian TIFF of [H, W, C]; `kind` 1 unsigned, 2 signed, 3 float."""
    height, width, channels = samples.shape
    bits = 8 * samples.dtype.itemsize
    data = samples.tobytes()
    after = 8 + len(data)
    short, long = "H", "I"
    entries = [
        (256, long, [width]),
        (257, long, [height]),
        (258, short, [bits] * channels),
        (259, short, [1]),
        (262, short, [photometric]),
        (273, long, [8]),
        (274, short, [orientation]),
        (277, short, [channels]),
        (278, long, [height]),
        (279, long, [len(data)]),
        (339, short, [kind] * channels),
    ]
    arrays, fields = b"", b""
    for tag, code, values in entries:
        packed = struct.pack(f"<{len(values)}{code}", *values)
        if len(packed) > 4:
            arrays, packed = arrays + packed, struct.pack("<I", after + len(arrays))
        fields += struct.pack("<HHI", tag, 3 if code == short else 4, len(values))
        fields += packed.ljust(4, b"\0")
    head = b"II*\0" + struct.pack("<I", after + len(arrays))
    return head + data + arrays + struct.pack("<H", len(entries)) + fields + b"\0\0\0\0"


FORMS = {
    "png": encoded(RGB8, "PNG"),
    "png16": encoded_deep(RGB16, ".png"),
    "jpeg": encoded(RGB8, "JPEG"),
    "progressive": encoded(RGB8, "JPEG", progressive=True),
    "bmp": encoded(RGB8, "BMP"),
    "tiff": encoded(RGB8, "TIFF"),
    "tiff-lzw": encoded(RGB8, "TIFF", compression="tiff_lzw"),
    "tiff16": tiff(RGB16, 2),
    "tiff-float": tiff(RNG.random((12, 17, 3)).astype("f4"), 2, kind=3),
    "webp": encoded(RGB8, "WEBP"),
    "gif": encoded(RGB8, "GIF"),
}
