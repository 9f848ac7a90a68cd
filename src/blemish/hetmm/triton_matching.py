"""Mutual matching fused into one Triton kernel: the maximum runs on while products are made.

Same formulas as matching.py, whose tiles it reads, but nothing between the products and the two
maps is ever stored. One program multiplies a tile's template vectors, some sheets at a time, with
part of the query patch that the tile can reach, keeps the largest products, and raises the maps.
matching.py imports this module only where it is used, so Triton is not needed elsewhere.

Letters: n sheets of a block, C channels, H x W map, t tile side, P patch side, R x S tiles.
"""

# Kernel arguments and values have no Python types: Triton compiles the functions' text.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from blemish.hetmm.bank import TILE, TileBank

# Rows: template vectors of some sheets; columns: patch pixels; depth: channels at a time.
_ROWS, _COLUMNS, _DEPTH = 64, 64, 64


def triton_match(
    query: Tensor, bank: TileBank, forward: int, backward: int, exclude: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Distances there and back [B, H, W]; see `matching.mutual_match`."""
    batch, channels, height, width = query.shape
    rows, columns = bank.tile_grid
    reach = max(forward, backward) // 2
    side = TILE + 2 * reach
    pixels = query.to(bank.dtype).permute(0, 2, 3, 1).contiguous()  # (B, H, W, C)
    there = query.new_full((batch, height, width), -torch.inf, dtype=torch.float)
    back = torch.full_like(there, -torch.inf)
    if exclude is None:
        exclude = torch.full((batch,), -1)
    left_out = exclude.to(device=query.device, dtype=torch.int32)
    grid = (rows * columns, triton.cdiv(side * side, _COLUMNS), batch)
    for first, block in bank.numbered():
        sources = block.sources
        _kernel[grid](
            block.tiles(), pixels, left_out if sources is None else sources, left_out, there, back,
            first, block.sheets * TILE**2, height, width, columns,
            channels=channels, reach=reach, side=side, tile=TILE,
            near_there=forward // 2, near_back=backward // 2,
            there_on=forward > 0, back_on=backward > 0, has_sources=sources is not None,
            exact=bank.dtype == torch.float32,
            block_rows=_ROWS, block_columns=_COLUMNS, block_depth=_DEPTH,
        )  # fmt: skip
    return (
        1 - there if forward else torch.zeros_like(there),
        1 - back if backward else torch.zeros_like(back),
    )


@triton.jit
def _kernel(
    tiles, pixels, sources, left_out, there, back,
    first_sheet, vectors, height, width, tile_columns,
    channels: tl.constexpr, reach: tl.constexpr, side: tl.constexpr, tile: tl.constexpr,
    near_there: tl.constexpr, near_back: tl.constexpr,
    there_on: tl.constexpr, back_on: tl.constexpr, has_sources: tl.constexpr,
    exact: tl.constexpr,
    block_rows: tl.constexpr, block_columns: tl.constexpr, block_depth: tl.constexpr,
):  # fmt: skip
    """One tile, one query, `block_columns` pixels of its patch; grid (R S, patch parts, B)."""
    place = tl.program_id(0)
    query = tl.program_id(2)
    top = place // tile_columns * tile
    left = place % tile_columns * tile

    # The patch's pixels, in the map's coordinates.
    patch = tl.program_id(1) * block_columns + tl.arange(0, block_columns)
    patch_y = top - reach + patch // side
    patch_x = left - reach + patch % side
    seen = (patch < side * side) & (patch_y >= 0) & (patch_y < height)
    seen = seen & (patch_x >= 0) & (patch_x < width)
    at = (query * height + patch_y) * width + patch_x
    patch_at = pixels + at.to(tl.int64) * channels

    # The tile's vectors are sheet-major, so a row's place in the tile repeats every t t rows.
    row = tl.arange(0, block_rows)
    pixel = row % (tile * tile)
    tile_y = top + pixel // tile
    tile_x = left + pixel % tile
    real = (tile_y < height) & (tile_x < width)
    excluded = tl.load(left_out + query)
    tile_at = place.to(tl.int64) * vectors

    best = tl.full((block_rows, block_columns), float("-inf"), dtype=tl.float32)
    depth = tl.arange(0, block_depth)
    for start in range(0, vectors, block_rows):
        vector = start + row
        there_are = vector < vectors
        vector_at = tiles + (tile_at + vector) * channels
        product = tl.zeros((block_rows, block_columns), dtype=tl.float32)
        for channel in range(0, channels, block_depth):
            deep = channel + depth
            a = tl.load(
                vector_at[:, None] + deep[None, :],
                mask=there_are[:, None] & (deep < channels)[None, :],
                other=0.0,
            )
            b = tl.load(
                patch_at[None, :] + deep[:, None],
                mask=seen[None, :] & (deep < channels)[:, None],
                other=0.0,
            )
            if exact:
                product = tl.dot(a, b, product, input_precision="ieee")
            else:
                product = tl.dot(a, b, product)
        if has_sources:
            sample = tl.load(sources + tile_at + vector, mask=there_are, other=-1)
        else:
            sample = first_sheet + vector // (tile * tile)
        usable = there_are & ((sample != excluded) | (excluded < 0))
        best = tl.maximum(best, tl.where(usable[:, None], product, float("-inf")))

    best = tl.where(real[:, None] & seen[None, :], best, float("-inf"))
    away_y = tl.abs(patch_y[None, :] - tile_y[:, None])
    away_x = tl.abs(patch_x[None, :] - tile_x[:, None])
    away = tl.maximum(away_y, away_x)
    if there_on:
        found = tl.max(tl.where(away <= near_there, best, float("-inf")), axis=0)
        tl.atomic_max(there + at, found, mask=seen & (found > float("-inf")))
    if back_on:
        found = tl.max(tl.where(away <= near_back, best, float("-inf")), axis=1)
        to = (query * height + tile_y) * width + tile_x
        tl.atomic_max(back + to, found, mask=real & (found > float("-inf")))
