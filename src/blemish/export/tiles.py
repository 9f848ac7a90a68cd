"""Matching within windows of one level in ONNX: one dense product a tile, then windowed maxima.

As hetmm/matching.py does it: V[p, q] = max_k <T_k(p), Q(q)> for the t x t pixels p of a tile and
the P x P pixels q it can reach. A Scan takes one row of tiles after the other, so the products
stay in the cores' caches, and ONNX Runtime hands it slices of the bank without a copy.

Letters: C channels, h x w map, t tile side, P patch side, R x S tiles, r reach, N sheets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from blemish.bundle import LevelRecord
from blemish.graphs.nodes import Nodes, tensor
from blemish.detectors.hetmm.bank import TILE

FAR = -1e4  # far below any cosine: added to what must never be the maximum


@dataclass(frozen=True)
class _Grid:
    """The tiles of a level."""

    height: int
    width: int
    reach: int

    @property
    def rows(self) -> int:
        return -(-self.height // TILE)

    @property
    def columns(self) -> int:
        return -(-self.width // TILE)

    @property
    def side(self) -> int:
        return TILE + 2 * self.reach

    @property
    def padded_width(self) -> int:
        return self.columns * TILE + 2 * self.reach


def tile_distances(nodes: Nodes, level: LevelRecord) -> str:
    """Distances [h, w] in [0, 2], alpha F + (1 - alpha) B."""
    grid = _Grid(level.height, level.width, level.reach)
    volume = _volume(nodes, level, grid)  # (R, S, P, P, t t)
    parts = []
    if level.forward is not None:
        parts.append((level.alpha, _forward(nodes, volume, grid, level.forward)))
    if level.backward is not None:
        parts.append((1 - level.alpha, _backward(nodes, volume, grid, level.backward)))
    cosine = parts[0][1]
    if len(parts) == 2:
        weighted = [nodes.add("Mul", best, nodes.constant(alpha)) for alpha, best in parts]
        cosine = nodes.add("Add", *weighted)
    return nodes.add("Sub", nodes.constant(1.0), cosine)


def _volume(nodes: Nodes, level: LevelRecord, grid: _Grid) -> str:
    """V [R, S, P, P, t t]; pixels outside the map are zero vectors."""
    query = nodes.rounded(level.features, level.dtype)
    reach, rows, columns, side = grid.reach, grid.rows, grid.columns, grid.side
    below, right = rows * TILE - grid.height, columns * TILE - grid.width
    pads = [0, 0, reach, reach, 0, 0, reach + below, reach + right]
    padded = nodes.add("Pad", query, nodes.constant(pads, np.int64))
    pixels = nodes.add("Transpose", nodes.reshape(padded, level.channels, -1), perm=[1, 0])
    firsts = nodes.constant(np.arange(rows) * TILE * grid.padded_width, np.int32)
    body = _row_of_tiles(level, grid, pixels)
    best = nodes.add("Scan", firsts, level.templates, body=body, num_scan_inputs=2)
    return nodes.reshape(best, rows, columns, side, side, TILE * TILE)


def _row_of_tiles(level: LevelRecord, grid: _Grid, pixels: str) -> onnx.GraphProto:
    """The largest products [S, P P t t] of one row of tiles [S, t t, N, C]."""
    columns, patch, channels = grid.columns, grid.side**2, level.channels
    prefix = f"tiles{level.level}_"
    nodes = Nodes(prefix)
    # One Gather cuts all patches of the row: their pixels' numbers are those of the first row,
    # moved on.
    places = nodes.add("Add", f"{prefix}first", nodes.constant(_first_patches(grid), np.int32))
    patches = nodes.add("Gather", pixels, places, axis=0)  # (S, P P, C)
    # In this order the product's sides are multiples of the processor's vectors, whatever P is.
    tiles = nodes.reshape(f"{prefix}templates", columns, -1, channels)
    turned = nodes.add("Transpose", tiles, perm=[0, 2, 1])
    cosines = nodes.add("MatMul", patches, turned)  # (S, P P, t t N)
    by_sheet = nodes.reshape(cosines, columns, patch * TILE * TILE, -1)
    nodes.largest(by_sheet, 2, outputs=[f"{prefix}best"])
    return nodes.graph(
        f"{prefix}row",
        [
            tensor(f"{prefix}first", (), TensorProto.INT32),
            tensor(f"{prefix}templates", (columns, TILE * TILE, f"N{level.level}", channels)),
        ],
        [tensor(f"{prefix}best", (columns, patch * TILE * TILE))],
    )


def _first_patches(grid: _Grid) -> npt.NDArray[np.int64]:
    """The numbers [S, P P] of the pixels in the patches of the first row of tiles."""
    down = np.arange(grid.side)[:, None] * grid.padded_width
    patch = (down + np.arange(grid.side)).ravel()
    return np.arange(grid.columns)[:, None] * TILE + patch


def _forward(nodes: Nodes, volume: str, grid: _Grid, radius: int) -> str:
    """The largest cosine of each query pixel [h, w] with the template pixels around it."""
    rows, columns = grid.rows, grid.columns
    seen = nodes.add("Add", _cropped(nodes, volume, grid, radius), _near(nodes, radius))
    if (rows * TILE, columns * TILE) != (grid.height, grid.width):
        seen = nodes.add("Add", seen, nodes.constant(_padding(grid)))
    best = nodes.largest(seen, 4)  # (R, S, P, P), patches that overlap
    # Patches are cut into t x t blocks, so overlaps line up block by block: patch (R, S) puts its
    # block (a, b) at block (R + a, S + b) of the map.
    blocks = 1 + radius
    cells = nodes.reshape(best, rows, columns, blocks, TILE, blocks, TILE)
    cells = nodes.add("Transpose", cells, perm=[2, 0, 3, 1, 4, 5])  # (a, R, t, S, b, t)
    folded = _fold(nodes, cells, blocks, rows, TILE * columns * blocks * TILE)
    height = rows + blocks - 1
    cells = nodes.reshape(folded, height, TILE, columns, blocks, TILE)
    cells = nodes.add("Transpose", cells, perm=[3, 2, 0, 1, 4])  # (b, S, R', t, t)
    folded = _fold(nodes, cells, blocks, columns, height * TILE * TILE)
    width = columns + blocks - 1
    cells = nodes.reshape(folded, width, height * TILE, TILE)
    turned = nodes.add("Transpose", cells, perm=[1, 0, 2])  # (R' t, S', t)
    whole = nodes.reshape(turned, height * TILE, width * TILE)
    return nodes.part(whole, (0, 1), radius, (grid.height, grid.width))


def _fold(nodes: Nodes, cells: str, blocks: int, count: int, each: int) -> str:
    """Maxima [count + blocks - 1, each] over a of cells [blocks, count, each] moved on by a.

    Cut one element short of the padded row, each row of the next reshape begins one later.
    """
    length = count + blocks - 1
    flat = nodes.reshape(cells, blocks, count * each)
    pads = nodes.constant([0, 0, 0, blocks * each], np.int64)
    padded = nodes.add("Pad", flat, pads, nodes.constant(FAR))
    one_row = nodes.part(nodes.reshape(padded, -1), (0,), 0, (blocks * length * each,))
    return nodes.largest(nodes.reshape(one_row, blocks, length * each), 0)


def _backward(nodes: Nodes, volume: str, grid: _Grid, radius: int) -> str:
    """The largest cosine of each template pixel [h, w] with the query pixels around it."""
    seen = _cropped(nodes, volume, grid, radius)
    # Three small constants: the runtime adds them up once, when it loads the graph.
    down = _outside(grid.rows, grid.height, radius)[:, None, :, None, None]
    right = _outside(grid.columns, grid.width, radius)[None, :, None, :, None]
    outside = nodes.add("Add", nodes.constant(down), nodes.constant(right))
    seen = nodes.add("Add", seen, nodes.add("Add", outside, _near(nodes, radius)))
    best = nodes.largest(seen, 2, 3)  # (R, S, t t)
    pixels = nodes.reshape(best, grid.rows, grid.columns, TILE, TILE)
    turned = nodes.add("Transpose", pixels, perm=[0, 2, 1, 3])
    whole = nodes.reshape(turned, grid.rows * TILE, grid.columns * TILE)
    return nodes.part(whole, (0, 1), 0, (grid.height, grid.width))


def _cropped(nodes: Nodes, volume: str, grid: _Grid, radius: int) -> str:
    """The middle of the patches, as far as a smaller window reaches."""
    side = TILE + 2 * radius
    if side == grid.side:
        return volume
    return nodes.part(volume, (2, 3), grid.reach - radius, (side, side))


def _near(nodes: Nodes, radius: int) -> str:
    """0 in the window around each tile pixel and FAR elsewhere, [P, P, t t]."""
    patch = np.arange(TILE + 2 * radius)[:, None]
    near = np.abs(patch - np.arange(TILE) - radius) <= radius  # (P, t)
    window = near[:, None, :, None] & near[None, :, None, :]  # (P, P, t, t)
    return nodes.constant(np.where(window, 0, FAR).reshape(*window.shape[:2], TILE * TILE))


def _padding(grid: _Grid) -> npt.NDArray[np.float64]:
    """0 on tile pixels of the map and FAR on the border's padding, [R, S, 1, 1, t t]."""
    inside = np.pad(
        np.ones((grid.height, grid.width), np.bool_),
        ((0, grid.rows * TILE - grid.height), (0, grid.columns * TILE - grid.width)),
    )
    tiles = inside.reshape(grid.rows, TILE, grid.columns, TILE).swapaxes(1, 2)
    return np.where(tiles.reshape(grid.rows, grid.columns, 1, 1, TILE * TILE), 0, FAR)


def _outside(tiles: int, length: int, radius: int) -> npt.NDArray[np.float64]:
    """0 on the map and FAR beyond it, for the patches along one axis, [tiles, P]."""
    place = np.arange(tiles)[:, None] * TILE + np.arange(TILE + 2 * radius) - radius
    return np.where((place >= 0) & (place < length), 0, FAR)
