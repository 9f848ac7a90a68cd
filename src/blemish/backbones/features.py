"""The features graph: view pixels in, feature vectors of the levels out.

A backbone's graph between what comes before (channels first, mean and deviation) and after (local
averaging, unit length).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import onnx

from blemish.backbones.backbone import Backbone
from blemish.errors import WeightsError
from blemish.graphs.nodes import IR_VERSION, OPSET, Nodes, model, tensor, to_bytes

_NETWORK = "network_"  # before all names of the network's own
_MISFITS = (
    RuntimeError,
    ValueError,
    onnx.checker.ValidationError,
    onnx.shape_inference.InferenceError,
    onnx.version_converter.ConvertError,
)


@dataclass(frozen=True)
class LevelFeatures:
    """What is asked of one level: averaged over `average` pixels, then by `pool` each way.

    With `unit` its vectors have length 1, else that of the network.
    """

    number: int
    output: str
    pool: int = 1
    average: int = 1
    dtype: str = "float32"
    unit: bool = True


def features_graph(
    backbone: Backbone, levels: Sequence[LevelFeatures], size: tuple[int, int]
) -> bytes:
    """Write the graph from `image` [1, H, W, 3] (RGB in [0, 1]) to vectors [1, C, h, w].

    Values are rounded to a level's `dtype`, and float32. Raises WeightsError for a backbone's graph
    that does not fit.
    """
    names = backbone.chosen([level.number for level in levels])
    try:
        network = _network(backbone, names)
        before = _before(backbone, size)
        after = _after(levels)
        first = onnx.compose.merge_models(
            before, network, [("normalised", _NETWORK + backbone.input)]
        )
        # A level that is wanted twice is linked once.
        links = list(
            dict.fromkeys(
                (_NETWORK + name, _raw(level)) for name, level in zip(names, levels, strict=True)
            )
        )
        outputs = [level.output for level in levels]
        joined = onnx.compose.merge_models(first, after, links, outputs=outputs)
        del joined.opset_import[:]  # merging lists each part's own
        joined.opset_import.append(onnx.helper.make_opsetid("", OPSET))
        return to_bytes(joined)
    except _MISFITS as error:
        reason = str(error).strip().partition("\n")[0]
        raise WeightsError(
            f"the graph of {backbone.name} cannot be used ({reason}); it must fit ONNX's opset "
            f"{OPSET}, with one input [batch, 3, height, width] and maps [batch, channels, height, "
            "width] as outputs"
        ) from error


def _network(backbone: Backbone, names: Sequence[str]) -> Any:
    """The backbone's graph as far as these outputs need it."""
    graph = onnx.load_from_string(backbone.graph)
    if [(each.domain, each.version) for each in graph.opset_import] != [("", OPSET)]:
        graph = onnx.version_converter.convert_version(graph, OPSET)
    graph.ir_version = IR_VERSION
    extractor = onnx.utils.Extractor(graph)
    needed = extractor.extract_model([backbone.input], list(dict.fromkeys(names)))
    return onnx.compose.add_prefix(needed, _NETWORK)


def _before(backbone: Backbone, size: tuple[int, int]) -> Any:
    """What every backbone does first: channels before pixels, mean and deviation."""
    nodes = Nodes("before_")
    images = nodes.add("Transpose", "image", perm=[0, 3, 1, 2])
    mean, std = (
        nodes.constant([[[value]] for value in values]) for values in (backbone.mean, backbone.std)
    )
    nodes.add("Div", nodes.add("Sub", images, mean), std, outputs=["normalised"])
    return model(
        nodes.graph(
            "features",
            [tensor("image", (1, *size, 3))],
            [tensor("normalised", (1, 3, *size))],
        )
    )


def _after(levels: Sequence[LevelFeatures]) -> Any:
    nodes = Nodes("after_")
    inputs, outputs = {}, []
    for level in levels:
        value = _raw(level)
        if level.average > 1:
            value = nodes.add(
                "AveragePool", value, kernel_shape=[level.average] * 2,
                pads=[level.average // 2] * 4, count_include_pad=0,
            )  # fmt: skip
        if level.pool > 1:
            side = [level.pool, level.pool]
            value = nodes.add("AveragePool", value, kernel_shape=side, strides=side)
        if level.unit:
            value = nodes.unit(value)
        nodes.add("Identity", nodes.rounded(value, level.dtype), outputs=[level.output])
        raw = [f"raw {side}{level.number}" for side in "Chw"]
        inputs[level.number] = tensor(_raw(level), (1, *raw))
        outputs.append(tensor(level.output, (1, *(f"{side} of {level.output}" for side in "Chw"))))
    return model(nodes.graph("after", list(inputs.values()), outputs))


def _raw(level: LevelFeatures) -> str:
    return f"raw_level{level.number}"
