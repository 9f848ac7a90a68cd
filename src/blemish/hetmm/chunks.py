"""Template sets larger than the memory allowed: blocks in scratch files, read by rows of tiles.

Matching takes one row of tiles after the other (matching.py), so of a block only that row is ever
in memory. A scratch file goes with the last bank that uses it.

Letters: N sheets, n of one block, C channels, H x W map, t tile side, R x S tiles.
"""

from __future__ import annotations

import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from blemish.errors import BlemishError, ParameterError
from blemish.hetmm.bank import BLOCK_SHEETS, TILE, Block, TileBank

BandMap = Callable[[Callable[[Tensor], Tensor], Iterable[Tensor]], Iterable[Tensor]]
"""Applies a function that can be pickled to each band, as `map` does: results in order."""

MEBIBYTE = 1 << 20
_BUFFERED_SHARE = 4  # sheets not yet written take at most this part of the memory allowed


class ScratchFile:
    """A temporary file of bytes that is gone when the object is; threads may share it.

    `holds` and `otherwise` say in errors what lies in it, and what else helps when it is too large.
    """

    def __init__(self, holds: str = "templates", otherwise: str = "allow more memory") -> None:
        self._holds, self._otherwise = holds, otherwise
        self._file = tempfile.TemporaryFile(prefix="blemish-")  # noqa: SIM115 - lives as we do
        self._lock = threading.Lock()
        weakref.finalize(self, self._file.close)

    def append(self, values: Tensor) -> None:
        """Write a tensor's bytes behind what is there."""
        raw = values.contiguous().cpu().view(torch.uint8).numpy()
        try:
            self._file.write(raw.data)
            self._file.flush()
        except OSError as error:
            raise BlemishError(
                f"the {self._holds}' scratch file in {tempfile.gettempdir()} could not be written "
                f"({error.strerror or error}); free space there, name another folder in TMPDIR, "
                f"or {self._otherwise}"
            ) from error

    def read(self, start: int, size: int) -> Tensor:
        """`size` bytes from `start`, uint8."""
        raw = np.empty(size, np.uint8)
        with self._lock:
            self._file.seek(start)
            got = self._file.readinto(raw.data)
        if got != size:
            raise BlemishError(f"the {self._holds}' scratch file was cut off; begin again")
        return torch.from_numpy(raw)


@dataclass(frozen=True)
class ScratchBlock:
    """A block whose tiles [R, S, n t t, C] lie in a scratch file."""

    file: ScratchFile
    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    sources: Tensor | None = None

    @classmethod
    def write(cls, tiles: Tensor, sources: Tensor | None) -> ScratchBlock:
        """Put tiles [R, S, n t t, C] into a new scratch file."""
        file = ScratchFile()
        for row in tiles:
            file.append(row)
        return cls(file, tuple(tiles.shape), tiles.dtype, tiles.device, sources)

    @property
    def sheets(self) -> int:
        """How many sheets, n."""
        return self.shape[2] // TILE**2

    def row(self, index: int) -> Tensor:
        """One row of tiles, [S, n t t, C], read from the file."""
        _, columns, vectors, channels = self.shape
        size = columns * vectors * channels * self.dtype.itemsize
        values = self.file.read(index * size, size).view(self.dtype)
        return values.view(columns, vectors, channels).to(self.device)

    def tiles(self) -> Tensor:
        """All tiles, [R, S, n t t, C], read from the file."""
        return torch.stack([self.row(index) for index in range(self.shape[0])])

    def with_sources(self, sources: Tensor) -> ScratchBlock:
        """The same tiles under other sources."""
        return replace(self, sources=sources)


class ChunkedBank(TileBank):
    """A TileBank whose tiles lie in scratch files; all else is the same."""

    def _keep(self, tiles: Tensor, sources: Tensor | None) -> Block:
        return ScratchBlock.write(tiles, None if sources is None else sources.int())


def bank_type(total_bytes: int, memory: int | None) -> type[TileBank]:
    """The kind of bank for a template set of `total_bytes` under a limit of `memory` MiB."""
    return ChunkedBank if memory is not None and total_bytes > memory * MEBIBYTE else TileBank


def block_sheets(a_sheet: int, memory: int | None) -> int:
    """How many sheets of `a_sheet` bytes, all levels, may wait to be written to one block."""
    if memory is None:
        return BLOCK_SHEETS
    room = memory * MEBIBYTE // (_BUFFERED_SHARE * max(1, a_sheet))
    return max(1, min(BLOCK_SHEETS, room))


class BankBuilder:
    """Builds the levels' banks from batches, so that a whole set is never there twice.

    `sheets` is how many will come, `memory` the MiB the template set may take (None: no limit).
    """

    def __init__(self, sheets: int, *, dtype: torch.dtype, memory: int | None = None) -> None:
        self._expected, self._dtype, self._memory = sheets, dtype, memory
        self._banks: list[TileBank] = []
        self._pending: list[list[tuple[Tensor, Tensor | None]]] = []
        self._block = BLOCK_SHEETS

    def add(self, levels: Sequence[Tensor], sources: Sequence[Tensor | None]) -> None:
        """Take a batch: each level's unit vectors [B, C, H, W] and sources [B, H, W]."""
        if not self._banks:
            self._start(levels, sources)
        for pending, sheets, own in zip(self._pending, levels, sources, strict=True):
            pending.append((sheets.to(self._dtype), own))
        while sum(len(sheets) for sheets, _ in self._pending[0]) >= self._block:
            self._write(self._block)

    def banks(self) -> list[TileBank]:
        """The levels' banks with all that was added."""
        if self._pending and self._pending[0]:
            self._write(self._block)
        return self._banks

    def _start(self, levels: Sequence[Tensor], sources: Sequence[Tensor | None]) -> None:
        a_sheet = sum(level[0].numel() for level in levels) * self._dtype.itemsize
        kind = bank_type(self._expected * a_sheet, self._memory)
        if kind is ChunkedBank:
            self._block = block_sheets(a_sheet, self._memory)
        for level, own in zip(levels, sources, strict=True):
            none = None if own is None else own[:0]
            self._banks.append(kind.from_sheets(level[:0], self._dtype, sources=none))
            self._pending.append([])

    def _write(self, count: int) -> None:
        """Move `count` sheets, or all there are, from the pending batches into the banks."""
        for number, pending in enumerate(self._pending):
            sheets = torch.cat([part for part, _ in pending])
            parts = [own for _, own in pending if own is not None]
            sources = torch.cat(parts) if parts else None
            pending.clear()
            if len(sheets) > count:
                rest = None if sources is None else sources[count:]
                pending.append((sheets[count:], rest))
            first = None if sources is None else sources[:count]
            self._banks[number] = self._banks[number].extended(sheets[:count], sources=first)


def select_by_band(
    bank: TileBank,
    choose: Callable[[Tensor], Tensor],
    dtype: torch.dtype,
    memory: int | None,
    *,
    mapping: BandMap = map,
) -> TileBank:
    """A bank of prototypes chosen at each pixel, one row of tiles [N, C, t, W] at a time.

    `choose` gives the sheets [K, t, W] taken from such a band; they become the sources. `mapping`
    gives its results for all bands, in their order.
    """
    if bank.has_sources:
        raise ParameterError("prototypes are selected from whole sheets, not from other prototypes")
    bands, sources = [], []
    rows = range(bank.tile_grid[0])
    for row, found in zip(rows, mapping(choose, map(bank.band, rows)), strict=True):
        band = bank.band(row)  # again, for another process may have had it
        chosen = found.to(band.device)
        index = chosen[:, None].expand(-1, band.shape[1], -1, -1)
        bands.append(band.gather(0, index).to(dtype))
        sources.append(chosen.int())
    sheets, own = torch.cat(bands, dim=2), torch.cat(sources, dim=1)
    bands.clear()
    kind = bank_type(sheets.numel() * sheets.element_size(), memory)
    return kind.from_sheets(sheets, sources=own)
