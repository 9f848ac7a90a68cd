"""Prototype selection against a plain reading of HETMM.md section 4, one column at a time."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from sklearn.cluster import OPTICS
from torch import Tensor
from torch.nn.functional import normalize

from blemish.errors import ParameterError
from blemish.hetmm import selection
from blemish.hetmm.selection import METHODS, Method, gather, select


def clustered(sheets: int, height: int, width: int, seed: int, channels: int = 24) -> Tensor:
    """Unit vectors [N,C,H,W] float32 around a few centres at each pixel, some far from all."""
    g = torch.Generator().manual_seed(seed)
    centres = torch.randn(4, channels, height, width, generator=g)
    which = torch.randint(4, (sheets, height, width), generator=g)
    near = centres.gather(0, which[:, None].expand(-1, channels, -1, -1))
    spread = torch.rand(sheets, 1, height, width, generator=g) ** 2
    noise = torch.randn(sheets, channels, height, width, generator=g)
    return normalize(near + spread * noise, dim=1)


def columns(features: Tensor) -> list[np.ndarray]:
    """Each pixel's vectors [N,C] in float64."""
    return list(features.double().flatten(2).permute(2, 0, 1).numpy())


def medoid(x: np.ndarray, members: list[int]) -> int:
    """The member with the largest summed cosine to all members."""
    return max(members, key=lambda i: sum(x[i] @ x[j] for j in members))


def add_hard(x: np.ndarray, chosen: list[int], k: int) -> list[int]:
    """`chosen` and then, up to k, ever the sample with the smallest summed cosine to the chosen."""
    chosen = list(chosen)
    while len(chosen) < k:
        rest = [i for i in range(len(x)) if i not in chosen]
        chosen.append(min(rest, key=lambda i: sum(x[i] @ x[j] for j in chosen)))
    return chosen


def literal_pts(x: np.ndarray, k: int) -> tuple[list[int], int]:
    """PTS of one column [N,C], and how many of the chosen are cluster medoids."""
    n = len(x)
    optics = OPTICS(min_samples=max(2, n // k), metric=lambda a, b: 1 - a @ b)
    labels = optics.fit(x).labels_.tolist()
    found = list(dict.fromkeys(label for label in labels if label != -1))
    clusters = [[i for i in range(n) if labels[i] == label] for label in found]
    chosen = [medoid(x, members) for members in clusters][:k] or [medoid(x, list(range(n)))]
    return add_hard(x, chosen, k), len(chosen)


def literal_kcenter(x: np.ndarray, k: int) -> list[int]:
    """Greedy k-centre of one column [N,C], from the medoid."""
    chosen = [medoid(x, list(range(len(x))))]
    while len(chosen) < k:
        rest = [i for i in range(len(x)) if i not in chosen]
        chosen.append(max(rest, key=lambda i: min(1 - x[i] @ x[j] for j in chosen)))
    return chosen


@pytest.mark.parametrize(("sheets", "k"), [(36, 8), (40, 20), (31, 17), (30, 29), (13, 1), (2, 1)])
def test_pts_is_the_specification(sheets: int, k: int) -> None:
    """PTS picks the same samples in the same order as the literal algorithm at every pixel."""
    features = clustered(sheets, 3, 4, seed=sheets)
    ours = select(features, k).flatten(1).T.tolist()
    assert ours == [literal_pts(x, k)[0] for x in columns(features)]


def test_pts_with_more_clusters_than_prototypes() -> None:
    """When OPTICS finds more than K clusters, the first K by their first sample give medoids."""
    g = torch.Generator().manual_seed(0)
    centres = torch.randn(5, 24, 1, 1, generator=g).repeat(3, 1, 1, 1)  # 5 clusters of 3
    features = normalize(centres + 0.05 * torch.randn(15, 24, 2, 2, generator=g), dim=1)
    expected = [literal_pts(x, 4) for x in columns(features)]
    assert [easy for _, easy in expected] == [4] * 4
    ours = select(features, 4).flatten(1).T.tolist()
    assert ours == [chosen for chosen, _ in expected]
    # Clusters first appear in the order of the first five samples.
    assert [[index % 5 for index in column] for column in ours] == [[0, 1, 2, 3]] * 4


def test_pts_without_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where OPTICS finds no cluster, PTS begins with the medoid of all, then hard normals."""

    def no_labels(distances: Tensor, min_samples: int) -> Tensor:
        return torch.full(distances.shape[:2], -1)

    monkeypatch.setattr(selection, "optics_labels", no_labels)
    features = clustered(20, 3, 3, seed=6)
    ours = select(features, 5).flatten(1).T.tolist()
    assert ours == [add_hard(x, [medoid(x, list(range(20)))], 5) for x in columns(features)]


@pytest.mark.parametrize("k", [1, 5, 19])
def test_kcenter_is_the_greedy_rule(k: int) -> None:
    """k-centre starts at the medoid, then takes ever the sample farthest from those chosen."""
    features = clustered(20, 3, 3, seed=5)
    ours = select(features, k, method="kcenter").flatten(1).T.tolist()
    assert ours == [literal_kcenter(x, k) for x in columns(features)]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("k", [1, 7, 11, 12])
def test_cardinality(method: Method, k: int) -> None:
    """Every method gives k valid source sheets at each pixel, none of them twice."""
    features = clustered(12, 5, 3, seed=k)
    indices = select(features, k, method=method)
    assert indices.shape == (k, 5, 3)
    assert indices.dtype == torch.int64
    assert bool(((indices >= 0) & (indices < 12)).all())
    assert all(len(set(column)) == k for column in indices.flatten(1).T.tolist())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("k", [6, 7, 100])
def test_enough_room_keeps_everything(method: Method, k: int) -> None:
    """With k >= N every sheet stays, in its order, and `gather` gives the features back."""
    features = clustered(6, 2, 3, seed=0)
    indices = select(features, k, method=method)
    assert torch.equal(indices, torch.arange(6)[:, None, None].expand(6, 2, 3))
    assert torch.equal(gather(features, indices), features)


@pytest.mark.parametrize("method", METHODS)
def test_identical_sheets(method: Method) -> None:
    """Sheets that coincide raise no warning and are still never chosen twice."""
    features = clustered(3, 2, 2, seed=1).repeat(4, 1, 1, 1)
    indices = select(features, 9, method=method)
    assert all(len(set(column)) == 9 for column in indices.flatten(1).T.tolist())


@pytest.mark.parametrize("method", METHODS)
def test_deterministic(method: Method) -> None:
    """The same features and seed give the same indices, whatever memory is allowed."""
    features = clustered(24, 12, 12, seed=2, channels=64)
    first = select(features, 9, method=method, seed=3)
    assert torch.equal(first, select(features, 9, method=method, seed=3))
    assert torch.equal(first, select(features, 9, method=method, seed=3, memory_mb=1))


def test_thread_setting_comes_back() -> None:
    """Selection leaves torch's number of threads as it was, also when it fails."""
    before = torch.get_num_threads()
    features = clustered(5, 2, 2, seed=0)
    features[0, 0, 0, 0] = torch.inf
    torch.set_num_threads(2)
    try:
        with pytest.raises(ParameterError):
            select(features, 2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("method", ["random", "spaced"])
def test_whole_sheets(method: Method) -> None:
    """Random and spaced keep whole sheets, in ascending order."""
    indices = select(clustered(20, 4, 4, seed=0), 6, method=method)
    assert torch.equal(indices, indices[:, :1, :1].expand_as(indices))
    assert bool((indices[:, 0, 0].diff() > 0).all())


def test_spaced_ends() -> None:
    """Spaced sheets reach from the first to the last."""
    indices = select(clustered(21, 2, 2, seed=0), 5, method="spaced")
    assert indices[:, 0, 0].tolist() == [0, 5, 10, 15, 20]


def test_random_seed() -> None:
    """Another seed draws other sheets and leaves torch's own generator alone."""
    features = clustered(40, 2, 2, seed=0)
    before = torch.get_rng_state()
    draws = {
        tuple(select(features, 10, method="random", seed=s)[:, 0, 0].tolist()) for s in range(5)
    }
    assert len(draws) == 5
    assert torch.equal(before, torch.get_rng_state())


def test_gather() -> None:
    """`gather` takes each pixel's vector from the sheet that the index names."""
    features = clustered(15, 4, 5, seed=8)
    indices = select(features, 4)
    prototypes = gather(features, indices)
    assert prototypes.shape == (4, 24, 4, 5)
    for k, y, x in [(0, 0, 0), (3, 1, 4), (2, 3, 2)]:
        assert torch.equal(prototypes[k, :, y, x], features[indices[k, y, x], :, y, x])


def test_progress() -> None:
    """Progress rises to the number of pixels and ends there."""
    seen: list[tuple[int, int]] = []
    select(clustered(8, 16, 10, seed=0), 3, progress=lambda done, total: seen.append((done, total)))
    assert [total for _, total in seen] == [160] * len(seen)
    assert len(seen) > 1
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1][0] == 160


@pytest.mark.parametrize("k", [0, -3, True, 2.0])
def test_exception_k(k: int) -> None:
    """A number of sheets that is not a positive whole number is refused by name."""
    with pytest.raises(ParameterError, match="number of sheets"):
        select(clustered(5, 2, 2, seed=0), k)


def test_exception_method() -> None:
    """An unknown method is refused with the list of known ones."""
    with pytest.raises(ParameterError, match=r"'best'.*pts, kcenter, random, spaced"):
        select(clustered(5, 2, 2, seed=0), 2, method="best")  # type: ignore[arg-type]
    assert get_args(Method) == METHODS


@pytest.mark.parametrize("method", ["pts", "kcenter"])
def test_exception_not_finite(method: Method) -> None:
    """A single undefined feature value is refused, with the pixels it is among."""
    features = clustered(5, 2, 2, seed=0)
    features[3, 7, 1, 1] = torch.nan
    with pytest.raises(ParameterError, match="pixels 0 to 3"):
        select(features, 2, method=method)


def test_exception_shapes() -> None:
    """Features or indices of the wrong shape, and no memory at all, are refused."""
    features = clustered(5, 2, 2, seed=0)
    with pytest.raises(ParameterError, match="shape"):
        select(features[0], 2)
    with pytest.raises(ParameterError, match="memory"):
        select(features, 2, memory_mb=0)
    with pytest.raises(ParameterError, match="height and width"):
        gather(features, torch.zeros(2, 3, 2, dtype=torch.long))
