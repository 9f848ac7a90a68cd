"""A part's picture in grey at a few small sizes, which is what alignment looks at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from blemish.imaging.geometry import Matrix, stretch
from blemish.imaging.raster import Pixels, Raster, as_read, to_grey, to_unit

FINE = 256  # px of the longest side: for features
HIGH = 128  # for the last steps
LOW = 64  # for the first
THUMB = 40  # for the search over angles

Grey = npt.NDArray[np.float32]  # [h, w]


@dataclass(frozen=True)
class Level:
    """A grey picture [h, w], and the matrix to its pixels from units of the longest side."""

    grey: Grey
    to_pixels: Matrix

    @property
    def hw(self) -> tuple[int, int]:
        """Height and width."""
        return self.grey.shape[0], self.grey.shape[1]


@dataclass(frozen=True)
class Sketch:
    """One image's levels; `high` and `low` are smoothed as ECC's small steps need it."""

    fine: Level
    high: Level
    low: Level
    thumb: Level

    @classmethod
    def of(cls, image: Pixels | Raster, hw: tuple[int, int] | None = None) -> Sketch:
        """The sketch of RGB [H, W, 3] in [0, 1] or a raster; `hw`: before it was made smaller."""
        raster = image if isinstance(image, Raster) else Raster.of(as_read(image))
        hw = raster.hw if hw is None else hw
        fine = to_grey(to_unit(_shrunk(raster.samples, FINE)))
        high, low, thumb = (_shrunk(fine, side) for side in (HIGH, LOW, THUMB))
        return cls(
            _level(fine, hw), _level(_smooth(high), hw), _level(_smooth(low), hw), _level(thumb, hw)
        )

    def shows(self, other: Sketch) -> bool:
        """Whether it is of the same picture."""
        return np.array_equal(self.fine.grey, other.fine.grey)


def shrunk_mask(mask: npt.NDArray[np.bool_], hw: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """A mask [H, W] at another size: where at least half of each pixel is in it."""
    share = cv2.resize(mask.astype(np.float32), (hw[1], hw[0]), interpolation=cv2.INTER_AREA)
    return np.asarray(share >= 0.5)


def _shrunk(image: npt.NDArray[Any], side: int) -> npt.NDArray[Any]:
    """The image with `side` px on its longest side, averaged; enlarged where it is smaller."""
    height, width = image.shape[:2]
    factor = side / max(height, width)
    wanted = max(1, round(width * factor)), max(1, round(height * factor))
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, wanted, interpolation=how))


def _smooth(grey: Grey) -> Grey:
    return np.asarray(cv2.GaussianBlur(grey, (5, 5), 0), np.float32)


def _level(grey: Grey, source_hw: tuple[int, int]) -> Level:
    longest = max(source_hw)
    height, width = grey.shape
    return Level(grey, stretch(width * longest / source_hw[1], height * longest / source_hw[0]))
