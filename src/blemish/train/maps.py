"""Upsampling and smoothing of maps in PyTorch, by the matrices of `detectors.maps`."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from blemish.detectors import maps


def enlarge(values: Tensor, size: tuple[int, int], sigma: float = 0.0) -> Tensor:
    """Upsample maps [B, h, w] bilinearly (corners aligned) to `size`, then filter (Gaussian)."""
    rows = axis_matrix(values.shape[-2], size[0], sigma).to(values)
    columns = axis_matrix(values.shape[-1], size[1], sigma).to(values)
    return rows @ values @ columns.T


@lru_cache(maxsize=32)
@torch.inference_mode(False)  # what is kept must also serve training
def axis_matrix(length: int, out: int, sigma: float) -> Tensor:
    """Interpolate, then filter, along one axis: [out, length], float64."""
    return torch.from_numpy(maps.axis_matrix(length, out, sigma))
