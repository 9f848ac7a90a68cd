"""A detector's features as an ONNX graph: view pixels in, unit feature vectors out."""

from __future__ import annotations

from copy import deepcopy

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blemish.errors import WeightsError
from blemish.export.nodes import IR_VERSION, OPSET
from blemish.export.spec import GraphSpec, graph_spec, rounds_to_half
from blemish.features import Backbone
from blemish.features.files import OnnxBackbone
from blemish.hetmm import HETMM


def features_graph(detector: HETMM, size: tuple[int, int]) -> bytes:
    """`image` [1, H, W, 3] (RGB in [0, 1]) of `size` (H, W) in, `HETMM.features` out.

    The outputs are the levels that are on, float32, as `graph_spec` names them. A network that
    runs in half precision computes in float32 here, with the same weights.
    """
    spec = graph_spec(detector, size)
    on = [list(detector.levels).index(level.level) for level in spec.levels]
    tail = _Tail(detector.searched.average, rounds_to_half(detector))
    names = [level.features for level in spec.levels]
    if isinstance(detector.backbone_, OnnxBackbone):
        model = _around_file(detector.backbone_, tail, spec, on, names)
    else:
        network = deepcopy(detector.backbone_).to("cpu").run_in(torch.float32)
        image = torch.zeros(1, *size, 3)
        model = traced(_Features(network, tail, on), (image,), [spec.image], names)
    onnx.checker.check_model(model, full_check=True)
    serialized: bytes = model.SerializeToString()
    return serialized


def traced(
    module: nn.Module, inputs: tuple[Tensor, ...], names: list[str], outputs: list[str]
) -> onnx.ModelProto:
    """`module` as an ONNX model for inputs of just these shapes."""
    with torch.inference_mode(False), torch.no_grad():
        program = torch.onnx.export(
            module.eval(),
            inputs,
            input_names=names,
            output_names=outputs,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # dynamo=True
    model = program.model_proto
    model.ir_version = min(model.ir_version, IR_VERSION)
    return model


class _Features(nn.Module):
    """A backbone and what comes after it; only the levels at positions `on` are kept."""

    def __init__(self, backbone: Backbone, tail: _Tail, on: list[int]) -> None:
        super().__init__()
        self.backbone, self.tail, self.on = backbone, tail, on

    def forward(self, image: Tensor) -> list[Tensor]:
        levels = self.backbone(image.permute(0, 3, 1, 2))
        return self.tail([levels[index] for index in self.on])  # type: ignore[no-any-return]


class _Head(nn.Module):
    """What a backbone does before its network: channels first, mean and deviation."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.mean, self.std = backbone.mean.cpu(), backbone.std.cpu()

    def forward(self, image: Tensor) -> Tensor:
        return (image.permute(0, 3, 1, 2) - self.mean) / self.std


class _Tail(nn.Module):
    """What `HETMM.features` does after the backbone: averaging, unit length, rounding."""

    def __init__(self, average: int, half: bool) -> None:
        super().__init__()
        self.average, self.half_precision = average, half

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        return [self._finished(level) for level in levels]

    def _finished(self, level: Tensor) -> Tensor:
        if self.average > 1:
            level = F.avg_pool2d(level, self.average, 1, self.average // 2, count_include_pad=False)
        # torch's normalize, written so that the lengths are never spread out to the map's size.
        length = torch.linalg.vector_norm(level, dim=1, keepdim=True).clamp_min(1e-12)
        level = level / length
        return level.half().float() if self.half_precision else level


def _around_file(
    backbone: OnnxBackbone, tail: _Tail, spec: GraphSpec, on: list[int], names: list[str]
) -> onnx.ModelProto:
    """The graph of an ONNX file between head and tail."""
    middle = onnx.load_from_string(backbone.graph.cpu().numpy().tobytes())
    image = torch.zeros(1, spec.height, spec.width, 3)
    head = traced(_Head(backbone), (image,), [spec.image], ["normalised"])
    levels = [torch.zeros(1, level.channels, level.height, level.width) for level in spec.levels]
    raw = [f"raw_{name}" for name in names]
    last = traced(_Tail(tail.average, tail.half_precision), (levels,), raw, names)
    outputs = [backbone.outputs[index] for index in on]
    try:
        middle = onnx.version_converter.convert_version(middle, OPSET)
        middle.ir_version = head.ir_version = last.ir_version = IR_VERSION
        middle = onnx.compose.add_prefix(middle, "network_")
        model = onnx.compose.merge_models(
            head, middle, [("normalised", f"network_{backbone.input}")]
        )
        pairs = [(f"network_{name}", into) for name, into in zip(outputs, raw, strict=True)]
        return onnx.compose.merge_models(model, last, pairs, outputs=names)
    except Exception as error:  # onnx raises several kinds, its C++ core among them
        raise WeightsError(
            f"the graph of {backbone.name} cannot become part of an exported one ({error}); save "
            f"it again with ONNX's opset {OPSET} and one input [batch, 3, height, width]"
        ) from error
