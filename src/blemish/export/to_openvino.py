"""From an ONNX graph to OpenVINO's form: a description and the weights beside it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from blemish.errors import MissingExtraError


def to_openvino(graph: bytes) -> tuple[bytes, bytes]:
    """The `.xml` and the `.bin` of an ONNX graph, weights in float32.

    Raises MissingExtraError where OpenVINO is not installed.
    """
    try:
        import openvino
    except ImportError as error:
        raise MissingExtraError(
            f"exporting for OpenVINO needs OpenVINO, which is not installed here ({error}); "
            "install it with: pip install 'blemish[openvino]'"
        ) from error
    # Its own `convert_model` would report to a server that it was called.
    model = openvino.Core().read_model(graph)
    with tempfile.TemporaryDirectory(prefix="blemish-openvino-") as folder:
        xml = Path(folder) / "graph.xml"
        openvino.save_model(model, xml, compress_to_fp16=False)
        return xml.read_bytes(), xml.with_suffix(".bin").read_bytes()
