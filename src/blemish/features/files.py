"""A backbone from an ONNX file: any graph with one image input and feature maps as outputs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from blemish.errors import ParameterError, WeightsError
from blemish.features.backbone import Backbone


class OnnxBackbone(Backbone):
    """Runs an ONNX graph on the CPU.

    Input [B, 3, H, W] (RGB, ImageNet mean and deviation applied), outputs [B, C_l, H_l, W_l], of
    which `levels` picks by position (1 is the first).
    """

    graph: Tensor

    def __init__(self, name: str, graph: bytes, *, levels: Sequence[int]) -> None:
        super().__init__(name)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        try:
            self.session = onnxruntime.InferenceSession(
                graph, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime raises its own unexported kinds
            raise WeightsError(f"{name} is not an ONNX graph that can run here: {error}") from error
        outputs = [output.name for output in self.session.get_outputs()]
        if max(levels) > len(outputs) or min(levels) < 1:
            raise ParameterError(
                f"{name} has {len(outputs)} outputs (levels 1 to {len(outputs)}); "
                f"levels {list(levels)} were asked for"
            )
        self.outputs = [outputs[level - 1] for level in levels]
        self.input = self.session.get_inputs()[0].name
        # In a bundle the graph is a tensor of bytes, so that bundles hold one kind of file.
        self.register_buffer("graph", torch.from_numpy(np.frombuffer(graph, np.uint8).copy()))
        self.weights_sha256 = hashlib.sha256(graph).hexdigest()

    @classmethod
    def from_file(cls, path: Path, *, levels: Sequence[int]) -> OnnxBackbone:
        """Read the graph at `path`."""
        if not path.is_file():
            raise WeightsError(f"{path} is not a file; give the path of an .onnx file")
        return cls(path.name, path.read_bytes(), levels=levels)

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """The graph's outputs for normalised images."""
        array = images.float().cpu().contiguous().numpy()
        maps = self.session.run(self.outputs, {self.input: array})
        for name, value in zip(self.outputs, maps, strict=True):
            if value.ndim != 4 or len(value) != len(array):
                raise WeightsError(
                    f"{self.name}: output '{name}' has shape {list(value.shape)}; a feature map is "
                    "[batch, channels, height, width]"
                )
        return [torch.from_numpy(value).to(images.device) for value in maps]
