"""Prototype selection against a plain reading of docs/methods/hetmm.md, a column at a time."""

from __future__ import annotations

import sys
from typing import get_args

import numpy as np
import pytest
from hetmm_tools import Doubles, Floats

from blemish.detectors.hetmm import optics, selection
from blemish.detectors.hetmm.selection import METHODS, WHOLE_SHEETS, Method, select, whole_sheets
from blemish.errors import MissingExtraError, ParameterError

BY_PIXEL = [name for name in METHODS if name not in WHOLE_SHEETS]


def clustered(sheets: int, pixels: int, seed: int, channels: int = 24) -> Floats:
    """Unit vectors [P, N, C] around a few centres at each pixel, some far from all."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((pixels, 4, channels))
    near = np.take_along_axis(centres, rng.integers(0, 4, (pixels, sheets, 1)), axis=1)
    spread = rng.random((pixels, sheets, 1)) ** 2
    return normal(near + spread * rng.standard_normal((pixels, sheets, channels)))


def normal(values: np.ndarray) -> Floats:
    """At length 1, in float32."""
    return (values / np.linalg.norm(values, axis=2, keepdims=True)).astype(np.float32)


def medoid(x: Doubles, members: list[int]) -> int:
    """The member with the largest summed cosine to all members."""
    return max(members, key=lambda i: sum(x[i] @ x[j] for j in members))


def add_hard(x: Doubles, chosen: list[int], k: int) -> list[int]:
    """`chosen` and then, up to k, ever the sample with the smallest summed cosine to the chosen."""
    chosen = list(chosen)
    while len(chosen) < k:
        rest = [i for i in range(len(x)) if i not in chosen]
        chosen.append(min(rest, key=lambda i: sum(x[i] @ x[j] for j in chosen)))
    return chosen


def literal_pts(column: Floats, k: int) -> tuple[list[int], int]:
    """PTS of one column [N, C], and how many of the chosen are cluster medoids."""
    cluster = pytest.importorskip("sklearn.cluster")
    x, n = column.astype(np.float64), len(column)
    found = cluster.OPTICS(min_samples=max(2, n // k), metric=lambda a, b: 1 - a @ b).fit(x)
    labels = found.labels_.tolist()
    order = list(dict.fromkeys(label for label in labels if label != -1))
    clusters = [[i for i in range(n) if labels[i] == label] for label in order]
    chosen = [medoid(x, members) for members in clusters][:k] or [medoid(x, list(range(n)))]
    return add_hard(x, chosen, k), len(chosen)


def literal_kcenter(column: Floats, k: int) -> list[int]:
    """Greedy k-centre of one column [N, C], from the medoid."""
    x = column.astype(np.float64)
    chosen = [medoid(x, list(range(len(x))))]
    while len(chosen) < k:
        rest = [i for i in range(len(x)) if i not in chosen]
        chosen.append(max(rest, key=lambda i: min(1 - x[i] @ x[j] for j in chosen)))
    return chosen


@pytest.mark.parametrize(("sheets", "k"), [(36, 8), (40, 20), (31, 17), (30, 29), (13, 1), (2, 1)])
def test_pts_is_the_specification(sheets: int, k: int) -> None:
    """PTS picks the same samples in the same order as the literal algorithm at every pixel."""
    vectors = clustered(sheets, 5, seed=sheets)
    expected = [literal_pts(column, k)[0] for column in vectors]
    assert select(vectors, k, method="pts").tolist() == expected


def test_pts_with_more_clusters_than_prototypes() -> None:
    """When OPTICS finds more than K clusters, the first K by their first sample give medoids."""
    rng = np.random.default_rng(0)
    centres = np.tile(rng.standard_normal((4, 5, 24)), (1, 3, 1))  # 5 clusters of 3
    vectors = normal(centres + 0.05 * rng.standard_normal((4, 15, 24)))
    expected = [literal_pts(column, 4) for column in vectors]
    assert [easy for _, easy in expected] == [4] * 4
    ours = select(vectors, 4, method="pts").tolist()
    assert ours == [chosen for chosen, _ in expected]
    # Clusters first appear in the order of the first five samples.
    assert [[index % 5 for index in column] for column in ours] == [[0, 1, 2, 3]] * 4


def test_pts_without_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where OPTICS finds no cluster, PTS begins with the medoid of all, then hard normals."""

    def no_labels(distances: Doubles, _: int) -> np.ndarray:
        return np.full(distances.shape[:2], -1)

    monkeypatch.setattr(optics, "optics_labels", no_labels)
    vectors = clustered(20, 9, seed=6)
    exact = vectors.astype(np.float64)
    expected = [add_hard(x, [medoid(x, list(range(20)))], 5) for x in exact]
    assert select(vectors, 5, method="pts").tolist() == expected


@pytest.mark.parametrize("k", [1, 5, 19])
def test_kcenter_is_the_greedy_rule(k: int) -> None:
    """k-centre starts at the medoid, then takes ever the sample farthest from those chosen."""
    vectors = clustered(20, 9, seed=5)
    assert select(vectors, k).tolist() == [literal_kcenter(column, k) for column in vectors]


@pytest.fixture(params=BY_PIXEL)
def method(request: pytest.FixtureRequest) -> Method:
    """Each way to choose pixel by pixel that can run here."""
    if request.param == "pts":
        pytest.importorskip("sklearn")
    found: Method = request.param
    return found


@pytest.mark.parametrize("k", [1, 7, 11, 12])
def test_cardinality(method: Method, k: int) -> None:
    """Every method gives k valid sheets at each pixel, none of them twice."""
    chosen = select(clustered(12, 15, seed=k), k, method=method)
    assert chosen.shape == (15, k)
    assert chosen.dtype == np.intp
    assert ((chosen >= 0) & (chosen < 12)).all()
    assert all(len(set(column)) == k for column in chosen.tolist())


@pytest.mark.parametrize("k", [6, 7, 100])
def test_enough_room_keeps_everything(method: Method, k: int) -> None:
    """With k >= N every sheet stays, in its order."""
    chosen = select(clustered(6, 6, seed=0), k, method=method)
    assert chosen.tolist() == [list(range(6))] * 6


def test_identical_sheets(method: Method) -> None:
    """Sheets that coincide raise no warning and are still never chosen twice."""
    vectors = np.tile(clustered(3, 4, seed=1), (1, 4, 1))
    chosen = select(vectors, 9, method=method)
    assert all(len(set(column)) == 9 for column in chosen.tolist())


def test_pixels_do_not_mix(method: Method, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is chosen at a pixel depends on it alone, however many are taken at a time."""
    vectors = clustered(24, 16, seed=2, channels=64)
    first = select(vectors, 9, method=method)
    alone = [select(column[None], 9, method=method)[0] for column in vectors]
    np.testing.assert_array_equal(first, np.stack(alone))
    monkeypatch.setattr(selection, "_GRAM_BYTES", 1)
    np.testing.assert_array_equal(select(vectors, 9, method=method), first)


def test_pts_without_scikit_learn_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """PTS alone needs scikit-learn; the others work without."""
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(MissingExtraError, match=r"blemish\[train\]"):
        select(clustered(5, 1, seed=0), 2, method="pts")
    assert select(clustered(5, 1, seed=0), 2).shape == (1, 2)


# Whole sheets


@pytest.mark.parametrize(
    ("count", "sheets", "chosen"),
    [
        (5, None, [0, 1, 2, 3, 4]),
        (5, 9, [0, 1, 2, 3, 4]),
        (9, 3, [0, 4, 8]),
        (10, 2, [0, 9]),
        (21, 5, [0, 5, 10, 15, 20]),
        (7, 1, [0]),
    ],
)
def test_evenly_spaced(count: int, sheets: int | None, chosen: list[int]) -> None:
    """Templates are spread over all good images, ends included, none twice."""
    assert whole_sheets(count, sheets) == chosen


@pytest.mark.parametrize("method", WHOLE_SHEETS)
def test_whole_sheets_never_repeat(method: str) -> None:
    """However many of however many, no image is a template twice, and they ascend."""
    for count in range(1, 30):
        for sheets in range(1, count + 1):
            chosen = whole_sheets(count, sheets, method=method)
            assert len(chosen) == sheets
            assert chosen == sorted(set(chosen))
            assert 0 <= chosen[0] <= chosen[-1] < count


def test_random_sheets_are_of_their_seed() -> None:
    """One seed draws the same sheets each time, another others."""
    draws = [tuple(whole_sheets(40, 10, method="random", seed=seed)) for seed in range(5)]
    assert len(set(draws)) == 5
    assert whole_sheets(40, 10, method="random", seed=3) == list(draws[3])


# What cannot work


@pytest.mark.parametrize("k", [0, -3, True, 2.0])
def test_a_number_of_sheets_that_cannot_be(k: int) -> None:
    """A number of sheets that is not a positive whole number is refused by name."""
    with pytest.raises(ParameterError, match="number of sheets"):
        select(clustered(5, 2, seed=0), k)


@pytest.mark.parametrize("name", ["best", *WHOLE_SHEETS])
def test_a_method_that_does_not_choose_by_pixel(name: str) -> None:
    """An unknown method, or one of whole sheets, is refused with the list of those that do."""
    with pytest.raises(ParameterError, match=rf"'{name}'.*kcenter, pts"):
        select(clustered(5, 2, seed=0), 2, method=name)  # type: ignore[arg-type]
    assert get_args(Method) == METHODS


@pytest.mark.parametrize("method", BY_PIXEL)
def test_undefined_features_are_refused(method: Method) -> None:
    """A single undefined feature value is refused, and where it may come from is said."""
    vectors = clustered(5, 4, seed=0)
    vectors[3, 1, 7] = np.nan
    with pytest.raises(ParameterError, match="check the images and the backbone"):
        select(vectors, 2, method=method)


@pytest.mark.parametrize(
    "bad", [np.zeros((3, 4), np.float32), np.zeros((2, 3, 4), int), np.zeros((0, 3, 4), np.float32)]
)
def test_vectors_of_another_shape_are_refused(bad: np.ndarray) -> None:
    """Vectors without pixels, of whole numbers, or none at all, are told with their shape."""
    with pytest.raises(ParameterError, match="shape"):
        select(bad, 2)
