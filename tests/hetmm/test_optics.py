"""OPTICS over many columns must be scikit-learn's OPTICS, label for label."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file
from sklearn.cluster import OPTICS, compute_optics_graph
from torch import Tensor
from torch.nn.functional import normalize

from blemish.errors import ParameterError
from blemish.hetmm.optics import optics_graph, optics_labels

SHARED = Path(os.environ.get("BLEMISH_SHARED", Path(__file__).parents[3] / "shared"))
IMAGES = SHARED / "data/mvtec_256/bottle/train/good"
WEIGHTS = SHARED / "weights/resnet18_tv_in1k_layer1-3_fp16.safetensors"


def clustered(columns: int, sheets: int, channels: int, seed: int) -> Tensor:
    """Unit vectors [P,N,C] float32 around a few centres, some alone, as real columns are."""
    g = torch.Generator().manual_seed(seed)
    centres = torch.randn(columns, 4, channels, generator=g)
    which = torch.randint(4, (columns, sheets), generator=g)
    spread = torch.rand(columns, sheets, 1, generator=g) ** 2
    noise = torch.randn(columns, sheets, channels, generator=g)
    near = centres.gather(1, which[:, :, None].expand(-1, -1, channels))
    return normalize(near + spread * noise, dim=2)


def cosine_distances(vectors: Tensor) -> Tensor:
    """1 - x.y between the vectors [P,N,C] of each column, [P,N,N] float64."""
    x = vectors.double()
    return 1 - x @ x.transpose(1, 2)


def sklearn_labels(column: Tensor, min_samples: int) -> np.ndarray:
    """Labels of one column [N,C] by the definition: OPTICS with 1 - x.y called pair by pair."""
    optics = OPTICS(min_samples=min_samples, metric=lambda a, b: 1 - a @ b)
    return optics.fit(column.double().numpy()).labels_


@pytest.fixture(scope="module")
def bottle_columns() -> Tensor:
    """Columns [48,60,256] of ResNet-18 features, 16 from each of three levels, zero-padded."""
    if not (IMAGES.is_dir() and WEIGHTS.is_file()):
        pytest.skip("needs the bottle images and ResNet-18 weights of ../shared")
    network = timm.create_model("resnet18", features_only=True, out_indices=(1, 2, 3)).eval()
    network.load_state_dict({k: v.float() for k, v in load_file(WEIGHTS).items()}, strict=False)
    images = np.stack([cv2.imread(str(p))[..., ::-1] for p in sorted(IMAGES.iterdir())[:60]])
    x = torch.from_numpy(images).permute(0, 3, 1, 2) / 255.0  # (N, H, W, 3) -> (N, 3, H, W)
    x = (x - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / 0.225
    with torch.inference_mode():
        batches = [network(part) for part in x.split(8)]
    columns = []
    for level in zip(*batches, strict=True):
        flat = normalize(torch.cat(level), dim=1).flatten(2)  # (N, C, H*W)
        spots = torch.linspace(0, flat.shape[2] - 1, 16).long()
        column = flat[:, :, spots].permute(2, 0, 1)  # (16, N, C)
        columns.append(torch.nn.functional.pad(column, (0, 256 - column.shape[2])))
    return torch.cat(columns)


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("min_samples", [2, 5])
def test_labels_on_real_columns(bottle_columns: Tensor, min_samples: int) -> None:
    """On 48 columns of real features every label equals scikit-learn's."""
    ours = optics_labels(cosine_distances(bottle_columns), min_samples).numpy()
    theirs = np.stack([sklearn_labels(column, min_samples) for column in bottle_columns])
    assert ours.max() > 0
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(("sheets", "min_samples"), [(17, 2), (40, 3), (40, 6), (25, 25)])
def test_labels_on_made_up_columns(sheets: int, min_samples: int) -> None:
    """On clustered unit vectors every label equals scikit-learn's, at each min_samples."""
    vectors = clustered(16, sheets, 24, seed=sheets + min_samples)
    ours = optics_labels(cosine_distances(vectors), min_samples).numpy()
    theirs = np.stack([sklearn_labels(column, min_samples) for column in vectors])
    np.testing.assert_array_equal(ours, theirs)


def test_graph() -> None:
    """Ordering, reachability, predecessor and core distance are scikit-learn's to the last bit."""
    distances = cosine_distances(clustered(6, 30, 16, seed=1)).clamp_min(0)
    ours = optics_graph(distances, 4)
    for row, matrix in enumerate(distances.numpy()):
        ordering, core, reachability, predecessor = compute_optics_graph(
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
    g = torch.Generator().manual_seed(3)
    upper = torch.randint(0, 4, (12, 20, 20), generator=g).double().triu(1) / 4
    distances = upper + upper.transpose(1, 2)
    ours = optics_labels(distances, 3).numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        theirs = [
            OPTICS(min_samples=3, metric="precomputed").fit(matrix).labels_
            for matrix in distances.numpy()
        ]
    np.testing.assert_array_equal(ours, np.stack(theirs))


def test_columns_do_not_mix() -> None:
    """A column's labels do not depend on the columns beside it."""
    distances = cosine_distances(clustered(5, 24, 16, seed=4))
    together = optics_labels(distances, 3)
    alone = torch.cat([optics_labels(one[None], 3) for one in distances])
    torch.testing.assert_close(together, alone, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("distances", "min_samples", "words"),
    [
        (torch.zeros(2, 3, 4, dtype=torch.float64), 2, "shape"),
        (torch.zeros(2, 3, 3), 2, "float64"),
        (torch.zeros(2, 3, 3, dtype=torch.float64), 1, "min_samples=1"),
        (torch.zeros(2, 3, 3, dtype=torch.float64), 4, "min_samples=4"),
    ],
)
def test_exception(distances: Tensor, min_samples: int, words: str) -> None:
    """Input that cannot work is refused with a sentence that names it."""
    with pytest.raises(ParameterError, match=words):
        optics_labels(distances, min_samples)
