"""Graphs through OpenVINO on the processor."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from blemish.bundle import Precision
from blemish.errors import BundleError, ParameterError
from blemish.graphs.sessions import Arrays, first_line, missing_openvino, threads


class OpenVinoSession:
    """A compiled model; each thread that runs it takes a request of its own."""

    def __init__(self, graph: bytes, weights: bytes, precision: Precision, where: str) -> None:
        try:
            import openvino
        except ImportError as error:
            raise missing_openvino(error) from error
        core = openvino.Core()
        if precision == "bfloat16" and not has_bfloat16(core):
            raise ParameterError(
                f"{where} computes in bfloat16, which this processor does not have; export the "
                "bundle in float32 or int8"
            )
        # OpenVINO would run in bfloat16 unasked wherever the processor can.
        hint = "bf16" if precision == "bfloat16" else "f32"
        try:
            model = core.read_model(graph, weights)
            self._model = core.compile_model(
                model,
                "CPU",
                {
                    "INFERENCE_PRECISION_HINT": hint,
                    "PERFORMANCE_HINT": "LATENCY",
                    "INFERENCE_NUM_THREADS": threads(),
                },
            )
        except Exception as error:  # its C++ core raises RuntimeError and others
            raise BundleError(
                f"{where} cannot be loaded by OpenVINO {openvino.__version__} "
                f"({first_line(error)}); export the bundle again"
            ) from error
        # An output also goes by the names of what it is equal to inside the graph.
        self._names = [output.get_names() for output in self._model.outputs]

    def run(self, inputs: Arrays) -> dict[str, npt.NDArray[np.float32]]:
        """All outputs by name."""
        request = self._model.create_infer_request()
        found = request.infer(dict(inputs), share_inputs=True)
        results = [np.array(found[index]) for index in range(len(self._names))]
        return {
            name: result
            for names, result in zip(self._names, results, strict=True)
            for name in names
        }


def has_bfloat16(core: Any) -> bool:
    """Whether this processor multiplies in bfloat16."""
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
