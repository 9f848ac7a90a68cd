"""Template sets: how they come and go, leave one out, and lie in a bundle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hetmm_tools import (
    CLOSE,
    Floats,
    Integers,
    backward_by_loops,
    by_pixel,
    forward_by_loops,
    free_set,
    level_of,
    matcher,
    sheet_set,
    sheets_in,
    unit,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.detectors.hetmm.restoring import restore_sets
from blemish.detectors.hetmm.selection import select
from blemish.detectors.hetmm.templates import FreeSet, TemplateSet, copy_numbers
from blemish.errors import BundleError, CalibrationError, ParameterError

C, H, W = 6, 5, 7


def sheets(count: int, seed: int = 0) -> Floats:
    """Unit vectors [N, C, H, W]."""
    return unit(count, C, H, W, seed=seed)


def selected(count: int, samples: int, seed: int = 0) -> Integers:
    """The samples [N, H, W] that selected prototypes come from, distinct at each pixel."""
    rng = np.random.default_rng(seed)
    order = np.stack([rng.permutation(samples)[:count] for _ in range(H * W)], axis=1)
    return order.reshape(count, H, W).astype(np.int32)


def prototypes(count: int, samples: int) -> tuple[Floats, Integers, TemplateSet]:
    """All samples' sheets, the samples taken at each pixel, and the set of these."""
    every, sources = sheets(samples), selected(count, samples)
    return every, sources, sheet_set(taken(every, sources), sources)


def taken(every: Floats, sources: Integers) -> Floats:
    """The vectors of samples [N, C, H, W] that `sources` [K, H, W] name."""
    return np.take_along_axis(every, sources[:, None].astype(np.intp), axis=0)


def held(made: TemplateSet) -> Floats:
    """A set's sheets [N, C, H, W]."""
    return sheets_in(made.vectors, made.level.height, made.level.width)


def distances(made: TemplateSet | FreeSet, query: Floats, without: int = -1) -> Floats:
    """What the set adds to the map."""
    return made.distances(matcher(), query, without)


@pytest.mark.parametrize(
    ("forward", "backward", "alpha"),
    [(2, 1, 0.5), (1, 2, 0.3), (0, 0, 0.7), (2, None, 1.0), (None, 1, 0.0), (9, 9, 0.25)],
)
def test_distances_are_the_weighted_sum_of_both_directions(
    forward: int | None, backward: int | None, alpha: float
) -> None:
    """A = alpha F + (1 - alpha) B, one direction alone where the other is off."""
    every, query = sheets(4), sheets(1, seed=1)[0]
    made = sheet_set(every, forward=forward, backward=backward, alpha=alpha)
    wanted = np.zeros((H, W))
    if forward is not None:
        wanted += alpha * forward_by_loops(query, every, forward)
    if backward is not None:
        wanted += (1 - alpha) * backward_by_loops(query, every, backward)
    np.testing.assert_allclose(distances(made, query), wanted, atol=CLOSE, rtol=0)


def test_a_window_far_beyond_the_map_costs_no_more_than_the_map() -> None:
    """Its patches would take gigabytes; what lies on the map is all that it sees."""
    every, query = sheets(3), sheets(1, seed=1)[0]
    made = sheet_set(every, forward=50_000, backward=499)
    wanted = 0.5 * forward_by_loops(query, every, 6) + 0.5 * backward_by_loops(query, every, 6)
    np.testing.assert_allclose(distances(made, query), wanted, atol=CLOSE, rtol=0)


@settings(deadline=None, max_examples=20)
@given(count=st.integers(1, 4), height=st.integers(1, 4), width=st.integers(1, 4))
def test_a_template_scores_nothing(count: int, height: int, width: int) -> None:
    """A query that is one of the sheets is at distance 0, in a set with or without places."""
    every = unit(count, 5, height, width)
    for made in (sheet_set(every), free_set(every)):
        assert np.abs(distances(made, every[-1])).max() < CLOSE


@pytest.mark.parametrize("left_out", range(4))
def test_leaving_a_sheet_out_is_a_set_without_it(left_out: int) -> None:
    """Whole sheets: distances without sample k are those of the sheets that remain."""
    every, query = sheets(4), sheets(1, seed=4)[0]
    rest = sheet_set(np.delete(every, left_out, axis=0))
    found = distances(sheet_set(every), query, left_out)
    np.testing.assert_allclose(found, distances(rest, query), atol=CLOSE, rtol=0)
    gone = sheet_set(every).without(left_out)
    np.testing.assert_allclose(found, distances(gone, query), atol=CLOSE, rtol=0)


@pytest.mark.parametrize("method", ["pts", "kcenter"])
def test_leaving_a_sample_out_masks_its_prototypes(method: Any) -> None:
    """Prototypes of a left-out sample do not count, wherever they sit."""
    if method == "pts":
        pytest.importorskip("sklearn")
    every, query, sample = sheets(7), sheets(1, seed=1)[0], 2
    positions = select(by_pixel(every).transpose(0, 2, 1), 4, method=method)  # [P, 4]
    sources = positions.T.reshape(4, H, W).astype(np.int32)
    assert (sources == sample).any(), "the sample must have been chosen somewhere"
    made = sheet_set(taken(every, sources), sources, forward=1, backward=1)
    # Each of its prototypes replaced by another of the same pixel, which changes no maximum.
    other = (sources == sample).argmin(axis=0)[None]
    replaced = np.where(sources == sample, np.take_along_axis(sources, other, axis=0), sources)
    wanted = sheet_set(taken(every, replaced), forward=1, backward=1)
    found = distances(made, query, sample)
    np.testing.assert_allclose(found, distances(wanted, query), atol=CLOSE, rtol=0)


def test_a_sample_that_is_not_there_leaves_nothing_out() -> None:
    """A number that no prototype has, or none at all, is the whole set."""
    query = sheets(1, seed=4)[0]
    for made in (sheet_set(sheets(4)), prototypes(3, 5)[2], free_set(sheets(2))):
        np.testing.assert_array_equal(distances(made, query, 9), distances(made, query))


@pytest.mark.parametrize("sample", [0, 2, 4])
def test_sheets_come_and_go(sample: int) -> None:
    """Whole sheets go behind, and out of the middle; the set itself never changes."""
    every, more = sheets(5), sheets(2, seed=9)
    made = sheet_set(every)
    longer = made.extended(more, np.array([5, 6]))
    np.testing.assert_array_equal(held(longer), np.concatenate([every, more]))
    np.testing.assert_array_equal(held(made.without(sample)), np.delete(every, sample, axis=0))
    np.testing.assert_array_equal(held(made), every)
    assert longer.sheets == 7
    assert np.abs(distances(longer, more[0])).max() < CLOSE


@pytest.mark.parametrize("sample", [0, 3, 5])
def test_a_removed_source_gives_way_to_another(sample: int) -> None:
    """Without a sample, prototypes match as with it left out, and later numbers move down."""
    every, sources, made = prototypes(4, 6)
    query, fewer = sheets(1, seed=1)[0], made.without(sample)
    wanted = distances(made, query, sample)
    np.testing.assert_allclose(distances(fewer, query), wanted, atol=CLOSE, rtol=0)
    assert fewer.sources is not None
    rest = np.delete(every, sample, axis=0)
    np.testing.assert_array_equal(held(fewer), taken(rest, fewer.sources.T.reshape(-1, H, W)))
    for before, after in zip(sources.reshape(4, -1).T, fewer.sources, strict=True):
        left = set(before.tolist()) - {sample}
        assert set(after.tolist()) == {number - (number > sample) for number in left}


def test_what_was_added_goes_as_it_came() -> None:
    """Added then removed is what was before, bit by bit: sheets, prototypes and places."""
    more = sheets(2, seed=9)
    for made, number in ((sheet_set(sheets(3)), 3), (prototypes(3, 5)[2], 5)):
        after = made.extended(more[:1], np.array([number])).without(number)
        assert after.state().keys() == made.state().keys()
        for name, values in made.state().items():
            np.testing.assert_array_equal(after.state()[name], values)
    # Two copies of one sample go together.
    made = prototypes(3, 5)[2]
    after = made.extended(more, np.array([5, 5])).without(5)
    np.testing.assert_array_equal(held(after), held(made))
    free = free_set(sheets(3))
    after = free.extended(more, np.array([3, 3])).without(3)
    for name, values in free.state().items():
        np.testing.assert_array_equal(after.state()[name], values)


def test_several_changes_in_a_row() -> None:
    """Many added and removed sheets leave those one expects, in their order."""
    every = sheets(9)
    made = sheet_set(every[:4]).extended(every[4:5], np.array([4]))
    made = made.extended(every[5:], np.array([5, 6, 7, 8]))
    np.testing.assert_array_equal(held(made), every)
    fewer = made.without(4).without(0).without(6)
    np.testing.assert_array_equal(held(fewer), every[[1, 2, 3, 5, 6, 7]])


def test_what_cannot_be_removed() -> None:
    """Unknown samples, the last sheet and a pixel's last prototype are errors that say so."""
    plain = sheet_set(sheets(1))
    with pytest.raises(ParameterError, match="the last sheet cannot be removed"):
        plain.without(0)
    with pytest.raises(ParameterError, match="there is no sample 1"):
        plain.without(1)
    lonely = sheet_set(sheets(2), np.zeros((2, H, W), np.int32))
    with pytest.raises(ParameterError, match="some pixels have no other prototype"):
        lonely.without(0)
    with pytest.raises(ParameterError, match="last template"):
        free_set(sheets(1)).without(0)


def test_nothing_left_to_match_is_said() -> None:
    """Leaving out all that there is at some pixel is a sentence, not an infinite score."""
    query = sheets(1, seed=1)[0]
    somewhere = selected(2, 4)
    somewhere[:, 3, 2] = 1
    narrow = {"forward": 0, "backward": 0}
    for made, sample in (
        (sheet_set(sheets(1)), 0),
        (sheet_set(sheets(2), somewhere, **narrow), 1),
        (sheet_set(sheets(2), somewhere), 1),  # backward, whatever forward finds around
        (free_set(sheets(1)), 0),
    ):
        with pytest.raises(CalibrationError, match="without one another"):
            distances(made, query, sample)
    reached = sheet_set(sheets(2), somewhere, backward=None, alpha=1.0)
    assert np.isfinite(distances(reached, query, 1)).all()  # around the pixel there are others


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (unit(1, C, H, W + 1), r"shape \[1, 6, 5, 8\], its templates take \[N, 6, 5, 7\]"),
        (unit(1, C + 1, H, W), "shape"),
        (unit(1, C, H), "shape"),
        (np.empty((0, C, H, W), np.float32), "shape"),
        (np.zeros((1, C, H, W), np.int32), "are int32"),
    ],
)
def test_sheets_that_do_not_fit_are_refused(bad: np.ndarray, said: str) -> None:
    """New sheets of another shape or kind are told with the level."""
    for made in (sheet_set(sheets(2)), free_set(sheets(2))):
        with pytest.raises(BundleError, match=f"level 1 .*{said}"):
            made.extended(bad, np.array([2]))


def test_a_map_pixel_tells_its_vectors() -> None:
    """`at` gives the vectors of a pixel and the samples they come from."""
    every, sources, made = prototypes(4, 6)
    vectors, own = made.at(2, 3)
    np.testing.assert_array_equal(own, sources[:, 2, 3])
    np.testing.assert_array_equal(vectors, every[own, :, 2, 3])
    vectors, own = sheet_set(every).at(4, 6)
    np.testing.assert_array_equal(own, np.arange(6))
    np.testing.assert_array_equal(vectors, every[:, :, 4, 6])


def test_copies_are_counted_by_sample() -> None:
    """A sample's copies lie in a row, and a new sample begins a new row."""
    assert copy_numbers(np.array([3, 3, 3, 4, 4, 4], np.int32)).tolist() == [0, 1, 2] * 2
    assert copy_numbers(np.array([7], np.int32)).tolist() == [0]


# In a bundle


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("memory", [None, 1])
@pytest.mark.parametrize("kind", ["sheets", "prototypes", "free", "reduced"])
def test_state_brings_every_bit_back(dtype: str, memory: int | None, kind: str) -> None:
    """A set rebuilt from its named tensors gives the same distances, and the same tensors."""
    every, query = sheets(4).astype(dtype).astype(np.float32), sheets(1, seed=1)[0]
    made: TemplateSet | FreeSet
    if kind in ("sheets", "prototypes"):
        made = sheet_set(every, selected(4, 6) if kind == "prototypes" else None, dtype=dtype)
    else:
        made = free_set(every, np.eye(C, 4, dtype=np.float32) if kind == "reduced" else None, dtype)
    key = "1" if kind in ("sheets", "prototypes") else "1-free"
    state = {f"{name}{key}": values for name, values in made.state().items()}
    assert state[f"level{key}"].dtype == dtype
    (again,) = restore_sets([made.level], state, "here", memory)
    for without in (-1, 2):
        found = distances(again, query, without)
        np.testing.assert_array_equal(found, distances(made, query, without))
    for name, values in made.state().items():
        np.testing.assert_array_equal(again.state()[name], values)
        assert again.state()[name].dtype == values.dtype


@pytest.mark.parametrize("count", [1, 3])
def test_half_precision_is_close(count: int) -> None:
    """float16 keeps 11 bits, so cosines of rounded vectors err by 2^-10 at most; half the bytes."""
    every, query = unit(count, 16, H, W), unit(1, 16, H, W, seed=1)[0]
    half = every.astype(np.float16).astype(np.float32)
    exact, rounded = sheet_set(every), sheet_set(half, dtype="float16")
    assert rounded.state()["level"].nbytes * 2 == exact.state()["level"].nbytes
    found, wanted = distances(rounded, query), distances(exact, query)
    np.testing.assert_allclose(found, wanted, atol=2**-10, rtol=0)
    more = rounded.extended(every.astype(np.float16), np.arange(count, 2 * count))
    np.testing.assert_allclose(distances(more, query), found, atol=CLOSE, rtol=0)


@pytest.mark.parametrize(
    "state",
    [
        {"level": np.zeros((H, W + 1, C, 2), np.float32)},
        {"level": np.zeros((H, W, C, 0), np.float32)},
        {"level": np.zeros((H, W, C, 2), np.int32)},
        {"level": np.zeros((H, W, C), np.float32)},
        {"level": np.zeros((H, W, C, 2), np.float32), "sources": np.zeros((H, W, 1), np.int32)},
    ],
)
def test_templates_that_do_not_fit_the_graph_are_refused(state: dict[str, Any]) -> None:
    """Wrong shapes and types are told with the level, not found by the runtime."""
    with pytest.raises(BundleError, match=r"here: .*level 1"):
        TemplateSet.from_state(level_of(sheets(1)), state, "here")


@pytest.mark.parametrize(
    "change",
    [
        {"level": np.zeros((70, C - 1), np.float32)},
        {"level": np.zeros((0, C), np.float32)},
        {"level": np.zeros((70, C), np.int32)},
        {"level": np.zeros((H, W, C, 2), np.float32)},
        {"sources": np.zeros(69, np.int32)},
        {"places": np.zeros(71, np.int32)},
        {"components": np.zeros((C, C - 1), np.float32)},
        {"components": np.zeros((C + 1, C), np.float32)},
    ],
)
def test_vectors_that_do_not_fit_the_graph_are_refused(change: dict[str, Any]) -> None:
    """The same of a location-free level: vectors, their samples, places and components."""
    made = free_set(sheets(2))
    with pytest.raises(BundleError, match="here: the vectors of level 1 do not fit"):
        FreeSet.from_state(made.level, {**made.state(), **change}, "here")


@pytest.mark.parametrize(
    ("kind", "missing"), [("sheets", "level"), ("free", "sources"), ("free", "places")]
)
def test_a_missing_tensor_is_named(kind: str, missing: str) -> None:
    """A bundle without one of a level's tensors says which."""
    made = sheet_set(sheets(2)) if kind == "sheets" else free_set(sheets(2))
    key = "1" if kind == "sheets" else "1-free"
    state = {f"{name}{key}": value for name, value in made.state().items() if name != missing}
    with pytest.raises(BundleError, match=rf"here has no '{missing}{key}'; fit again"):
        restore_sets([made.level], state, "here", None)
