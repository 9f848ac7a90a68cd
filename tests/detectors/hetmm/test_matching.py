"""Mutual matching against its formulas written as loops, and its properties."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from hetmm_tools import (
    CLOSE,
    RAW,
    Floats,
    backward_by_loops,
    by_pixel,
    fitted_with,
    forward_by_loops,
    free_set,
    level_of,
    matcher,
    sheet_set,
    unit,
    volume_by_loops,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.detectors import HETMM
from blemish.detectors.hetmm import matching
from blemish.detectors.hetmm.matching import (
    GraphMatcher,
    Matcher,
    backward_distances,
    forward_distances,
    make_matcher,
    map_graph,
    match_graph,
    volume,
)
from blemish.detectors.hetmm.nearest import backward_match, forward_match, to_cell
from blemish.detectors.maps import enlarge
from blemish.errors import MissingExtraError, ParameterError
from blemish.graphs.sessions import OnnxSession


def cosines_of(query: Floats, sheets: Floats, reach: int, by: Matcher | None = None) -> Floats:
    """V [H, W, n, n] of a query [C, H, W] and sheets [N, C, H, W]."""
    vectors = by_pixel(sheets)

    def band(start: int, stop: int) -> Floats:
        return vectors[start:stop]

    return volume(by or matcher(), query, band, len(sheets), reach)


def match(query: Floats, sheets: Floats, forward: int, backward: int) -> list[Floats]:
    """F and B [H, W] for windows of these sides."""
    cosines = cosines_of(query, sheets, max(forward, backward) // 2)
    return [
        forward_distances(cosines, forward // 2),
        backward_distances(cosines, backward // 2),
    ]


SIZES = [(1, 1), (1, 6), (3, 5), (4, 4), (7, 2), (6, 9)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("reach", [0, 1, 3])
def test_the_volume_equals_loops(size: tuple[int, int], reach: int) -> None:
    """V holds the best cosine for every template pixel and offset, -inf beyond the map."""
    query, sheets = unit(1, 5, *size, seed=1)[0], unit(3, 5, *size, seed=2)
    wanted = volume_by_loops(query, sheets, reach)
    np.testing.assert_allclose(cosines_of(query, sheets, reach), wanted, atol=CLOSE, rtol=0)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("windows", [(1, 1), (3, 5), (5, 3), (7, 1), (1, 7), (13, 3)])
def test_distances_equal_loops(size: tuple[int, int], windows: tuple[int, int]) -> None:
    """Both directions equal the formulas: windows cut off at borders, or larger than the map."""
    query, sheets = unit(1, 5, *size, seed=1)[0], unit(3, 5, *size, seed=2)
    there, back = match(query, sheets, *windows)
    wanted = forward_by_loops(query, sheets, windows[0] // 2)
    np.testing.assert_allclose(there, wanted, atol=CLOSE, rtol=0)
    wanted = backward_by_loops(query, sheets, windows[1] // 2)
    np.testing.assert_allclose(back, wanted, atol=CLOSE, rtol=0)
    assert there.dtype == back.dtype == np.float32


@pytest.mark.parametrize("budget", [1, 4096, 1 << 30])
def test_buffer_size_changes_nothing(budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many pixels one product takes, the cosines are the same."""
    query, sheets = unit(1, 6, 7, 9, seed=1)[0], unit(4, 6, 7, 9, seed=2)
    monkeypatch.setattr(matching, "BUFFER_BYTES", budget)
    wanted = volume_by_loops(query, sheets, 2)
    np.testing.assert_allclose(cosines_of(query, sheets, 2), wanted, atol=CLOSE, rtol=0)


shapes = st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5))  # sheets, H, W
windows = st.tuples(st.sampled_from([1, 3, 5]), st.sampled_from([1, 3, 5]))
seeds = st.integers(0, 2**20)


@settings(deadline=None, max_examples=30)
@given(shapes, windows, seeds)
def test_a_template_has_no_distance(shape: tuple, window: tuple[int, int], seed: int) -> None:
    """A query that is one of the sheets is at distance 0 everywhere, both ways."""
    sheets = unit(shape[0], 4, *shape[1:], seed=seed)
    there, back = match(sheets[-1], sheets, *window)
    assert np.abs(there).max() < CLOSE
    assert np.abs(back).max() < CLOSE


@settings(deadline=None, max_examples=30)
@given(shapes, windows, seeds)
def test_more_to_choose_from_never_raises_a_pixel(
    shape: tuple, window: tuple[int, int], seed: int
) -> None:
    """Adding a sheet, or widening a window, can only lower distances."""
    sheets = unit(shape[0] + 1, 4, *shape[1:], seed=seed)
    query = unit(1, 4, *shape[1:], seed=seed + 1)[0]
    fewer = match(query, sheets[:-1], *window)
    more = match(query, sheets, *window)
    wider = match(query, sheets, window[0] + 2, window[1] + 2)
    for few, many, wide in zip(fewer, more, wider, strict=True):
        assert (many <= few + CLOSE).all()
        assert (wide <= many + CLOSE).all()


@settings(deadline=None, max_examples=30)
@given(shapes, windows, seeds)
def test_order_of_sheets_does_not_matter(shape: tuple, window: tuple[int, int], seed: int) -> None:
    """Turning the template set around changes no distance."""
    sheets = unit(shape[0], 4, *shape[1:], seed=seed)
    query = unit(1, 4, *shape[1:], seed=seed + 1)[0]
    turned = match(query, np.ascontiguousarray(sheets[::-1]), *window)
    for one, other in zip(match(query, sheets, *window), turned, strict=True):
        np.testing.assert_allclose(one, other, atol=CLOSE, rtol=0)


@settings(deadline=None, max_examples=30)
@given(shapes, seeds)
def test_windows_of_one_make_both_directions_equal(shape: tuple, seed: int) -> None:
    """Without a search, forward and backward compare the same pairs."""
    sheets = unit(shape[0], 4, *shape[1:], seed=seed)
    there, back = match(unit(1, 4, *shape[1:], seed=seed + 1)[0], sheets, 1, 1)
    np.testing.assert_array_equal(there, back)


def test_a_narrow_window_in_a_wide_volume_is_the_narrow_window() -> None:
    """A direction that reaches less than the other one sees only what it reaches."""
    query, sheets = unit(1, 5, 6, 5, seed=1)[0], unit(3, 5, 6, 5, seed=2)
    wide = cosines_of(query, sheets, 3)
    for reach in (0, 1, 2):
        narrow = cosines_of(query, sheets, reach)
        for distances in (forward_distances, backward_distances):
            wanted = distances(narrow, reach)
            np.testing.assert_allclose(distances(wide, reach), wanted, atol=CLOSE, rtol=0)


# The contract behind matching


def by_numpy(
    pixels: Floats, patches: np.ndarray, templates: Floats, penalty: Floats | None
) -> np.ndarray:
    """What `Matcher.best` gives, in float64."""
    cosines = pixels[patches].astype(np.float64) @ templates.astype(np.float64)
    return (cosines if penalty is None else cosines + penalty).max(axis=2)


def matchers() -> list[object]:
    """Every matcher that can run here."""
    return [pytest.param(GraphMatcher, id="graph"), pytest.param(_torch, id="torch")]


def _torch(_: bytes) -> Matcher:
    pytest.importorskip("torch", reason="matching on a GPU comes with blemish[train]")
    from blemish.train.matching import TorchMatcher

    return TorchMatcher("cpu")


def questions() -> list[object]:
    """The sheets left out: none, one at all pixels, another at each."""
    one = np.where(np.arange(4) == 2, np.float32(-np.inf), np.float32(0))
    each = np.where(np.arange(6)[:, None] % 4 == np.arange(4), np.float32(-np.inf), np.float32(0))
    return [
        pytest.param(None, id="none"),
        pytest.param(one[None, None], id="one"),
        pytest.param(each[:, None], id="by-pixel"),
    ]


@pytest.mark.parametrize("make", matchers())
@pytest.mark.parametrize("penalty", questions())
def test_matchers_agree_with_numpy(make, penalty: Floats | None) -> None:
    """Every matcher gives the largest cosines, with sheets left out where it is told."""
    rng = np.random.default_rng(3)
    pixels = unit(30, 7, seed=4)
    patches = rng.integers(0, 30, (6, 9)).astype(np.int32)
    templates = unit(6, 7, 4, seed=5)
    found = make(match_graph()).best(pixels, patches, templates, penalty)
    assert found.dtype == np.float32
    wanted = by_numpy(pixels, patches, templates, penalty)
    np.testing.assert_allclose(found, wanted, atol=CLOSE, rtol=0)


@pytest.mark.parametrize("make", matchers())
def test_what_has_only_left_out_templates_has_no_match(make) -> None:
    """Where every template of a pixel is left out, nothing is found: -inf."""
    away = np.full((1, 1, 3), -np.inf, np.float32)
    patches = np.zeros((2, 1), np.int32)
    found = make(match_graph()).best(unit(1, 4), patches, unit(2, 4, 3), away)
    assert np.isneginf(found).all()


def test_a_gpu_matches_in_several_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few pixels fit at a time, and with templates seen before, the answers are equal."""
    pytest.importorskip("torch")
    from blemish.train import matching as on_gpu

    query, sheets = unit(1, 6, 5, 7, seed=1)[0], unit(3, 6, 5, 7, seed=2)
    wanted = volume_by_loops(query, sheets, 2)
    monkeypatch.setattr(on_gpu, "BUFFER_BYTES", 1)
    by = on_gpu.TorchMatcher("cpu")
    for _ in range(2):
        found = cosines_of(query, sheets, 2, by)
        np.testing.assert_allclose(found, wanted, atol=CLOSE, rtol=0)


def test_a_gpu_matcher_keeps_no_changed_templates() -> None:
    """Sets that come and go, one in the other's memory, never answer for one another."""
    pytest.importorskip("torch")
    from blemish.train.matching import TorchMatcher

    by, query = TorchMatcher("cpu"), unit(1, 6, 4, 4, seed=1)[0]
    for seed in range(70):  # more than are kept
        own, others = sheet_set(unit(3, 6, 4, 4, seed=seed)), free_set(unit(2, 6, 4, 4, seed=seed))
        for made in (own, own.without(0), others, others.without(1)):
            found, wanted = made.distances(by, query), made.distances(matcher(), query)
            np.testing.assert_allclose(found, wanted, atol=CLOSE, rtol=0)


@pytest.mark.parametrize(
    ("options", "close"),
    [
        ({**RAW, "windows": "both", "forward": (5, 3, 3), "backward": (3, 3, 0)}, 1e-5),
        ({}, 1e-3),  # roundings in units of how good parts vary, some hundredths
    ],
    ids=["raw", "default"],
)
def test_a_detector_on_torch_gives_the_same_maps(
    options: dict[str, Any], close: float, good_images: list[np.ndarray]
) -> None:
    """Maps, and those with a template left out, are the graph matcher's but for rounding."""
    pytest.importorskip("torch")
    from blemish.train.matching import TorchMatcher

    one = fitted_with(good_images[:6], sheets=3, **options)
    other = fitted_with(good_images[:6], sheets=3, **options)
    other._matcher = TorchMatcher("cpu")
    np.testing.assert_allclose(other.maps(good_images[7:9]), one.maps(good_images[7:9]), atol=close)
    left_out = [next(d.calibration_maps(good_images, [1], [1])) for d in (one, other)]
    np.testing.assert_allclose(*left_out, atol=close)


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_the_processor_is_used_unless_a_gpu_is_asked_for(device: str) -> None:
    """Neither `auto` nor `cpu` ever loads PyTorch for matching."""
    assert isinstance(make_matcher(match_graph(), device), GraphMatcher)


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:a", "mps", ""])
def test_a_device_that_there_is_not_is_refused(device: str) -> None:
    """What is neither the processor nor a GPU by its number is one sentence."""
    with pytest.raises(ParameterError, match="give auto, cpu, cuda or cuda:N"):
        make_matcher(match_graph(), device)


@pytest.mark.parametrize("sigma", [0.0, 4.0])
def test_the_map_graph_is_the_enlarged_levels_sum(sigma: float) -> None:
    """S = sum_l lambda_l A_l, each at the view's size and smoothed, on sides that differ."""
    rng = np.random.default_rng(0)
    shapes, weights = [(16, 9), (4, 3), (1, 1)], [1.0, 0.25, 2.0]
    levels, inputs = [], {}
    for number, (shape, weight) in enumerate(zip(shapes, weights, strict=True), start=1):
        named = {"number": number, "features": f"level{number}", "weight": weight}
        levels.append(level_of(unit(1, 2, *shape), **named))
        inputs[f"level{number}"] = rng.random(shape, np.float32)
    found = OnnxSession(map_graph(levels, (40, 33), sigma), "map").run(inputs)["anomaly_map"]
    wanted = sum(
        weight * enlarge(distances, (40, 33), sigma)
        for weight, distances in zip(weights, inputs.values(), strict=True)
    )
    np.testing.assert_allclose(found, wanted, atol=3 * CLOSE, rtol=0)


def test_a_gpu_without_pytorch_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, good_images: list[np.ndarray]
) -> None:
    """Where PyTorch is missing, asking for a GPU names the extra, and the way without."""
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "blemish.train.matching", raising=False)
    said = r"matching on cuda.*pip install 'blemish\[train\]', or use --device cpu"
    with pytest.raises(MissingExtraError, match=said):
        make_matcher(match_graph(), "cuda")

    class Untouchable(list):
        def __getitem__(self, index: object) -> np.ndarray:
            raise AssertionError("an image was read")

    with pytest.raises(MissingExtraError, match=said):
        HETMM().fit(Untouchable(good_images), device="cuda")
    assert HETMM(backbone="filterbank").fit(good_images[:2], device="cpu").templates == 2


# The pair behind a value


@pytest.mark.parametrize("sourced", [False, True])
def test_the_nearest_names_the_vectors_behind_each_value(sourced: bool) -> None:
    """Its distance is the map's, and the vectors it names have that distance."""
    query, sheets = unit(1, 6, 7, 5, seed=1)[0], unit(4, 6, 7, 5, seed=2)
    turned = np.broadcast_to(np.arange(4)[::-1, None, None], (4, 7, 5))
    made = sheet_set(sheets, turned if sourced else None)
    there, back = forward_by_loops(query, sheets, 2), backward_by_loops(query, sheets, 1)
    for y, x in [(0, 0), (6, 4), (3, 2), (5, 0)]:
        one, other = forward_match(query, made, y, x, 2), backward_match(query, made, y, x, 1)
        assert one.distance == pytest.approx(there[y, x], abs=CLOSE)
        assert other.distance == pytest.approx(back[y, x], abs=CLOSE)
        pair = sheets[one.sheet, :, one.y, one.x] @ query[:, y, x]
        assert 1 - float(pair) == pytest.approx(one.distance, abs=CLOSE)
        pair = sheets[other.sheet, :, y, x] @ query[:, other.y, other.x]
        assert 1 - float(pair) == pytest.approx(other.distance, abs=CLOSE)
        assert max(abs(one.y - y), abs(one.x - x)) <= 2
        assert max(abs(other.y - y), abs(other.x - x)) <= 1
        for each in (one, other):
            assert each.sample == (3 - each.sheet if sourced else each.sheet)


@pytest.mark.parametrize(
    ("point", "cell"), [((0, 0), (0, 0)), ((63, 31), (4, 15)), ((32, 16), (2, 8)), ((4, 0), (0, 1))]
)
def test_points_of_the_view_have_the_cell_drawn_there(
    point: tuple[int, int], cell: tuple[int, int]
) -> None:
    """Corners align, as where maps are enlarged: (x, y) of 64 x 32 pixels on 16 x 5 cells."""
    assert to_cell(point, (32, 64), (5, 16)) == cell
    assert to_cell(point, (32, 64), (1, 1)) == (0, 0)
