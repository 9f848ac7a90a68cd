"""Prototype selection: K template vectors for each pixel out of the N that the sheets hold there.

PTS is from Chen et al., "Hard-normal Example-aware Template Mutual Matching" (IJCV 2024), see
docs/methods/hetmm.md; k-centre is the default, random and spaced keep whole sheets.

N = sheets, K = prototypes, C = channels, P = pixels treated at a time.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from blemish.errors import ParameterError

Method = Literal["kcenter", "pts", "random", "spaced"]
METHODS: tuple[str, ...] = get_args(Method)
WHOLE_SHEETS = ("random", "spaced")  # these keep whole sheets, the others choose for each pixel

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]

_GRAM_BYTES = 32 << 20  # of PTS: all pairs of sheets at some pixels


def select(vectors: Floats, k: int, *, method: Method = "kcenter") -> Places:
    """Choose k of the vectors [P, N, C] (length 1) at each pixel: positions [P, min(k, N)].

    No vector is chosen twice at a pixel; ties go to the lowest position. Raises ParameterError for
    a `k`, a `method` or vectors that cannot work.
    """
    _check(vectors, k, method)
    pixels, sheets, _ = vectors.shape
    if k >= sheets:
        return np.broadcast_to(np.arange(sheets), (pixels, sheets)).copy()
    if method == "kcenter":
        return _kcenter(vectors, k)
    # Float64 keeps OPTICS' ties as scikit-learn has them.
    step = max(1, _GRAM_BYTES // (8 * 4 * sheets * sheets))
    parts = [vectors[start : start + step].astype(np.float64) for start in range(0, pixels, step)]
    return np.concatenate([_pts(part @ part.transpose(0, 2, 1), k) for part in parts])


def whole_sheets(
    sheets: int, k: int | None, *, method: Method = "spaced", seed: int = 0
) -> list[int]:
    """Choose `k` whole sheets out of `sheets`, ascending; all when k is None or too large.

    `spaced` spreads them evenly, `random` draws them with `seed`; neither looks at features.
    """
    if k is None or k >= sheets:
        return list(range(sheets))
    if method == "random":
        drawn = np.random.default_rng(seed).choice(sheets, k, replace=False)
        return sorted(int(position) for position in drawn)
    return [round(float(place)) for place in np.linspace(0, sheets - 1, k)]


def _kcenter(vectors: Floats, k: int) -> Places:
    """Greedy k-centre, [P, K]: the medoid of all, then ever the sample farthest from the chosen.

    Farthest: smallest largest cosine to the chosen (Gonzalez, 1985).
    """
    each = np.arange(len(vectors))
    # The sum of cosines to all others is the cosine with their sum.
    pick = _cosines(vectors, vectors.sum(axis=1)).argmax(axis=1)
    nearest = np.full(vectors.shape[:2], -np.inf, np.float32)  # inf once chosen
    picks = [pick]
    for _ in range(k - 1):
        np.maximum(nearest, _cosines(vectors, vectors[each, pick]), out=nearest)
        nearest[each, pick] = np.inf
        pick = nearest.argmin(axis=1)
        picks.append(pick)
    return np.stack(picks, axis=1)


def _cosines(vectors: Floats, one: Floats) -> Floats:
    """Products [P, N] of the vectors [P, N, C] with one of each pixel [P, C]."""
    found: Floats = np.matmul(vectors, one[:, :, None])[:, :, 0]
    return found


def _pts(gram: Doubles, k: int) -> Places:
    """Choose easy normals (cluster medoids), then hard normals, [P, K] from `gram` [P, N, N]."""
    from blemish.detectors.hetmm.optics import optics_labels

    # floor(N / K) is 1 for N < 2K, which OPTICS does not take.
    min_samples = max(2, gram.shape[1] // k)
    # Not clamped at 0, though vectors a hair longer than 1 get below it where sheets coincide (a
    # white background): scikit-learn's labels are those of 1 - x.y as it stands.
    labels = optics_labels(1 - gram, min_samples)
    easy, count = _medoids(gram, labels, k)
    return _with_hard(gram, easy, count)


def _medoids(gram: Doubles, labels: npt.NDArray[Any], k: int) -> tuple[Places, Places]:
    """Find the medoids of the clusters in `labels` [P, N], in order of their first samples.

    Returns positions [P, K], of which the first `count` [P] are set; a pixel without any cluster
    gets the medoid of all its samples.
    """
    nowhere = (labels < 0).all(axis=1, keepdims=True)
    labels = np.where(nowhere, 0, labels)  # no cluster found: all samples are one
    same = labels[:, :, None] == labels[:, None, :]  # (P, N, N)
    closeness = (gram * same).sum(axis=2)  # (P, N), to the sample's own cluster
    clusters = int(labels.max()) + 1
    pixels, sheets = labels.shape
    first = np.full((pixels, clusters), sheets)
    medoid = np.zeros_like(first)
    for cluster in range(clusters):
        member = labels == cluster
        first[:, cluster] = np.where(member.any(axis=1), member.argmax(axis=1), sheets)
        medoid[:, cluster] = np.where(member, closeness, -np.inf).argmax(axis=1)
    order = first.argsort(axis=1, kind="stable")[:, :k]  # clusters that a pixel lacks come last
    easy = np.zeros((pixels, k), np.intp)
    easy[:, : order.shape[1]] = np.take_along_axis(medoid, order, axis=1)
    return easy, (first < sheets).sum(axis=1).clip(max=k)


def _with_hard(gram: Doubles, chosen: Places, count: Places) -> Places:
    """Fill `chosen` [P, K] beyond its first `count` [P] with the samples least like those chosen.

    Least like: smallest sum of cosines to all chosen so far (max-sum dispersion).
    """
    each = np.arange(len(gram))
    total = np.zeros_like(gram[:, 0])  # (P, N), inf once chosen
    picks = []
    for step in range(chosen.shape[1]):
        # Medoids come before all hard normals, so a pixel's sum is whole when it is first needed.
        pick = np.where(step < count, chosen[:, step], total.argmin(axis=1))
        picks.append(pick)
        total += gram[each, pick]
        total[each, pick] = np.inf
    return np.stack(picks, axis=1)


def _check(vectors: Floats, k: int, method: str) -> None:
    if vectors.ndim != 3 or min(vectors.shape) == 0 or vectors.dtype.kind != "f":
        raise ParameterError(
            "Template vectors must be floating point of shape [pixels, sheets, channels] and not "
            f"empty, got {vectors.dtype} {list(vectors.shape)}."
        )
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise ParameterError(f"The number of sheets to keep must be 1 or more, got {k!r}.")
    if method not in METHODS or method in WHOLE_SHEETS:
        raise ParameterError(
            f"'{method}' does not select pixel by pixel; choose one of "
            f"{', '.join(name for name in METHODS if name not in WHOLE_SHEETS)}."
        )
    if not np.isfinite(vectors).all():
        raise ParameterError(
            "The features hold infinite or undefined values; check the images and the backbone."
        )
