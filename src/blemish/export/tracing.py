"""From a PyTorch module to an ONNX model."""

from __future__ import annotations

import onnx
import torch
from torch import Tensor, nn

from blemish.export.nodes import IR_VERSION, OPSET


def traced(
    module: nn.Module, inputs: tuple[Tensor, ...], names: list[str], outputs: list[str]
) -> onnx.ModelProto:
    """`module` in evaluation mode, for inputs of just these shapes."""
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
    assert program is not None  # so it is with dynamo
    found = program.model_proto
    found.ir_version = IR_VERSION
    return found
