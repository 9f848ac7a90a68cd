"""One loaded graph, whatever runs it: named arrays in, named arrays out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from blemish.bundle import Precision
from blemish.errors import BlemishError, BundleError, MissingExtraError, ParameterError

Arrays = Mapping[str, npt.NDArray[Any]]


class Session(Protocol):
    """A graph that threads may run at once."""

    def run(self, inputs: Arrays) -> dict[str, npt.NDArray[np.float32]]:
        """All outputs by name."""
        ...


def open_openvino(precision: Precision, graph: bytes, weights: bytes, where: str) -> Session:
    """Load a graph through OpenVINO; `where` names it in errors."""
    from blemish.graphs.openvino import OpenVinoSession

    return OpenVinoSession(graph, weights, precision, where)


class OnnxSession:
    """ONNX Runtime on the processor."""

    def __init__(
        self, graph: bytes, where: str, error_type: type[BlemishError] = BundleError
    ) -> None:
        import onnxruntime

        try:
            self._session = onnxruntime.InferenceSession(
                graph, onnx_options(), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its C++ core raises several kinds with no common base
            raise error_type(
                f"{where} cannot be loaded by ONNX Runtime {onnxruntime.__version__} "
                f"({first_line(error)}); make it again"
            ) from error
        self._where, self._error_type = where, error_type
        self.inputs = [each.name for each in self._session.get_inputs()]
        self.outputs = [each.name for each in self._session.get_outputs()]

    def run(
        self, inputs: Arrays, outputs: Sequence[str] | None = None
    ) -> dict[str, npt.NDArray[np.float32]]:
        """All outputs by name, or those asked for."""
        names = self.outputs if outputs is None else list(outputs)
        try:
            found = self._session.run(names, dict(inputs))
        except Exception as error:  # as above: a foreign graph that takes other images, say
            raise self._error_type(
                f"{self._where} cannot be run by ONNX Runtime ({first_line(error)}); make it again"
            ) from error
        return dict(zip(names, found, strict=True))


def onnx_options() -> Any:
    """How ONNX Runtime is told to run: all cores, and no thread that spins while others work."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads()
    # An inspector has two graphs with a pool of threads each; those that spin after their own
    # graph is done would take the cores from the other.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # nothing: errors are raised, warnings tell of its making
    return options


def threads() -> int:
    """Threads a graph runs on: BLEMISH_THREADS, or one a core that this process may use."""
    asked = os.environ.get("BLEMISH_THREADS", "")
    if not asked:
        return (
            len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count() or 1
        )
    if not asked.isdecimal() or int(asked) < 1:
        raise ParameterError(f"BLEMISH_THREADS is '{asked}'; give a whole number of threads")
    return int(asked)


def first_line(error: BaseException) -> str:
    """An error's first line, not too long for a sentence."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def missing_openvino(error: ImportError) -> MissingExtraError:
    """What to say where OpenVINO is asked for and not installed."""
    return MissingExtraError(
        f"this bundle was exported for OpenVINO, which is not installed here ({error}); install it "
        "with: pip install 'blemish[openvino]'"
    )
