"""What detectors that run graphs share: one image at a time, of the graphs' size."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from blemish.detectors.base import Detector, Images, Laps, Maps
from blemish.errors import ImageArrayError
from blemish.imaging import Progress, silent

Floats = npt.NDArray[np.float32]


class GraphDetector(Detector):
    """A detector whose maps come from graphs, image by image."""

    @property
    @abstractmethod
    def hw(self) -> tuple[int, int]:
        """Height and width of the images that the graphs take."""

    def maps(self, images: Images, laps: Laps | None = None) -> Maps:
        """See `Detector.maps`."""
        return np.stack([self._map(self.checked(image), laps) for image in images])

    def calibration_maps(
        self,
        images: Images,
        positions: Sequence[int],
        own: Sequence[int],
        progress: Progress = silent,
    ) -> Iterator[Maps]:
        """See `Detector.calibration_maps`."""
        progress("calibrating", 0, len(positions))
        for done, (position, template) in enumerate(zip(positions, own, strict=True), start=1):
            yield self._map_without(self.checked(images[position]), template)[None]
            progress("calibrating", done, len(positions))

    def checked(self, image: Floats) -> Floats:
        """Give one image as the graphs' input [1, H, W, 3]; raises ImageArrayError."""
        if image.shape != (*self.hw, 3):
            raise ImageArrayError(
                f"array: the graphs take images of shape {[*self.hw, 3]}, not {list(image.shape)}"
            )
        return np.ascontiguousarray(image)[None]

    @abstractmethod
    def _map(self, image: Floats, laps: Laps | None) -> Floats:
        """Compute the map [H, W] of one image [1, H, W, 3]."""

    @abstractmethod
    def _map_without(self, image: Floats, template: int) -> Floats:
        """Compute the same with one template left out (-1: none)."""
