"""Test vectors: what a reader of the bundle in any language must compute, from pixels to score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from blemish.bundle import Tensors
from blemish.detectors import Detector
from blemish.export.parity import Shown

COUNT = 3  # images


def vectors_of(detector: Detector, images: Sequence[Shown]) -> Tensors:
    """`image0` [H, W, 3] in [0, 1], `map0` [H, W] and `score0` [1] of the first few images."""
    found: Tensors = {}
    for index in range(min(COUNT, len(images))):
        pixels = images[index].pixels
        maps = detector.maps([pixels])
        found[f"image{index}"] = np.asarray(pixels, np.float32)
        found[f"map{index}"] = maps[0]
        found[f"score{index}"] = detector.scores(maps)
    return found
