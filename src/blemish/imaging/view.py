"""The view: how pixels of a source image become the square a detector looks at.

Both methods look at 256 x 256 and ignore the aspect ratio (HETMM by Pillow's bilinear, TFA-Net by
its Lanczos). Shrinking is always antialiased: a resize that skips pixels in only one of training
and serving shifts every score.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from blemish.errors import ImageArrayError, ParameterError

Pixels = npt.NDArray[np.float32]
Box = tuple[int, int, int, int]

_RESAMPLES = ("bilinear", "lanczos", "area")


@dataclass(frozen=True)
class View:
    """A square of `size` pixels, resampled as `bilinear`, `lanczos` or `area`.

    Raises ParameterError for a size below 8 or above 8192 and for an unknown resample.
    """

    size: int = 256
    resample: str = "bilinear"

    def __post_init__(self) -> None:
        if isinstance(self.size, bool) or not isinstance(self.size, int):
            raise ParameterError(f"View size is {self.size!r}; give a whole number of pixels.")
        if not 8 <= self.size <= 8192:
            raise ParameterError(f"View size is {self.size}; give 8 to 8192 pixels.")
        if self.resample not in _RESAMPLES:
            raise ParameterError(
                f"View resample is {self.resample!r}; give one of {', '.join(_RESAMPLES)}."
            )

    def apply(self, image: Pixels) -> Pixels:
        """Resize RGB [H, W, 3] in [0, 1] to [size, size, 3]; the same array if already so."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.float32 or not image.size:
            raise ImageArrayError(
                f"array: a view takes float32 of shape [H, W, 3], not {image.dtype} of shape "
                f"{list(image.shape)}; use read_image first."
            )
        if image.shape[:2] == (self.size, self.size):
            return image
        if self.resample == "area":
            return _resize_area(image, self.size)
        return _resize_pillow(image, self.size, self.resample)

    def to_source(self, box: Box, source_hw: tuple[int, int]) -> Box:
        """A box (x, y, w, h) of the view in pixels of the source: it covers what the view's does.

        Clipped to the source and at least one pixel wide and high.
        """
        height, width = source_hw
        if height < 1 or width < 1:
            raise ParameterError(f"source_hw is {source_hw}; give the source's height and width.")
        x, w = _span(box[0], box[2], width / self.size, width)
        y, h = _span(box[1], box[3], height / self.size, height)
        return x, y, w, h

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a manifest; `from_dict` gives an equal view."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> View:
        """The view of `to_dict`; raises ParameterError for a name this version does not know."""
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            raise ParameterError(
                f"View has no option {', '.join(sorted(map(repr, unknown)))}; a newer Blemish may "
                "have written it."
            )
        return cls(**values)


def _resize_pillow(image: Pixels, size: int, resample: str) -> Pixels:
    """Resize by Pillow's filters in float, one channel at a time."""
    from PIL import Image

    method = {
        "bilinear": Image.Resampling.BILINEAR,
        "lanczos": Image.Resampling.LANCZOS,
    }[resample]
    resized = np.empty((size, size, 3), np.float32)
    for channel in range(3):
        plane = Image.fromarray(np.ascontiguousarray(image[..., channel]))
        resized[..., channel] = np.asarray(plane.resize((size, size), method))
    # Lanczos overshoots at edges, and float sums by a rounding error.
    return np.clip(resized, 0.0, 1.0, out=resized)


def _resize_area(image: Pixels, size: int) -> Pixels:
    """Mean over each target pixel's area; one axis at a time, each shrunk or stretched."""
    import cv2

    # OpenCV averages only when neither axis grows, so the axes must not share one call.
    wide = cv2.resize(image, (size, image.shape[0]), interpolation=cv2.INTER_AREA)
    resized = cv2.resize(wide, (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(np.clip(resized, 0.0, 1.0, out=resized))


def _span(start: float, length: float, scale: float, limit: int) -> tuple[int, int]:
    """Start and length in source pixels, rounded outward, inside [0, limit), never empty."""
    first = min(max(math.floor(start * scale), 0), limit - 1)
    last = min(max(math.ceil((start + length) * scale), first + 1), limit)
    return first, last - first
