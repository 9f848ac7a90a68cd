"""An image as it was read: its samples, perhaps at a reduced scale, and how large it is itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Pixels: TypeAlias = npt.NDArray[np.float32]
Span: TypeAlias = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True, eq=False)
class Raster:
    """An image of height and width `hw`, upright, of which `samples` show `box`.

    `samples` are grey [h, w] or RGB [h, w, 3], uint8 or float32 in [0, 1]: the image itself, or a
    JPEG decoded at 1/`scale`, of which the last pixels of a side may lie partly beyond the image.
    A JPEG has its `encoded` bytes still, from which it can be read at another scale.
    """

    samples: npt.NDArray[Any]
    hw: tuple[int, int]
    box: Span
    scale: int = 1
    encoded: bytes | None = None

    @classmethod
    def of(cls, samples: npt.NDArray[Any]) -> Raster:
        """The raster of an image's own samples."""
        height, width = samples.shape[:2]
        return cls(samples, (height, width), (0.0, 0.0, float(width), float(height)))

    @property
    def nbytes(self) -> int:
        """The memory that the samples take."""
        return self.samples.nbytes


def as_read(samples: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Float samples in [0, 1] that hold nothing but 8-bit values as those: uint8.

    So an image shows the same, to the last bit, whether it comes from its file or as what
    `read_image` made of that.
    """
    if samples.dtype != np.float32 or not samples.size:
        return samples
    # Nearly all that is not of 8 bits shows so in its first row.
    found = None if _eight_bits(samples[:1]) is None else _eight_bits(samples)
    return samples if found is None else found


def _eight_bits(samples: npt.NDArray[Any]) -> npt.NDArray[np.uint8] | None:
    with np.errstate(invalid="ignore"):  # NaN, which equals nothing
        found = np.rint(samples * np.float32(255)).astype(np.uint8)
    return found if np.array_equal(to_unit(found), samples) else None


def to_unit(samples: npt.NDArray[Any]) -> Pixels:
    """Samples of a raster as float32 in [0, 1]."""
    if samples.dtype == np.uint8:
        return np.asarray(np.divide(samples, np.float32(255), dtype=np.float32), np.float32)
    return np.asarray(samples, np.float32)


def to_rgb(pixels: Pixels) -> Pixels:
    """Grey [h, w] as RGB [h, w, 3]; RGB as it is."""
    import cv2

    if pixels.ndim == 3:
        return pixels
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB), np.float32)


def to_grey(pixels: Pixels) -> Pixels:
    """RGB [h, w, 3] as its luma [h, w]; grey as it is."""
    import cv2

    if pixels.ndim == 2:
        return pixels
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.float32)
