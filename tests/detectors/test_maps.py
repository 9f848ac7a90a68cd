"""Enlarging and smoothing maps, against interpolation as loops and SciPy's Gaussian filter."""

from __future__ import annotations

import numpy as np
import pytest

from blemish.detectors.maps import enlarge, gaussian_matrix


def random_maps(*shape: int) -> np.ndarray:
    """Made-up distances in [0, 2]."""
    return 2 * np.random.default_rng(0).random(shape, np.float32)


def interpolated(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """One map [h, w] bilinearly at `size`, corners on corners, a pixel at a time in float64."""
    found = np.empty(size)
    scale = [(side - 1) / max(1, out - 1) for side, out in zip(values.shape, size, strict=True)]
    for y, x in np.ndindex(size):
        row, column = y * scale[0], x * scale[1]
        top, left = int(row), int(column)
        bottom, right = min(top + 1, values.shape[0] - 1), min(left + 1, values.shape[1] - 1)
        down, across = row - top, column - left
        upper = values[top, left] * (1 - across) + values[top, right] * across
        lower = values[bottom, left] * (1 - across) + values[bottom, right] * across
        found[y, x] = upper * (1 - down) + lower * down
    return found


@pytest.mark.parametrize(
    ("small", "size"), [((4, 4), (64, 64)), ((3, 7), (20, 33)), ((1, 1), (8, 5)), ((5, 9), (5, 1))]
)
def test_enlarge_interpolates_with_corners_aligned(
    small: tuple[int, int], size: tuple[int, int]
) -> None:
    """Without smoothing it is bilinear interpolation with aligned corners."""
    maps = random_maps(2, *small)
    expected = np.stack([interpolated(one, size) for one in maps])
    np.testing.assert_allclose(enlarge(maps, size), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 4.0, 30.0])
def test_smoothing_is_scipys_gaussian_filter(sigma: float) -> None:
    """With smoothing it is SciPy's filter after that, even where sigma exceeds the map."""
    gaussian_filter = pytest.importorskip("scipy.ndimage").gaussian_filter
    maps = random_maps(1, 4, 6)
    expected = gaussian_filter(interpolated(maps[0], (24, 30)), sigma)
    np.testing.assert_allclose(enlarge(maps, (24, 30), sigma)[0], expected, atol=1e-6)


def test_smoothing_keeps_level_and_sum() -> None:
    """A flat map stays flat, and mirrored borders lose nothing of the total."""
    matrix = gaussian_matrix(11, 3.0)
    np.testing.assert_allclose(matrix.sum(axis=1), 1)
    np.testing.assert_allclose(matrix.sum(axis=0), 1)
    flat = enlarge(np.full((1, 5, 5), 0.7, np.float32), (40, 40), 4.0)
    np.testing.assert_allclose(flat, 0.7, rtol=1e-6)


def test_maps_do_not_mix() -> None:
    """Each map of several is enlarged as if it were alone."""
    maps = random_maps(3, 5, 5)
    together = enlarge(maps, (16, 16), 2.0)
    alone = np.stack([enlarge(one, (16, 16), 2.0) for one in maps])
    np.testing.assert_allclose(together, alone, atol=1e-6, rtol=0)
    assert together.dtype == np.float32
