"""One level's template vectors, cut into tiles once so that matching never rearranges them.

Sheets lie in blocks that are never changed: adding or removing a sheet makes a new bank that shares
all blocks but one with the old, so an update costs one block's copy and readers see old or new.

Letters: N sheets of the bank, n of one block, C channels, H x W map, t tile side, R x S tiles.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.errors import ParameterError

TILE = 2  # px: small tiles waste little at the patch borders; batching keeps the products large
BLOCK_SHEETS = 64  # at most this many sheets are copied by a removal
MERGE_SHEETS = 16  # single additions grow the last block up to this many sheets


class Block(Protocol):
    """Some sheets as tiles [R, S, n t t, C], sheet-major in a tile."""

    @property
    def sheets(self) -> int:
        """How many sheets, n."""
        ...

    @property
    def sources(self) -> Tensor | None:
        """The sample each vector comes from [R, S, n t t]; None: the k-th sheet is one sample."""
        ...

    def row(self, index: int) -> Tensor:
        """One row of tiles, [S, n t t, C]."""
        ...

    def tiles(self) -> Tensor:
        """All tiles, [R, S, n t t, C]."""
        ...

    def with_sources(self, sources: Tensor) -> Block:
        """The same tiles under other sources."""
        ...


@dataclass(frozen=True)
class MemoryBlock:
    """A block whose tiles lie in memory."""

    values: Tensor
    sources: Tensor | None = None

    @property
    def sheets(self) -> int:
        """How many sheets, n."""
        return self.values.shape[2] // TILE**2

    def row(self, index: int) -> Tensor:
        """One row of tiles, [S, n t t, C]."""
        return self.values[index]

    def tiles(self) -> Tensor:
        """All tiles, [R, S, n t t, C]."""
        return self.values

    def with_sources(self, sources: Tensor) -> MemoryBlock:
        """The same tiles under other sources."""
        return replace(self, sources=sources)


@dataclass(frozen=True)
class TileBank:
    """One level's template vectors, as blocks of sheets; immutable.

    `channels`, `height` and `width` are one sheet's. `has_sources`: every vector names the sample
    it comes from, as selected prototypes and augmented copies need; else sheet k is sample k.
    """

    blocks: tuple[Block, ...]
    channels: int
    height: int
    width: int
    dtype: torch.dtype
    device: torch.device
    has_sources: bool = False

    @classmethod
    def from_sheets(
        cls, sheets: Tensor, dtype: torch.dtype | None = None, *, sources: Tensor | None = None
    ) -> Self:
        """Cut unit vectors [N, C, H, W] into tiles; the border is padded with zero vectors.

        `sources` [N, H, W] are the samples of selected prototypes.
        """
        _, channels, height, width = sheets.shape
        kind = dtype or sheets.dtype
        empty = cls((), channels, height, width, kind, sheets.device, sources is not None)
        return empty.extended(sheets, sources=sources)

    @property
    def sheets(self) -> int:
        """How many sheets, N."""
        return sum(block.sheets for block in self.blocks)

    @property
    def tile_grid(self) -> tuple[int, int]:
        """Rows and columns of tiles, R and S."""
        return -(-self.height // TILE), -(-self.width // TILE)

    def sheets_tensor(self) -> Tensor:
        """The sheets again, [N, C, H, W]: what `from_sheets` was given, in the bank's dtype."""
        return torch.cat([self._from_tiles(block.tiles()) for block in self.blocks])

    def band(self, row: int) -> Tensor:
        """All sheets' pixels of one row of tiles, [N, C, t, W] (fewer rows at the border)."""
        top = row * TILE
        bands = [self._from_tiles(block.row(row)[None]) for block in self.blocks]
        return torch.cat(bands)[:, :, : self.height - top]

    def sources_tensor(self) -> Tensor | None:
        """The samples of selected prototypes again, [N, H, W]."""
        if not self.has_sources:
            return None
        sources = [_sources(block)[..., None] for block in self.blocks]
        return torch.cat([self._from_tiles(part)[:, 0] for part in sources])

    def extended(self, sheets: Tensor, *, sources: Tensor | None = None) -> Self:
        """A bank with unit vectors [N', C, H, W] behind its own sheets.

        A bank with sources needs the new vectors' `sources` [N', H, W], another one takes none: its
        new sheets are the next samples.
        """
        if sheets.shape[1:] != (self.channels, self.height, self.width):
            raise ParameterError(
                f"the new sheets are {'x'.join(map(str, sheets.shape[1:]))}, the templates' "
                f"{self.channels}x{self.height}x{self.width}; give both one backbone and size"
            )
        if (sources is not None) != self.has_sources:
            raise ParameterError(
                f"the template set has {'some' if self.has_sources else 'no'} sources, the new "
                f"sheets have {'none' if sources is None else 'some'}; give all or none"
            )
        sheets = sheets.to(self.device)
        sources = None if sources is None else sources.to(self.device)
        blocks = list(self.blocks)
        for start in range(0, len(sheets), BLOCK_SHEETS):
            part = sheets[start : start + BLOCK_SHEETS]
            tiles = _to_tiles(part.to(self.dtype))
            own = None
            if sources is not None:
                own = _to_tiles(sources[start : start + BLOCK_SHEETS, None])[..., 0]
            if blocks and blocks[-1].sheets + len(part) <= MERGE_SHEETS:
                last = blocks.pop()
                tiles = torch.cat([last.tiles(), tiles], dim=2)
                if own is not None:
                    own = torch.cat([_sources(last), own], dim=2)
            blocks.append(self._keep(tiles, own))
        return replace(self, blocks=tuple(blocks))

    def without(self, sample: int) -> Self:
        """A bank without anything that came from `sample`; later samples move down by one.

        In a bank with sources another vector of the same pixel takes the place of each removed one:
        duplicates change no maximum. Raises where a pixel would keep no vector.
        """
        if sample < 0 or (not self.has_sources and sample >= self.sheets):
            raise ParameterError(f"there is no sample {sample} in a set of {self.sheets} sheets")
        if self.has_sources:
            return self._without_source(sample)
        if self.sheets == 1:
            raise ParameterError("the last sheet cannot be removed: nothing would be left to match")
        blocks = []
        for start, block in self.numbered():
            inside = sample - start
            if not 0 <= inside < block.sheets:
                blocks.append(block)
            elif block.sheets > 1:
                tiles = block.tiles()
                cut = inside * TILE**2
                rest = torch.cat([tiles[:, :, :cut], tiles[:, :, cut + TILE**2 :]], dim=2)
                blocks.append(self._keep(rest, None))
        return replace(self, blocks=tuple(blocks))

    def numbered(self) -> Iterator[tuple[int, Block]]:
        """The blocks, each with the number of its first sheet."""
        start = 0
        for block in self.blocks:
            yield start, block
            start += block.sheets

    def _without_source(self, sample: int) -> Self:
        donor, donor_source = self._donors(sample)
        blocks: list[Block] = []
        for block in self.blocks:
            rows, columns, _ = _sources(block).shape
            shape = (rows, columns, block.sheets, TILE**2)
            sources = _sources(block).reshape(shape)
            own = sources == sample
            if not bool(own.any()):
                blocks.append(block.with_sources(_moved_down(_sources(block), sample)))
                continue
            whole = (own | ~self._is_real()[:, :, None]).all((0, 1, 3))  # nothing else in the slot
            kept = (~whole).nonzero()[:, 0]
            if len(kept) == 0:
                continue
            tiles = block.tiles().reshape(*shape, -1)[:, :, kept]
            own, sources = own[:, :, kept], sources[:, :, kept]
            tiles = torch.where(own[..., None], donor[:, :, None], tiles)
            sources = torch.where(own, donor_source[:, :, None], sources)
            merged = tiles.reshape(rows, columns, -1, self.channels)
            own_sources = _moved_down(sources.reshape(rows, columns, -1), sample)
            blocks.append(self._keep(merged, own_sources))
        return replace(self, blocks=tuple(blocks))

    def _donors(self, sample: int) -> tuple[Tensor, Tensor]:
        """For each pixel one vector of another sample: [R, S, t t, C], and its source."""
        rows, columns = self.tile_grid
        donor = torch.zeros(
            rows, columns, TILE**2, self.channels, dtype=self.dtype, device=self.device
        )
        source = torch.zeros(rows, columns, TILE**2, dtype=torch.int32, device=self.device)
        found = ~self._is_real()  # the border's padding needs none
        for block in self.blocks:
            sources = _sources(block).reshape(rows, columns, block.sheets, TILE**2)
            other = sources != sample
            missing = ~found & other.any(2)
            if not bool(missing.any()):
                continue
            first = other.int().argmax(2)  # (R, S, t t): the first sheet of another sample
            index = first[:, :, None, :, None].expand(-1, -1, 1, -1, self.channels)
            tiles = block.tiles().reshape(rows, columns, block.sheets, TILE**2, -1)
            donor = torch.where(missing[..., None], tiles.gather(2, index)[:, :, 0], donor)
            chosen = sources.gather(2, first[:, :, None])[:, :, 0].to(source.dtype)
            source = torch.where(missing, chosen, source)
            found |= missing
        if not bool(found.all()):
            raise ParameterError(
                f"sample {sample} cannot be removed: some pixels have no other prototype"
            )
        return donor, source

    def _is_real(self) -> Tensor:
        """Which tile pixels lie in the map and not in the border's padding, [R, S, t t]."""
        inside = torch.ones(1, 1, self.height, self.width, dtype=torch.bool, device=self.device)
        return _to_tiles(inside)[..., 0]

    def _keep(self, tiles: Tensor, sources: Tensor | None) -> Block:
        return MemoryBlock(tiles.contiguous(), None if sources is None else sources.int())

    def _from_tiles(self, tiles: Tensor) -> Tensor:
        """[R, S, n t t, C] to [n, C, H, W]."""
        rows, columns, _, channels = tiles.shape
        sheets = tiles.reshape(rows, columns, -1, TILE, TILE, channels)
        sheets = sheets.permute(2, 5, 0, 3, 1, 4)  # (n, C, R, t, S, t)
        sheets = sheets.reshape(-1, channels, rows * TILE, columns * TILE)
        return sheets[..., : self.height, : self.width].contiguous()


def _sources(block: Block) -> Tensor:
    if block.sources is None:
        raise ParameterError("these sheets hold no sources")
    return block.sources


def _moved_down(sources: Tensor, sample: int) -> Tensor:
    return torch.where(sources > sample, sources - 1, sources)


def _to_tiles(sheets: Tensor) -> Tensor:
    """[n, C, H, W] to [R, S, n t t, C]."""
    count, channels, height, width = sheets.shape
    sheets = F.pad(sheets, (0, -width % TILE, 0, -height % TILE))
    rows, columns = sheets.shape[-2] // TILE, sheets.shape[-1] // TILE
    return (
        sheets.reshape(count, channels, rows, TILE, columns, TILE)
        .permute(2, 4, 0, 3, 5, 1)  # (R, S, n, t, t, C)
        .reshape(rows, columns, count * TILE * TILE, channels)
        .contiguous()
    )
