"""Large images in tiles: a grid of overlapping windows, and one map blended from the tiles' maps.

Only one tile's pixels are made at a time, and the map has a bounded size, so that memory depends on
neither the number of tiles nor the image's size. What a tile covers is fixed by its place: each
place has templates of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from blemish.errors import ParameterError
from blemish.imaging.geometry import Box, box_around, corners, shift, stretch

Map = npt.NDArray[np.floating[Any]]  # [h, w]

OVERLAP = 0.125  # of a tile's side, by default
MOST = 2048  # px of a blended map's longest side, by default
MOST_TILES = 1024


@dataclass(frozen=True)
class Tiling:
    """Square tiles of `side` pixels over an image of `hw`, neighbours sharing at least `overlap`.

    Tiles are spread evenly, so that the last ends where the image does; where the image is smaller
    than a tile, the tile is too. Raises ParameterError for sizes that cannot be.
    """

    hw: tuple[int, int]
    side: int
    overlap: int

    def __post_init__(self) -> None:
        if min(self.hw) < 1 or self.side < 8:
            raise ParameterError(
                f"tiles of {self.side} pixels on an image of {self.hw[1]}x{self.hw[0]}; give tiles "
                "of 8 pixels or more"
            )
        if not 0 <= self.overlap <= self.side // 2:
            raise ParameterError(
                f"tiles of {self.side} pixels overlap by {self.overlap}; give 0 to {self.side // 2}"
            )
        if (count := len(self._lefts) * len(self._tops)) > MOST_TILES:
            raise ParameterError(
                f"tiles of {self.side} pixels make {count} of an image of {self.hw[1]}x"
                f"{self.hw[0]}; give larger ones, at most {MOST_TILES} are made"
            )

    @classmethod
    def over(cls, hw: tuple[int, int], side: int, overlap: int | None = None) -> Tiling:
        """Tiles of `side` pixels over an image of `hw`; they share an eighth unless told."""
        return cls(hw, side, round(OVERLAP * side) if overlap is None else overlap)

    def __len__(self) -> int:
        return len(self.windows)

    @cached_property
    def windows(self) -> tuple[Box, ...]:
        """The tiles' boxes (x, y, w, h) in image pixels, row by row."""
        height, width = (min(side, self.side) for side in self.hw)
        return tuple((x, y, width, height) for y in self._tops for x in self._lefts)

    def cut(self, image: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
        """Each tile's pixels of an image [H, W, ...], one after the other and not copied.

        Raises ParameterError for an image of another size.
        """
        if image.shape[:2] != self.hw:
            raise ParameterError(
                f"the image has {image.shape[1]}x{image.shape[0]} pixels and the tiles were laid "
                f"over {self.hw[1]}x{self.hw[0]}; give images of one size"
            )
        for x, y, width, height in self.windows:
            yield image[y : y + height, x : x + width]

    def blend(self, maps: Iterable[Map], *, most: int = MOST) -> npt.NDArray[np.float32]:
        """One map [h, w] of the image from the tiles' maps [s, s], in the order of `windows`.

        In an overlap the maps mix, the nearer tile's the more, by linear ramps. The result is as
        fine as the tiles' maps, but has at most `most` pixels on its longest side; peaks of
        maps that are made coarser stay as high as they are.
        """
        blending: _Blending | None = None
        count = 0
        for count, found in enumerate(maps, start=1):
            if blending is None:
                blending = _Blending(self, found.shape, most)
            if count <= len(self):
                blending.add(found, self.windows[count - 1])
        if blending is None or count != len(self):
            raise ParameterError(f"{count} maps were given for {len(self)} tiles; give one each")
        return blending.result()

    def to_source(self, box: Box, tile: int, map_hw: tuple[int, int]) -> Box:
        """The box of image pixels that a box of tile number `tile`'s map [h, w] covers."""
        x, y, width, height = self.windows[tile]
        matrix = shift(x, y) @ stretch(width / map_hw[1], height / map_hw[0])
        return box_around(corners(box, matrix), self.hw)

    def map_hw(self, tile_hw: tuple[int, int], most: int = MOST) -> tuple[int, int]:
        """Height and width of what `blend` makes of maps of this height and width."""
        scale = self._scale(tile_hw, most)
        return max(1, round(self.hw[0] * scale)), max(1, round(self.hw[1] * scale))

    def _scale(self, tile_hw: tuple[int, ...], most: int) -> float:
        """Pixels of the blended map for one of the image."""
        _, _, width, height = self.windows[0]
        return min(max(tile_hw[0] / height, tile_hw[1] / width), most / max(self.hw))

    @cached_property
    def _tops(self) -> Sequence[int]:
        return _starts(self.hw[0], self.side, self.overlap)

    @cached_property
    def _lefts(self) -> Sequence[int]:
        return _starts(self.hw[1], self.side, self.overlap)


class _Blending:
    """A sum of weighted maps and the sum of their weights, on a grid of bounded size."""

    def __init__(self, tiling: Tiling, map_shape: tuple[int, ...], most: int) -> None:
        self._scale = tiling._scale(map_shape, most)
        self._hw = tiling.map_hw((map_shape[0], map_shape[1]), most)
        self._tiling = tiling
        self._sum = np.zeros(self._hw, np.float32)
        self._weight = np.zeros(self._hw, np.float32)

    def add(self, found: Map, window: Box) -> None:
        """Lay one tile's map [s, s] down at its window."""
        x, y, width, height = window
        rows, down = self._axis(y, height, 0)
        columns, across = self._axis(x, width, 1)
        there = np.s_[rows, columns]
        wanted = rows.stop - rows.start, columns.stop - columns.start
        weight = down[:, None] * across
        self._sum[there] += weight * _fitted(found, wanted)
        self._weight[there] += weight

    def result(self) -> npt.NDArray[np.float32]:
        """The weighted mean."""
        return np.asarray(self._sum / self._weight, np.float32)

    def _axis(self, start: int, length: int, axis: int) -> tuple[slice, npt.NDArray[np.float32]]:
        """Where a window lies along an axis of the map, and its ramps up and down."""
        limit, end = self._hw[axis], self._tiling.hw[axis]
        first = min(round(start * self._scale), limit - 1)
        last = max(first + 1, min(round((start + length) * self._scale), limit))
        if start + length == end:
            last = limit
        # A ramp may be no longer than what neighbours share; at the image's edge there is none.
        ramp = max(1.0, self._tiling.overlap * self._scale)
        at = np.arange(last - first) + 0.5
        up = np.ones(len(at)) if start == 0 else np.minimum(1, at / ramp)
        down = np.ones(len(at)) if start + length == end else np.minimum(1, at[::-1] / ramp)
        return slice(first, last), np.asarray(np.minimum(up, down), np.float32)


def _starts(length: int, side: int, overlap: int) -> list[int]:
    """Where tiles begin along an axis, evenly spread from 0 to the last that fits."""
    if length <= side:
        return [0]
    count = math.ceil((length - overlap) / (side - overlap))
    return [round(at) for at in np.linspace(0, length - side, count)]


def _fitted(found: Map, hw: tuple[int, int]) -> npt.NDArray[np.float32]:
    """A map at another size; where it gets coarser, a pixel is the highest of those it covers."""
    import cv2

    plain = np.ascontiguousarray(found, np.float32)
    coarser = max(plain.shape[0] / hw[0], plain.shape[1] / hw[1])
    if coarser > 1:
        side = 2 * math.ceil(coarser / 2) + 1  # wide enough for both pixels that a sample mixes
        plain = np.asarray(cv2.dilate(plain, np.ones((side, side), np.uint8)), np.float32)
    return np.asarray(cv2.resize(plain, (hw[1], hw[0]), interpolation=cv2.INTER_LINEAR), np.float32)
