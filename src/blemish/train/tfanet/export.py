"""TFA-Net as one ONNX graph: view pixels in, anomaly map out.

The backbone's graph, followed by what the detector does in another layout: features stay patch
vectors, channels last, as the head gives its reconstruction. Then embedding is one product, and
neither the reconstruction nor what is summed over channels has to be turned round.

Letters: G the features' side, K a patch's, N = (G / K)^2 patches, C channels, D the tokens' width.
"""

from __future__ import annotations

from copy import deepcopy

import onnx
import torch
from torch import Tensor, nn

from blemish.graphs.nodes import OPSET, to_bytes
from blemish.train.maps import axis_matrix
from blemish.train.tfanet.detector import TFANet
from blemish.train.tfanet.scoring import combine
from blemish.train.tracing import traced

SHORTEST = 1e-8  # vectors are divided by no less, as in torch's cosine_similarity
_HEAD = "head_"  # before all names of the part after the backbone


def network_graph(detector: TFANet) -> bytes:
    """Write the graph from `image` [1, H, W, 3] (RGB in [0, 1]) to `anomaly_map` [1, H, W].

    A network that inspects in half precision computes in float32 here, with the same weights.
    """
    backbone, size = detector.backbone_, detector.hw
    levels = detector.extractor_.levels(torch.zeros(1, 3, *size))
    head = _Head(detector, size, [level.shape[-2:] for level in levels])
    zeros = tuple(torch.zeros(level.shape) for level in levels)
    model = traced(head, zeros, backbone.outputs, ["anomaly_map"])
    before = onnx.load_from_string(backbone.graph)
    links = [(name, _HEAD + name) for name in backbone.outputs]
    after = onnx.compose.add_prefix(model, _HEAD)
    joined = onnx.compose.merge_models(before, after, links)
    joined.graph.output[0].name = "anomaly_map"
    for node in joined.graph.node:
        for position, name in enumerate(node.output):
            if name == f"{_HEAD}anomaly_map":
                node.output[position] = "anomaly_map"
    del joined.opset_import[:]  # merging lists each part's own
    joined.opset_import.append(onnx.helper.make_opsetid("", OPSET))
    return to_bytes(joined)


class _Head(nn.Module):
    """A trained detector after its backbone as one module, for one image."""

    embedding: Tensor
    bias: Tensor

    def __init__(self, detector: TFANet, size: tuple[int, int], shapes: list[torch.Size]) -> None:
        super().__init__()
        self.normalize = detector.extractor_.normalize
        self.network = deepcopy(detector.network_).cpu()
        tokens, embed = detector.template_tokens_, self.network.embed
        self.templates = None if tokens is None else tokens.cpu()
        self.config, self.size = self.network.config, size
        assert embed.bias is not None  # it is made with one
        weight = embed.weight.detach()  # [D, C, K, K]
        self.register_buffer("embedding", weight.permute(2, 3, 1, 0).flatten(0, 2))  # [K K C, D]
        assert embed.bias is not None  # `build_network` gives it one
        self.register_buffer("bias", embed.bias.detach())
        # Matrices that are made before the tracing are constants of the graph.
        for length in size:
            axis_matrix(self.config.grid, length, self.config.sigma)
        self.axes = [_axes(shape, self.config.grid) for shape in shapes]

    def forward(self, *levels: Tensor) -> Tensor:
        patches = self._patches(list(levels))  # [N, K K C]
        embedded = patches @ self.embedding + self.bias  # [N, D]
        rebuilt = self.network.reconstruct_tokens(embedded[None], self.templates)
        return self._map(patches, rebuilt[0])

    def _patches(self, levels: list[Tensor]) -> Tensor:
        """The fused features as patch vectors [N, K K C]."""
        grid, patch = self.config.grid, self.config.patch
        resized = [_resized(x[0], axes) for x, axes in zip(levels, self.axes, strict=True)]
        fused = torch.cat(resized, dim=-1)  # [G, G, C]
        if self.normalize:
            fused = torch.nn.functional.normalize(fused, dim=-1)
        cells = fused.reshape(grid // patch, patch, grid // patch, patch, -1)
        return cells.transpose(1, 2).reshape(self.network.tokens, -1)

    def _map(self, patches: Tensor, rebuilt: Tensor) -> Tensor:
        """The anomaly map [1, H, W] of patch vectors and their reconstruction [N, K K C]."""
        channels = self.network.channels
        features, rebuilt = patches.reshape(-1, channels), rebuilt.reshape(-1, channels)
        distance = torch.linalg.vector_norm(features - rebuilt, dim=-1)  # [N K K]
        if self.config.euclid == "mean-sq":
            distance = distance.square() / channels
        lengths = [
            torch.linalg.vector_norm(x, dim=-1).clamp(min=SHORTEST) for x in (features, rebuilt)
        ]
        cosine = (features * rebuilt).sum(-1) / (lengths[0] * lengths[1])
        angle = (1 - cosine).clamp(min=0)
        return combine(self._pixels(distance), self._pixels(angle), self.config, self.size)

    def _pixels(self, values: Tensor) -> Tensor:
        """Values of all patches' pixels [N K K] as a map [1, G, G]."""
        grid, patch = self.config.grid, self.config.patch
        cells = values.reshape(grid // patch, grid // patch, patch, patch)
        return cells.transpose(1, 2).reshape(1, grid, grid)


def _axes(shape: torch.Size, grid: int) -> tuple[Tensor, Tensor] | None:
    """Bilinear resizing with aligned corners, a matrix an axis; None where nothing changes."""
    height, width = shape
    if (height, width) == (grid, grid):
        return None
    return axis_matrix(height, grid, 0.0).float(), axis_matrix(width, grid, 0.0).float()


def _resized(level: Tensor, axes: tuple[Tensor, Tensor] | None) -> Tensor:
    """A level [C, h, w] at the common size, channels last: [G, G, C]."""
    pixels = level.permute(1, 2, 0)  # (h, w, C)
    if axes is None:
        return pixels
    rows, columns = axes
    height, width, _ = pixels.shape
    enlarged = (rows @ pixels.reshape(height, -1)).reshape(len(rows), width, -1)
    return columns @ enlarged  # one product a row
