"""What both kinds of exported engines share: a session, the image's score, calibration maps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from blemish.bundle import GraphsRecord
from blemish.engine import Engine, Images, Laps, Maps
from blemish.errors import ImageArrayError
from blemish.imaging import Progress, silent


class GraphEngine(Engine):
    """An engine whose maps come from graphs, one image at a time."""

    def __init__(self, method: str, record: GraphsRecord, parameters: Mapping[str, Any]) -> None:
        self.method, self.record = method, record
        self._parameters = parameters

    def maps(self, images: Images, laps: Laps | None = None) -> Maps:
        """Anomaly maps [B, H, W] of images of the view."""
        return np.concatenate([self._map(self._checked(image), laps) for image in images])

    def scores(self, maps: Maps) -> npt.NDArray[np.float32]:
        """One raw score [B] a map: its maximum, or its population standard deviation."""
        pixels = maps.reshape(len(maps), -1)
        found = pixels.max(1) if self.record.score == "max" else pixels.std(1)
        return np.asarray(found, np.float32)

    def calibration_maps(
        self,
        images: Images,
        positions: Sequence[int],
        own: Sequence[int],
        progress: Progress = silent,
    ) -> Iterator[Maps]:
        """Maps of good images, each as if it was not learned from."""
        progress("calibrating", 0, len(positions))
        for done, (position, template) in enumerate(zip(positions, own, strict=True), start=1):
            yield self._map_without(self._checked(images[position]), template)
            progress("calibrating", done, len(positions))

    def parameters(self) -> Mapping[str, Any]:
        """The detector's hyper-parameters."""
        return self._parameters

    def _map(self, image: npt.NDArray[np.float32], laps: Laps | None) -> Maps:
        """The map [1, H, W] of one image [1, H, W, 3]."""
        raise TypeError(f"{type(self).__name__} does not define _map()")

    def _map_without(self, image: npt.NDArray[np.float32], template: int) -> Maps:
        """The same with one template left out (-1: none)."""
        raise TypeError(f"{type(self).__name__} does not define _map_without()")

    def _checked(self, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        wanted = (self.record.height, self.record.width, 3)
        if image.shape != wanted:
            raise ImageArrayError(
                f"array: the graphs take images of shape {list(wanted)}, not {list(image.shape)}"
            )
        return np.ascontiguousarray(image)[None]
