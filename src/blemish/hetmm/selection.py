"""Prototype selection: K template vectors for each pixel out of the N that the sheets hold there.

PTS is from Chen et al., "Hard-normal Example-aware Template Mutual Matching" (IJCV 2024), as
described in HETMM.md section 4; k-centre, random and spaced are there to compare it with.

N = sheets, K = prototypes, C = channels, H, W = map size, P = pixels treated at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch import Tensor

from blemish.errors import ParameterError
from blemish.hetmm.optics import optics_labels

Method = Literal["pts", "kcenter", "random", "spaced"]
METHODS: tuple[str, ...] = get_args(Method)
WHOLE_SHEETS = ("random", "spaced")  # these keep whole sheets, the others choose for each pixel

# More pixels at a time than this no longer help a CPU, whose caches they leave.
_CPU_PIXELS = 64


@torch.no_grad()
def select(
    features: Tensor,
    k: int,
    *,
    method: Method = "pts",
    seed: int = 0,
    memory_mb: int = 256,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Source sheet of each prototype: int64 indices [min(k, N), H, W] into `features`.

    `features` [N,C,H,W] are vectors of length 1 along C, of one level; select in float32, since
    half precision blurs lengths and thus clusters. `pts` and `kcenter` choose for each pixel
    alone, so their prototypes are mosaics of sheets; `random` (with `seed`) and `spaced` keep
    whole sheets. With k >= N all sheets stay, in their order. No sheet is chosen twice at a pixel.
    Working memory stays near `memory_mb`; `progress(done, total)` counts pixels.
    Raises ParameterError for a `k`, `method` or `features` that cannot work.
    """
    _check(features, k, method, memory_mb)
    sheets, _, height, width = features.shape
    device = features.device
    if k >= sheets or method in WHOLE_SHEETS:
        chosen = torch.tensor(whole_sheets(sheets, k, method=method, seed=seed), device=device)
        return chosen[:, None, None].repeat(1, height, width)  # (K,) -> (K, H, W)

    rule = _pts if method == "pts" else _kcenter
    pixels = height * width
    indices = torch.empty(k, pixels, dtype=torch.long, device=device)
    with _one_cpu_thread():
        for start, gram in _grams(features, memory_mb):
            stop = start + len(gram)
            indices[:, start:stop] = rule(gram, k).T  # (P, K) -> (K, P)
            if progress is not None:
                progress(stop, pixels)
    return indices.reshape(k, height, width)  # (K, H*W) -> (K, H, W)


def whole_sheets(
    sheets: int, k: int | None, *, method: Method = "spaced", seed: int = 0
) -> list[int]:
    """Positions of `k` whole sheets out of `sheets`, ascending; all when k is None or too large.

    `spaced` spreads them evenly, `random` draws them with `seed`; neither looks at features.
    """
    if k is None or k >= sheets:
        return list(range(sheets))
    if method == "random":
        generator = torch.Generator().manual_seed(seed)
        return sorted(torch.randperm(sheets, generator=generator)[:k].tolist())
    return [round(p) for p in torch.linspace(0, sheets - 1, k, dtype=torch.float64).tolist()]


def gather(features: Tensor, indices: Tensor) -> Tensor:
    """Prototypes [K,C,H,W] that `indices` [K,H,W] from `select` name in `features` [N,C,H,W]."""
    if features.ndim != 4 or indices.shape[1:] != features.shape[2:]:
        raise ParameterError(
            f"Prototype indices {list(indices.shape)} do not belong to features "
            f"{list(features.shape)}; both must have the same height and width."
        )
    return features.gather(0, indices[:, None].expand(-1, features.shape[1], -1, -1))


@contextmanager
def _one_cpu_thread() -> Iterator[None]:
    """Keep torch's CPU operators on one thread; the setting before is put back.

    The steps are many and tiny: on a busy machine of two cores, two threads that wait for each
    other took 5 to 8 times as long as one.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _grams(features: Tensor, memory_mb: int) -> Iterator[tuple[int, Tensor]]:
    """Cosines between the sheets at each pixel, [P,N,N] float64, with the first pixel's number."""
    sheets, channels, height, width = features.shape
    columns = features.reshape(sheets, channels, height * width)  # (N, C, H*W)
    # Float64 costs little here and keeps OPTICS' ties as scikit-learn has them. Live at once:
    # the Gram, its distances, their rounding and one temporary; the vectors and their layout.
    bytes_a_pixel = 8 * (4 * sheets * sheets + 2 * sheets * channels)
    step = max(1, memory_mb * 2**20 // bytes_a_pixel)
    if features.device.type == "cpu":
        step = min(step, _CPU_PIXELS)
    for start in range(0, height * width, step):
        vectors = columns[:, :, start : start + step].permute(2, 0, 1).double()  # (P, N, C)
        gram = torch.bmm(vectors, vectors.transpose(1, 2))
        # A vector has a finite square exactly if it is finite, so the diagonal tells all.
        if not bool(gram.diagonal(dim1=1, dim2=2).isfinite().all()):
            raise ParameterError(
                f"The features of pixels {start} to {start + len(gram) - 1} hold infinite or "
                "undefined values; check the images and the backbone's precision."
            )
        yield start, gram


def _pts(gram: Tensor, k: int) -> Tensor:
    """Easy normals (cluster medoids), then hard normals, [P,K] from `gram` [P,N,N] (k < N)."""
    # HETMM.md, trap: floor(N / K) is 1 for N < 2K, which OPTICS does not take.
    min_samples = max(2, gram.shape[1] // k)
    # Not clamped at 0, though vectors a hair longer than 1 get below it where sheets coincide (a
    # white background): scikit-learn's labels are those of 1 - x.y as it stands.
    labels = optics_labels(1 - gram, min_samples).to(gram.device)
    easy, count = _medoids(gram, labels, k)
    return _add_hard(gram, easy, count)


def _medoids(gram: Tensor, labels: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Medoids of the clusters in `labels` [P,N], in order of the clusters' first samples.

    Returns indices [P,K], of which the first `count` [P] are set; a pixel without any cluster
    gets the medoid of all its samples.
    """
    nowhere = (labels < 0).all(dim=1, keepdim=True)
    labels = torch.where(nowhere, 0, labels)  # no cluster found: all samples are one
    same = labels[:, :, None] == labels[:, None, :]  # (P, N, N)
    closeness = (gram * same).sum(dim=2)  # (P, N), to the sample's own cluster
    clusters = int(labels.max()) + 1
    pixels, sheets = labels.shape
    first = torch.full((pixels, clusters), sheets, device=gram.device)
    medoid = torch.zeros_like(first)
    for cluster in range(clusters):
        member = labels == cluster
        first[:, cluster] = torch.where(member.any(dim=1), member.int().argmax(dim=1), sheets)
        medoid[:, cluster] = closeness.masked_fill(~member, -torch.inf).argmax(dim=1)
    order = first.argsort(dim=1, stable=True)[:, :k]  # clusters that a pixel lacks come last
    easy = torch.zeros(pixels, k, dtype=torch.long, device=gram.device)
    easy[:, : order.shape[1]] = medoid.gather(1, order)
    return easy, (first < sheets).sum(dim=1).clamp(max=k)


def _add_hard(gram: Tensor, chosen: Tensor, count: Tensor) -> Tensor:
    """Fill `chosen` [P,K] beyond its first `count` [P] with the samples least like those chosen.

    Least like: smallest sum of cosines to all chosen so far (max-sum dispersion). Ties go to the
    lowest index. Returns [P,K].
    """
    each = torch.arange(len(gram), device=gram.device)
    total = torch.zeros_like(gram[:, 0])  # (P, N), inf once chosen
    picks = []
    for step in range(chosen.shape[1]):
        # Medoids come before all hard normals, so a pixel's sum is whole when it is first needed.
        pick = torch.where(step < count, chosen[:, step], total.argmin(dim=1))
        picks.append(pick)
        total += gram[each, pick]
        total[each, pick] = torch.inf
    return torch.stack(picks, dim=1)


def _kcenter(gram: Tensor, k: int) -> Tensor:
    """Greedy k-centre, [P,K]: the medoid of all, then ever the sample farthest from the chosen.

    Farthest: smallest largest cosine to the chosen. Ties go to the lowest index.
    """
    each = torch.arange(len(gram), device=gram.device)
    nearest = torch.full_like(gram[:, 0], -torch.inf)  # (P, N), cosine; inf once chosen
    pick = gram.sum(dim=2).argmax(dim=1)
    picks = [pick]
    for _ in range(k - 1):
        torch.maximum(nearest, gram[each, pick], out=nearest)
        nearest[each, pick] = torch.inf
        pick = nearest.argmin(dim=1)
        picks.append(pick)
    return torch.stack(picks, dim=1)


def _check(features: Tensor, k: int, method: str, memory_mb: int) -> None:
    if features.ndim != 4 or min(features.shape) == 0 or not features.is_floating_point():
        raise ParameterError(
            "Template features must be floating point of shape [sheets, channels, height, width] "
            f"and not empty, got {features.dtype} {list(features.shape)}."
        )
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise ParameterError(f"The number of sheets to keep must be 1 or more, got {k!r}.")
    if method not in METHODS:
        raise ParameterError(
            f"There is no selection method {method!r}; choose one of {', '.join(METHODS)}."
        )
    if memory_mb < 1:
        raise ParameterError(f"The memory for selection must be 1 MB or more, got {memory_mb!r}.")
