"""A detector's graphs in the form and precision that were asked for, as a bundle's files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from blemish.bundle import LevelRecord, Precision, Runtime
from blemish.detectors import Detector
from blemish.detectors import Images
from blemish.errors import ExportError
from blemish.export.features import features_graph
from blemish.export.matching import match_graph
from blemish.export.network import network_graph
from blemish.export.spec import graph_spec
from blemish.detectors import HETMM
from blemish.train.tfanet import TFANet


@dataclass(frozen=True)
class Graphs:
    """Files by part, parts by role, and what a runtime must know of them (bundle/graphs.py)."""

    files: dict[str, bytes]
    parts: dict[str, str]
    score: Literal["max", "std"]
    levels: tuple[LevelRecord, ...] = field(default=())


def graphs_of(
    detector: Detector,
    size: tuple[int, int],
    runtime: Runtime,
    precision: Precision,
    images: Images | None,
) -> Graphs:
    """The graphs of a fitted detector for views of `size`; `images` scale what becomes int8."""
    score: Literal["max", "std"] = "max"
    levels: tuple[LevelRecord, ...] = ()
    if isinstance(detector, HETMM):
        made = {"features": features_graph(detector, size), "match": match_graph(detector, size)}
        levels = graph_spec(detector, size).levels
    elif isinstance(detector, TFANet):
        made = {"network": network_graph(detector, size)}
        score = "std" if detector.config.image_score == "std" else "max"
    else:
        raise ExportError(f"the method {detector.method} cannot be exported")
    if precision == "bfloat16" and runtime == "onnxruntime":
        raise ExportError(
            "ONNX Runtime has no bfloat16 on processors; use --to openvino, or int8 or float32"
        )
    if precision == "int8":
        from blemish.export.quantize import quantized

        made = {role: quantized(role, graph, images) for role, graph in made.items()}
    files: dict[str, bytes] = {}
    parts: dict[str, str] = {}
    for role, graph in made.items():
        # OpenVINO's batched product takes three times as long as ONNX Runtime's, and its loops
        # see nothing of what is around them: matching stays where it is fast.
        if runtime == "onnxruntime" or role == "match":
            files[f"{role}.onnx"], parts[role] = graph, f"{role}.onnx"
        else:
            from blemish.export.openvino import to_openvino

            xml, weights = to_openvino(graph)
            files |= {f"{role}.xml": xml, f"{role}.bin": weights}
            parts |= {role: f"{role}.xml", f"{role}-weights": f"{role}.bin"}
    return Graphs(files, parts, score, levels)
