"""Vectors by map pixel, in memory or, beyond a limit, in a scratch file that is read band by band.

A band is a run of map pixels, counted row by row: matching and selection take one after the other,
so of a set in a file only one band is ever in memory.

Letters: P map pixels, C channels, N sheets.
"""

from __future__ import annotations

import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from blemish.errors import BlemishError

MEBIBYTE = 1 << 20
BAND_BYTES = 16 << 20  # what is made or changed at a time

Floats = npt.NDArray[np.float32]


class Vectors(Protocol):
    """Template vectors [P, C, N]."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Pixels, channels and sheets."""
        ...

    def band(self, start: int, stop: int) -> Floats:
        """The vectors [stop - start, C, N] of a run of pixels."""
        ...


@dataclass(frozen=True)
class MemoryVectors:
    """Vectors [P, C, N] in memory."""

    values: Floats

    @property
    def shape(self) -> tuple[int, int, int]:
        """Pixels, channels and sheets."""
        pixels, channels, sheets = self.values.shape
        return pixels, channels, sheets

    def band(self, start: int, stop: int) -> Floats:
        """A view of a run of pixels."""
        return self.values[start:stop]


class ScratchFile:
    """A temporary file that is gone when the object is; threads may share it.

    `holds` and `otherwise` say in errors what lies in it, and what else helps when it is too large.
    """

    def __init__(self, holds: str = "templates", otherwise: str = "allow more memory") -> None:
        self._holds, self._otherwise = holds, otherwise
        self._file = tempfile.TemporaryFile(prefix="blemish-")  # noqa: SIM115 - lives as we do
        self._lock = threading.Lock()
        weakref.finalize(self, self._file.close)

    def append(self, values: npt.NDArray[Any]) -> None:
        """Write an array's bytes behind what is there."""
        try:
            with self._lock:
                self._file.seek(0, 2)
                self._file.write(np.ascontiguousarray(values).data)
                self._file.flush()
        except OSError as error:
            raise BlemishError(
                f"the {self._holds}' scratch file in {tempfile.gettempdir()} could not be written "
                f"({error.strerror or error}); free space there, name another folder in TMPDIR, "
                f"or {self._otherwise}"
            ) from error

    def read(self, start: int, shape: tuple[int, ...]) -> Floats:
        """Read float32 values of `shape` from the byte `start` on."""
        found = np.empty(shape, np.float32)
        with self._lock:
            self._file.seek(start)
            got = self._file.readinto(found.data.cast("B")) if found.size else 0
        if got != found.nbytes:
            raise BlemishError(f"the {self._holds}' scratch file was cut off; begin again")
        return found


@dataclass(frozen=True)
class ScratchVectors:
    """Vectors [P, C, N] in a scratch file."""

    file: ScratchFile
    shape: tuple[int, int, int]

    def band(self, start: int, stop: int) -> Floats:
        """A run of pixels, read from the file."""
        _, channels, sheets = self.shape
        return self.file.read(4 * start * channels * sheets, (stop - start, channels, sheets))


def make_vectors(
    shape: tuple[int, int, int], band: Callable[[int, int], Floats], limit: int | None
) -> Vectors:
    """Make vectors of `shape` from what `band(start, stop)` gives, asked for in order.

    They go to a scratch file where they take more than `limit` bytes (None: never).
    """
    pixels, channels, sheets = shape
    scratch = limit is not None and 4 * pixels * channels * sheets > limit
    if not scratch:
        values = np.empty(shape, np.float32)
        for start, stop in bands(pixels, 4 * channels * sheets):
            values[start:stop] = band(start, stop)
        return MemoryVectors(values)
    file = ScratchFile()
    for start, stop in bands(pixels, 4 * channels * sheets):
        file.append(np.asarray(band(start, stop), np.float32))
    return ScratchVectors(file, shape)


def bands(pixels: int, bytes_a_pixel: int) -> Iterator[tuple[int, int]]:
    """Cut map pixels into runs of at most BAND_BYTES."""
    step = max(1, BAND_BYTES // max(1, bytes_a_pixel))
    for start in range(0, pixels, step):
        yield start, min(start + step, pixels)


class SheetStore:
    """Gathers one level's sheets [C, H, W], image by image, to be read by bands of pixels.

    They stay in memory up to `limit` bytes; those that come later lie in a scratch file.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: list[Floats] = []  # each [P, C]
        self._file: ScratchFile | None = None
        self._shape = (0, 0)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def shape(self) -> tuple[int, int]:
        """Pixels and channels of a sheet."""
        return self._shape

    def append(self, sheet: Floats) -> None:
        """Take in a sheet [C, H, W]."""
        rows = np.ascontiguousarray(sheet.reshape(len(sheet), -1).T, np.float32)
        self._shape = (rows.shape[0], rows.shape[1])
        self._count += 1
        if (len(self._kept) + 1) * rows.nbytes <= self._limit and self._file is None:
            self._kept.append(rows)
            return
        self._file = self._file or ScratchFile()
        self._file.append(rows)

    def band(self, start: int, stop: int) -> Floats:
        """All sheets' vectors [p, N, C] of a run of pixels."""
        pixels, channels = self._shape
        found = np.empty((stop - start, self._count, channels), np.float32)
        for index in range(self._count):
            if index < len(self._kept):
                found[:, index] = self._kept[index][start:stop]
            else:
                assert self._file is not None
                place = ((index - len(self._kept)) * pixels + start) * channels * 4
                found[:, index] = self._file.read(place, (stop - start, channels))
        return found
