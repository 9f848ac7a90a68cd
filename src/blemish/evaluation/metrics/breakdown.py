"""The figures of each type of defect against the good images, and means over the types."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from blemish.errors import ParameterError
from blemish.evaluation.metrics.image import auroc, average_precision, f1_max
from blemish.evaluation.metrics.pixel import PixelMetrics, PixelScores

# MVTec LOCO AD scores the two apart, and reports their mean.
LOCO_KINDS = ("logical_anomalies", "structural_anomalies")


@dataclass(frozen=True)
class DefectScores:
    """One type's figures, each None where it has no value; `n` counts its images."""

    n: int
    image_auroc: float | None
    image_ap: float | None
    image_f1max: float | None
    pixel_auroc: float | None
    pixel_ap: float | None
    pixel_f1max: float | None
    aupro: float | None
    aupro_005: float | None
    spro: float | None


def by_defect(
    labels: ArrayLike,
    scores: ArrayLike,
    defects: Sequence[str],
    pixels: PixelMetrics | None = None,
) -> dict[str, DefectScores]:
    """The figures of each type of defect against all good images, by name, sorted.

    Labels [N] are 0 or 1, `defects` [N] name the type (of a good image: anything). Pixel figures
    come from `pixels`, where the images were added with `kind`: a type's defective pixels against
    the good pixels of its own images and of the good ones. Raises ParameterError as `auroc` does,
    or where the three differ in length.
    """
    truth, values, names = np.asarray(labels), np.asarray(scores), np.asarray(defects)
    if names.shape != truth.shape:
        raise ParameterError(
            f"labels have shape {truth.shape} and defect types {names.shape}; give one an image"
        )
    auroc(truth, values)  # refuses labels and scores that do not fit each other
    defective = truth == 1
    found: dict[str, DefectScores] = {}
    for kind in sorted({str(name) for name in names[defective]}):
        own = defective & (names == kind)
        taken = own | ~defective
        best = f1_max(truth[taken], values[taken])
        of_pixels = _pixel_scores(pixels, kind)
        found[kind] = DefectScores(
            n=int(own.sum()),
            image_auroc=auroc(truth[taken], values[taken]),
            image_ap=average_precision(truth[taken], values[taken]),
            image_f1max=None if best is None else best.value,
            pixel_auroc=of_pixels.auroc,
            pixel_ap=of_pixels.ap,
            pixel_f1max=of_pixels.f1_max,
            aupro=of_pixels.aupro,
            aupro_005=of_pixels.aupro_005,
            spro=of_pixels.spro,
        )
    return found


def mean_over_kinds(
    breakdown: Mapping[str, DefectScores],
    figure: str,
    kinds: Collection[str] = LOCO_KINDS,
) -> float | None:
    """The unweighted mean of one figure over `kinds`; None where a kind has none or is absent.

    With `figure` "spro" or "image_auroc" it is what MVTec LOCO AD reports of a category.
    """
    values = [getattr(breakdown[kind], figure) for kind in kinds if kind in breakdown]
    if not values or len(values) < len(kinds) or any(value is None for value in values):
        return None
    return float(sum(values) / len(values))


def _pixel_scores(pixels: PixelMetrics | None, kind: str) -> PixelScores:
    if pixels is None or kind not in pixels.kinds:
        return PixelScores()
    return pixels.compute([kind])
