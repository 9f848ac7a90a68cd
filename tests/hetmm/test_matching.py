"""Mutual matching against HETMM.md's formulas written as loops, and its properties."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from blemish.errors import ParameterError
from blemish.hetmm import matching
from blemish.hetmm.bank import TileBank
from blemish.hetmm.matching import best_match, directions_needed, mutual_match


def unit(*shape: int, seed: int = 0) -> Tensor:
    """Unit vectors [N, C, H, W]."""
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(*shape, generator=generator), dim=1)


def best(a: np.ndarray, others: list[np.ndarray], row: int, column: int, window: int) -> float:
    """The largest product of a's vector at (row, column) with the others' near it."""
    height, width = a.shape[1:]
    reach = window // 2
    near = itertools.product(
        range(max(0, row - reach), min(height, row + reach + 1)),
        range(max(0, column - reach), min(width, column + reach + 1)),
    )
    return max(float(a[:, row, column] @ o[:, y, x]) for y, x in near for o in others)


def by_loops(
    query: Tensor, sheets: Tensor, forward: int, backward: int
) -> tuple[np.ndarray, np.ndarray]:
    """F and B of one query [C, H, W], one pixel, sheet and offset at a time."""
    q, bank = query.double().numpy(), list(sheets.double().numpy())
    height, width = q.shape[1:]
    there, back = np.empty((height, width)), np.empty((height, width))
    for row, column in np.ndindex(height, width):
        there[row, column] = 1 - best(q, bank, row, column, forward)
        back[row, column] = 1 - max(best(sheet, [q], row, column, backward) for sheet in bank)
    return there, back


def match(query: Tensor, sheets: Tensor, forward: int, backward: int, **rest: Tensor) -> list:
    """Both distances as arrays [B, H, W]."""
    bank = TileBank.from_sheets(sheets)
    found = mutual_match(query, bank, forward=forward, backward=backward, **rest)
    return [distances.numpy() for distances in found]


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (3, 5), (4, 4), (7, 2), (6, 9)])
@pytest.mark.parametrize("windows", [(1, 1), (3, 5), (5, 3), (7, 1), (1, 7), (13, 3)])
def test_equals_loops(size: tuple[int, int], windows: tuple[int, int]) -> None:
    """Both directions equal the formulas, with windows cut off at the map's borders."""
    query, sheets = unit(2, 5, *size, seed=1), unit(3, 5, *size, seed=2)
    there, back = match(query, sheets, *windows)
    for index in range(2):
        expected_there, expected_back = by_loops(query[index], sheets, *windows)
        np.testing.assert_allclose(there[index], expected_there, atol=1e-5)
        np.testing.assert_allclose(back[index], expected_back, atol=1e-5)


@pytest.mark.parametrize("budget", [1, 4096, 1 << 30])
def test_buffer_size_changes_nothing(budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many tiles one product takes, the distances are the same."""
    query, sheets = unit(2, 6, 7, 9, seed=1), unit(4, 6, 7, 9, seed=2)
    expected = by_loops(query[0], sheets, 5, 3)
    monkeypatch.setattr(matching, "BUFFER_BYTES", budget)
    for found, wanted in zip(match(query, sheets, 5, 3), expected, strict=True):
        np.testing.assert_allclose(found[0], wanted, atol=1e-5)


def test_exclude_is_a_bank_without_that_sheet() -> None:
    """Leaving a sheet out, one for each query, equals matching with the sheets that remain."""
    query, sheets = unit(4, 6, 5, 7, seed=1), unit(4, 6, 5, 7, seed=2)
    exclude = torch.tensor([2, -1, 0, 3])
    found = match(query, sheets, 5, 3, exclude=exclude)
    for index, left_out in enumerate(exclude.tolist()):
        rest = sheets[[k for k in range(4) if k != left_out]]
        alone = match(query[index : index + 1], rest, 5, 3)
        for one, other in zip(found, alone, strict=True):
            np.testing.assert_allclose(one[index], other[0], atol=1e-5)


def test_bank_gives_its_sheets_back() -> None:
    """Cutting into tiles loses nothing, also where the map has an odd side."""
    for size in ((4, 6), (5, 3), (1, 1)):
        sheets = unit(3, 4, *size)
        assert torch.equal(TileBank.from_sheets(sheets).sheets_tensor(), sheets)


shapes = st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5))  # sheets, H, W
windows = st.tuples(st.sampled_from([1, 3, 5]), st.sampled_from([1, 3, 5]))
seeds = st.integers(0, 2**20)


@settings(deadline=None, max_examples=30)
@given(shapes, windows, seeds)
def test_a_template_has_no_distance(shape: tuple, window: tuple[int, int], seed: int) -> None:
    """A query that is one of the sheets is at distance 0 everywhere, both ways."""
    sheets = unit(shape[0], 4, *shape[1:], seed=seed)
    there, back = match(sheets[-1:], sheets, *window)
    assert np.abs(there).max() < 1e-5
    assert back.max() < 1e-5


@settings(deadline=None, max_examples=30)
@given(shapes, windows, seeds)
def test_more_to_choose_from_never_raises_a_pixel(
    shape: tuple, window: tuple[int, int], seed: int
) -> None:
    """Adding a sheet, or widening a window, can only lower distances."""
    sheets = unit(shape[0] + 1, 4, *shape[1:], seed=seed)
    query = unit(1, 4, *shape[1:], seed=seed + 1)
    fewer = match(query, sheets[:-1], *window)
    more = match(query, sheets, *window)
    wider = match(query, sheets, window[0] + 2, window[1] + 2)
    for few, many, wide in zip(fewer, more, wider, strict=True):
        assert (many <= few + 1e-6).all()
        assert (wide <= many + 1e-6).all()


@settings(deadline=None, max_examples=30)
@given(shapes, windows, seeds)
def test_order_of_sheets_does_not_matter(shape: tuple, window: tuple[int, int], seed: int) -> None:
    """Turning the template set around changes no distance."""
    sheets = unit(shape[0], 4, *shape[1:], seed=seed)
    query = unit(1, 4, *shape[1:], seed=seed + 1)
    turned = match(query, sheets.flip(0), *window)
    for one, other in zip(match(query, sheets, *window), turned, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(shapes, seeds)
def test_windows_of_one_make_both_directions_equal(shape: tuple, seed: int) -> None:
    """Without a search, forward and backward compare the same pairs."""
    sheets = unit(shape[0], 4, *shape[1:], seed=seed)
    there, back = match(unit(2, 4, *shape[1:], seed=seed + 1), sheets, 1, 1)
    np.testing.assert_allclose(there, back, atol=1e-6)


@pytest.mark.parametrize("windows", [(5, 0), (0, 3), (0, 0)])
def test_a_direction_that_is_off_is_zero(windows: tuple[int, int]) -> None:
    """Window 0 leaves its direction out and changes nothing about the other."""
    query, sheets = unit(2, 5, 6, 5, seed=1), unit(3, 5, 6, 5, seed=2)
    both = match(query, sheets, 5, 3)
    for found, wanted, window in zip(match(query, sheets, *windows), both, windows, strict=True):
        np.testing.assert_allclose(found, wanted if window else 0 * wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("given", "needed"),
    [
        ((5, 3, 0.5), (5, 3, 0.5)),
        ((5, 0, 0.5), (5, 0, 1)),
        ((0, 3, 0.5), (0, 3, 0)),
        ((5, 3, 1.0), (5, 0, 1)),
        ((5, 3, 0.0), (0, 3, 0)),
        ((5, 0, 0.0), (5, 0, 1)),
        ((0, 3, 1.0), (0, 3, 0)),
    ],
)
def test_only_what_counts_is_computed(given: tuple, needed: tuple) -> None:
    """A direction of weight 0 is not matched; one that is off leaves its weight to the other."""
    assert directions_needed(*given) == needed


def test_nothing_is_needed_of_a_level_that_is_off() -> None:
    """Both windows 0 stay so, whatever alpha."""
    assert directions_needed(0, 0, 0.3)[:2] == (0, 0)


@pytest.mark.parametrize("sourced", [False, True])
@pytest.mark.parametrize("exclude", [-1, 1])
def test_best_match_names_the_vector_behind_each_value(sourced: bool, exclude: int) -> None:
    """Its distance is the map's, and the vectors it names have that distance."""
    query, sheets = unit(1, 6, 7, 5, seed=1), unit(4, 6, 7, 5, seed=2)
    sources = torch.arange(4).flip(0)[:, None, None].expand(-1, 7, 5) if sourced else None
    bank = TileBank.from_sheets(sheets, sources=sources)
    left_out = torch.tensor([exclude])
    there, back = mutual_match(query, bank, forward=5, backward=3, exclude=left_out)
    points = [(0, 0), (6, 4), (3, 2), (5, 0)]
    found = best_match(query, bank, points, 5, 3, exclude=exclude)
    for (y, x), matches in zip(points, found, strict=True):
        one, other = matches["forward"], matches["backward"]
        assert one.distance == pytest.approx(float(there[0, y, x]), abs=1e-5)
        assert other.distance == pytest.approx(float(back[0, y, x]), abs=1e-5)
        pair = sheets[one.sheet, :, one.y, one.x] @ query[0, :, y, x]
        assert 1 - float(pair) == pytest.approx(one.distance, abs=1e-5)
        pair = sheets[other.sheet, :, y, x] @ query[0, :, other.y, other.x]
        assert 1 - float(pair) == pytest.approx(other.distance, abs=1e-5)
        assert max(abs(one.y - y), abs(one.x - x)) <= 2
        assert max(abs(other.y - y), abs(other.x - x)) <= 1
        for each in (one, other):
            assert each.sample == (3 - each.sheet if sourced else each.sheet)
            assert each.sample != exclude


def test_best_match_says_what_it_cannot_tell() -> None:
    """A direction that is off has no entry; points outside and batches are errors."""
    query, bank = unit(2, 3, 4, 4), TileBank.from_sheets(unit(2, 3, 4, 4))
    assert list(best_match(query[:1], bank, [(0, 0)], 3, 0)[0]) == ["forward"]
    with pytest.raises(ParameterError, match=r"there is no pixel \(0, 4\)"):
        best_match(query[:1], bank, [(0, 4)], 3, 3)
    with pytest.raises(ParameterError, match="one at a time"):
        best_match(query, bank, [(0, 0)], 3, 3)


def test_bfloat16_rounds_distances_and_not_cosines() -> None:
    """Near matches keep their distance to a hundredth; a cosine in bfloat16 is 0.004 wide there."""
    sheets = unit(4, 64, 6, 6, seed=2).bfloat16().float()
    noisy = sheets[:1] + 0.02 * torch.randn(1, 64, 6, 6, generator=torch.Generator().manual_seed(3))
    query = normalize(noisy, dim=1).bfloat16().float()  # so that only products are rounded
    exact = match(query, sheets, 3, 3)
    found = mutual_match(query, TileBank.from_sheets(sheets, torch.bfloat16), forward=3, backward=3)
    for one, other in zip(found, exact, strict=True):
        assert other.max() < 0.05
        np.testing.assert_allclose(one, other, rtol=0.01, atol=1e-6)


@pytest.mark.parametrize("window", [-1, -3, 2, 4])
@pytest.mark.parametrize("name", ["forward", "backward"])
def test_bad_windows_are_refused(name: str, window: int) -> None:
    """Even and non-positive windows have no middle; the message names the direction."""
    bank = TileBank.from_sheets(unit(1, 2, 3, 3))
    with pytest.raises(ParameterError, match=f"the {name} window is {window}"):
        mutual_match(unit(1, 2, 3, 3), bank, **{"forward": 1, "backward": 1, name: window})


@pytest.mark.parametrize("shape", [(1, 2, 3, 4), (1, 2, 4, 3), (1, 5, 3, 3)])
def test_shapes_must_agree(shape: tuple[int, ...]) -> None:
    """A query of another size or channel count is an error that gives both shapes."""
    bank = TileBank.from_sheets(unit(1, 2, 3, 3))
    with pytest.raises(ParameterError, match=r"the query's map is .* the templates' 2x3x3"):
        mutual_match(unit(*shape), bank, forward=1, backward=1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_close(dtype: torch.dtype) -> None:
    """Half-precision banks agree with float32 to their own rounding, and answer in float32."""
    query, sheets = unit(1, 16, 6, 6, seed=1), unit(4, 16, 6, 6, seed=2)
    exact = match(query, sheets, 3, 3)
    found = mutual_match(query, TileBank.from_sheets(sheets, dtype), forward=3, backward=3)
    for one, other in zip(found, exact, strict=True):
        assert one.dtype == torch.float32
        np.testing.assert_allclose(one, other, atol=2e-2)
