"""Plain resizing of a raster to a view, antialiased by the filter that was asked for.

8-bit samples stay 8-bit, as in both papers: Pillow's sums of whole numbers are the same on every
processor and by any number of threads, and cost half of what float does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from blemish.imaging.raster import Pixels, Raster, Span, to_unit

Samples = npt.NDArray[Any]  # [h, w] or [h, w, 3], uint8 or float32 in [0, 1]

RESAMPLES = ("bilinear", "lanczos", "area")
# Of the view's sides, what is left to the filter: what is averaged or decoded smaller before it
# then shows by at most a few grey levels, at sharp edges (docs/images.md).
_LEFT = 1.75
_SCALES = (8, 4, 2)  # at which a JPEG can be decoded


def jpeg_scale(hw: tuple[int, int], wanted: tuple[int, int], resample: str) -> int:
    """By how much a JPEG of `hw` may be decoded smaller to be resized to `wanted`: 1, 2, 4 or 8."""
    if resample == "area":  # the mean of whole pixels, which a reduced scale has mixed
        return 1
    return next((scale for scale in _SCALES if scale <= _spare(hw, wanted)), 1)


def resized(raster: Raster, hw: tuple[int, int], resample: str) -> Samples:
    """A raster's image at another size, in its own kind of samples; as it is if it has the size."""
    samples = raster.samples
    if raster.scale == 1 and samples.shape[:2] == hw:
        return samples
    if resample == "area":
        return _by_area(to_unit(samples), hw)
    if samples.dtype == np.uint8:
        return _by_whole_numbers(*_averaged(raster, hw), hw, resample)
    return _by_float(samples, hw, resample)


def _spare(hw: tuple[int, int], wanted: tuple[int, int]) -> int:
    """How many times smaller both sides may become before the filter does the rest."""
    return int(min(hw[0] // (_LEFT * wanted[0]), hw[1] // (_LEFT * wanted[1])))


def _averaged(raster: Raster, hw: tuple[int, int]) -> tuple[Samples, Span]:
    """8-bit samples averaged over whole pixels as far as the filter can spare, and their box."""
    import cv2

    samples, box = raster.samples, raster.box
    height, width = samples.shape[:2]
    times = _spare((height, width), hw)
    if times < 2:
        return samples, box
    high, wide = height // times, width // times
    found = cv2.resize(samples, (wide, high), interpolation=cv2.INTER_AREA)
    x, y = wide / width, high / height
    return np.asarray(found), (box[0] * x, box[1] * y, box[2] * x, box[3] * y)


def _by_whole_numbers(samples: Samples, box: Span, hw: tuple[int, int], resample: str) -> Samples:
    """Resize 8-bit samples by Pillow's filters."""
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(samples))
    return np.asarray(picture.resize((hw[1], hw[0]), _filter(resample), box=box))


def _by_float(samples: Samples, hw: tuple[int, int], resample: str) -> Samples:
    """Resize float samples by Pillow's filters, one channel at a time."""
    from PIL import Image

    planes = samples.reshape(*samples.shape[:2], -1)
    found = np.empty((*hw, planes.shape[2]), np.float32)
    for channel in range(planes.shape[2]):
        plane = Image.fromarray(np.ascontiguousarray(planes[..., channel]))
        found[..., channel] = np.asarray(plane.resize((hw[1], hw[0]), _filter(resample)))
    # Lanczos overshoots at edges, and float sums by a rounding error.
    return np.clip(found, 0.0, 1.0, out=found).reshape(*hw, *samples.shape[2:])


def _filter(resample: str) -> Any:
    from PIL import Image

    return {
        "bilinear": Image.Resampling.BILINEAR,
        "lanczos": Image.Resampling.LANCZOS,
    }[resample]


def _by_area(samples: Pixels, hw: tuple[int, int]) -> Pixels:
    """Mean over each target pixel's area; one axis at a time, each shrunk or stretched."""
    import cv2

    # OpenCV averages only when neither axis grows, so the axes must not share one call.
    wide = cv2.resize(samples, (hw[1], samples.shape[0]), interpolation=cv2.INTER_AREA)
    found = cv2.resize(wide, (hw[1], hw[0]), interpolation=cv2.INTER_AREA)
    return np.asarray(np.clip(found, 0.0, 1.0, out=found))
