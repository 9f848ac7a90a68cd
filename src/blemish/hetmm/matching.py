"""Affine-invariant template mutual matching (ATMM), from one matrix-multiply volume.

Every query pixel is compared with every template pixel within a window, and back (Chen et al.,
HETMM, IJCV 2024; docs/hetmm.md):

    forward   F(q) = 1 - max_k max_{|o| <= f//2} <T_k(q - o), Q(q)>
    backward  B(p) = 1 - max_k max_{|o| <= b//2} <T_k(p), Q(p + o)>

Both are maxima of V[p, o] = max_k <T_k(p), Q(p + o)>, so V is computed once. The map is cut into
t x t tiles; a tile's template vectors times the query patch it can reach is one dense product,
which runs near the machine's matrix-multiply rate:

    (N t^2 x C) . (C x B P^2),   P = t + 2r,   r = max(f, b) // 2

Letters: N sheets, C channels, H x W map, B queries, t tile side, P patch side, R x S tiles.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.errors import ParameterError
from blemish.hetmm.bank import TILE, TileBank

BUFFER_BYTES = 8 << 20  # one product buffer stays in the last-level cache


def mutual_match(
    query: Tensor,
    bank: TileBank,
    *,
    forward: int,
    backward: int,
    exclude: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Distances there and back, [B, H, W] in [0, 2], of unit vectors `query` [B, C, H, W].

    `forward` and `backward` are odd window sides in pixels of this level. `exclude` [B] names one
    sample a query to leave out (-1: none), which is how a sheet is scored against all others.
    """
    check_windows(forward, backward)
    batch, channels, height, width = query.shape
    if (height, width) != (bank.height, bank.width) or channels != bank.tiles.shape[-1]:
        raise ParameterError(
            f"the query's map is {channels}x{height}x{width}, the templates' "
            f"{bank.tiles.shape[-1]}x{bank.height}x{bank.width}; give both one backbone and size"
        )
    reach = max(forward, backward) // 2
    side = TILE + 2 * reach  # P
    rows, columns = bank.tiles.shape[:2]
    rest = (0, 0, reach, reach + columns * TILE - width, reach, reach + rows * TILE - height)
    padded = F.pad(query.to(bank.tiles.dtype).permute(0, 2, 3, 1), rest)  # (B, H', W', C)
    inside = F.pad(query.new_ones(height, width, dtype=torch.bool), rest[2:])  # (H', W')
    near = {window: _window_mask(window, reach, query.device) for window in (forward, backward)}

    # Forward maxima of one tile fall on its whole patch, so neighbours overlap; backward ones on
    # the tile itself. Patches are cut in t x t blocks, so overlaps line up block by block.
    blocks = -(-side // TILE)
    forward_best = query.new_full(
        (batch, rows + blocks - 1, TILE, columns + blocks - 1, TILE), -torch.inf, dtype=torch.float
    )
    backward_best = query.new_empty((batch, rows, TILE, columns, TILE), dtype=torch.float)
    is_template = F.pad(
        query.new_ones(height, width, dtype=torch.bool),
        (0, columns * TILE - width, 0, rows * TILE - height),
    ).reshape(rows, TILE, columns, TILE)

    step = _tiles_per_product(bank, batch * side * side)
    for row in range(rows):
        top = row * TILE
        strip = padded[:, top : top + side].unfold(2, side, TILE)  # (B, P, S, C, P)
        strip = strip.permute(2, 0, 1, 4, 3).reshape(columns, batch * side * side, channels)
        seen = inside[top : top + side].unfold(1, side, TILE).permute(1, 0, 2)  # (S, P, P)
        for start in range(0, columns, step):
            part = slice(start, min(start + step, columns))
            volume = _best_over_sheets(bank, row, part, strip[part], batch, exclude)
            # (s, t, t, B, P, P): tile pixel p against patch pixel q; outside the map never wins.
            volume = volume.reshape(-1, TILE, TILE, batch, side, side)
            volume.masked_fill_(~seen[part, None, None, None], -torch.inf)

            best = volume.masked_fill(~near[backward], -torch.inf).amax((-1, -2))  # (s, t, t, B)
            backward_best[:, row, :, part] = best.permute(3, 1, 0, 2)

            real = is_template[row, :, part].permute(1, 0, 2)[..., None, None, None]
            best = volume.masked_fill_(~(near[forward] & real), -torch.inf).amax((1, 2))
            _fold_max(forward_best, best, row, start, blocks)

    folded = forward_best.reshape(batch, (rows + blocks - 1) * TILE, (columns + blocks - 1) * TILE)
    similarity_forward = folded[:, reach : reach + height, reach : reach + width]
    similarity_backward = backward_best.reshape(batch, rows * TILE, columns * TILE)
    return 1 - similarity_forward, 1 - similarity_backward[:, :height, :width]


def _best_over_sheets(
    bank: TileBank, row: int, part: slice, patches: Tensor, batch: int, exclude: Tensor | None
) -> Tensor:
    """max_k <T_k(p), Q(q)> for a run of tiles: [s, t t, B P P], float32."""
    product = torch.bmm(bank.tiles[row, part], patches.transpose(1, 2))  # (s, N t t, B P P)
    product = product.view(len(product), bank.sheets, TILE * TILE, -1)
    if exclude is not None:
        by_query = product.view(len(product), bank.sheets, TILE * TILE, batch, -1)
        for index, sample in enumerate(exclude.tolist()):
            if sample < 0:
                continue
            if bank.sources is None:
                by_query[:, sample, :, index] = -torch.inf
            else:
                own = (bank.sources[row, part] == sample).reshape(len(product), bank.sheets, -1)
                by_query[:, :, :, index].masked_fill_(own[..., None], -torch.inf)
    return product.amax(1).float()


def _fold_max(target: Tensor, patches: Tensor, row: int, start: int, blocks: int) -> None:
    """Raise `target` [B, R', t, S', t] to the overlapping patches [s, B, P, P] of one tile row."""
    count, batch, side, _ = patches.shape
    extra = blocks * TILE - side
    patches = F.pad(patches, (0, extra, 0, extra), value=-torch.inf)
    cells = patches.reshape(count, batch, blocks, TILE, blocks, TILE)
    cells = cells.permute(1, 2, 3, 4, 0, 5)  # (B, block row, t, block column, s, t)
    for column in range(blocks):
        left = start + column
        region = target[:, row : row + blocks, :, left : left + count]
        torch.maximum(region, cells[:, :, :, column], out=region)


def _window_mask(window: int, reach: int, device: torch.device) -> Tensor:
    """Which patch pixels lie in the window around each tile pixel: [t, t, 1, P, P]."""
    tile = torch.arange(TILE, device=device) + reach
    patch = torch.arange(TILE + 2 * reach, device=device)
    near = (tile[:, None] - patch[None]).abs() <= window // 2  # (t, P)
    return (near[:, None, :, None] & near[None, :, None, :])[:, :, None]


def _tiles_per_product(bank: TileBank, patch_vectors: int) -> int:
    bytes_per_tile = bank.tiles.shape[2] * patch_vectors * bank.tiles.element_size()
    budget = BUFFER_BYTES if bank.tiles.device.type == "cpu" else BUFFER_BYTES * 64
    return max(1, budget // bytes_per_tile)


def check_windows(forward: int, backward: int) -> None:
    """Raise unless both window sides are odd whole numbers from 1."""
    for name, window in (("forward", forward), ("backward", backward)):
        if window < 1 or window % 2 == 0:
            raise ParameterError(
                f"the {name} window is {window}; windows are odd whole numbers of pixels from 1"
            )
