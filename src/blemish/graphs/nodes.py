"""A little writer of ONNX graphs: nodes in order, constants and names looked after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 18  # the oldest with everything that is used here
IR_VERSION = 9  # what ONNX Runtime 1.20, the oldest allowed, and OpenVINO read
SMALLEST_LENGTH = 1e-12

Dimension = int | str  # a name stands for a length that may change from call to call


class Nodes:
    """Nodes of one graph or of the body of one loop; `add` gives the name of what it computes."""

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def add(self, operator: str, *inputs: str, outputs: Sequence[str] = (), **options: Any) -> str:
        """Append a node; its first output's name."""
        names = list(outputs) or [f"{self._prefix}{operator}_{len(self._nodes)}"]
        self._nodes.append(helper.make_node(operator, list(inputs), names, names[0], **options))
        return names[0]

    def constant(self, value: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        """Keep an array in the graph."""
        name = f"{self._prefix}constant_{len(self._constants)}"
        array = np.ascontiguousarray(np.asarray(value, dtype))
        self._constants.append(numpy_helper.from_array(array.reshape(np.shape(value)), name))
        return name

    def reshape(self, value: str, *shape: int) -> str:
        """`value` in another shape; one side may be -1."""
        return self.add("Reshape", value, self.constant(shape, np.int64))

    def largest(self, value: str, *axes: int, outputs: Sequence[str] = ()) -> str:
        """The maximum over `axes`."""
        over = self.constant(axes, np.int64)
        return self.add("ReduceMax", value, over, keepdims=0, outputs=outputs)

    def part(self, value: str, axes: Sequence[int], start: int, sizes: Sequence[int]) -> str:
        """`sizes` elements from `start` along each of `axes`."""
        ends = [start + size for size in sizes]
        limits = [self.constant(each, np.int64) for each in ([start] * len(axes), ends, axes)]
        return self.add("Slice", value, *limits)

    def unit(self, value: str) -> str:
        """Vectors along axis 1 at length 1; as with torch's normalize a zero vector stays one."""
        length = self.add("ReduceL2", value, self.constant([1], np.int64), keepdims=1)
        longer = self.add("Max", length, self.constant(SMALLEST_LENGTH))
        return self.add("Div", value, longer)

    def rounded(self, value: str, dtype: str) -> str:
        """`value` rounded to a half-precision type, and float32 again."""
        if dtype == "float32":
            return value
        half = self.add("Cast", value, to=getattr(TensorProto, dtype.upper()))
        return self.add("Cast", half, to=TensorProto.FLOAT)

    def graph(
        self,
        name: str,
        inputs: Sequence[onnx.ValueInfoProto],
        outputs: Sequence[onnx.ValueInfoProto],
    ) -> onnx.GraphProto:
        """The graph of all nodes so far."""
        return helper.make_graph(
            self._nodes, name, list(inputs), list(outputs), initializer=self._constants
        )


def tensor(name: str, shape: Sequence[Dimension], kind: int = TensorProto.FLOAT) -> Any:
    """An input's or an output's declaration."""
    return helper.make_tensor_value_info(name, kind, list(shape))


def model(graph: onnx.GraphProto) -> onnx.ModelProto:
    """A model of `graph`."""
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="blemish",
    )


def to_bytes(model: onnx.ModelProto) -> bytes:
    """The model as a file's bytes, checked."""
    onnx.checker.check_model(model, full_check=True)
    serialized: bytes = model.SerializeToString()
    return serialized
