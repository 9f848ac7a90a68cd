"""Dual-mode anomaly maps and image scores (section 3.5.2, eq. 8; docs/methods/tfanet.md)."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor
from torch.nn import functional as F

from blemish.errors import ParameterError
from blemish.train.maps import enlarge
from blemish.train.tfanet.presets import TFANetConfig

SUM_WEIGHT = 5.0  # the A in "5 A + D" of the release's test script


def anomaly_maps(
    features: Tensor,
    reconstruction: Tensor,
    config: TFANetConfig,
    *,
    size: tuple[int, int] = (256, 256),
) -> Tensor:
    """How far each place is from its reconstruction: [B, C, H, W] twice to [B, *size], float32.

    Unbounded, 0 or more, higher is worse. `size` is (height, width) in pixels.
    """
    if features.shape != reconstruction.shape or features.dim() != 4:
        raise ParameterError(
            "Scoring compares features [B, C, H, W] of one shape, got "
            f"{list(features.shape)} and {list(reconstruction.shape)}."
        )
    # Autocast would run the products in half precision, and thresholds would move.
    with _no_autocast(features.device.type):
        features, reconstruction = features.float(), reconstruction.float()
        distance = euclidean_map(features, reconstruction, config)
        angle = cosine_map(features, reconstruction)
        return combine(distance, angle, config, size)


def euclidean_map(features: Tensor, reconstruction: Tensor, config: TFANetConfig) -> Tensor:
    """D, AS_euc of eq. 8: channel mean of squared error (release) or norm (paper), [B, H, W]."""
    error = features - reconstruction
    return error.square().mean(dim=1) if config.euclid == "mean-sq" else error.norm(dim=1)


def cosine_map(features: Tensor, reconstruction: Tensor) -> Tensor:
    """A, AS_cos of eq. 8: 1 - cosine over channels, [B, H, W]."""
    return (1 - F.cosine_similarity(features, reconstruction, dim=1)).clamp(min=0)


def image_scores(maps: Tensor, config: TFANetConfig) -> Tensor:
    """Maps [B, H, W] to scores [B]: population standard deviation, or maximum."""
    pixels = maps.flatten(1)
    return pixels.std(dim=1, correction=0) if config.image_score == "std" else pixels.amax(dim=1)


def combine(distance: Tensor, angle: Tensor, config: TFANetConfig, size: tuple[int, int]) -> Tensor:
    """The anomaly map [B, *size] of D and A, [B, H, W] each."""
    if config.score == "euclidean":
        return enlarge(distance, size, config.sigma)
    if config.score == "cosine":
        return enlarge(angle, size, config.sigma)
    if config.score == "sum5":
        return enlarge(SUM_WEIGHT * angle + distance, size, config.sigma)  # linear: order is moot
    if config.score_order == "multiply-then-smooth":
        return enlarge(distance * angle, size, config.sigma)
    return enlarge(distance, size, config.sigma) * enlarge(angle, size, config.sigma)


def _no_autocast(device: str) -> torch.autocast | nullcontext[None]:
    # Entered only when needed: an exported graph then holds no trace of it.
    if torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()
