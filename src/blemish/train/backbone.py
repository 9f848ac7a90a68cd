"""A backbone's graph as a PyTorch module: ONNX Runtime computes, tensors go in and out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from blemish.backbones import Backbone, LevelFeatures, features_graph
from blemish.graphs.sessions import OnnxSession


class GraphBackbone(nn.Module):
    """Images [B, 3, H, W] (RGB in [0, 1]) to maps [B, C_l, H_l, W_l] of the levels, finest first.

    `graph` takes one image of its own size at a time; it is frozen, and runs on the processor.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        graph: bytes,
        levels: Sequence[int],
        *,
        weights_sha256: str | None = None,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
    ) -> None:
        super().__init__()
        self.name, self.graph, self.weights_sha256 = name, graph, weights_sha256
        self.outputs = [output_name(level) for level in levels]
        self._session = OnnxSession(graph, name)
        self.register_buffer("mean", torch.tensor(tuple(mean)).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(tuple(std)).view(1, 3, 1, 1), persistent=False)

    @classmethod
    def of(cls, backbone: Backbone, levels: Sequence[int], hw: tuple[int, int]) -> GraphBackbone:
        """Wrap a backbone for images of `hw` (height, width)."""
        asked = [LevelFeatures(level, output_name(level), unit=False) for level in levels]
        return cls(
            backbone.name, features_graph(backbone, asked, hw), levels,
            weights_sha256=backbone.weights_sha256, mean=backbone.mean, std=backbone.std,
        )  # fmt: skip

    @torch.no_grad()
    def forward(self, images: Tensor) -> list[Tensor]:
        """Compute the maps, image by image."""
        pixels = images.detach().movedim(1, -1).float().cpu().numpy()
        found = [
            self._session.run({"image": np.ascontiguousarray(image)[None]}, self.outputs)
            for image in pixels
        ]
        return [
            torch.from_numpy(np.concatenate([maps[name] for maps in found])).to(images.device)
            for name in self.outputs
        ]


def output_name(level: int) -> str:
    """Name a level's output of the graph."""
    return f"level{level}"
