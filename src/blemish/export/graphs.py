"""A detector's graphs in the form and precision that were asked for, as a bundle's files."""

from __future__ import annotations

from collections.abc import Mapping

from blemish.bundle import GraphsRecord, Precision, Runtime
from blemish.detectors import Detector, Images
from blemish.errors import ExportError
from blemish.extras import load_train


def graphs_of(
    detector: Detector, runtime: Runtime, precision: Precision, images: Images | None
) -> tuple[GraphsRecord, dict[str, bytes]]:
    """Convert a fitted detector's graphs; `images` [H, W, 3] scale what becomes int8.

    HETMM runs graphs as it is, so that of its features is only run in another way; TFA-Net's
    network becomes one. Gives the record and the files by part. Raises ExportError.
    """
    record, files = detector.graphs()
    if record is None:
        raise ExportError(f"the method {detector.method} cannot be exported")
    if (record.runtime, record.precision) != ("onnxruntime", "float32"):
        raise ExportError(
            f"this bundle was exported already, to {record.runtime} in {record.precision}; export "
            "the bundle that it was made from"
        )
    if precision == "bfloat16" and runtime == "onnxruntime":
        raise ExportError(
            "ONNX Runtime has no bfloat16 on processors; use --to openvino, or int8 or float32"
        )
    if detector.method == "tfanet" and "network" not in record.parts:
        module = load_train("tfanet.export", "exporting a trained TFA-Net")
        made = {"network": module.network_graph(detector)}
    else:
        made = {role: files[part] for role, part in record.parts.items()}
    files, parts = _files(made, runtime, precision, images)
    asked = {"runtime": runtime, "precision": precision, "parts": parts}
    return record.model_copy(update=asked), files


def _files(
    made: Mapping[str, bytes], runtime: Runtime, precision: Precision, images: Images | None
) -> tuple[dict[str, bytes], dict[str, str]]:
    if precision == "int8":
        from blemish.export.quantize import quantized

        made = {role: quantized(role, graph, images) for role, graph in made.items()}
    files: dict[str, bytes] = {}
    parts: dict[str, str] = {}
    for role, graph in made.items():
        # OpenVINO's batched product takes three times as long as ONNX Runtime's: matching stays
        # where it is fast.
        if runtime == "onnxruntime" or role in ("match", "map"):
            files[f"{role}.onnx"], parts[role] = graph, f"{role}.onnx"
        else:
            from blemish.export.to_openvino import to_openvino

            xml, weights = to_openvino(graph)
            files |= {f"{role}.xml": xml, f"{role}.bin": weights}
            parts |= {role: f"{role}.xml", f"{role}-weights": f"{role}.bin"}
    return files, parts
