"""How long a training would take on a CPU, from its MACs and this machine's pace."""

from __future__ import annotations

import time
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from blemish.backbones import FilterBank, create_backbone
from blemish.backbones.filterbank import CHANNELS
from blemish.train.tfanet.features import default_levels
from blemish.train.tfanet.macs import network_cost
from blemish.train.tfanet.network import TFANet
from blemish.train.tfanet.presets import TFANetConfig
from blemish.train.tfanet.training import training_precision

LIMIT_HOURS = 2.0
SIDE = 1024  # of the matrices whose product is timed
FORWARD_AND_BACKWARD = 3  # a backward pass costs two forward ones
# Of the pace of one large product, what a training reaches: preset small on bottle took 583 s of
# processor time where that pace would have given 250 (docs/methods/tfanet.md).
SHARE_REACHED = 0.4


class _Features(nn.Module):
    """Stands for cached features: a map of the right shape, for nothing."""

    def __init__(self, channels: int, grid: int) -> None:
        super().__init__()
        self.channels, self.grid = channels, grid

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"features": images.new_empty(len(images), self.channels, self.grid, self.grid)}


def training_hours(config: TFANetConfig, backbone: str, images: int) -> float:
    """Roughly the hours of training on this machine's CPU; features count for nothing."""
    macs = _macs(config, _channels(backbone))
    precision = training_precision(config, torch.device("cpu"))
    dtype = torch.bfloat16 if precision.startswith("bf16") else torch.float32
    operations = FORWARD_AND_BACKWARD * 2 * macs * images * config.epochs
    return operations / (SHARE_REACHED * _operations_per_second(dtype)) / 3600


@cache
def _macs(config: TFANetConfig, channels: int) -> int:
    with torch.device("meta"):
        network = TFANet(channels, config).eval()
        image = torch.empty(1, 3, config.grid, config.grid)
    return network_cost(_Features(channels, config.grid), network, image).cached_macs


@cache
def _channels(backbone: str) -> int:
    levels = default_levels(backbone)
    made = create_backbone(backbone, levels=levels, taps="pooled")
    if isinstance(made, FilterBank):
        return CHANNELS * len(levels)
    found = made.session.run(
        {made.input: np.zeros((1, 3, 256, 256), np.float32)}, made.chosen(levels)
    )
    return sum(level.shape[1] for level in found.values())


@cache
def _operations_per_second(dtype: torch.dtype) -> float:
    matrix = torch.ones(SIDE, SIDE, dtype=dtype)
    best = float("inf")
    for _ in range(4):
        began = time.perf_counter()
        matrix @ matrix
        best = min(best, time.perf_counter() - began)
    return 2 * SIDE**3 / best
