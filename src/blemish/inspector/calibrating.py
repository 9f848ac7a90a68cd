"""Scores of good images for calibration, each as if it had not been learned from."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np

from blemish.bundle import TemplateRecord
from blemish.detectors import Detector, Images, Inside
from blemish.errors import CalibrationError
from blemish.imaging import Progress
from blemish.verdict import Calibration, Rule

ID = 16  # hexadecimal digits of a picture's sha256 that make its id


def own_templates(ids: Sequence[str], templates: Sequence[TemplateRecord]) -> list[int]:
    """Which template each image is; -1: none."""
    position = {template.id: index for index, template in enumerate(templates)}
    return [position.get(key, -1) for key in ids]


def inside_of(images: Images, position: int) -> Inside:
    """Which pixels of an image's map count; plain arrays count everywhere."""
    told = getattr(images, "inside", None)
    return None if told is None else told(position)


def usable(detector: Detector, own: Sequence[int]) -> list[int]:
    """Positions of the images that calibration may score."""
    return [index for index, sheet in enumerate(own) if sheet < 0 or detector.leaves_one_out]


def calibrate(
    detector: Detector,
    images: Images,
    own: Sequence[int],
    rule: Rule,
    progress: Progress,
) -> Calibration:
    """The calibration by `rule` on good images; `own` tells which template each is (-1: none).

    Raises CalibrationError when the rate cannot be promised.
    """
    positions = usable(detector, own)
    # Refuse before the long work, not after it.
    rule.check(len(positions))
    maps = detector.calibration_maps(
        images, positions, [own[index] for index in positions], progress
    )
    scores, peaks = [], []
    for position, anomaly_map in zip(positions, chain.from_iterable(maps), strict=True):
        inside = inside_of(images, position)
        scores.append(detector.score(anomaly_map, inside))
        peaks.append(anomaly_map.max() if inside is None else anomaly_map[inside].max())
    found, highest = np.array(scores), np.array(peaks)
    if not np.isfinite(found).all() or not np.isfinite(highest).all():
        raise CalibrationError(
            "These templates cannot be scored without one another: at some pixels all prototypes "
            "come from one image. Add good parts, or fit again with more sheets."
        )
    method = "leave-one-out" if any(own[index] >= 0 for index in positions) else "held-out"
    return Calibration.from_scores(found, rule, method=method, peaks=highest)
