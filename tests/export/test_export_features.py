"""The exported features are HETMM's features, whatever the backbone and the precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from blemish.errors import WeightsError
from blemish.export.features import features_graph
from blemish.detectors import HETMM

HALF_STEP = 2.0**-11  # half the distance between float16 numbers just below 1


def exported(detector: HETMM, image: np.ndarray) -> dict[str, np.ndarray]:
    """The features of one image [H, W, 3], through ONNX Runtime."""
    session = onnxruntime.InferenceSession(features_graph(detector, image.shape[:2]))
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"image": image[None]}), strict=True))


def in_torch(detector: HETMM, image: np.ndarray) -> dict[str, np.ndarray]:
    """The same from the detector itself, all levels."""
    levels = detector.features(torch.from_numpy(image[None]).permute(0, 3, 1, 2))
    return {
        f"level{number}": level.float().numpy()
        for number, level in zip(detector.levels, levels, strict=True)
    }


def fit(good_images: list[np.ndarray], size: tuple[int, int] = (64, 64), **settings: Any) -> HETMM:
    """A detector of three parts."""
    return HETMM(**settings).fit([cut(image, size) for image in good_images[:3]])


def cut(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The upper left of an image."""
    return np.ascontiguousarray(image[: size[0], : size[1]])


def test_the_filter_bank_is_exported(good_images: list[np.ndarray]) -> None:
    """A view that is no square, whose maps have odd sides, and a level that is off."""
    detector = fit(good_images, (60, 52), forward=(13, 0, 7), backward=(3, 0, 3))
    image = cut(good_images[5], (60, 52))
    found, expected = exported(detector, image), in_torch(detector, image)
    assert list(found) == ["level1", "level3"]
    assert found["level1"].shape == (1, 75, 15, 13)
    for name, level in found.items():
        np.testing.assert_allclose(level, expected[name], atol=1e-5)


def test_a_network_with_averaging_is_exported(good_images: list[np.ndarray]) -> None:
    """Batch normalisation, moved ReLUs, mean and deviation are all in the graph."""
    detector = fit(good_images, backbone="random:resnet18", average=3)
    found, expected = exported(detector, good_images[5]), in_torch(detector, good_images[5])
    assert list(found) == ["level1", "level2", "level3"]
    for name, level in found.items():
        np.testing.assert_allclose(level, expected[name], atol=1e-5)


def test_a_network_in_half_precision_keeps_its_weights(good_images: list[np.ndarray]) -> None:
    """The graph computes in float32 what the network computes in bfloat16."""
    detector = fit(good_images, backbone="random:resnet18", precision="bfloat16", levels=(1, 2, 3))
    found, expected = exported(detector, good_images[5]), in_torch(detector, good_images[5])
    for name, level in found.items():
        np.testing.assert_allclose(level, expected[name], atol=2e-2)
    assert next(detector.backbone_.parameters()).dtype == torch.bfloat16, "the detector stays"


@pytest.mark.real
def test_mobilenet_is_exported(good_images: list[np.ndarray], weight_store: object) -> None:
    """MobileNetV2 with its real weights gives the same features."""
    detector = fit(good_images, backbone="mobilenet_v2.onnxzoo_in1k")
    found, expected = exported(detector, good_images[5]), in_torch(detector, good_images[5])
    for name, level in found.items():
        np.testing.assert_allclose(level, expected[name], atol=1e-4)


def file_graph(opset: int) -> onnx.ModelProto:
    """Two convolutions, each with a feature map as output."""
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)
        for name, shape in (("first", (8, 3, 4, 4)), ("second", (12, 8, 2, 2)))
    ]
    nodes = [
        helper.make_node("Conv", ["x", "first"], ["a"], strides=[4, 4]),
        helper.make_node("Conv", ["a", "second"], ["b"], strides=[2, 2]),
    ]
    values = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", channels, "h", "w"])
        for name, channels in {"x": 3, "a": 8, "b": 12}.items()
    }
    graph = helper.make_graph(nodes, "g", [values["x"]], [values["a"], values["b"]], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def fit_file(good_images: list[np.ndarray], path: Path, opset: int, **settings: Any) -> HETMM:
    """A detector whose backbone is that graph."""
    onnx.save(file_graph(opset), path)
    pairs = {"forward": (5, 3), "backward": (3, 3), "alpha": (0.5, 0.5), "level_weights": (1, 1)}
    return fit(good_images, backbone=str(path), levels=(1, 2), **pairs, **settings)


@pytest.mark.parametrize("opset", [11, 18])
def test_a_file_backbone_becomes_part_of_the_graph(
    good_images: list[np.ndarray], tmp_path: Path, opset: int
) -> None:
    """The file's own graph stands between preprocessing and the unit vectors."""
    detector = fit_file(good_images, tmp_path / "net.onnx", opset)
    found, expected = exported(detector, good_images[5]), in_torch(detector, good_images[5])
    assert list(found) == ["level1", "level2"]
    for name, level in found.items():
        np.testing.assert_allclose(level, expected[name], atol=1e-5)


def test_a_file_backbone_that_cannot_be_merged_says_so(
    good_images: list[np.ndarray], tmp_path: Path
) -> None:
    """An operator that newer opsets lack; the message names the file's way out."""
    detector = fit_file(good_images, tmp_path / "net.onnx", 11)
    graph = file_graph(11)
    graph.graph.node[0].op_type = "Upsample"
    changed = np.frombuffer(graph.SerializeToString(), np.uint8).copy()
    detector.backbone_.graph = torch.from_numpy(changed)
    with pytest.raises(WeightsError, match=r"net\.onnx cannot become part .* opset 18"):
        features_graph(detector, (64, 64))


def test_half_precision_rounds_as_sheets_are_stored(
    good_images: list[np.ndarray], tmp_path: Path
) -> None:
    """Features are float16 numbers, and those of the detector but for the last bit."""
    detector = fit_file(good_images, tmp_path / "net.onnx", 18, precision="bfloat16")
    found, expected = exported(detector, good_images[5]), in_torch(detector, good_images[5])
    for name, level in found.items():
        np.testing.assert_array_equal(level, level.astype(np.float16).astype(np.float32))
        np.testing.assert_allclose(level, expected[name], atol=2 * HALF_STEP)
