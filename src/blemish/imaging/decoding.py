"""Encoded bytes become samples with all their bits, or an error that says what is damaged.

PNG's pixels, like TIFF colour of more than 8 bits, come from OpenCV: Pillow reduces 16-bit colour
to 8 bits in silence, skips the CRC of pixel data and fills a short PNG with black. All else comes
from Pillow. Colour profiles and gamma are ignored. A JPEG can be decoded at 1/2, 1/4 or 1/8, which
its blocks of frequencies give at less than the cost of all pixels. One kind of damage cannot be
seen: libjpeg only warns when a JPEG's data stop early but an end marker follows.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from blemish.errors import (
    ImageAnimatedError,
    ImageError,
    ImageFormatError,
    ImageSizeError,
    ImageTruncatedError,
)
from blemish.imaging.containers import MOST_SCANS, PNG_SIGNATURE, jpeg_scans, png_chunks
from blemish.imaging.raster import Raster, Span

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

Samples: TypeAlias = npt.NDArray[Any]
# From an image's height and width to the scale that is wanted of it: 1, 2, 4 or 8, a divisor.
ScaleOf: TypeAlias = Callable[[tuple[int, int]], int]

_EIGHT_BIT_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr"}
_ORIENTATION = 274


def check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    """Raise ImageSizeError for an image of no pixels or of more than `max_pixels`."""
    if width < 1 or height < 1:
        raise ImageSizeError(f"{name}: the image is {width} x {height}; it has no pixels.")
    if width * height > max_pixels:
        raise ImageSizeError(
            f"{name}: the image has {width} x {height} = {width * height} pixels, more than the "
            f"limit of {max_pixels}; raise max_pixels if you trust it."
        )


def whole(hw: tuple[int, int]) -> int:
    """The scale of all pixels."""
    del hw
    return 1


def decode(data: bytes, name: str, max_pixels: int, scale_of: ScaleOf = whole) -> Raster:
    """Samples [H, W] or [H, W, 3 or 4] in RGB(A) order: uint8, uint16 or float.

    A JPEG comes at the scale that `scale_of` wants for its size, all else has all its pixels. Only
    subclasses of ImageError leave, whatever the bytes; `name` opens each message.
    """
    decoder = _decoder_of(data)
    if decoder is None and not _is_jpeg(data):
        raise ImageFormatError(
            f"{name}: this is not a PNG, JPEG, TIFF, BMP, WebP or GIF image; convert it to one."
        )
    try:
        if decoder is None:
            return _decode_jpeg(data, name, max_pixels, scale_of)
        return Raster.of(decoder(data, name, max_pixels))
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageSizeError(f"{name}: the image does not fit in memory.") from error
    except Exception as error:
        # Decoders meet damage with a dozen kinds of exception; all mean the same to a user.
        raise _damaged(name, str(error) or type(error).__name__) from error


def _decoder_of(data: bytes) -> Callable[[bytes, str, int], Samples] | None:
    if data.startswith(PNG_SIGNATURE):
        return _decode_png
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return _decode_tiff
    webp = data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    if webp or data.startswith((b"BM", b"GIF87a", b"GIF89a")):
        return _decode_with_pillow
    return None


def _is_jpeg(data: bytes) -> bool:
    return data.startswith(b"\xff\xd8\xff")


def _damaged(name: str, why: str) -> ImageTruncatedError:
    return ImageTruncatedError(
        f"{name}: the image is damaged or cut short ({' '.join(why.split()).rstrip('.')}); "
        "copy or take it again."
    )


def _check_single(animated: bool, name: str) -> None:
    if animated:
        raise ImageAnimatedError(
            f"{name}: the file holds several frames; save the one to inspect as its own image."
        )


def _decode_with_pillow(data: bytes, name: str, max_pixels: int) -> Samples:
    # The plugin classes are called directly: Image.open would try 40 formats and its size limit
    # is a global of the process.
    from PIL.BmpImagePlugin import BmpImageFile
    from PIL.GifImagePlugin import GifImageFile
    from PIL.WebPImagePlugin import WebPImageFile

    plugins: dict[bytes, type[ImageFile]] = {
        b"BM": BmpImageFile,
        b"GI": GifImageFile,
        b"RI": WebPImageFile,
    }
    with plugins[data[:2]](io.BytesIO(data)) as image:
        check_size(*image.size, name, max_pixels)
        _check_single(getattr(image, "is_animated", False), name)
        # Many cameras' 32-bit BMP leave the fourth byte zero, which read as alpha is all white.
        samples = _eight_bit(image, name, alpha=not isinstance(image, BmpImageFile))
        return _upright(samples, _pillow_orientation(image))


def _decode_jpeg(data: bytes, name: str, max_pixels: int, scale_of: ScaleOf) -> Raster:
    from PIL.JpegImagePlugin import JpegImageFile

    with JpegImageFile(io.BytesIO(data)) as image:
        width, height = image.size
        check_size(width, height, name, max_pixels)
        if (scans := jpeg_scans(data)) > MOST_SCANS:
            raise ImageFormatError(
                f"{name}: this JPEG has {scans} scans, where ten are usual; save it again."
            )
        turned = _pillow_orientation(image)
        hw = (width, height) if 5 <= turned <= 8 else (height, width)
        scale = scale_of(hw)
        if scale > 1:
            image.draft(None, (width // scale, height // scale))
        samples = _eight_bit(image, name)
        box = _upright_box(width / scale, height / scale, samples.shape, turned)
        return Raster(_upright(samples, turned), hw, box, scale, encoded=data)


def _eight_bit(image: ImageFile, name: str, *, alpha: bool = True) -> Samples:
    """Pillow's pixels as uint8 [H, W] or [H, W, 3 or 4]."""
    if image.mode not in _EIGHT_BIT_MODES:
        raise ImageFormatError(
            f"{name}: pixels of kind {image.mode!r} are not read; save it as 8-bit or 16-bit "
            "grey or RGB."
        )
    image.load()
    if alpha and image.has_transparency_data:
        return np.asarray(image.convert("RGBA"))
    return np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))


def _pillow_orientation(image: ImageFile) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF beside sound pixels: they are taken as stored
        return 1


def _upright(samples: Samples, orientation: int) -> Samples:
    """Undo EXIF orientations 2..8 (Exif 2.32, table 6); any other value changes nothing."""
    if 5 <= orientation <= 8:
        samples = samples.swapaxes(0, 1)
    # After the transpose of 5..8 what is left is one of the four flips.
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return samples


def _upright_box(width: float, height: float, shape: tuple[int, ...], orientation: int) -> Span:
    """Where an image of this width and height, at the corner of samples, lies in `_upright`'s."""
    high, wide = shape[:2]
    if 5 <= orientation <= 8:
        width, height, high, wide = height, width, wide, high
    x = wide - width if orientation in (2, 3, 6, 7) else 0.0
    y = high - height if orientation in (3, 4, 7, 8) else 0.0
    return x, y, x + width, y + height


def _opencv_samples(data: bytes, name: str) -> Samples:
    """Samples with all their bits, RGB(A) order, not turned by EXIF (TIFF orientation is)."""
    import cv2

    samples = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if samples is None:
        raise _damaged(name, "its pixels cannot be decoded")
    if samples.ndim == 2 or samples.shape[2] == 1:
        return samples.reshape(samples.shape[:2])  # [H, W]
    if samples.dtype == np.float64:
        with np.errstate(over="ignore"):  # infinity is then refused by the range check
            samples = samples.astype(np.float32)
    code = cv2.COLOR_BGR2RGB if samples.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
    return np.asarray(cv2.cvtColor(samples, code))


# PNG ------------------------------------------------------------------------------------


def _decode_png(data: bytes, name: str, max_pixels: int) -> Samples:
    width, height = struct.unpack_from(">II", data, 16)
    check_size(width, height, name, max_pixels)
    chunks, needed = png_chunks(data)
    depth, colour = chunks[b"IHDR"][8:10]
    animation = chunks.get(b"acTL")
    _check_single(animation is not None and struct.unpack_from(">I", animation)[0] > 1, name)
    samples = _opencv_samples(needed, name)
    if colour == 0 and b"tRNS" in chunks:
        samples = _grey_with_key(samples, depth, struct.unpack(">H", chunks[b"tRNS"])[0])
    return _upright(samples, _exif_orientation(chunks.get(b"eXIf", b"")))


def _grey_with_key(grey: Samples, depth: int, key: int) -> Samples:
    """Grey with one transparent value as RGBA; OpenCV drops that value of grey PNGs."""
    scale = 1 if depth >= 8 else 255 // (2**depth - 1)
    alpha = np.where(grey == key * scale, 0, np.iinfo(grey.dtype).max).astype(grey.dtype)
    return np.dstack([grey, grey, grey, alpha])


def _exif_orientation(exif: bytes) -> int:
    from PIL.Image import Exif

    try:
        tags = Exif()
        tags.load(exif)
        return int(tags.get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF beside sound pixels: they are taken as stored
        return 1


# TIFF (revision 6.0) --------------------------------------------------------------------

_BITS, _PHOTOMETRIC, _PLANAR, _EXTRA, _FORMAT = 258, 262, 284, 338, 339


def _decode_tiff(data: bytes, name: str, max_pixels: int) -> Samples:
    from PIL.TiffImagePlugin import TiffImageFile

    try:
        image = TiffImageFile(io.BytesIO(data))
    except SyntaxError as error:
        if "unknown pixel mode" not in str(error):
            raise
        return _float_tiff(data, name, max_pixels)
    with image:
        check_size(*image.size, name, max_pixels)
        _check_single(image.is_animated, name)
        tags = image.tag_v2
        if max(tags.get(_BITS, (1,))) <= 8:
            return _eight_bit(image, name)
        if image.mode in ("I;16", "I;16B", "I;16L", "F"):
            return _deep_grey(image, inverted=tags.get(_PHOTOMETRIC) == 0)
        layout = tags.get(_PLANAR, 1), image.mode, tags.get(_EXTRA, (0,))[0]
        if layout[0] == 1 and layout[1] in ("RGB", "RGBA", "RGBX") and layout[2] != 1:
            samples = _opencv_samples(data, name)
            return samples if image.mode == "RGBA" else samples[..., :3]
        raise _unread_tiff(name)


def _deep_grey(image: ImageFile, *, inverted: bool) -> Samples:
    """16-bit or float grey [H, W], turned upright by Pillow; it leaves 0 = white to us."""
    samples = np.asarray(image)
    samples = samples.astype(samples.dtype.newbyteorder("="))
    if inverted:
        return (1.0 if samples.dtype.kind == "f" else np.uint16(65535)) - samples
    return samples


def _float_tiff(data: bytes, name: str, max_pixels: int) -> Samples:
    """Float RGB and 64-bit float grey, which Pillow has no mode for."""
    tags = _first_directory(data)
    check_size(tags.get(256, 0), tags.get(257, 0), name, max_pixels)
    kind = tags.get(_FORMAT, (1,))[0], tags.get(_PLANAR, 1)
    if kind != (3, 1) or tags.get(_PHOTOMETRIC) not in (1, 2) or tags.next:
        raise _unread_tiff(name)
    samples = _opencv_samples(data, name)
    return samples if samples.ndim == 2 else samples[..., :3]


def _first_directory(data: bytes) -> ImageFileDirectory_v2:
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    stream = io.BytesIO(data)
    header = stream.read(16 if data[2:3] == b"+" or data[3:4] == b"+" else 8)
    tags = ImageFileDirectory_v2(header)
    stream.seek(tags.next)
    tags.load(stream)
    return tags


def _unread_tiff(name: str) -> ImageFormatError:
    return ImageFormatError(
        f"{name}: this TIFF's kind of pixels is not read; save it as 8-bit or 16-bit grey or "
        "RGB, or float in [0, 1], interleaved."
    )
