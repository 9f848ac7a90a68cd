"""Plain resizing of a source image to a view, antialiased by the filter that was asked for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.float32]

RESAMPLES = ("bilinear", "lanczos", "area")


def resized(image: Pixels, hw: tuple[int, int], resample: str) -> Pixels:
    """RGB [H, W, 3] in [0, 1] at another size; the same array if it has that size already."""
    if image.shape[:2] == hw:
        return image
    if resample == "area":
        return _by_area(image, hw)
    return _by_pillow(image, hw, resample)


def _by_pillow(image: Pixels, hw: tuple[int, int], resample: str) -> Pixels:
    """Resize by Pillow's filters in float, one channel at a time."""
    from PIL import Image

    method = {
        "bilinear": Image.Resampling.BILINEAR,
        "lanczos": Image.Resampling.LANCZOS,
    }[resample]
    found = np.empty((*hw, 3), np.float32)
    for channel in range(3):
        plane = Image.fromarray(np.ascontiguousarray(image[..., channel]))
        found[..., channel] = np.asarray(plane.resize((hw[1], hw[0]), method))
    # Lanczos overshoots at edges, and float sums by a rounding error.
    return np.clip(found, 0.0, 1.0, out=found)


def _by_area(image: Pixels, hw: tuple[int, int]) -> Pixels:
    """Mean over each target pixel's area; one axis at a time, each shrunk or stretched."""
    import cv2

    # OpenCV averages only when neither axis grows, so the axes must not share one call.
    wide = cv2.resize(image, (hw[1], image.shape[0]), interpolation=cv2.INTER_AREA)
    found = cv2.resize(wide, (hw[1], hw[0]), interpolation=cv2.INTER_AREA)
    return np.asarray(np.clip(found, 0.0, 1.0, out=found))
