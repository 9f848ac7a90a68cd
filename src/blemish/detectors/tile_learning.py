"""Fitting an inspector of tiles: one detector a tile, all with the same backbone.

Tall images are read once each, for decoding a large image is the slow part: what the view shows of
them, which is much smaller, stays in memory or, beyond a limit, in a scratch file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from blemish.detectors.base import Detector, Images
from blemish.detectors.hetmm import HETMM
from blemish.detectors.hetmm.learning import learn_backbone
from blemish.detectors.hetmm.selection import whole_sheets
from blemish.detectors.hetmm.vectors import ScratchFile
from blemish.detectors.tiled import MEASURED, TiledDetector, cut
from blemish.errors import ParameterError
from blemish.imaging import Progress, Tiling, silent

IN_MEMORY = 256 << 20  # bytes of tiles kept in memory; those that come later lie in a file
_LEARNED_FROM = 8  # good images whose tiles the filter bank learns what texture is like from

Tile = npt.NDArray[np.float32]  # [S, S, 3]


def fit_tiles(
    detector: Detector,
    images: Images,
    tiling: Tiling,
    *,
    device: str = "auto",
    seed: int = 0,
    progress: Progress = silent,
) -> TiledDetector:
    """Fit a detector a tile of tall images [K S, S, 3]; raises ParameterError but for HETMM."""
    if not isinstance(detector, HETMM):
        raise ParameterError(
            f"tiles need templates of their own, which {detector.method} does not have; use hetmm, "
            "or a larger --size"
        )
    cache = TileCache(images, len(tiling))
    seen = _AllTiles(cache, len(tiling))
    side = cache.piece(0, 0).shape[1]
    backbone = learn_backbone(detector.config.resolved(), seen, (side, side), seed, progress)
    tiles = []
    for number in range(len(tiling)):
        progress("tiles", number, len(tiling))
        one = type(detector)(**detector.parameters()).select_with(detector.band_map)
        tiles.append(
            one.fit(
                cache.tile(number), device=device, seed=seed, backbone=backbone, measured=MEASURED
            )
        )
    progress("tiles", len(tiling), len(tiling))
    return TiledDetector(tiles, tiling)


class TileCache:
    """The tiles of tall images [K S, S, 3]; an image is read when its first tile is asked for."""

    def __init__(self, images: Images, tiles: int) -> None:
        self._images, self._tiles = images, tiles
        self._kept: dict[int, npt.NDArray[np.float32]] = {}  # [K, S, S, 3] by position
        self._bytes = 0  # of those
        self._file: ScratchFile | None = None
        self._slots: dict[int, int] = {}  # where in the file an image lies, in images
        self._shape: tuple[int, ...] = ()  # of a tile

    def __len__(self) -> int:
        return len(self._images)

    def tile(self, number: int) -> Images:
        """Give one tile of each image."""
        return _Tile(self, number)

    def piece(self, position: int, number: int) -> Tile:
        """Give tile `number` of the image at `position`."""
        if position not in self._kept and position not in self._slots:
            self._read(position)
        if position in self._kept:
            piece: Tile = self._kept[position][number]
            return piece
        assert self._file is not None
        size = math.prod(self._shape) * np.float32().itemsize
        start = (self._slots[position] * self._tiles + number) * size
        return self._file.read(start, self._shape)

    def _read(self, position: int) -> None:
        tiles = cut(np.ascontiguousarray(self._images[position], np.float32), self._tiles)
        self._shape = tiles.shape[1:]
        if self._bytes + tiles.nbytes <= IN_MEMORY:
            self._kept[position] = tiles
            self._bytes += tiles.nbytes
        else:
            if self._file is None:
                self._file = ScratchFile("tiles", "use fewer good images or a smaller --size")
            self._file.append(tiles)
            self._slots[position] = len(self._slots)


class _Tile(Sequence[Any]):
    """One tile of each of the images."""

    def __init__(self, images: TileCache, number: int) -> None:
        self._images, self._number = images, number

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: Any) -> Any:
        return self._images.piece(range(len(self))[index], self._number)


class _AllTiles(Sequence[Any]):
    """The tiles of a few tall images, one after the other."""

    def __init__(self, images: TileCache, tiles: int) -> None:
        self._images, self._tiles = images, tiles
        self._chosen = whole_sheets(len(images), min(_LEARNED_FROM, len(images)))

    def __len__(self) -> int:
        return len(self._chosen) * self._tiles

    def __getitem__(self, index: Any) -> Any:
        image, tile = divmod(index, self._tiles)
        return self._images.piece(self._chosen[image], tile)
