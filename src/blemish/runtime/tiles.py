"""The order in which the match graph takes template vectors: cut into tiles of 2 x 2 pixels.

Sheets [N, C, H, W] become [R, S, 4 N, C]: tile rows and columns, then sheet by sheet the tile's
four pixels, row by row. Maps of an odd side are padded with zero vectors. It is the order of
hetmm/bank.py, whose products the graph computes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

TILE = 2  # px

Array = npt.NDArray[Any]


def to_tiles(sheets: Array) -> Array:
    """[N, C, H, W] to [R, S, 4 N, C]."""
    count, channels, height, width = sheets.shape
    sheets = np.pad(sheets, ((0, 0), (0, 0), (0, -height % TILE), (0, -width % TILE)))
    rows, columns = sheets.shape[2] // TILE, sheets.shape[3] // TILE
    cut = sheets.reshape(count, channels, rows, TILE, columns, TILE)
    cut = cut.transpose(2, 4, 0, 3, 5, 1)  # (R, S, N, t, t, C)
    return np.ascontiguousarray(cut).reshape(rows, columns, count * TILE * TILE, channels)


def from_tiles(tiles: Array, height: int, width: int) -> Array:
    """[R, S, 4 N, C] back to [N, C, height, width]."""
    rows, columns, _, channels = tiles.shape
    sheets = tiles.reshape(rows, columns, -1, TILE, TILE, channels)
    sheets = sheets.transpose(2, 5, 0, 3, 1, 4)  # (N, C, R, t, S, t)
    sheets = sheets.reshape(-1, channels, rows * TILE, columns * TILE)
    return np.ascontiguousarray(sheets[..., :height, :width])


def pixel(tiles: Array, y: int, x: int) -> Array:
    """All sheets' vectors at the map's pixel (y, x), [N, C]."""
    within = y % TILE * TILE + x % TILE
    found: Array = tiles[y // TILE, x // TILE, within :: TILE**2]
    return found
