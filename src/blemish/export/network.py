"""TFA-Net as one ONNX graph: view pixels in, anomaly map out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from blemish.export.nodes import to_bytes
from blemish.export.tracing import traced
from blemish.tfanet import TFANet


def network_graph(detector: TFANet, size: tuple[int, int]) -> bytes:
    """`image` [1, H, W, 3] (RGB in [0, 1]) of `size` (H, W) in, `anomaly_map` [1, H, W] out."""
    image = torch.zeros(1, *size, 3)
    model = traced(_Network(detector), (image,), ["image"], ["anomaly_map"])
    return to_bytes(model)


class _Network(nn.Module):
    """A trained detector as one module."""

    def __init__(self, detector: TFANet) -> None:
        super().__init__()
        self.extractor, self.network = detector.extractor_, detector.network_
        self.detector = detector

    def forward(self, image: Tensor) -> Tensor:
        return self.detector.anomaly_maps(image.permute(0, 3, 1, 2))
