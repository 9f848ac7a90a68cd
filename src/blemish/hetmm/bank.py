"""One level's template vectors, cut into tiles once so that matching never rearranges them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

TILE = 2  # px: small tiles waste little at the patch borders; batching keeps the products large


@dataclass(frozen=True)
class TileBank:
    """One level's template vectors, cut into tiles once so that matching never rearranges them.

    `tiles` is [R, S, N t t, C]: tile row, tile column, then sheet-major vectors of that tile.
    `sources` [R, S, N t t] tells which sample each vector comes from; None: sheet k is sample k.
    """

    tiles: Tensor
    sheets: int
    height: int
    width: int
    sources: Tensor | None = None

    @classmethod
    def from_sheets(
        cls, sheets: Tensor, dtype: torch.dtype | None = None, *, sources: Tensor | None = None
    ) -> TileBank:
        """Cut unit vectors [N, C, H, W] into tiles; the border is padded with zero vectors.

        `sources` [N, H, W] are the samples of selected prototypes.
        """
        count, _, height, width = sheets.shape
        tiles = _to_tiles(sheets.to(dtype or sheets.dtype))
        if sources is not None:
            sources = _to_tiles(sources[:, None]).squeeze(-1)
        return cls(tiles, count, height, width, sources)

    def sheets_tensor(self) -> Tensor:
        """The sheets again, [N, C, H, W]: what `from_sheets` was given."""
        return self._from_tiles(self.tiles)

    def sources_tensor(self) -> Tensor | None:
        """The samples of selected prototypes again, [N, H, W]."""
        return None if self.sources is None else self._from_tiles(self.sources[..., None])[:, 0]

    def _from_tiles(self, tiles: Tensor) -> Tensor:
        rows, columns, _, channels = tiles.shape
        sheets = tiles.reshape(rows, columns, self.sheets, TILE, TILE, channels)
        sheets = sheets.permute(2, 5, 0, 3, 1, 4)  # (N, C, R, t, S, t)
        sheets = sheets.reshape(self.sheets, channels, rows * TILE, columns * TILE)
        return sheets[..., : self.height, : self.width].contiguous()


def _to_tiles(sheets: Tensor) -> Tensor:
    """[N, C, H, W] to [R, S, N t t, C]."""
    count, channels, height, width = sheets.shape
    sheets = F.pad(sheets, (0, -width % TILE, 0, -height % TILE))
    rows, columns = sheets.shape[-2] // TILE, sheets.shape[-1] // TILE
    return (
        sheets.reshape(count, channels, rows, TILE, columns, TILE)
        .permute(2, 4, 0, 3, 5, 1)  # (R, S, N, t, t, C)
        .reshape(rows, columns, count * TILE * TILE, channels)
        .contiguous()
    )
