"""Table 3's columns, measured and counted here: frames a second, MACs and parameters."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from blemish.train.tfanet.macs import table3_cost, tapped_backbone, untrimmed
from blemish.train.tfanet.network import build_network, fuse
from blemish.train.tfanet.presets import PRESETS
from blemish.train.tfanet.scoring import anomaly_maps, image_scores

WARMUP = 2
SIZE = 256


@dataclass(frozen=True)
class Printed:
    """A row of Table 3 as the paper prints it; its "FLOPs" are MACs (`macs`)."""

    image_auroc: float
    pixel_auroc: float
    fps: float
    macs_g: float
    params_m: float


PRINTED = {
    "mobilenet_v2": Printed(94.5, 94.6, 23.4, 51.41, 112.86),
    "vgg19": Printed(97.6, 96.6, 18.5, 104.38, 140.93),
    "wide_resnet50_2": Printed(98.7, 98.3, 15.3, 89.91, 173.57),
    "wide_resnet101_2": Printed(98.8, 98.5, 10.0, 119.65, 231.58),
}


@dataclass(frozen=True)
class Row:
    """One backbone: what was measured and counted here, and what the paper prints."""

    backbone: str
    fps_published: float
    """Images a second, one at a time, template recomputed for each."""
    fps_ours: float
    """The same with the template's tokens kept and unused tokens skipped."""
    macs_g: float
    """As Table 3 counts."""
    params_m: float
    """As Table 3 counts."""
    true_macs_g: float
    """Attention's products counted too, norms not."""
    cached_macs_g: float
    """What ours spends."""
    paper: Printed

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def measure_row(backbone: str, device: torch.device, *, repeats: int = 5) -> Row:
    """Time and count TFA-Net on one of Table 3's backbones, with random weights."""
    cost = table3_cost(backbone)
    published, ours = measure_fps(backbone, device, repeats=repeats)
    return Row(
        backbone=backbone,
        fps_published=round(published, 3),
        fps_ours=round(ours, 3),
        macs_g=round(cost.table_macs / 1e9, 2),
        params_m=round(cost.table_params / 1e6, 2),
        true_macs_g=round(cost.full_macs / 1e9, 2),
        cached_macs_g=round(cost.cached_macs / 1e9, 2),
        paper=PRINTED[backbone],
    )


@torch.inference_mode()
def measure_fps(backbone: str, device: torch.device, *, repeats: int = 5) -> tuple[float, float]:
    """Images a second as published and as ours, from pixels to score, at batch 1 in float32."""
    config = PRESETS["release"]
    extractor = tapped_backbone(backbone).to(device)
    image, template = torch.rand(2, 1, 3, SIZE, SIZE, device=device)
    normalize = config.normalizes(backbone)

    def features(pixels: torch.Tensor) -> torch.Tensor:
        return fuse(list(extractor(pixels).values()), config.grid, normalize=normalize)

    channels = features(image).shape[1]
    network = build_network(channels, config).eval().to(device)
    tokens = network.encode_template(features(template))

    def score(phi: torch.Tensor, rebuilt: torch.Tensor) -> torch.Tensor:
        maps = anomaly_maps(phi, rebuilt, config, size=(SIZE, SIZE))
        return image_scores(maps, config).cpu()  # what waits for an accelerator to be done

    def published() -> None:
        phi = features(image)
        score(phi, network(phi, features(template)))

    def ours() -> None:
        phi = features(image)
        score(phi, network(phi, template_tokens=tokens))

    with untrimmed(network):
        slow = median_seconds(published, repeats)
    return 1 / slow, 1 / median_seconds(ours, repeats)


def median_seconds(work: Callable[[], None], repeats: int) -> float:
    """The median time of `repeats` calls, after a few that are not timed."""
    for _ in range(WARMUP):
        work()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)
