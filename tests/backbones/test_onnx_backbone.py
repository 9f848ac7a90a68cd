"""A backbone from an ONNX file: a tiny hand-made graph of average pools."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
import torch.nn.functional as F
from blemish.features import create_backbone, restore_backbone
from blemish.features.backbone import IMAGENET_MEAN, IMAGENET_STD
from onnx import TensorProto, helper

from blemish.errors import ParameterError, WeightsError

STRIDES = (4, 8, 16)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A graph with one image input and three outputs, means over 4x4, 8x8 and 16x16."""
    shape = ["n", 3, "h", "w"]
    nodes = [
        helper.make_node(
            "AveragePool", ["image"], [f"level{s}"], kernel_shape=[s, s], strides=[s, s]
        )
        for s in STRIDES
    ]
    outputs = [
        helper.make_tensor_value_info(f"level{s}", TensorProto.FLOAT, shape) for s in STRIDES
    ]
    made = helper.make_graph(
        nodes, "pools", [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)], outputs
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path = tmp_path_factory.mktemp("graphs") / "pools.onnx"
    onnx.save(model, path)
    return path


def test_maps_are_the_graphs_outputs(graph: Path) -> None:
    """The graph sees the normalised image, and levels pick its outputs by position."""
    images = torch.rand(2, 3, 32, 32)
    backbone = create_backbone(str(graph), levels=(1, 3))
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    normal = (images - mean) / std
    for found, stride in zip(backbone(images), (4, 16), strict=True):
        torch.testing.assert_close(found, F.avg_pool2d(normal, stride), atol=1e-5, rtol=1e-5)
    assert (backbone.name, len(backbone.weights_sha256 or "")) == ("pools.onnx", 64)


def test_restored_graph_is_bit_equal(graph: Path) -> None:
    """A bundle keeps the graph itself: it runs where the file is not."""
    images = torch.rand(1, 3, 32, 32)
    backbone = create_backbone(str(graph))
    again = restore_backbone(
        backbone.name,
        backbone.tensors(),
        levels=(1, 2, 3),
        taps="pre",
        weights_sha256=backbone.weights_sha256,
    )
    assert all(torch.equal(a, b) for a, b in zip(backbone(images), again(images), strict=True))


def test_bad_graphs(graph: Path, tmp_path: Path) -> None:
    """No file, no graph, and more levels than outputs are each one sentence."""
    with pytest.raises(WeightsError, match=r"nothing\.onnx is not a file"):
        create_backbone("nothing.onnx")
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(WeightsError, match=r"text\.onnx is not an ONNX graph that can run here"):
        create_backbone(str(tmp_path / "text.onnx"))
    for levels in ((1, 4), (0, 1)):
        with pytest.raises(ParameterError, match="has 3 outputs"):
            create_backbone(str(graph), levels=levels)
