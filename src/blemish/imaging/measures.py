"""What a picture is like apart from the part: its brightness and its sharpness, to see drift."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def measured(
    pixels: npt.NDArray[np.float32], inside: npt.NDArray[np.bool_] | None = None
) -> dict[str, float]:
    """`brightness` (mean grey, 0 to 1) and `sharpness` of RGB [H, W, 3] in [0, 1], where it counts.

    Sharpness is the variance of the Laplacian, relative to the variance of the grey values: it
    falls when a lens gets dirty or out of focus, and not when the light changes.
    """
    import cv2

    grey = cv2.cvtColor(np.ascontiguousarray(pixels, np.float32), cv2.COLOR_RGB2GRAY)
    edges = cv2.Laplacian(grey, cv2.CV_32F)
    if inside is not None:
        if not inside.any():
            return {"brightness": 0.0, "sharpness": 0.0}
        grey, edges = grey[inside], edges[inside]
    contrast = float(grey.var())
    return {
        "brightness": float(grey.mean()),
        "sharpness": float(edges.var()) / contrast if contrast > 1e-12 else 0.0,
    }
