"""A detector's features as an ONNX graph: view pixels in, unit feature vectors out.

The network comes from PyTorch, or is the ONNX file that a backbone was made of; what HETMM does
before and after it is written around it.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import onnx
import torch
from torch import Tensor, nn

from blemish.bundle import LevelRecord
from blemish.errors import WeightsError
from blemish.graphs.nodes import IR_VERSION, OPSET, Nodes, model, tensor, to_bytes
from blemish.export.spec import GraphSpec, graph_spec
from blemish.export.tracing import traced
from blemish.features import Backbone
from blemish.features.files import OnnxBackbone
from blemish.detectors import HETMM
from blemish.detectors.hetmm.storing import storage_dtype

_MISFITS = (
    RuntimeError,
    ValueError,
    onnx.checker.ValidationError,
    onnx.shape_inference.InferenceError,
    onnx.version_converter.ConvertError,
)
_NETWORK = "network_"  # before all names of the network's own


def features_graph(detector: HETMM, size: tuple[int, int]) -> bytes:
    """`image` [1, H, W, 3] (RGB in [0, 1]) of `size` (H, W) in, `HETMM.features` out.

    The outputs are the levels that are on, float32, as `graph_spec` names them. A network that
    runs in half precision computes in float32 here, with the same weights.
    """
    spec = graph_spec(detector, size)
    positions = [list(detector.levels).index(level.level) for level in spec.levels]
    backbone = detector.backbone_
    try:
        if isinstance(backbone, OnnxBackbone):
            network = _from_file(backbone, positions)
        else:
            network = _from_torch(backbone, positions, size)
        return to_bytes(_joined(detector, spec, network))
    except _MISFITS as error:
        reason = str(error).strip().partition("\n")[0]
        raise WeightsError(
            f"the graph of {backbone.name} cannot become part of an exported one ({reason}); it "
            f"must fit ONNX's opset {OPSET}, with one input [batch, 3, height, width] and maps "
            "[batch, channels, height, width] as outputs"
        ) from error


@dataclass(frozen=True)
class _Network:
    """A network from normalised images `entry` to its maps `outputs`."""

    model: onnx.ModelProto
    entry: str
    outputs: list[str]


def _joined(detector: HETMM, spec: GraphSpec, network: _Network) -> onnx.ModelProto:
    """The network between what comes before and after it."""
    before = _before(detector.backbone_, spec)
    dtype = str(storage_dtype(detector.precision)).removeprefix("torch.")
    after = _after(spec.levels, detector.searched.average, dtype)
    renamed = onnx.compose.add_prefix(network.model, _NETWORK)
    first = onnx.compose.merge_models(before, renamed, [("normalised", _NETWORK + network.entry)])
    pairs = zip(network.outputs, spec.levels, strict=True)
    links = [(_NETWORK + name, _raw(level)) for name, level in pairs]
    names = [level.features for level in spec.levels]
    joined = onnx.compose.merge_models(first, after, links, outputs=names)
    del joined.opset_import[:]  # merging lists each part's own
    joined.opset_import.append(onnx.helper.make_opsetid("", OPSET))
    return joined


class _Pyramid(nn.Module):
    """The maps of a backbone at some positions, from normalised images."""

    def __init__(self, backbone: Backbone, positions: list[int]) -> None:
        super().__init__()
        self.backbone, self.positions = backbone, positions

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = self.backbone.pyramid(images)
        return [maps[position] for position in self.positions]


def _from_torch(backbone: Backbone, positions: list[int], size: tuple[int, int]) -> _Network:
    network = deepcopy(backbone).to("cpu").run_in(torch.float32)
    entry, outputs = "images", [f"map{position}" for position in positions]
    images = torch.zeros(1, 3, *size)
    model = traced(_Pyramid(network, positions), (images,), [entry], outputs)
    return _Network(model, entry, outputs)


def _from_file(backbone: OnnxBackbone, positions: list[int]) -> _Network:
    graph = onnx.load_from_string(backbone.graph.cpu().numpy().tobytes())
    graph = onnx.version_converter.convert_version(graph, OPSET)
    graph.ir_version = IR_VERSION
    return _Network(graph, backbone.input, [backbone.outputs[position] for position in positions])


def _before(backbone: Backbone, spec: GraphSpec) -> onnx.ModelProto:
    """What every backbone does first: channels before pixels, mean and deviation."""
    nodes = Nodes("before_")
    images = nodes.add("Transpose", spec.image, perm=[0, 3, 1, 2])
    mean, std = (nodes.constant(value.cpu().numpy()) for value in (backbone.mean, backbone.std))
    nodes.add("Div", nodes.add("Sub", images, mean), std, outputs=["normalised"])
    shape = (1, spec.height, spec.width, 3)
    return model(
        nodes.graph(
            "features",
            [tensor(spec.image, shape)],
            [tensor("normalised", (1, 3, spec.height, spec.width))],
        )
    )


def _after(levels: tuple[LevelRecord, ...], average: int, dtype: str) -> onnx.ModelProto:
    """What `HETMM.features` does with the maps: averaging, unit length, rounding."""
    nodes = Nodes("after_")
    inputs, outputs = [], []
    for level in levels:
        value = _raw(level)
        if average > 1:
            value = nodes.add(
                "AveragePool",
                value,
                kernel_shape=[average, average],
                pads=[average // 2] * 4,
                count_include_pad=0,
            )
        unit = nodes.rounded(nodes.unit(value), dtype)
        nodes.add("Identity", unit, outputs=[level.features])
        shape = (1, level.channels, level.height, level.width)
        inputs.append(tensor(_raw(level), shape))
        outputs.append(tensor(level.features, shape))
    return model(nodes.graph("after", inputs, outputs))


def _raw(level: LevelRecord) -> str:
    return f"raw_{level.features}"
