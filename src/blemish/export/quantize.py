"""A network's graph in INT8, its steps set on good images.

Values become multiples of a step (QDQ form: ONNX's QuantizeLinear and DequantizeLinear, which ONNX
Runtime and OpenVINO both compute in whole numbers); steps of weights differ by output channel.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from blemish.detectors import Images
from blemish.errors import ExportError
from blemish.graphs.nodes import to_bytes

MOST_IMAGES = 32  # good images that steps are set on: their smallest and largest values
# Convolutions, and what is a product with learned weights once the runtime has put it in order;
# with a convolution its ReLU6, so that the steps span 0 to 6 and not what is cut off anyway.
# Attention, resizing and smoothing are products too, but of values whose small differences count.
OPERATORS = ("Conv", "Gemm", "Clip")


def quantized(role: str, graph: bytes, images: Images | None) -> bytes:
    """The graph of `role` in INT8, its steps set on good `images` [H, W, 3] in [0, 1].

    `match` and `map` come back as they are: small differences of products near 1.
    """
    if role in ("match", "map"):
        return graph
    if images is None or not len(images):
        raise ExportError("int8 is scaled on good images, and there are none")
    with tempfile.TemporaryDirectory(prefix="blemish-int8-") as folder, _silent():
        whole, simple, small = (
            Path(folder) / f"{name}.onnx" for name in ("whole", "simple", "small")
        )
        whole.write_bytes(graph)
        quant_pre_process(whole, simple, skip_symbolic_shape=True)
        quantize_static(
            simple,
            small,
            _Good(images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(OPERATORS),
            per_channel=True,
            # Processors without 8-bit dot products add two products in 16 bits, which only those
            # with weights of 7 bits are sure to fit in; the bundle may run on such a one.
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return to_bytes(onnx.load(small))


class _Good:
    """Some of the good images, one at a time, as ONNX Runtime's calibration asks for them."""

    def __init__(self, images: Images) -> None:
        step = -(-len(images) // MOST_IMAGES)
        self._images, self._positions = images, iter(range(0, len(images), step))

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        """The next image as the graph's input; None after the last."""
        position = next(self._positions, None)
        if position is None:
            return None
        return {"image": np.ascontiguousarray(self._images[position], np.float32)[None]}


@contextmanager
def _silent() -> Iterator[None]:
    """Without the advice that ONNX Runtime's tools write to the log."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
