"""From feature distances to an anomaly map at the image's size: upsampling and Gaussian smoothing.

Both are linear and separable, so together they are one matrix per axis: a map M becomes R M C^T,
for a whole batch at once.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

TRUNCATE = 4.0  # scipy.ndimage.gaussian_filter's reach, in sigmas


def enlarge(maps: Tensor, size: tuple[int, int], sigma: float = 0.0) -> Tensor:
    """Maps [B, h, w] upsampled bilinearly (corners aligned) to `size`, then Gaussian-filtered.

    `sigma` is in pixels of the result; 0 leaves the filter out. Borders mirror, as in scipy.
    """
    rows = axis_matrix(maps.shape[-2], size[0], sigma).to(maps)
    columns = axis_matrix(maps.shape[-1], size[1], sigma).to(maps)
    return rows @ maps @ columns.T


@lru_cache(maxsize=32)
@torch.inference_mode(False)  # what is kept must also serve training
def axis_matrix(length: int, out: int, sigma: float) -> Tensor:
    """Interpolation, then filter, along one axis: [out, length], float64."""
    basis = torch.eye(length, dtype=torch.float64)[None]  # each row: one input pixel alone
    upsample = F.interpolate(basis, size=out, mode="linear", align_corners=True)[0].T
    return upsample if sigma == 0 else gaussian_matrix(out, sigma) @ upsample


def gaussian_matrix(length: int, sigma: float) -> Tensor:
    """The 1-D Gaussian filter with mirrored borders (d c b a | a b c d), [length, length]."""
    radius = int(TRUNCATE * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1)
    weights = torch.exp(-0.5 * (offsets.double() / sigma) ** 2)
    weights = weights / weights.sum()
    source = (torch.arange(length)[:, None] + offsets) % (2 * length)  # [length, 2 radius + 1]
    mirrored = torch.minimum(source, 2 * length - 1 - source)
    matrix = torch.zeros(length, length, dtype=torch.float64)
    return matrix.scatter_add_(1, mirrored, weights.expand(length, -1))
