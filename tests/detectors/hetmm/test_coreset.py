"""Thinning out: the bound of greedy k-centre holds, with one vector a step and with many."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hetmm_tools import Doubles, Floats, unit
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.detectors.hetmm.coreset import k_centre
from blemish.errors import ParameterError

# Distances near 0 are square roots of cosines' roundings: sqrt(2 * 2^-23) and a little.
CLOSE = 1e-3


def distances(vectors: Floats) -> Doubles:
    """|a - b| between any two, float64 [N, N]."""
    exact = vectors.astype(np.float64)
    found: Doubles = np.linalg.norm(exact[:, None] - exact, axis=2)
    return found


def radius(between: Doubles, chosen: np.ndarray | list[int]) -> float:
    """How far the vector farthest from the chosen ones lies from them."""
    return float(between[:, chosen].min(axis=1).max())


def naive(vectors: Floats, k: int) -> list[int]:
    """Gonzalez' greedy algorithm, word by word."""
    between = distances(vectors)
    chosen = [int((vectors @ vectors.mean(axis=0)).argmax())]
    while len(chosen) < k:
        chosen.append(int(between[:, chosen].min(axis=1).argmax()))
    return sorted(chosen)


@pytest.mark.parametrize("seed", range(5))
def test_one_a_step_is_the_greedy_algorithm(seed: int) -> None:
    """With steps of one vector the choice is that of a naive loop."""
    vectors = unit(60, 5, seed=seed)
    assert k_centre(vectors, 17, batch=1).tolist() == naive(vectors, 17)


@settings(deadline=None, max_examples=50)
@given(
    count=st.integers(5, 11),
    k=st.integers(1, 4),
    batch=st.integers(1, 12),
    length=st.integers(2, 4),
    seed=st.integers(0, 10_000),
)
def test_no_farther_than_twice_the_best(
    count: int, k: int, batch: int, length: int, seed: int
) -> None:
    """However many a step, the covering radius is at most twice the best of all choices of k."""
    vectors = unit(count, length, seed=seed)
    between = distances(vectors)
    best = min(radius(between, list(some)) for some in combinations(range(count), k))
    assert radius(between, k_centre(vectors, k, batch=batch)) <= 2 * best + CLOSE


@settings(deadline=None, max_examples=50)
@given(k=st.integers(2, 60), batch=st.integers(1, 40), seed=st.integers(0, 10_000))
def test_chosen_vectors_are_a_radius_apart(k: int, batch: int, seed: int) -> None:
    """No two chosen vectors are nearer than the covering radius: none is spent on a crowd."""
    vectors = unit(61, 3, seed=seed)
    crowd = vectors[:20] * 1e-2 + vectors[0]
    vectors[:20] = crowd / np.linalg.norm(crowd, axis=1, keepdims=True)
    between = distances(vectors)
    chosen = k_centre(vectors, k, batch=batch)
    assert len(set(chosen.tolist())) == k
    assert chosen.tolist() == sorted(chosen.tolist())
    apart = between[chosen][:, chosen]
    np.fill_diagonal(apart, np.inf)
    assert float(apart.min()) >= radius(between, chosen) - CLOSE


def test_equal_vectors_are_no_trouble() -> None:
    """Where all vectors are the same, any k different positions come back."""
    chosen = k_centre(unit(1, 4).repeat(30, axis=0), 7, batch=4)
    assert len(set(chosen.tolist())) == 7


@pytest.mark.parametrize("k", [9, 10, 50])
def test_all_stay_where_there_are_few(k: int) -> None:
    """As many as there are, or more, keep every vector in its order."""
    assert k_centre(unit(9, 4, seed=1), k).tolist() == list(range(9))


def test_none_cannot_be_kept() -> None:
    """A number below 1 is refused by name."""
    with pytest.raises(ParameterError, match="keep is 0; it must be at least 1"):
        k_centre(unit(9, 4, seed=1), 0)


def test_progress_ends_at_k() -> None:
    """What is reported only grows, up to the number wanted."""
    steps: list[tuple[int, int]] = []
    vectors = unit(80, 3, seed=2)
    k_centre(vectors, 30, batch=8, progress=lambda _, done, k: steps.append((done, k)))
    assert [done for done, _ in steps] == sorted({done for done, _ in steps})
    assert steps[-1] == (30, 30)
