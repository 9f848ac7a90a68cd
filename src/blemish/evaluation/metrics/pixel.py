"""Exact pixel figures over the pooled pixels of a test set, all of it or one kind of defect.

Good and defective pixels are kept apart: good ones, nearly all, cost four bytes each and one sort
in place; only the scores of defective pixels are ever thresholds that matter, and these are
walked through once, in blocks. No scores are sampled, binned or rounded (maps are float32).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.errors import ImageArrayError, ParameterError
from blemish.evaluation.metrics.overlap import OverlapArea, Overlaps, SaturatedDefect
from blemish.evaluation.metrics.pool import Pool
from blemish.evaluation.metrics.ranking import Rows, Tally, count_above

FPR_LIMIT = 0.3  # of AUPRO
STRICT_FPR_LIMIT = 0.05  # of AUPRO at 0.05, and of sPRO
DEFECTIVE = "defective"


@dataclass(frozen=True)
class PixelScores:
    """The pixel figures, each None where it has no value; `reason` then says why.

    `spro` is None, without a reason, where no defects with saturation areas were added.
    """

    auroc: float | None = None
    ap: float | None = None
    f1_max: float | None = None
    aupro: float | None = None
    aupro_005: float | None = None
    spro: float | None = None
    reason: str | None = None


@dataclass
class _Group:
    """The images of one kind of defect, or the good ones."""

    number: int
    negatives: Pool[np.float32] = field(default_factory=lambda: Pool(np.float32))
    n_defective: int = 0  # images
    n_missing: int = 0  # of them, without ground truth
    n_unsaturated: int = 0  # of them, with a mask that is not divided into defects
    n_positives: int = 0  # pixels
    n_regions: int = 0
    n_defects: int = 0


class PixelMetrics:
    """Gathers anomaly maps with their ground truth, one image at a time, and scores them.

    Maps are compared with masks at each mask's own resolution. With `resolution` (H, W) both are
    brought to that size instead (masks by nearest neighbour, so a small defect may vanish).
    """

    def __init__(self, *, resolution: tuple[int, int] | None = None) -> None:
        self._resolution = resolution
        self._good = _Group(0)
        self._kinds: dict[str, _Group] = {}
        self._regions = Overlaps()
        self._defects = Overlaps()

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of defects added so far."""
        return tuple(self._kinds)

    def add(
        self,
        anomaly_map: NDArray[np.float32],
        mask: NDArray[np.bool_] | None = None,
        *,
        defects: Sequence[SaturatedDefect] = (),
        size: tuple[int, int] | None = None,
        label: int = 0,
        kind: str = DEFECTIVE,
    ) -> None:
        """Add one test image: its map [h, w], and its mask [H, W], True where defective.

        The map is resized (bilinear) to the mask's size; the ground truth never is. `defects`
        give sPRO; the mask is then their union. Without any of these, `label` 0 says that all
        pixels are good: pass the image's `size` (H, W), so that a good image weighs as much as a
        defective one (default: the map's own size); `label` 1 makes the figures None. `kind`
        names the type of defect of an image that has one. Raises ImageArrayError on a malformed
        map or mask, ParameterError on a saturation area that cannot be.
        """
        scores = _checked_map(anomaly_map)
        truth = self._checked_truth(mask, defects)
        if not label and (truth is None or not truth.any()):
            shape = truth.shape if truth is not None else size or scores.shape
            self._good.negatives.extend(_resized(scores, self._resolution or shape).ravel())
            return
        group = self._kinds.setdefault(kind, _Group(len(self._kinds) + 1))
        group.n_defective += 1
        if truth is None:
            group.n_missing += 1
            group.negatives = Pool(np.float32)
        elif not group.n_missing:
            self._keep(_resized(scores, truth.shape), truth, defects, group)

    def compute(self, kinds: Collection[str] | None = None) -> PixelScores:
        """The figures of all that was added so far; more may be added afterwards.

        With `kinds`, of the images with these kinds of defects and the good ones. Raises
        ParameterError on a kind that was never added.
        """
        groups = [
            self._kind(kind) for kind in (self._kinds if kinds is None else dict.fromkeys(kinds))
        ]
        n_missing = sum(group.n_missing for group in groups)
        if n_missing:
            n_defective = sum(group.n_defective for group in groups)
            return PixelScores(
                reason=f"ground truth is missing for {n_missing} of {n_defective} defective images"
            )
        if not any(group.n_positives for group in groups):
            return PixelScores(reason="no pixel is marked defective")
        negatives = [pool for g in (self._good, *groups) if len(pool := g.negatives)]
        if not negatives:
            return PixelScores(reason="no pixel is good")
        return self._scores(groups, negatives)

    def _scores(self, groups: list[_Group], negatives: list[Pool[np.float32]]) -> PixelScores:
        n_negatives = sum(len(pool) for pool in negatives)
        tally = Tally(sum(group.n_positives for group in groups), n_negatives)
        wide = OverlapArea(FPR_LIMIT, n_negatives)
        strict = OverlapArea(STRICT_FPR_LIMIT, n_negatives)
        for thresholds, hits, gains in self._regions.steps([group.number for group in groups]):
            above, reached = _count_above(negatives, thresholds)
            tally.add(Rows(thresholds, hits, above, reached))
            wide.add(gains, above, reached)
            strict.add(gains, above, reached)
        n_regions = sum(group.n_regions for group in groups)
        spro, reason = self._spro(groups, negatives)
        return PixelScores(
            auroc=tally.auroc(),
            ap=tally.average_precision(),
            f1_max=tally.f1_max().value,
            aupro=wide.mean(n_regions),
            aupro_005=strict.mean(n_regions),
            spro=spro,
            reason=reason,
        )

    def _spro(
        self, groups: list[_Group], negatives: list[Pool[np.float32]]
    ) -> tuple[float | None, str | None]:
        n_defects = sum(group.n_defects for group in groups)
        n_unsaturated = sum(group.n_unsaturated for group in groups)
        if not n_defects:
            return None, None
        if n_unsaturated:
            return None, f"sPRO needs single defects, and {n_unsaturated} images have only a mask"
        curve = OverlapArea(STRICT_FPR_LIMIT, sum(len(pool) for pool in negatives))
        for thresholds, _, gains in self._defects.steps([group.number for group in groups]):
            curve.add(gains, *_count_above(negatives, thresholds))
            if curve.complete:
                break
        return curve.mean(n_defects), None

    def _kind(self, kind: str) -> _Group:
        if kind not in self._kinds:
            known = ", ".join(self._kinds) or "none"
            raise ParameterError(f"no image with a defect of kind {kind!r} was added (of {known})")
        return self._kinds[kind]

    def _keep(
        self,
        scores: NDArray[np.float32],
        truth: NDArray[np.bool_],
        defects: Sequence[SaturatedDefect],
        group: _Group,
    ) -> None:
        group.negatives.extend(scores[~truth])
        _, labels = cv2.connectedComponents(truth.astype(np.uint8), connectivity=8)
        positives = scores[truth]
        if not positives.size:
            return
        group.n_positives += positives.size
        regions = labels[truth].astype(np.int64) - 1  # OpenCV numbers them from 1
        group.n_regions += self._regions.add_regions(positives, regions, group.number)
        for defect in defects:
            self._defects.add_defect(scores[defect.mask], defect.saturation_area, group.number)
        group.n_defects += len(defects)
        group.n_unsaturated += not defects

    def _checked_truth(
        self, mask: NDArray[np.bool_] | None, defects: Sequence[SaturatedDefect]
    ) -> NDArray[np.bool_] | None:
        truth = None if mask is None else _checked_mask(mask)
        if not defects:
            return truth if truth is None else self._reduced(truth)
        if self._resolution is not None:
            raise ParameterError(
                "sPRO is defined at the ground truth's resolution; leave `resolution` or `defects`"
            )
        union = _union(defects)
        if truth is not None and not np.array_equal(truth, union):
            raise ImageArrayError(
                "a mask is not the union of its defects; give the mask or the defects alone"
            )
        return union

    def _reduced(self, truth: NDArray[np.bool_]) -> NDArray[np.bool_]:
        if self._resolution is None or truth.shape == self._resolution:
            return truth
        height, width = self._resolution
        small = cv2.resize(
            truth.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST_EXACT
        )
        return small.astype(np.bool_)


def _union(defects: Sequence[SaturatedDefect]) -> NDArray[np.bool_]:
    """The pixels of any of these defects, each checked."""
    union: NDArray[np.bool_] | None = None
    for defect in defects:
        mask = _checked_mask(defect.mask)
        if union is not None and union.shape != mask.shape:
            raise ImageArrayError(
                f"defects of one image have masks of shapes {union.shape} and {mask.shape}"
            )
        if not mask.any():
            raise ImageArrayError("a defect's mask is empty; leave out what is not there")
        if not 0 < defect.saturation_area < np.inf:
            raise ParameterError(
                f"a saturation area is {defect.saturation_area}; it is a number of pixels above 0"
            )
        union = mask if union is None else union | mask
    assert union is not None  # called with one defect or more
    return union


def _count_above(
    pools: list[Pool[np.float32]], thresholds: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    above, reached = np.zeros((2, len(thresholds)), dtype=np.int64)
    for pool in pools:
        counts = count_above(pool.sorted(), thresholds)
        above += counts[0]
        reached += counts[1]
    return above, reached


def _checked_map(anomaly_map: NDArray[np.float32]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # a float64 too large becomes infinity, refused below
        scores = np.asarray(anomaly_map, dtype=np.float32)
    if scores.ndim != 2 or not scores.size:
        raise ImageArrayError(
            f"an anomaly map has shape {scores.shape}; metrics need one of [height, width]"
        )
    if not np.isfinite(scores).all():
        raise ImageArrayError("an anomaly map holds NaN or infinity; check the detector's output")
    return scores


def _checked_mask(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    truth = np.asarray(mask)
    if truth.ndim != 2 or not truth.size or truth.dtype != np.bool_:
        raise ImageArrayError(
            f"a mask is {truth.dtype} of shape {truth.shape}; metrics need bool [height, width]"
        )
    return truth


def _resized(scores: NDArray[np.float32], size: tuple[int, ...]) -> NDArray[np.float32]:
    height, width = size
    if scores.shape == (height, width):
        return scores
    resized = cv2.resize(scores, (width, height), interpolation=cv2.INTER_LINEAR)
    return resized.astype(np.float32, copy=False)
