"""From a PyTorch module to an ONNX model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from blemish.graphs.nodes import IR_VERSION, OPSET


def traced(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    names: list[str],
    outputs: list[str],
    *,
    any_size: bool = False,
) -> Any:
    """Trace `module` in evaluation mode, for inputs of just these shapes.

    With `any_size` the one input [B, 3, H, W] may have any other batch, height and width.
    """
    sides = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    with torch.inference_mode(False), torch.no_grad():
        program = torch.onnx.export(
            module.eval(),
            inputs,
            input_names=names,
            output_names=outputs,
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=(sides,) if any_size else None,
            verbose=False,
        )
    assert program is not None  # so it is with dynamo
    found = program.model_proto
    found.ir_version = IR_VERSION
    return found
