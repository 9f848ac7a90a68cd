"""Exact pixel AUROC, average precision, best F1 and AUPRO over the pooled pixels of a test set.

AUPRO is after Bergmann et al., "The MVTec Anomaly Detection Dataset" (IJCV 2021), section 5:
the area under per-region overlap over false-positive rate up to 0.3, here from every distinct
score. Good and defective pixels are kept apart: good ones, nearly all, cost four bytes each and
one sort in place; only the scores of defective pixels are ever thresholds that matter.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.errors import ImageArrayError
from blemish.evaluation.metrics.image import Ranking, rank

FPR_LIMIT = 0.3


@dataclass(frozen=True)
class PixelScores:
    """The four pixel figures, each None where it has no value; `reason` then says why."""

    auroc: float | None = None
    ap: float | None = None
    f1_max: float | None = None
    aupro: float | None = None
    reason: str | None = None


class _Pool:
    """A float32 array that grows in place, so that joining never holds the scores twice."""

    def __init__(self) -> None:
        self._values = np.empty(0, dtype=np.float32)
        self._used = 0

    def extend(self, values: NDArray[np.float32]) -> None:
        """Append values [N]."""
        end = self._used + values.size
        if end > self._values.size:
            # No view of the array outlives a method, so it may move.
            self._values.resize(end + end // 8, refcheck=False)
        self._values[self._used : end] = values
        self._used = end

    def sorted(self) -> NDArray[np.float32]:
        """All values, ascending, sorted in place; valid until the next `extend`."""
        used = self._values[: self._used]
        used.sort()
        return used


class PixelMetrics:
    """Gathers anomaly maps with their ground truth, one image at a time, and scores them."""

    def __init__(self) -> None:
        self._negatives = _Pool()
        self._positives: list[NDArray[np.float32]] = []
        self._regions: list[NDArray[np.int32]] = []  # the region of each positive, dataset-wide
        self._n_regions = 0
        self._n_defective = 0
        self._n_missing = 0

    def add(
        self,
        anomaly_map: NDArray[np.float32],
        mask: NDArray[np.bool_] | None = None,
        *,
        size: tuple[int, int] | None = None,
        label: int = 0,
    ) -> None:
        """Add one test image: its map [h, w], and its mask [H, W], True where defective.

        The map is resized (bilinear) to the mask's size; the ground truth never is. Without a
        mask, `label` 0 says that all pixels are good: pass the image's `size` (H, W), so that a
        good image weighs as much as a defective one (default: the map's own size). `label` 1
        without a mask makes all figures None. Raises ImageArrayError on a malformed map or mask.
        """
        scores = _checked_map(anomaly_map)
        if mask is None and label:
            self._n_defective += 1
            self._give_up()
            return
        if mask is None:
            self._keep_good(_resized(scores, size or scores.shape).ravel())
            return
        truth = _checked_mask(mask)
        self._n_defective += int(bool(label) or bool(truth.any()))
        self._keep(_resized(scores, truth.shape), truth)

    def compute(self) -> PixelScores:
        """The figures of all that was added so far; more may be added afterwards."""
        if self._n_missing:
            return PixelScores(
                reason=f"ground truth is missing for {self._n_missing} of "
                f"{self._n_defective} defective images"
            )
        if not self._n_regions:
            return PixelScores(reason="no pixel is marked defective")
        negatives = self._negatives.sorted()
        if not negatives.size:
            return PixelScores(reason="no pixel is good")
        positives, weights = self._sorted_positives()
        ranking, ends = rank(positives, negatives)
        # The overlap gained at each threshold: its own positives are ends[d] .. ends[d - 1].
        gains = np.add.reduceat(weights, ends[::-1])[::-1]
        return PixelScores(
            auroc=ranking.auroc(),
            ap=ranking.average_precision(),
            f1_max=ranking.f1_max().value,
            aupro=_aupro(ranking, gains),
        )

    def _keep(self, scores: NDArray[np.float32], truth: NDArray[np.bool_]) -> None:
        if self._n_missing:
            return
        self._keep_good(scores[~truth])
        n_labels, regions = cv2.connectedComponents(truth.astype(np.uint8), connectivity=8)
        self._positives.append(scores[truth])
        # OpenCV numbers the regions from 1; here they go on from those of earlier images.
        self._regions.append(np.asarray(regions[truth] + (self._n_regions - 1), dtype=np.int32))
        self._n_regions += n_labels - 1

    def _keep_good(self, scores: NDArray[np.float32]) -> None:
        if not self._n_missing:
            self._negatives.extend(scores)

    def _give_up(self) -> None:
        self._n_missing += 1
        self._negatives = _Pool()
        self._positives.clear()
        self._regions.clear()

    def _sorted_positives(self) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Scores of the defective pixels, ascending, and what each adds to the mean overlap."""
        positives, regions = np.concatenate(self._positives), np.concatenate(self._regions)
        order = np.argsort(positives, kind="stable")
        areas = np.bincount(regions, minlength=self._n_regions)
        share = 1.0 / (areas * self._n_regions)
        return positives[order], share[regions[order]]


def _aupro(ranking: Ranking, gains: NDArray[np.float64], limit: float = FPR_LIMIT) -> float:
    """Area under overlap over false positives, up to `limit`, as a share of that width.

    `gains` [D]: the rise of the mean overlap at each threshold. Between two thresholds the curve
    is flat (only good pixels are added); at a score that good and defective pixels share it
    slants, and is cut at the limit by linear interpolation.
    """
    stop = limit * ranking.n_negatives
    after = np.cumsum(gains)
    before = after - gains
    start = np.minimum(ranking.false_above, stop)
    end = np.minimum(ranking.false_positives, stop)

    flat = before @ (start - np.concatenate(([0.0], end[:-1])))
    flat += after[-1] * (stop - end[-1])
    tied = ranking.false_positives > ranking.false_above
    width = (end - start)[tied]
    run = (ranking.false_positives - ranking.false_above)[tied]
    slant = width @ (before[tied] + gains[tied] * width / (2 * run))
    # Rounding in the sum of many small shares may pass 1 by a few units in the last place.
    return min(float(flat + slant) / stop, 1.0)


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
