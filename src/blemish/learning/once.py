"""Tall images for many tiles' fits, each read once: decoding a large image is the slow part.

Kept is what the view shows, which is much smaller than the image: in memory at first, and beyond a
limit in a scratch file, so that very many large images take no more memory than a few.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from blemish.engine import Images
from blemish.engine.tiled import cut
from blemish.hetmm.chunks import ScratchFile

IN_MEMORY = 256 << 20  # bytes of tiles kept in memory; those that come later lie in a file

Tile = npt.NDArray[np.float32]  # [S, S, 3]


class ReadOnce:
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
        """One tile of each image."""
        return _Tile(self, number)

    def piece(self, position: int, number: int) -> Tile:
        """Tile `number` of the image at `position`."""
        if position not in self._kept and position not in self._slots:
            self._read(position)
        found: Tile
        if position in self._kept:
            found = self._kept[position][number]
        else:
            assert self._file is not None
            size = math.prod(self._shape) * np.float32().itemsize
            start = (self._slots[position] * self._tiles + number) * size
            found = self._file.read(start, size).numpy().view(np.float32).reshape(self._shape)
        return found

    def _read(self, position: int) -> None:
        tiles = cut(np.ascontiguousarray(self._images[position]), self._tiles)
        self._shape = tiles.shape[1:]
        if self._bytes + tiles.nbytes <= IN_MEMORY:
            self._kept[position] = tiles
            self._bytes += tiles.nbytes
        else:
            if self._file is None:
                self._file = ScratchFile("tiles", "use fewer good images or a smaller --size")
            self._file.append(torch.from_numpy(tiles))
            self._slots[position] = len(self._slots)


class _Tile(Sequence[Any]):
    """One tile of each of the images."""

    def __init__(self, images: ReadOnce, number: int) -> None:
        self._images, self._number = images, number

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: Any) -> Any:
        return self._images.piece(index, self._number)
