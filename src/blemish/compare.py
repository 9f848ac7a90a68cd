"""Comparing two aligned images with no bundle: HETMM with one sheet, at a fixed threshold.

One golden image cannot calibrate anything, so no rate is promised: the thresholds were chosen once,
on 24 pairs of DeepPCB (docs/few_shot.md), and `threshold` overrides them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from blemish.detectors import HETMM
from blemish.errors import ImageArrayError, ParameterError
from blemish.imaging import MAX_PIXELS, Seen, View
from blemish.inspector import Inspector
from blemish.verdict import Inspection, find_regions

EMBEDDED = "efficientnet_lite0"  # the default backbone
LARGEST_SIZE = 2048  # px: the side of the view, where the image alone would ask for more
SETTINGS: dict[str, Any] = {
    "levels": (1, 2),  # coarse levels blur a defect of a few pixels away
    "pool": (1, 1),  # and so does averaging
    "forward": (5, 3),  # aligned images need little search
    "backward": (5, 3),
    "alpha": (0.5, 0.5),
    "level_weights": (1.0, 0.5),
    "sigma": 4.0,
    # Of one image nothing can be told about how good ones vary.
    "windows": "manual",
    "normalise": False,
    "statistic": "max",
}
NETWORK_THRESHOLD = 0.65
EMBEDDED_THRESHOLD = 0.6
# Whitened on one image, the filter bank's features lie further apart and jitter at edges.
FILTERBANK_SETTINGS: dict[str, Any] = {
    **SETTINGS,
    "forward": (7, 5),
    "backward": (3, 3),
    "level_weights": (1.0, 1.0),
    "sigma": 12.0,
}
FILTERBANK_THRESHOLD = 1.3


class Comparer:
    """Compares images with one golden image of the same part, place and size.

    `size` is the side of the square view: twice the image's longer side by default, at most 2048,
    because features have a stride of 4 px and small defects need several. `settings` are HETMM's.
    """

    def __init__(
        self,
        golden: Any,
        *,
        backbone: str = EMBEDDED,
        threshold: float | None = None,
        size: int | None = None,
        device: str = "auto",
        max_pixels: int = MAX_PIXELS,
        settings: dict[str, Any] | None = None,
    ) -> None:
        if threshold is not None and not threshold > 0:
            raise ParameterError(f"threshold is {threshold}; give a number above 0")
        bank = backbone == "filterbank"
        chosen = FILTERBANK_SETTINGS if bank else SETTINGS
        detector = HETMM(**{**chosen, "sheets": 1, "backbone": backbone, **(settings or {})})
        self.inspector = Inspector(detector, device=device, max_pixels=max_pixels)
        pixels = self.inspector.read(golden)
        self.shape = (pixels.shape[0], pixels.shape[1])
        self.inspector.view = View(size=size or min(2 * max(self.shape), LARGEST_SIZE))
        self.inspector.fit([pixels])
        self.inspector.name = os.fspath(golden) if isinstance(golden, str | os.PathLike) else ""
        own = {"filterbank": FILTERBANK_THRESHOLD, EMBEDDED: EMBEDDED_THRESHOLD}
        self.threshold = threshold or own.get(backbone, NETWORK_THRESHOLD)

    def compare(self, image: Any) -> Inspection:
        """The result for one image: `fail` above the threshold; no p-value, nothing is promised."""
        result = self.inspector.inspect(image)
        assert result.image_size is not None
        if result.image_size != self.shape:
            raise ImageArrayError(
                f"{result.image or 'array'}: the image is {_size(result.image_size)} pixels, the "
                f"golden one {_size(self.shape)}; compare takes aligned images of one size."
            )
        regions = find_regions(
            result.anomaly_map,
            self.threshold,
            place=Seen.whole(self.inspector.view.size, result.image_size),
        )
        return replace(
            result,
            threshold=self.threshold,
            verdict="pass" if result.score <= self.threshold else "fail",
            reason=None,
            regions=regions,
        )


def _size(shape: Sequence[int]) -> str:
    return f"{shape[1]} x {shape[0]}"
