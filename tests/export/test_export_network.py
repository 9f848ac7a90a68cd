"""TFA-Net's exported graph gives the detector's maps, for every variant and every score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from blemish.graphs.sessions import OnnxSession

pytest.importorskip("torch", reason="TFA-Net is trained with blemish[train]")

from blemish.train.tfanet import TFANet
from blemish.train.tfanet.export import network_graph

TINY: dict[str, Any] = {
    "dim": 32, "depth": 2, "heads": 2, "fdrm_dim": 16, "fdrm_depth": 1, "fdrm_heads": 2,
    "backbone": "filterbank",
}  # fmt: skip


def fit(good_images: list[np.ndarray], **options: Any) -> TFANet:
    """A small network after two passes over nine parts."""
    settings = {**TINY, "grid": 16, "epochs": 2, "calibration_share": 0.0, **options}
    return TFANet(**settings).fit(good_images[:9], device="cpu")


def check(detector: TFANet, image: np.ndarray) -> onnx.ModelProto:
    """The graph's map of one image [H, W, 3] against the detector's, to 1e-4 of its largest."""
    graph = network_graph(detector)
    found = OnnxSession(graph, "network").run({"image": image[None]})["anomaly_map"]
    expected = detector.maps([image])
    assert found.shape == expected.shape == (1, *image.shape[:2])
    assert expected.max() > 0
    np.testing.assert_allclose(found, expected, atol=1e-4 * expected.max())
    return onnx.load_from_string(graph)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"cls_token": False},
        {"variant": "keep_input", "mask_ratio": 0.0},
        {"variant": "no_fdrm"},
        {"variant": "plain", "mask_ratio": 0.0},
        {"patch": 2, "templates": 2},
        {"grid": 8, "feature_norm": "l2"},  # the finest level is reduced
        {"score": "euclidean", "euclid": "l2"},
        {"score": "cosine", "sigma": 0.0},
        {"score": "sum5", "image_score": "max"},
        {"score_order": "multiply-then-smooth", "depth": 1},
        {"backbone": "efficientnet_lite0", "grid": 8},  # four levels, from stride 2
    ],
    ids=str,
)
def test_maps_are_those_of_the_detector(
    good_images: list[np.ndarray], options: dict[str, Any]
) -> None:
    """Streams, class token, patches, templates, distances and their order all reach the graph."""
    check(fit(good_images, **options), good_images[9])


def test_a_view_that_is_no_square(good_images: list[np.ndarray]) -> None:
    """Height and width are not mixed up, nor are those of the levels."""
    images = [np.ascontiguousarray(image[:, :48]) for image in good_images]
    check(fit(images), images[9])


def test_half_precision_computes_in_float32(good_images: list[np.ndarray]) -> None:
    """A network that inspects in bfloat16 has no bfloat16 in its graph, and the same weights."""
    detector = fit(good_images)
    expected = network_graph(detector)
    detector.network_.config = detector.network_.config.with_overrides(
        {"inference_precision": "bf16"}
    )
    assert network_graph(detector) == expected


def test_everything_constant_is_computed_before(good_images: list[np.ndarray]) -> None:
    """The maps' smoothing and the resizing are matrices in the graph, whatever ran before."""
    detector = fit(good_images, sigma=3.5)  # a sigma that no other test has computed for
    graph = check(detector, good_images[9])
    found = {node.op_type for node in graph.graph.node}
    assert not found & {"Resize", "ScatterElements", "Mod", "BatchNormalization"}
    check(detector, good_images[8])


def test_the_detector_is_left_as_it_was(good_images: list[np.ndarray]) -> None:
    """Writing the graph changes no bit of what the detector gives."""
    detector = fit(good_images)
    before = detector.maps(good_images[9:])
    network_graph(detector)
    np.testing.assert_array_equal(detector.maps(good_images[9:]), before)


def test_a_backbone_from_a_file(good_images: list[np.ndarray], tmp_path: Path) -> None:
    """Its graph becomes part of the whole one."""
    weights = np.random.default_rng(0).standard_normal((8, 3, 8, 8)).astype(np.float32)
    value = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Conv", ["x", "w"], ["map"], strides=[8, 8])],
        "one",
        [onnx.helper.make_tensor_value_info("x", value, ["n", 3, "h", "w"])],
        [onnx.helper.make_tensor_value_info("map", value, ["n", 8, "a", "b"])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    opset = [onnx.helper.make_opsetid("", 13)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.save(model, tmp_path / "net.onnx")
    options = {"backbone": str(tmp_path / "net.onnx"), "feature_levels": (1,), "grid": 8}
    check(fit(good_images, **options), good_images[9])
