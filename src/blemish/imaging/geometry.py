"""Plane geometry of views: matrices, images resampled through them, and boxes mapped through them.

Coordinates are continuous: the pixel in column 0 covers x from 0 to 1, so that a matrix means the
same at every resolution. Points are columns (x, y, 1) and a matrix [3, 3] moves them; the image
that a matrix leads to is read, not written: `warp(image, m)` has at q what `image` has at m q.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from blemish.imaging.raster import Pixels, to_unit

Matrix = npt.NDArray[np.float64]  # [3, 3]
Mask = npt.NDArray[np.bool_]
Box = tuple[int, int, int, int]  # x, y, width, height

_SHRINKS = 1.25  # source pixels a view pixel from which resampling must average
_EXACT = 1e-6  # px that rounding may have moved a corner by


def shift(x: float, y: float) -> Matrix:
    """Moves by (x, y)."""
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def stretch(x: float, y: float) -> Matrix:
    """Stretches by x along x and by y along y."""
    return np.diag([x, y, 1.0])


def turn(radians: float) -> Matrix:
    """Turns about the origin, clockwise as seen on a screen."""
    cos, sin = math.cos(radians), math.sin(radians)
    return np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])


def inverse(matrix: Matrix) -> Matrix:
    """The way back, with 1 in its last place."""
    found = np.linalg.inv(matrix)
    return np.asarray(found / found[2, 2])


def between_indices(matrix: Matrix) -> Matrix:
    """The matrix that does in pixel indices (OpenCV's) what `matrix` does in coordinates."""
    return np.asarray(shift(-0.5, -0.5) @ matrix @ shift(0.5, 0.5))


def between_coordinates(matrix: Matrix) -> Matrix:
    """Undoes `between_indices`."""
    return np.asarray(shift(0.5, 0.5) @ matrix @ shift(-0.5, -0.5))


def local_scale(matrix: Matrix, x: float, y: float) -> float:
    """How many times as long a short line at (x, y) becomes, in the mean of all directions."""
    w = float(matrix[2] @ (x, y, 1.0))
    # The Jacobian's determinant of a projective map.
    return math.sqrt(abs(float(np.linalg.det(matrix)) / w**3)) if w else math.inf


def warp(
    image: Pixels,
    matrix: Matrix,
    hw: tuple[int, int],
    *,
    smooth: bool = True,
    cubic: bool = False,
    outside: float | None = None,
) -> Pixels:
    """An image [h, w, ...] that has at q what `image` has at `matrix` q.

    Beyond its edge `image` goes on as it ends, or is `outside`. Without `smooth` the nearest
    pixel is taken.
    """
    import cv2

    how = (cv2.INTER_CUBIC if cubic else cv2.INTER_LINEAR) if smooth else cv2.INTER_NEAREST
    height, width = hw
    return np.asarray(
        cv2.warpPerspective(
            image,
            between_indices(matrix),
            (width, height),
            flags=how | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE if outside is None else cv2.BORDER_CONSTANT,
            borderValue=outside or 0.0,
        ),
        np.float32,
    )


def resample(samples: npt.NDArray[Any], matrix: Matrix, size: int) -> Pixels:
    """Pixels [size, size, ...] that have at q what an image [H, W, ...] has at `matrix` q.

    Its samples are those of a raster. One interpolation, cubic, where the image keeps its scale.
    Where it shrinks, every pixel is a mean: the image is first averaged down to twice the wanted
    scale, and sampled four times a pixel.
    """
    import cv2

    factor = local_scale(matrix, size / 2, size / 2)
    if factor <= _SHRINKS:
        found = warp(to_unit(samples), matrix, (size, size), cubic=True)
        return np.asarray(np.clip(found, 0.0, 1.0), np.float32)
    height, width = samples.shape[:2]
    if factor > 2:
        half = max(1, round(2 * width / factor)), max(1, round(2 * height / factor))
        samples = np.asarray(cv2.resize(samples, half, interpolation=cv2.INTER_AREA))
        matrix = stretch(half[0] / width, half[1] / height) @ matrix
    fine = warp(to_unit(samples), matrix @ stretch(0.5, 0.5), (2 * size, 2 * size))
    return np.asarray(cv2.resize(fine, (size, size), interpolation=cv2.INTER_AREA), np.float32)


def lands_in(matrix: Matrix, hw: tuple[int, int], source_hw: tuple[int, int]) -> Mask:
    """Which pixels [H, W] of `hw` have centres that `matrix` leads into an image of `source_hw`."""
    across, down = np.arange(hw[1]) + 0.5, np.arange(hw[0])[:, None] + 0.5
    x, y, w = (row[0] * across + row[2] + row[1] * down for row in matrix)
    height, width = source_hw
    return np.asarray((w > 0) & (x >= 0) & (y >= 0) & (x <= width * w) & (y <= height * w))


def corners(box: tuple[float, float, float, float], matrix: Matrix) -> npt.NDArray[np.float64]:
    """Where the corners of a box (x, y, w, h) land, clockwise from the top left: [4, 2]."""
    x, y, w, h = box
    points = np.array([[x, y, 1], [x + w, y, 1], [x + w, y + h, 1], [x, y + h, 1]], np.float64)
    moved = points @ matrix.T
    return np.asarray(moved[:, :2] / moved[:, 2:])


def box_around(points: npt.NDArray[np.float64], hw: tuple[int, int]) -> Box:
    """The smallest box of whole pixels around points [n, 2], inside an image of `hw`, not empty."""
    low, high = points.min(axis=0), points.max(axis=0)
    x, w = _span(float(low[0]), float(high[0]), hw[1])
    y, h = _span(float(low[1]), float(high[1]), hw[0])
    return x, y, w, h


def _span(start: float, end: float, limit: int) -> tuple[int, int]:
    """First pixel and number of pixels, rounded outward, inside [0, limit), at least one."""
    first = min(max(math.floor(start + _EXACT), 0), limit - 1)
    last = min(max(math.ceil(end - _EXACT), first + 1), limit)
    return first, last - first
