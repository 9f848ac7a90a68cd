"""How good parts vary: moments by place, radii by template, and scores by the upper tail."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hetmm_tools import CLOSE, Doubles, Floats, unit
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.detectors.hetmm import normalisation
from blemish.detectors.hetmm.normalisation import (
    LEAST,
    NEIGHBOURS,
    PRIOR,
    SMOOTHING,
    Normalisation,
    radii,
    tail,
)
from blemish.errors import BundleError

G, H, W = 2, 16, 32


def maps_of(count: int, seed: int = 0) -> Floats:
    """Distances [n, G, H, W] of parts that vary more to the right, and more in the second."""
    values = np.random.default_rng(seed).random((count, G, H, W), np.float32)
    scale = np.linspace(0.05, 0.2, W, dtype=np.float32)
    return values * scale * np.array([1, 3], np.float32)[:, None, None]


def measured(maps: Floats, samples: list[int] | None = None) -> Normalisation:
    """What these maps [n, G, H, W] tell."""
    found = Normalisation.from_maps(list(maps), samples or list(range(len(maps))))
    assert found is not None
    return found


def smoothed(values: Doubles) -> Doubles:
    """[G, H, W] smoothed by a Gaussian whose sigma is a share of each side, mirrored at borders."""
    across = [
        cv2.GaussianBlur(
            each, (8 * W // 16 + 1, 8 * H // 16 + 1), sigmaX=SMOOTHING * W, sigmaY=SMOOTHING * H,
            borderType=cv2.BORDER_REFLECT,
        )
        for each in values
    ]  # fmt: skip
    return np.stack(across)


def by_definition(maps: Floats) -> tuple[Doubles, Doubles]:
    """Mean and deviation [G, H, W] of maps [n, G, H, W], shrunk towards the usual variance."""
    whole = maps.astype(np.float64)
    variance = smoothed(whole.var(axis=0))
    usual = np.median(variance, axis=(1, 2), keepdims=True)
    shrunk = (len(maps) * variance + PRIOR * usual) / (len(maps) + PRIOR)
    return smoothed(whole.mean(axis=0)), np.sqrt(shrunk)


@pytest.mark.parametrize("count", [LEAST, 11])
def test_moments_are_those_of_the_definition(count: int) -> None:
    """Smoothed mean and deviation of the maps, the variance drawn towards its median."""
    maps = maps_of(count)
    # The filter here ends at the same whole pixel, but for rounding of its weights.
    for found, wanted in zip(measured(maps).moments, by_definition(maps), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-3)


@pytest.mark.parametrize("count", [0, 1, LEAST - 1])
def test_of_few_parts_nothing_is_told(count: int) -> None:
    """Fewer than the least give nothing; so many give it."""
    maps = list(maps_of(LEAST))
    assert Normalisation.from_maps(maps[:count], list(range(count))) is None
    assert Normalisation.from_maps(maps, list(range(LEAST))) is not None


def test_branches_are_normalised_each_for_itself() -> None:
    """A map is the sum over branches of (D - m) / s; another branch's scale changes nothing."""
    maps, query = maps_of(6), maps_of(1, seed=1)[0]
    made = measured(maps)
    mean, deviation = made.moments
    wanted = ((query - mean) / deviation).sum(axis=0)
    found = made.applied(query)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    scale = np.array([1, 100], np.float32)[:, None, None]
    np.testing.assert_allclose(measured(maps * scale).applied(query * scale), found, atol=1e-4)


@pytest.mark.parametrize("sample", [-1, 6, 99])
def test_a_sample_that_was_not_measured_gets_the_moments(sample: int) -> None:
    """None, or one whose map was not taken, is compared with all that were."""
    made, query = measured(maps_of(6)), maps_of(1, seed=1)[0]
    np.testing.assert_array_equal(made.applied(query, sample), made.applied(query))


@settings(deadline=None, max_examples=20)
@given(count=st.integers(LEAST + 1, 12), seed=st.integers(0, 1000), data=st.data())
def test_a_measured_sample_is_compared_with_the_others(
    count: int, seed: int, data: st.DataObject
) -> None:
    """Its own map is taken off the sums: what is left is what the others alone tell."""
    maps = maps_of(count, seed)
    numbers = [3 * index + 1 for index in range(count)]
    own = data.draw(st.integers(0, count - 1))
    others = np.delete(maps, own, axis=0)
    wanted = measured(others, numbers[:own] + numbers[own + 1 :]).applied(maps[own])
    found = measured(maps, numbers).applied(maps[own], numbers[own])
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    assert not np.allclose(found, measured(maps, numbers).applied(maps[own]), atol=1e-3)


def test_a_place_where_nothing_varies_has_the_share_of_the_prior() -> None:
    """Where good parts never vary the deviation is a share of the usual one, and not 0."""
    maps = maps_of(20)
    maps[:, :, :, : W // 3] = 0.1
    _, deviation = measured(maps).moments
    usual = np.median(smoothed(maps.astype(np.float64).var(axis=0)), axis=(1, 2))
    wanted = np.sqrt(usual * PRIOR / (20 + PRIOR))
    np.testing.assert_allclose(deviation[:, 0, 0], wanted, rtol=1e-3)
    np.testing.assert_array_equal(deviation.min(axis=(1, 2)), deviation[:, 0, 0])


@pytest.mark.parametrize("value", [0.0, 0.37, -0.02])
def test_where_nothing_varies_distances_stay_finite(value: float) -> None:
    """Parts that are all alike have a deviation of 1: only what is usual is taken off."""
    maps = np.full((5, G, H, W), value, np.float32)
    query = maps_of(1)[0]
    for sample in (-1, 2):
        found = measured(maps).applied(maps[0], sample)
        np.testing.assert_allclose(found, 0, atol=CLOSE)
    found = measured(maps).applied(query)
    np.testing.assert_allclose(found, (query - np.float32(value)).sum(axis=0), atol=10 * CLOSE)
    # The same of a part's corner, and of one branch alone.
    some = maps_of(5)
    some[:, 0], some[:, 1, :4, :4] = value, value
    found = measured(some).applied(query, 1)
    assert np.isfinite(found).all()
    assert np.abs(found).max() < 100


# Which sample is which


@pytest.mark.parametrize(
    ("gone", "left"),
    [
        ([], [0, 2, 3, 7]),
        ([1], [0, 1, 2, 6]),
        ([2], [0, 2, 6, -1]),
        ([7, 1], [0, 1, 2, -1]),
        ([0, 2, 3, 7], [-1, -1, -1, -1]),
        ([9], [0, 2, 3, 7]),
    ],
)
def test_samples_are_renumbered(gone: list[int], left: list[int]) -> None:
    """Those after a template that went move down; those that went are no template's."""
    made = measured(maps_of(4), [0, 2, 3, 7])
    fewer = made.without(gone)
    assert fewer.samples.tolist() == left
    assert fewer.samples.dtype == np.int32
    np.testing.assert_array_equal(fewer.sums, made.sums)
    np.testing.assert_array_equal(fewer.squares, made.squares)


def test_a_renumbered_measurement_tells_the_same() -> None:
    """Those gone still count for a new part, and those left are still compared without them."""
    maps, query = maps_of(6), maps_of(1, seed=1)[0]
    made = measured(maps)
    fewer = made.without([1, 4])
    np.testing.assert_array_equal(fewer.applied(query), made.applied(query))
    for before, now in ((0, 0), (2, 1), (3, 2), (5, 3)):
        found = fewer.applied(maps[before], now)
        np.testing.assert_array_equal(found, made.applied(maps[before], before))
    again = fewer.without([0])
    np.testing.assert_array_equal(again.applied(query), made.applied(query))
    np.testing.assert_array_equal(again.applied(maps[5], 2), made.applied(maps[5], 5))


# In a bundle


def test_state_brings_every_bit_back() -> None:
    """What was measured is the same after a bundle, to the bit."""
    made, query = measured(maps_of(6), [0, 1, 4, 5, 8, 9]), maps_of(1, seed=1)[0]
    again = Normalisation.from_state(made.state(), (G, H, W), "here")
    for name, values in made.state().items():
        np.testing.assert_array_equal(again.state()[name], values)
        assert again.state()[name].dtype == values.dtype
    for sample in (-1, 4):
        np.testing.assert_array_equal(again.applied(query, sample), made.applied(query, sample))


def with_a(bad: float) -> Doubles:
    """Sums of which one is no number."""
    values = np.ones((G, H, W))
    values[1, 3, 5] = bad
    return values


@pytest.mark.parametrize(
    "change",
    [
        {"sums": None},
        {"squares": None},
        {"samples": None},
        {"sums": np.ones((G, W, H))},
        {"sums": np.ones((1, H, W))},
        {"squares": np.ones((G, H, W + 1))},
        {"squares": np.ones((G, H))},
        {"samples": np.zeros((6, 1), np.int32)},
        {"samples": np.arange(LEAST - 1, dtype=np.int32)},
        {"sums": np.ones((G, H, W), np.float32)},
        {"squares": np.ones((G, H, W), np.int64)},
        {"samples": np.arange(6)},
        {"samples": np.arange(6.0)},
        {"sums": with_a(np.nan)},
        {"sums": with_a(np.inf)},
        {"squares": with_a(-np.inf)},
        {"squares": with_a(np.nan)},
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any]) -> None:
    """Wrong shapes and kinds, numbers that are none and what is missing: one sentence."""
    state = {**measured(maps_of(6)).state(), **change}
    state = {name: values for name, values in state.items() if values is not None}
    with pytest.raises(BundleError, match="here: how good parts vary does not fit") as caught:
        Normalisation.from_state(state, (G, H, W), "here")
    assert "\n" not in str(caught.value)


# Scores and radii


@settings(deadline=None, max_examples=50)
@given(count=st.integers(1, 3000), seed=st.integers(0, 1000), ties=st.booleans())
def test_the_tail_is_that_of_sorted_values(count: int, seed: int, ties: bool) -> None:
    """The mean of the maximum and of the means of the upper 1 % and 10 %."""
    values = np.random.default_rng(seed).standard_normal(count).astype(np.float32)
    values = np.round(values, 1) if ties else values
    first = np.sort(values.astype(np.float64))[::-1]
    one, ten = (first[: max(1, round(share * count))].mean() for share in (0.01, 0.1))
    before = values.copy()
    assert tail(values) == pytest.approx((first[0] + one + ten) / 3, abs=1e-6)
    np.testing.assert_array_equal(values, before)


def radii_by_loops(
    vectors: Floats, sources: np.ndarray, queries: Floats, own: np.ndarray
) -> Doubles:
    """Mean distance of each query to its three nearest vectors of other images."""
    found = np.zeros(len(queries))
    for index, (query, image) in enumerate(zip(queries, own, strict=True)):
        others = [
            1 - float(vector.astype(np.float64) @ query.astype(np.float64))
            for vector, source in zip(vectors, sources, strict=True)
            if source != image
        ]
        if others:
            found[index] = np.mean(sorted(others)[:NEIGHBOURS])
    return found


@settings(deadline=None, max_examples=50)
@given(
    count=st.integers(1, 30),
    images=st.integers(1, 5),
    run=st.integers(1, 40),
    seed=st.integers(0, 10_000),
)
def test_radii_are_those_of_the_definition(count: int, images: int, run: int, seed: int) -> None:
    """Of other images alone; of those that there are, where they are fewer than three."""
    vectors = unit(count, 5, seed=seed)
    sources = np.random.default_rng(seed).integers(0, images, count).astype(np.int32)
    queries, own = unit(7, 5, seed=seed + 1), np.arange(7, dtype=np.int32) % (images + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(normalisation, "_RUN", run)
        for q, o in ((vectors, sources), (queries, own)):
            found = radii(vectors, sources, q, o)
            assert found.dtype == np.float32
            wanted = radii_by_loops(vectors, sources, q, o)
            np.testing.assert_allclose(found, wanted, atol=CLOSE, rtol=0)


def test_without_other_images_a_radius_is_nothing() -> None:
    """Vectors of one image have none to be compared with; two have one neighbour each."""
    vectors = unit(4, 6)
    alone = radii(vectors, np.zeros(4, np.int32), vectors, np.zeros(4, np.int32))
    np.testing.assert_array_equal(alone, 0)
    two, sources = vectors[:2], np.array([0, 1], np.int32)
    distance = 1 - float(two[0] @ two[1])
    np.testing.assert_allclose(radii(two, sources, two, sources), distance, atol=CLOSE)
