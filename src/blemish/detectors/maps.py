"""From feature distances to an anomaly map at the image's size: upsampling and Gaussian smoothing.

Both are linear and separable, so together they are one matrix per axis: a map M becomes R M C^T,
for a whole batch at once.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

TRUNCATE = 4.0  # scipy.ndimage.gaussian_filter's reach, in sigmas

Matrix = npt.NDArray[np.float64]


def enlarge(
    maps: npt.NDArray[np.float32], size: tuple[int, int], sigma: float = 0.0
) -> npt.NDArray[np.float32]:
    """Upsample maps [..., h, w] bilinearly (corners aligned) to `size`, then filter (Gaussian).

    `sigma` is in pixels of the result; 0 leaves the filter out. Borders mirror, as in scipy.
    """
    rows = axis_matrix(maps.shape[-2], size[0], sigma).astype(np.float32)
    columns = axis_matrix(maps.shape[-1], size[1], sigma).astype(np.float32)
    return np.asarray(rows @ maps @ columns.T, np.float32)


@lru_cache(maxsize=32)
def axis_matrix(length: int, out: int, sigma: float) -> Matrix:
    """Interpolate, then filter, along one axis: [out, length], float64."""
    place = np.arange(out) * ((length - 1) / max(1, out - 1))
    left = np.minimum(place.astype(int), max(0, length - 2))
    share = place - left
    upsample = np.zeros((out, length))
    upsample[np.arange(out), left] += 1 - share
    upsample[np.arange(out), np.minimum(left + 1, length - 1)] += share
    return upsample if sigma == 0 else gaussian_matrix(out, sigma) @ upsample


def gaussian_matrix(length: int, sigma: float) -> Matrix:
    """Filter along one axis by a Gaussian with mirrored borders (d c b a | a b c d)."""
    radius = int(TRUNCATE * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    source = (np.arange(length)[:, None] + offsets) % (2 * length)  # [length, 2 radius + 1]
    mirrored = np.minimum(source, 2 * length - 1 - source)
    matrix = np.zeros((length, length))
    np.add.at(matrix, (np.arange(length)[:, None], mirrored), weights)
    return matrix
