"""The exported matching gives HETMM's maps, for every way of matching and any number of sheets."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from blemish.errors import NotFittedError
from blemish.export.matching import match_graph
from blemish.export.spec import GraphSpec, graph_spec
from blemish.detectors import HETMM
from blemish.hetmm.bank import TileBank
from blemish.hetmm.free import FreeBank


def templates(detector: HETMM, spec: GraphSpec) -> dict[str, np.ndarray]:
    """The template inputs of the match graph, from the detector's own banks."""
    found = {}
    for level in spec.levels:
        bank = detector.banks_[list(detector.levels).index(level.level)]
        if isinstance(bank, FreeBank):
            found[level.templates] = bank.vectors.float().numpy()
            continue
        assert isinstance(bank, TileBank)
        tiles = torch.cat([block.tiles() for block in bank.blocks], 2)  # (R, S, N t t, C)
        tiles = tiles.unflatten(2, (-1, 4)).transpose(2, 3)
        found[level.templates] = tiles.float().contiguous().numpy()
    return found


def check(detector: HETMM, image: np.ndarray, session: Any = None, atol: float = 1e-5) -> Any:
    """The graph's map of one image [H, W, 3] against the detector's; the session, for more."""
    size = image.shape[:2]
    spec = graph_spec(detector, size)
    session = session or onnxruntime.InferenceSession(match_graph(detector, size))
    batch = torch.from_numpy(image[None]).permute(0, 3, 1, 2)
    levels = dict(zip(detector.levels, detector.features(batch), strict=True))
    inputs = {level.features: levels[level.level].float().numpy() for level in spec.levels}
    (found,) = session.run([spec.anomaly_map], {**inputs, **templates(detector, spec)})
    expected = detector.anomaly_maps(batch).numpy()
    assert found.shape == (1, *size)
    assert expected.max() > 0.05, "a map of nothing but zeros compares nothing"
    np.testing.assert_allclose(found, expected, atol=atol)
    return session


def fit(good_images: list[np.ndarray], size: tuple[int, int] = (64, 64), **settings: Any) -> HETMM:
    """A detector of four parts, cut to `size`."""
    images = [image[: size[0], : size[1]] for image in good_images[:4]]
    return HETMM(**settings).fit(images)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"forward": (13, 0, 7), "backward": (0, 5, 3)},  # each direction off somewhere
        {"forward": (5, 9, 1), "backward": (9, 5, 1)},  # backward reaches further; no window
        {"forward": (5, 0, 7), "backward": (3, 0, 3)},  # a level off
        {"alpha": (0.0, 1.0, 0.2), "sigma": 0.0},  # a direction of no weight, no smoothing
        {"average": 3},
        {"selection": "pts", "sheets": 2},
        {"augment": "flip-h"},
        {"precision": "float16"},
    ],
    ids=str,
)
def test_maps_are_those_of_the_detector(
    good_images: list[np.ndarray], settings: dict[str, Any]
) -> None:
    """Windows, directions, levels, selection and precision all reach the graph."""
    check(fit(good_images, **settings), good_images[7])


@pytest.mark.parametrize("size", [(60, 52), (44, 64), (36, 36)])
def test_sizes_that_tiles_do_not_divide(
    good_images: list[np.ndarray], size: tuple[int, int]
) -> None:
    """The border's tiles reach beyond the map; what lies there is never the best match."""
    detector = fit(good_images, size)
    odd = [bank.height % 2 or bank.width % 2 for bank in detector.banks_ if bank is not None]
    assert any(odd)
    check(detector, good_images[7][: size[0], : size[1]])


def test_windows_larger_than_the_map(good_images: list[np.ndarray]) -> None:
    """A search that reaches over the whole map and beyond finds no more than is there."""
    check(fit(good_images, forward=(41, 41, 21), backward=(41, 31, 21)), good_images[7])


def test_a_network_in_bfloat16_rounds_the_query_as_its_templates(
    good_images: list[np.ndarray],
) -> None:
    """Templates that were rounded to bfloat16 meet a query rounded alike."""
    detector = fit(good_images, precision="bfloat16")
    assert {level.dtype for level in graph_spec(detector, (64, 64)).levels} == {"bfloat16"}
    # Where the processor multiplies bfloat16, torch rounds each product as well.
    has_bfloat16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    check(detector, good_images[7], atol=5e-3 if has_bfloat16 else 1e-5)


@pytest.mark.parametrize(
    "settings",
    [{"components": 16}, {"components": None}, {"components": 16, "precision": "float16"}],
    ids=str,
)
def test_a_location_free_level(good_images: list[np.ndarray], settings: dict[str, Any]) -> None:
    """One level is compared with vectors from anywhere, beside others with windows."""
    windows = {"forward": ("map", 9, 7), "backward": (0, 5, 3), "vectors": 200}
    detector = fit(good_images, **windows, **settings)
    spec = graph_spec(detector, (64, 64))
    assert [level.kind for level in spec.levels] == ["free", "tiles", "tiles"]
    session = check(detector, good_images[7])
    more = np.stack(good_images[4:6])
    sheets = detector.sheets_of(torch.from_numpy(more).permute(0, 3, 1, 2))
    check(detector.added(sheets, 2), good_images[7], session)


def test_one_graph_serves_any_number_of_sheets(good_images: list[np.ndarray]) -> None:
    """A hot update needs no re-export: sheets come and go as inputs."""
    detector = HETMM(sheets=1).fit(good_images[:4])
    session = check(detector, good_images[7])
    added = torch.from_numpy(np.stack(good_images[1:4])).permute(0, 3, 1, 2)
    grown = detector.added(detector.sheets_of(added), 3)
    check(grown, good_images[7], session)
    check(grown.removed([0, 2]), good_images[7], session)


def test_a_template_finds_itself(good_images: list[np.ndarray]) -> None:
    """The map over a template is zero but for rounding."""
    detector = fit(good_images)
    spec = graph_spec(detector, (64, 64))
    image = torch.from_numpy(good_images[0][None]).permute(0, 3, 1, 2)
    names = [level.features for level in spec.levels]
    levels = [level.numpy() for level in detector.features(image)]
    session = onnxruntime.InferenceSession(match_graph(detector, (64, 64)))
    inputs = {**dict(zip(names, levels, strict=True)), **templates(detector, spec)}
    (found,) = session.run(None, inputs)
    assert np.abs(found).max() < 1e-5


def test_the_spec_is_plain_json(good_images: list[np.ndarray]) -> None:
    """What the line floor reads names every input, output, shape and radius."""
    spec = graph_spec(fit(good_images, forward=(13, 0, 7), backward=(3, 0, 3)), (64, 64))
    assert (spec.height, spec.width, spec.image) == (64, 64, "image")
    plain = [json.loads(level.model_dump_json()) for level in spec.levels]
    assert [level["templates"] for level in plain] == ["templates1", "templates3"]
    assert plain[1] == {
        "level": 3,
        "kind": "tiles",
        "channels": 75,
        "height": 4,
        "width": 4,
        "features": "level3",
        "templates": "templates3",
        "dtype": "float32",
        "forward": 3,
        "backward": 1,
        "alpha": 0.3,
        "weight": 0.5,
    }


def test_an_unfitted_detector_has_no_graphs() -> None:
    """The error says what comes first."""
    with pytest.raises(NotFittedError, match="call fit"):
        match_graph(HETMM(), (64, 64))
