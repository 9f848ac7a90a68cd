"""A backbone from an ONNX file: a tiny hand-made graph of average pools, and misfits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from blemish.backbones import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Backbone,
    LevelFeatures,
    create_backbone,
    features_graph,
)
from blemish.detectors import HETMM
from blemish.errors import BundleError, ParameterError, WeightsError
from blemish.graphs.sessions import OnnxSession

STRIDES = (4, 8, 16)


def pools(
    strides: Sequence[int] = STRIDES,
    *,
    image: Sequence[Any] = ("n", 3, "h", "w"),
    kind: int = TensorProto.FLOAT,
    opset: int = 13,
) -> onnx.ModelProto:
    """A graph with one image input and an output a stride, means over squares of that side."""
    nodes = [
        helper.make_node("AveragePool", ["x"], [f"pool{s}"], kernel_shape=[s, s], strides=[s, s])
        for s in strides
    ]
    graph = helper.make_graph(
        nodes,
        "pools",
        [helper.make_tensor_value_info("x", kind, image)],
        [helper.make_tensor_value_info(f"pool{s}", kind, ["n", 3, "h", "w"]) for s in strides],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def saved(model: onnx.ModelProto, folder: Path, name: str = "pools.onnx") -> str:
    """Write the graph; its path."""
    onnx.save(model, folder / name)
    return str(folder / name)


def test_maps_are_the_graphs_outputs(tmp_path: Path) -> None:
    """The graph sees the normalised image, and levels count its outputs from 1."""
    path = saved(pools(), tmp_path)
    backbone = create_backbone(path, levels=(1, 3))
    assert isinstance(backbone, Backbone)
    assert (backbone.name, backbone.outputs) == (
        "pools.onnx",
        {1: "pool4", 2: "pool8", 3: "pool16"},
    )
    assert backbone.weights_sha256 == hashlib.sha256(Path(path).read_bytes()).hexdigest()
    asked = [LevelFeatures(number, f"level{number}", unit=False) for number in (1, 3)]
    session = OnnxSession(features_graph(backbone, asked, (32, 48)), "features")
    image = np.random.default_rng(0).random((32, 48, 3), np.float32)
    found = session.run({"image": image[None]})
    normal = (image - np.float32(IMAGENET_MEAN)) / np.float32(IMAGENET_STD)
    for name, stride in (("level1", 4), ("level3", 16)):
        blocks = normal.reshape(32 // stride, stride, 48 // stride, stride, 3).mean((1, 3))
        np.testing.assert_allclose(found[name][0], blocks.transpose(2, 0, 1), atol=1e-5)


@pytest.mark.parametrize("opset", [11, 13, 18, 21])
def test_any_opset(tmp_path: Path, opset: int) -> None:
    """Older and newer graphs become part of a detector's, and its bundle needs no file."""
    path = saved(pools(opset=opset), tmp_path)
    good = list(np.random.default_rng(0).random((3, 64, 64, 3), np.float32))
    detector = HETMM(backbone=path, sheets=None).fit(good)
    Path(path).unlink()
    assert np.isfinite(detector.maps(good)).all()
    assert detector.backbone_record.name == "pools.onnx"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, r"odd\.onnx is not a file; give the path of an \.onnx file"),
        (b"", r"odd\.onnx cannot be loaded by ONNX Runtime"),
        (b"hello", r"odd\.onnx cannot be loaded by ONNX Runtime"),
        (pools().SerializeToString()[:-20], r"odd\.onnx cannot be loaded by ONNX Runtime"),
    ],
    ids=["none", "empty", "text", "cut"],
)
def test_no_graph(tmp_path: Path, content: bytes | None, said: str) -> None:
    """No file, and no graph, are each one sentence."""
    if content is not None:
        (tmp_path / "odd.onnx").write_bytes(content)
    with pytest.raises(WeightsError, match=said) as caught:
        create_backbone(str(tmp_path / "odd.onnx"))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("levels", [(1, 4), (0, 1)])
def test_levels_it_does_not_have(tmp_path: Path, levels: tuple[int, ...]) -> None:
    """The sentence names those there are."""
    with pytest.raises(ParameterError, match=r"pools\.onnx has the levels 1, 2, 3"):
        create_backbone(saved(pools(), tmp_path), levels=levels)


def two_inputs() -> onnx.ModelProto:
    """A graph that wants something beside the image."""
    model = pools((4, 8, 16))
    values = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3, "h", "w"])]
    model.graph.input.extend(values)
    model.graph.node.insert(0, helper.make_node("Add", ["x", "y"], ["both"]))
    for node in list(model.graph.node)[1:]:
        node.input[0] = "both"
    return model


def grey() -> onnx.ModelProto:
    """A graph that takes one channel."""
    model = pools()
    weights = helper.make_tensor("w", TensorProto.FLOAT, [3, 1, 1, 1], [1.0, 1.0, 1.0])
    model.graph.initializer.append(weights)
    model.graph.node.insert(0, helper.make_node("Conv", ["x", "w"], ["colours"]))
    for node in list(model.graph.node)[1:]:
        node.input[0] = "colours"
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, "h", "w"])
    model.graph.input[0].CopyFrom(value)
    return model


def flat_outputs() -> onnx.ModelProto:
    """A graph whose outputs are no maps: a classifier's, say."""
    model = pools()
    for node, output in zip(list(model.graph.node), model.graph.output, strict=True):
        name = node.output[0]
        node.output[0] = f"{name} map"
        model.graph.node.append(helper.make_node("Flatten", [f"{name} map"], [name]))
        output.CopyFrom(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", "c"]))
    return model


def no_longer_known() -> onnx.ModelProto:
    """A graph of an operator that newer opsets lack."""
    model = pools(opset=9)
    scales = helper.make_tensor("scales", TensorProto.FLOAT, [4], [1.0, 1.0, 2.0, 2.0])
    model.graph.initializer.append(scales)
    model.graph.node.insert(0, helper.make_node("Upsample", ["x", "scales"], ["large"]))
    for node in list(model.graph.node)[1:]:
        node.input[0] = "large"
    return model


@pytest.mark.parametrize(
    "make",
    [
        two_inputs,
        flat_outputs,
        grey,
        lambda: pools(image=(2, 3, "h", "w")),
        lambda: pools(image=("n", 3, 32, 32)),
        lambda: pools(image=("n", "h", "w", 3)),
        lambda: pools(image=("n", 3)),
        lambda: pools(kind=TensorProto.DOUBLE),
    ],
    ids=[
        *("two inputs", "no maps", "grey", "a batch of two", "another size", "channels last"),
        *("no image", "doubles"),
    ],
)
def test_misfits(tmp_path: Path, make: Callable[[], onnx.ModelProto]) -> None:
    """A graph that cannot stand between pixels and features is refused in a sentence naming it."""
    path = saved(make(), tmp_path, "odd.onnx")
    good = [np.zeros((64, 64, 3), np.float32)] * 2
    with pytest.raises((WeightsError, BundleError), match=r"odd\.onnx") as caught:
        HETMM(backbone=path).fit(good)
    assert len(str(caught.value).splitlines()) == 1


def test_an_operator_of_older_opsets(tmp_path: Path) -> None:
    """What newer opsets lack is written anew in their words."""
    path = saved(no_longer_known(), tmp_path)
    good = list(np.random.default_rng(0).random((2, 64, 64, 3), np.float32))
    assert np.isfinite(HETMM(backbone=path).fit(good).maps(good)).all()


def test_an_operator_of_another_domain(tmp_path: Path) -> None:
    """One that only ONNX Runtime has is refused, with the opset that a graph must fit."""
    model = pools()
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    model.graph.node.insert(
        0, helper.make_node("QuickGelu", ["x"], ["curved"], domain="com.microsoft")
    )
    for node in list(model.graph.node)[1:]:
        node.input[0] = "curved"
    with pytest.raises(WeightsError, match=r"odd\.onnx cannot be used .* opset 18") as caught:
        HETMM(backbone=saved(model, tmp_path, "odd.onnx")).fit([np.zeros((64, 64, 3), np.float32)])
    assert len(str(caught.value).splitlines()) == 1
