"""Enlarging and smoothing maps, against torch's interpolation and SciPy's Gaussian filter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from blemish.maps import enlarge, gaussian_matrix
from scipy.ndimage import gaussian_filter


def random_maps(*shape: int) -> torch.Tensor:
    """Made-up distances in [0, 2]."""
    return 2 * torch.rand(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("small", "size"), [((4, 4), (64, 64)), ((3, 7), (20, 33)), ((1, 1), (8, 5))]
)
def test_enlarge_interpolates_with_corners_aligned(
    small: tuple[int, int], size: tuple[int, int]
) -> None:
    """Without smoothing it is torch's bilinear interpolation with aligned corners."""
    maps = random_maps(2, *small)
    expected = F.interpolate(maps[None], size=size, mode="bilinear", align_corners=True)[0]
    torch.testing.assert_close(enlarge(maps, size), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 4.0, 30.0])
def test_smoothing_is_scipys_gaussian_filter(sigma: float) -> None:
    """With smoothing it is SciPy's filter after that, even where sigma exceeds the map."""
    maps = random_maps(1, 4, 6)
    plain = F.interpolate(maps[None], size=(24, 30), mode="bilinear", align_corners=True)[0, 0]
    expected = gaussian_filter(plain.double().numpy(), sigma)
    np.testing.assert_allclose(enlarge(maps, (24, 30), sigma)[0], expected, atol=1e-6)


def test_smoothing_keeps_level_and_sum() -> None:
    """A flat map stays flat, and mirrored borders lose nothing of the total."""
    matrix = gaussian_matrix(11, 3.0)
    torch.testing.assert_close(matrix.sum(1), torch.ones(11, dtype=torch.float64))
    torch.testing.assert_close(matrix.sum(0), torch.ones(11, dtype=torch.float64))
    flat = enlarge(torch.full((1, 5, 5), 0.7), (40, 40), 4.0)
    torch.testing.assert_close(flat, torch.full((1, 40, 40), 0.7))


def test_maps_do_not_mix() -> None:
    """Each map of a batch is enlarged as if it were alone."""
    maps = random_maps(3, 5, 5)
    together = enlarge(maps, (16, 16), 2.0)
    alone = torch.cat([enlarge(one[None], (16, 16), 2.0) for one in maps])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)
    assert together.dtype == torch.float32


def test_gradients_pass_after_inference() -> None:
    """A matrix first built in inference mode serves training later (the cache is shared)."""
    with torch.inference_mode():
        enlarge(random_maps(1, 3, 3), (9, 9), 1.5)
    for dtype in (torch.float32, torch.float64):
        maps = random_maps(1, 3, 3).to(dtype).requires_grad_()
        enlarge(maps, (9, 9), 1.5).sum().backward()
        assert maps.grad is not None
        assert float(maps.grad.sum()) == pytest.approx(81, rel=1e-5)
