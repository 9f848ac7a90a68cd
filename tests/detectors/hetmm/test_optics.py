"""OPTICS over many columns must be scikit-learn's OPTICS, label for label."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hetmm_tools import Doubles, Floats

from blemish.backbones import LevelFeatures, create_backbone, features_graph
from blemish.detectors.hetmm.optics import optics_graph, optics_labels
from blemish.errors import MissingExtraError, ParameterError
from blemish.graphs.sessions import OnnxSession

Labels = np.ndarray


def clustered(columns: int, sheets: int, channels: int, seed: int) -> Floats:
    """Unit vectors [P, N, C] around a few centres, some alone, as real columns are."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((columns, 4, channels))
    which = rng.integers(0, 4, (columns, sheets, 1))
    spread = rng.random((columns, sheets, 1)) ** 2
    near = np.take_along_axis(centres, which, axis=1)
    values = near + spread * rng.standard_normal((columns, sheets, channels))
    return (values / np.linalg.norm(values, axis=2, keepdims=True)).astype(np.float32)


def cosine_distances(vectors: Floats) -> Doubles:
    """1 - x.y between the vectors [P, N, C] of each column, [P, N, N] float64."""
    x = vectors.astype(np.float64)
    distances: Doubles = 1 - x @ x.transpose(0, 2, 1)
    return distances


@pytest.fixture
def sklearn_labels() -> Callable[[Floats, int], Labels]:
    """Labels [P, N] of columns by the definition: OPTICS with 1 - x.y called pair by pair."""
    cluster = pytest.importorskip("sklearn.cluster")

    def labels(columns: Floats, min_samples: int) -> Labels:
        optics = cluster.OPTICS(min_samples=min_samples, metric=lambda a, b: 1 - a @ b)
        return np.stack([optics.fit(column.astype(np.float64)).labels_ for column in columns])

    return labels


@pytest.fixture(scope="module")
def bottle_columns(shared: Path) -> Floats:
    """Columns [48, 60, 112] of real features, 16 from each of three levels, zero-padded."""
    images = sorted((shared / "data/mvtec_256/bottle/train/good").glob("*"))[:60]
    if len(images) < 60:
        pytest.skip("the shared folder has no MVTec bottle")
    backbone = create_backbone("efficientnet_lite0")
    wanted = [LevelFeatures(number=number, output=f"level{number}") for number in (1, 2, 3)]
    session = OnnxSession(features_graph(backbone, wanted, (256, 256)), "features")
    found: dict[str, list[Floats]] = {each.output: [] for each in wanted}
    for path in images:
        image = cv2.imread(str(path))[None, ..., ::-1].astype(np.float32) / 255
        for name, level in session.run({"image": np.ascontiguousarray(image)}).items():
            found[name].append(level[0].reshape(level.shape[1], -1))
    columns = []
    for sheets in found.values():
        level = np.stack(sheets)  # (N, C, P)
        spots = np.linspace(0, level.shape[2] - 1, 16).astype(int)
        column = level[:, :, spots].transpose(2, 0, 1)
        columns.append(np.pad(column, [(0, 0), (0, 0), (0, 112 - column.shape[2])]))
    return np.concatenate(columns)


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("min_samples", [2, 5])
def test_labels_on_real_columns(
    bottle_columns: Floats, min_samples: int, sklearn_labels: Callable[..., Labels]
) -> None:
    """On 48 columns of real features every label equals scikit-learn's."""
    ours = optics_labels(cosine_distances(bottle_columns), min_samples)
    assert ours.max() > 0
    np.testing.assert_array_equal(ours, sklearn_labels(bottle_columns, min_samples))


@pytest.mark.parametrize(("sheets", "min_samples"), [(17, 2), (40, 3), (40, 6), (25, 25)])
def test_labels_on_made_up_columns(
    sheets: int, min_samples: int, sklearn_labels: Callable[..., Labels]
) -> None:
    """On clustered unit vectors every label equals scikit-learn's, at each min_samples."""
    vectors = clustered(8, sheets, 24, seed=sheets + min_samples)
    ours = optics_labels(cosine_distances(vectors), min_samples)
    np.testing.assert_array_equal(ours, sklearn_labels(vectors, min_samples))


def test_graph() -> None:
    """Ordering, reachability, predecessor and core distance are scikit-learn's to the last bit."""
    cluster = pytest.importorskip("sklearn.cluster")
    distances = cosine_distances(clustered(6, 30, 16, seed=1)).clip(min=0)
    ours = optics_graph(distances, 4)
    for row, matrix in enumerate(distances):
        ordering, core, reachability, predecessor = cluster.compute_optics_graph(
            matrix,
            min_samples=4,
            max_eps=np.inf,
            metric="precomputed",
            p=2,
            metric_params=None,
            algorithm="auto",
            leaf_size=30,
            n_jobs=None,
        )
        np.testing.assert_array_equal(ours.ordering[row], ordering)
        np.testing.assert_array_equal(ours.reachability[row], reachability)
        np.testing.assert_array_equal(ours.predecessor[row], predecessor)
        np.testing.assert_array_equal(ours.core[row], core)


def test_ties() -> None:
    """Distances full of ties, zeros among them, are walked and labelled as scikit-learn does."""
    cluster = pytest.importorskip("sklearn.cluster")
    upper = np.triu(np.random.default_rng(3).integers(0, 4, (12, 20, 20)), 1) / 4
    distances = upper + upper.transpose(0, 2, 1)
    ours = optics_labels(distances, 3)
    with np.errstate(divide="ignore", invalid="ignore"):
        optics = cluster.OPTICS(min_samples=3, metric="precomputed")
        theirs = [optics.fit(matrix).labels_ for matrix in distances]
    np.testing.assert_array_equal(ours, np.stack(theirs))


def test_columns_do_not_mix() -> None:
    """A column's walk does not depend on the columns beside it."""
    distances = cosine_distances(clustered(5, 24, 16, seed=4))
    together = optics_graph(distances, 3)
    for row, one in enumerate(distances):
        for whole, alone in zip(together, optics_graph(one[None], 3), strict=True):
            np.testing.assert_array_equal(whole[row], alone[0])


@pytest.mark.parametrize(
    ("distances", "min_samples", "words"),
    [
        (np.zeros((2, 3, 4)), 2, "shape"),
        (np.zeros((2, 3, 3), np.float32), 2, "float64"),
        (np.zeros((2, 3, 3)), 1, "min_samples=1"),
        (np.zeros((2, 3, 3)), 4, "min_samples=4"),
    ],
)
def test_distances_that_cannot_work_are_refused(
    distances: Doubles, min_samples: int, words: str
) -> None:
    """Input that cannot work is refused with a sentence that names it."""
    with pytest.raises(ParameterError, match=words):
        optics_graph(distances, min_samples)


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is not installed, the sentence says how to get it and what needs none."""
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    said = r"pip install 'blemish\[train\]', or choose selection 'kcenter'"
    with pytest.raises(MissingExtraError, match=said):
        optics_labels(cosine_distances(clustered(1, 6, 4, seed=0)), 2)
