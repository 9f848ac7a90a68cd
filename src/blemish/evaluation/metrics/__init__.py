"""What each figure of merit means, and the functions that compute it exactly.

A higher score is worse; an image or pixel is called defective when its score is at least the
threshold, and the thresholds are the scores themselves: no grid, no sampling, equal scores
taken together. A figure that has no value (say, no defective image) is None, never NaN.

Of images, and the same of pixels:

- `auroc`: the probability that a defective one scores higher than a good one, ties one half.
- `average_precision`: precision averaged over recall, sum of (R_n - R_n-1) P_n over the
  thresholds, without interpolation.
- `f1_max`: the largest harmonic mean of precision and recall that any threshold reaches.

Of pixels only:

- `aupro`: per threshold, the covered share of each 8-connected defect is averaged over all
  defects (PRO); its area over the false-positive rate from 0 to 0.3, divided by 0.3
  (Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021, section 5).
- `aupro_005`: the same up to 0.05.
- `spro`: the same up to 0.05, where an annotated defect counts as covered once its saturation
  area is (Bergmann et al., "Beyond Dents and Scratches", IJCV 2022, section 4).

Pixels of all test images are pooled, at the resolution of the ground truth. docs/metrics.md has
worked cases, the method, its cost, and how the figures agree with other implementations.
"""

from blemish.evaluation.metrics.breakdown import (
    LOCO_KINDS,
    DefectScores,
    by_defect,
    mean_over_kinds,
)
from blemish.evaluation.metrics.image import auroc, average_precision, f1_max
from blemish.evaluation.metrics.overlap import SaturatedDefect
from blemish.evaluation.metrics.pixel import PixelMetrics, PixelScores
from blemish.evaluation.metrics.ranking import F1

__all__ = [
    "F1",
    "LOCO_KINDS",
    "DefectScores",
    "PixelMetrics",
    "PixelScores",
    "SaturatedDefect",
    "auroc",
    "average_precision",
    "by_defect",
    "f1_max",
    "mean_over_kinds",
]
