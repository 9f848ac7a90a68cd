"""The order in which the match graph takes template vectors: cut into tiles of 2 x 2 pixels.

Sheets [N, C, H, W] become [R, S, 4, N, C]: tile rows and columns, the tile's four pixels row by
row, then the sheets. Maps of an odd side are padded with zero vectors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

TILE = 2  # px

Array = npt.NDArray[Any]


def to_tiles(sheets: Array) -> Array:
    """[N, C, H, W] to [R, S, 4, N, C]."""
    count, channels, height, width = sheets.shape
    sheets = np.pad(sheets, ((0, 0), (0, 0), (0, -height % TILE), (0, -width % TILE)))
    rows, columns = sheets.shape[2] // TILE, sheets.shape[3] // TILE
    cut = sheets.reshape(count, channels, rows, TILE, columns, TILE)
    cut = cut.transpose(2, 4, 3, 5, 0, 1)  # (R, S, t, t, N, C)
    return np.ascontiguousarray(cut).reshape(rows, columns, TILE * TILE, count, channels)


def from_tiles(tiles: Array, height: int, width: int) -> Array:
    """[R, S, 4, N, C] back to [N, C, height, width]."""
    rows, columns, _, count, channels = tiles.shape
    sheets = tiles.reshape(rows, columns, TILE, TILE, count, channels)
    sheets = sheets.transpose(4, 5, 0, 2, 1, 3)  # (N, C, R, t, S, t)
    sheets = sheets.reshape(count, channels, rows * TILE, columns * TILE)
    return np.ascontiguousarray(sheets[..., :height, :width])


def pixel(tiles: Array, y: int, x: int) -> Array:
    """What all sheets have at the map's pixel (y, x), [N, ...]."""
    found: Array = tiles[y // TILE, x // TILE, y % TILE * TILE + x % TILE]
    return found
