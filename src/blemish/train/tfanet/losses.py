"""TFA-Net's training loss: Euclidean plus cosine distance of features (eq. 5 to 7)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from blemish.errors import ParameterError
from blemish.train.tfanet.presets import TFANetConfig

EPSILON = 1e-8  # the least length a cosine divides by


class Loss(NamedTuple):
    """The joint loss and its two terms before weighting; scalars."""

    total: Tensor
    euclidean: Tensor
    cosine: Tensor


def reconstruction_loss(prediction: Tensor, target: Tensor, config: TFANetConfig) -> Loss:
    """L_rec = w_euc L_euc + w_cos L_cos of patch vectors [B, N, K K C] (eq. 7).

    Both as `network.patchify` orders them: (row, column, channel). The target is a constant.
    """
    if prediction.shape != target.shape:
        raise ParameterError(
            f"The loss compares patch vectors of one shape, got {list(prediction.shape)} and "
            f"{list(target.shape)}; patchify the target with the network's patch size."
        )
    # Autocast would take the products of the cosine in half precision.
    with torch.autocast(prediction.device.type, enabled=False):
        prediction, target = _full(prediction), _full(target.detach())
        euclidean = euclidean_loss(prediction, target, config)
        cosine = cosine_loss(prediction, target, config)
    total = config.weight_euc * euclidean + config.weight_cos * cosine
    return Loss(total, euclidean, cosine)


def euclidean_loss(prediction: Tensor, target: Tensor, config: TFANetConfig) -> Tensor:
    """L_euc: mean square over everything (release), or mean norm of a pixel's error (eq. 5).

    Eq. 5 does not say over what the norm runs; per feature pixel is what eq. 8 scores by.
    """
    if config.euclid == "mean-sq":
        return F.mse_loss(prediction, target)
    norms: Tensor = _pixels(prediction - target, config).norm(dim=-1)  # [B, N, K K]
    return norms.mean()


def cosine_loss(prediction: Tensor, target: Tensor, config: TFANetConfig) -> Tensor:
    """L_cos (eq. 6): mean of 1 - cos, per whole patch (release) or per feature pixel."""
    if config.train_cos == "pixel":
        prediction, target = _pixels(prediction, config), _pixels(target, config)
    # F.cosine_similarity divides both tensors first, which takes twice the time of this.
    lengths = prediction.norm(dim=-1).clamp_min(EPSILON) * target.norm(dim=-1).clamp_min(EPSILON)
    cosines: Tensor = torch.linalg.vecdot(prediction, target) / lengths
    return (1 - cosines).mean()


def _full(patches: Tensor) -> Tensor:
    """Half precision as float32; what is float64 stays."""
    return patches.float() if patches.dtype in (torch.bfloat16, torch.float16) else patches


def _pixels(patches: Tensor, config: TFANetConfig) -> Tensor:
    """Patch vectors [B, N, K K C] as pixel features [B, N, K K, C]."""
    return torch.unflatten(patches, -1, (config.patch**2, -1))
