"""Any image a user hands over becomes RGB in [0, 1], or one clear error.

The contract (docs/images.md): a path, bytes or an array, with channel order and depth declared and
never guessed. How each file format is decoded is in `decoding`. Whoever looks at an image through a
view reads its raster, which keeps 8 bits as they are and a large JPEG no larger than is needed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

import numpy as np

from blemish.errors import (
    ImageArrayError,
    ImageEmptyError,
    ImageError,
    ImageFormatError,
    ImageMissingError,
    ImageSizeError,
    ParameterError,
)
from blemish.imaging.decoding import Samples, ScaleOf, check_size, decode, whole
from blemish.imaging.raster import Pixels, Raster, as_read, to_rgb, to_unit

Encoded: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO
Source: TypeAlias = Encoded | Samples | Raster

MAX_PIXELS = 100_000_000
# Four float32 samples a pixel: no file within the pixel limit needs more, so none is read whole.
_MAX_BYTES_PER_PIXEL = 16
_SPARE_BYTES = 16 * 2**20


def read_image(
    source: Source,
    *,
    order: Literal["rgb", "bgr"] = "rgb",
    bit_depth: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Pixels:
    """Read one image as RGB of shape [H, W, 3], float32 in [0, 1], C-contiguous.

    `source` is a path, encoded bytes, a binary file, or an array: uint8, uint16, or float in
    [0, 1], of shape [H, W], [H, W, 1], [H, W, 3] or [H, W, 4]. Alpha is composited on white and
    the EXIF orientation applied. `order` is the channel order of an array (files know theirs).
    `bit_depth` says how many bits of 16-bit samples are used (12 for a Mono12 camera).
    Phones' MPO files count as the JPEG they begin with: the frames after it are previews or depth.
    Raises a subclass of ImageError for the image and ParameterError for the options.
    """
    raster = read_raster(source, order=order, bit_depth=bit_depth, max_pixels=max_pixels)
    pixels = to_rgb(to_unit(raster.samples))
    # A copy where nothing was converted, so that the result never changes with the caller's array.
    own = source.samples if isinstance(source, Raster) else source
    is_own = isinstance(own, np.ndarray) and np.may_share_memory(pixels, own)
    return pixels.copy() if is_own else pixels


def read_raster(
    source: Source,
    *,
    order: Literal["rgb", "bgr"] = "rgb",
    bit_depth: int | None = None,
    max_pixels: int = MAX_PIXELS,
    scale_of: ScaleOf = whole,
) -> Raster:
    """Read one image as `read_image` does, and convert and decode no more than a view needs.

    `scale_of` is the view's: from height and width to the scale at which it wants a JPEG. 8-bit
    samples stay as they are, maybe a caller's own. A raster is read anew where it has another
    scale than is wanted here.
    """
    _check_options(order, bit_depth, max_pixels)
    if isinstance(source, Raster):
        if source.encoded is None or scale_of(source.hw) == source.scale:
            return source
        source = source.encoded
    if isinstance(source, np.ndarray):
        # np.asarray drops subclasses (masked arrays, matrices) whose operators differ.
        samples, name = np.asarray(source), "array"
        _check_array(samples)
        check_size(samples.shape[1], samples.shape[0], name, max_pixels)
        plain = _plain(samples, name, bit_depth)
        # Last, since neither grey nor alpha on white depends on the order of the colours.
        return Raster.of(_swapped(plain) if order == "bgr" and plain.ndim == 3 else plain)
    data, name = _load(source, max_pixels)
    raster = decode(data, name, max_pixels, scale_of)
    return replace(raster, samples=_plain(raster.samples, name, bit_depth))


def read_samples(source: Source, *, max_pixels: int = MAX_PIXELS) -> Samples:
    """One image's samples as they are stored: a quarter of the memory of `read_image` in 8 bits.

    [H, W] or [H, W, 1, 3 or 4], RGB(A), uint8, uint16 or float; `read_image` makes of them what it
    makes of `source`. Raises a subclass of ImageError.
    """
    if isinstance(source, np.ndarray):
        return source
    _check_options("rgb", None, max_pixels)
    data, name = _load(source, max_pixels)
    return decode(data, name, max_pixels).samples


def read_encoded(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> bytes:
    """The bytes of an image's file as they stand; raises what `read_image` would for the file."""
    data, _ = _load(path, max_pixels)
    return data


def largest_file(max_pixels: int = MAX_PIXELS) -> int:
    """More bytes than any image of so many pixels needs: a larger file is not read."""
    return _MAX_BYTES_PER_PIXEL * max_pixels + _SPARE_BYTES


def _check_options(order: str, bit_depth: int | None, max_pixels: int) -> None:
    if order not in ("rgb", "bgr"):
        raise ParameterError(f"order is {order!r}; give 'rgb' or 'bgr'.")
    if bit_depth is not None and not (isinstance(bit_depth, int) and 8 <= bit_depth <= 16):
        raise ParameterError(f"bit_depth is {bit_depth!r}; give a whole number from 8 to 16.")
    if not isinstance(max_pixels, int) or max_pixels < 1:
        raise ParameterError(f"max_pixels is {max_pixels!r}; give a whole number of at least 1.")


# Bytes ----------------------------------------------------------------------------------


def _load(source: object, max_pixels: int) -> tuple[bytes, str]:
    """All encoded bytes of a path, buffer or binary file, and the name used in messages."""
    if isinstance(source, bytes | bytearray | memoryview):
        data, name = bytes(source), "image bytes"
    elif isinstance(source, str | os.PathLike):
        path = os.fspath(source)
        name = os.fsdecode(path)
        data = _load_path(name, largest_file(max_pixels))
    elif callable(read := getattr(source, "read", None)):
        label = getattr(source, "name", None)
        name = label if isinstance(label, str) else "image bytes"
        data = _load_stream(read, name)
    else:
        raise ImageArrayError(
            f"array: got {type(source).__module__}.{type(source).__qualname__}; give a path, "
            "bytes, a binary file or a NumPy array."
        )
    if not data:
        raise ImageEmptyError(f"{name}: it holds no bytes; write the image again.")
    return data, name


def _load_path(name: str, max_bytes: int) -> bytes:
    try:
        # Asked before opening, because opening a pipe would wait for its writer.
        found = os.stat(name)
        if stat.S_ISDIR(found.st_mode):
            raise ImageFormatError(f"{name}: this is a folder; give the images in it.")
        if not stat.S_ISREG(found.st_mode):
            raise ImageFormatError(f"{name}: this is not a regular file; give its bytes instead.")
        if found.st_size > max_bytes:
            raise ImageSizeError(
                f"{name}: the file has {found.st_size} bytes, more than any image within "
                "max_pixels needs; raise max_pixels if you trust it."
            )
        return Path(name).read_bytes()
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        # ValueError: a null character, which no file name can hold.
        raise ImageMissingError(f"{name!r}: there is no such file; check the path.") from error
    except OSError as error:
        raise ImageError(
            f"{name}: the file cannot be read ({error.strerror or error}); check its permissions "
            "and its disk."
        ) from error


def _load_stream(read: Callable[[], object], name: str) -> bytes:
    try:
        data = read()
    except Exception as error:  # a caller's own file object may raise anything
        raise ImageError(f"{name}: reading the file object failed ({error}).") from error
    if not isinstance(data, bytes | bytearray | memoryview):
        raise ImageFormatError(
            f"{name}: the file object gave {type(data).__name__}, not bytes; open it in "
            "binary mode ('rb')."
        )
    return bytes(data)


# Arrays ---------------------------------------------------------------------------------


def _check_array(array: Samples) -> None:
    shape = "x".join(map(str, array.shape))
    if array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.shape[2] not in (1, 3, 4):
        raise ImageArrayError(
            f"array: the shape is {shape}, channels first; give [H, W, 3], for example "
            "array.transpose(1, 2, 0)."
        )
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ImageArrayError(
            f"array: the shape is {shape or 'empty'}; give [H, W], [H, W, 1], [H, W, 3] or "
            "[H, W, 4]."
        )
    if array.dtype.name not in ("uint8", "uint16", "float16", "float32", "float64"):
        raise ImageArrayError(
            f"array: the dtype is {array.dtype}; give uint8, uint16, or float in [0, 1]."
        )


def _plain(samples: Samples, name: str, bit_depth: int | None) -> Samples:
    """Samples [H, W], [H, W, 1], [H, W, 3] or [H, W, 4] of any read dtype as a raster has them."""
    if samples.ndim == 3 and samples.shape[2] == 1:
        samples = samples[..., 0]
    is_opaque = samples.ndim == 2 or samples.shape[2] == 3
    if is_opaque and samples.dtype == np.uint8:
        return np.ascontiguousarray(samples)
    unit = _to_unit(samples, name, bit_depth)
    if is_opaque:
        return as_read(unit)
    alpha = unit[..., 3:]  # [H, W, 1]
    rgb = unit[..., :3] * alpha
    rgb += 1 - alpha
    return as_read(rgb)


def _swapped(image: Samples) -> Samples:
    import cv2

    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def _to_unit(samples: Samples, name: str, bit_depth: int | None) -> Pixels:
    """Scale by the dtype's full range (or `bit_depth`'s) in one pass, after checking it."""
    if samples.dtype.kind == "f":
        low, high = float(samples.min()), float(samples.max())
        # Written so that NaN, which min and max hand on, fails too.
        if not (low >= 0.0 and high <= 1.0):
            raise ImageArrayError(
                f"{name}: float values run from {low:g} to {high:g} and must lie in [0, 1]; "
                "divide by 255 if they are 8-bit values, and remove NaN and infinity."
            )
        return np.ascontiguousarray(samples, np.float32)
    top = 255 if samples.dtype.itemsize == 1 else 2 ** (bit_depth or 16) - 1
    if samples.dtype.itemsize == 2 and bit_depth is not None and (high := samples.max()) > top:
        raise ImageArrayError(
            f"{name}: the largest value is {high}, above {top}, the most {bit_depth} bits hold; "
            f"set bit_depth={int(high).bit_length()} or more."
        )
    return np.divide(samples, np.float32(top), dtype=np.float32, order="C")
