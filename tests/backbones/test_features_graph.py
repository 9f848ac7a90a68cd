"""The features graph: pixels in, vectors out, as NumPy computes them from the backbone's maps."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from blemish.backbones import (
    Backbone,
    FilterBank,
    LevelFeatures,
    create_backbone,
    features_graph,
)
from blemish.errors import ParameterError, WeightsError
from blemish.graphs.nodes import IR_VERSION, OPSET
from blemish.graphs.sessions import OnnxSession

Floats = np.ndarray
# Unit vectors of sums in float32; the graph may subtract the mean and divide in another order.
ATOL = 1e-5


def image(hw: tuple[int, int]) -> Floats:
    """A random image [H, W, 3] in [0, 1]."""
    return np.random.default_rng(1).random((*hw, 3), np.float32)


def backbone(name: str, hw: tuple[int, int]) -> Backbone:
    """The backbone for images of that size."""
    made = create_backbone(name)
    if isinstance(made, FilterBank):
        rng = np.random.default_rng(0)
        return made.fit([rng.random((*hw, 3), np.float32) for _ in range(3)], range(3), hw)
    return made


def pooled(maps: Floats, side: int) -> Floats:
    """Means over squares; what no whole square covers is left out."""
    channels, height, width = maps.shape
    rows, columns = height // side, width // side
    cut = maps[:, : rows * side, : columns * side]
    return cut.reshape(channels, rows, side, columns, side).mean((2, 4))


def averaged(maps: Floats, side: int) -> Floats:
    """Means over the pixels around each that lie on the map."""
    reach, (_, height, width) = side // 2, maps.shape
    found = np.empty_like(maps)
    for y in range(height):
        for x in range(width):
            near = maps[:, max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
            found[:, y, x] = near.mean((1, 2))
    return found


def in_numpy(made: Backbone, pixels: Floats, level: LevelFeatures) -> Floats:
    """The vectors [C, h, w] of one level, before they are rounded."""
    normal = (pixels - np.float32(made.mean)) / np.float32(made.std)
    planes = np.ascontiguousarray(normal.transpose(2, 0, 1), np.float32)[None]
    maps = made.session.run({made.input: planes})[made.outputs[level.number]][0]
    maps = pooled(averaged(maps, level.average), level.pool)
    return maps / np.maximum(np.linalg.norm(maps, axis=0), 1e-12) if level.unit else maps


def run(made: Backbone, pixels: Floats, *levels: LevelFeatures) -> list[Floats]:
    """The graph's vectors [C, h, w] of all levels."""
    session = OnnxSession(features_graph(made, levels, pixels.shape[:2]), "features")
    assert session.outputs == [level.output for level in levels]
    found = session.run({"image": pixels[None]})
    return [found[level.output][0] for level in levels]


@pytest.mark.parametrize("hw", [(64, 64), (60, 52), (67, 90)], ids=str)
@pytest.mark.parametrize("options", [{}, {"pool": 2}, {"average": 3}, {"pool": 2, "average": 5}])
@pytest.mark.parametrize("name", ["efficientnet_lite0", "filterbank"])
def test_vectors_are_numpys(name: str, options: dict[str, Any], hw: tuple[int, int]) -> None:
    """Views that are no square, whose maps have odd sides: averaged, then of unit length."""
    made, pixels = backbone(name, hw), image(hw)
    levels = [LevelFeatures(number, f"level{number}", **options) for number in (1, 2)]
    for found, level in zip(run(made, pixels, *levels), levels, strict=True):
        expected = in_numpy(made, pixels, level)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=ATOL)
        np.testing.assert_allclose(np.linalg.norm(found, axis=0), 1, atol=ATOL)


def test_levels_differ_in_what_is_asked_of_them() -> None:
    """Each has its own pooling, averaging, precision and length; one may be asked for twice."""
    made, pixels = backbone("efficientnet_lite0", (64, 64)), image((64, 64))
    levels = [
        LevelFeatures(0, "stem", pool=4),
        LevelFeatures(2, "plain", unit=False),
        LevelFeatures(2, "half", dtype="float16"),
        LevelFeatures(3, "wide", average=3),
    ]
    stem, plain, half, wide = run(made, pixels, *levels)
    for found, level in ((stem, levels[0]), (wide, levels[3])):
        np.testing.assert_allclose(found, in_numpy(made, pixels, level), atol=ATOL)
    expected = in_numpy(made, pixels, levels[1])
    np.testing.assert_allclose(plain, expected, atol=ATOL * np.abs(expected).max())
    np.testing.assert_array_equal(half, half.astype(np.float16).astype(np.float32))
    assert 0 < np.abs(half - in_numpy(made, pixels, levels[2])).max() <= 2.0**-11


def test_a_vector_of_zeros_stays_one() -> None:
    """Nothing is divided by zero where a map is flat."""
    nodes = [onnx.helper.make_node("Sub", ["x", "x"], ["zeros"])]
    value = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        nodes,
        "zeros",
        [onnx.helper.make_tensor_value_info("x", value, ["n", 3, "h", "w"])],
        [onnx.helper.make_tensor_value_info("zeros", value, ["n", 3, "h", "w"])],
    )
    opset = [onnx.helper.make_opsetid("", OPSET)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION)
    made = Backbone("zeros", model.SerializeToString(), {1: "zeros"}, input="x")
    (found,) = run(made, image((8, 8)), LevelFeatures(1, "level1"))
    np.testing.assert_array_equal(found, 0)


def test_no_more_is_computed_than_levels_need() -> None:
    """A graph of the finest level alone ends there."""
    made = backbone("efficientnet_lite0", (64, 64))
    sizes = [
        len(features_graph(made, [LevelFeatures(number, "level")], (64, 64)))
        for number in (0, 1, 2, 3)
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[3] / 10


def test_the_graph_says_what_it_takes() -> None:
    """Pixels of one size come in, the opset and format are those that old runtimes read."""
    made = backbone("efficientnet_lite0", (48, 64))
    model = onnx.load_from_string(features_graph(made, [LevelFeatures(1, "level1")], (48, 64)))
    assert [(each.domain, each.version) for each in model.opset_import] == [("", OPSET)]
    assert model.ir_version == IR_VERSION
    (taken,) = model.graph.input
    assert taken.name == "image"
    assert [side.dim_value for side in taken.type.tensor_type.shape.dim] == [1, 48, 64, 3]


def test_levels_it_does_not_have() -> None:
    """Asked for one that the backbone lacks, it names those there are."""
    made = backbone("efficientnet_lite0", (64, 64))
    with pytest.raises(ParameterError, match="has the levels 0, 1, 2, 3; levels"):
        features_graph(made, [LevelFeatures(7, "level7")], (64, 64))


def test_an_output_that_the_graph_lacks() -> None:
    """A backbone that promises more than its graph has is refused by name."""
    made = backbone("efficientnet_lite0", (64, 64))
    odd = Backbone("odd net", made.graph, {1: "no such map"})
    with pytest.raises(WeightsError, match="the graph of odd net cannot be used"):
        features_graph(odd, [LevelFeatures(1, "level1")], (64, 64))
