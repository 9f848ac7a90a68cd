"""The bytes of one image from wherever it lies: its own errors are a row, the store's are not."""

from __future__ import annotations

import io
import time
from typing import Any

from blemish.errors import (
    ImageEmptyError,
    ImageError,
    ImageFormatError,
    ImageMissingError,
    ImageSizeError,
    ParameterError,
    SourceError,
)
from blemish.imaging import largest_file, read_encoded
from blemish.scale.storage import Place, filesystem, reaching

PAUSES = (1.0, 2.0, 4.0)  # seconds before each further try; s3fs and gcsfs try again themselves


class NamedBytes(io.BytesIO):
    """An image's bytes that know what to be called in messages."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name


def fetch(place: Place, max_pixels: int) -> bytes:
    """The encoded bytes of an image.

    Raises ImageError for what is wrong with this image alone (missing, forbidden, too large), and
    SourceError when the store still cannot be reached after some tries: that is no image's fault.
    """
    if place.local is not None:
        return read_encoded(place.local, max_pixels=max_pixels)
    pauses = list(PAUSES)
    while True:
        try:
            with reaching(place):
                return _download(place, largest_file(max_pixels))
        except FileNotFoundError as error:
            raise ImageMissingError(
                f"{place.address!r}: there is no such file; check the path."
            ) from error
        except ParameterError as error:  # a line of a list that is no address
            raise ImageError(str(error)) from error
        except SourceError as error:
            if isinstance(error.__cause__, PermissionError):
                raise ImageError(
                    f"{place.address}: the store does not let us read it; check the permissions."
                ) from error
            if not pauses:
                raise
            time.sleep(pauses.pop(0))


def _download(place: Place, most: int) -> bytes:
    system, path = filesystem(place)
    info: dict[str, Any] = system.info(path)
    if info.get("type") == "directory":
        raise ImageFormatError(f"{place.address}: this is a folder; give the images in it.")
    if (size := info.get("size")) is not None and size > most:
        raise ImageSizeError(
            f"{place.address}: the file has {size} bytes, more than any image within max_pixels "
            "needs; raise max_pixels if you trust it."
        )
    if size == 0:
        raise ImageEmptyError(f"{place.address}: it holds no bytes; write the image again.")
    return bytes(system.cat_file(path))
