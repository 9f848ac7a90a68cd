"""Template sets of the line floor: what the match graph takes as inputs; immutable.

Adding or removing a sample makes a new bank, as in hetmm/bank.py and hetmm/free.py, whose tensors
these are in NumPy. Leaving a sample out for calibration puts another vector in each of its places,
since duplicates change no maximum: so the graph needs no mask.

Letters: N sheets, C channels, H x W map, M vectors of length D.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from blemish.bundle import LevelRecord
from blemish.errors import BundleError, CalibrationError, ParameterError
from blemish.runtime.tiles import from_tiles, pixel, to_tiles

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]

_ALONE = (
    "These templates cannot be scored without one another: at some pixels all prototypes come from "
    "one image. Add good parts, or fit again with more sheets."
)


class Bank(ABC):
    """One level's templates: `tensor` is what the match graph takes, `kept` the stored type."""

    level: LevelRecord
    kept: npt.DTypeLike

    @property
    @abstractmethod
    def tensor(self) -> Floats:
        """The graph's input."""

    @abstractmethod
    def extended(self, sheets: Array, samples: Array) -> Self:
        """With sheets [N', C, H, W] behind, of `samples` [N']."""

    @abstractmethod
    def without(self, sample: int) -> Self:
        """Without a sample; later ones move down by one."""

    @abstractmethod
    def leaving_out(self, sample: int) -> Floats:
        """The graph's input as if `sample` was not there; raises CalibrationError."""

    @abstractmethod
    def state(self) -> dict[str, Array]:
        """The named tensors of the bundle, less the level's number."""

    @abstractmethod
    def vectors(self, y: int, x: int) -> Iterator[tuple[int, Floats, Array]]:
        """Template vectors that a pixel can match: first sheet, vectors [n, C], samples [n]."""


@dataclass(frozen=True)
class TileBank(Bank):
    """Sheets as tiles [R, S, 4, N, C]; `sources` [R, S, 4, N] where prototypes have some.

    Without sources sheet k is sample k. `kept` is the type that sheets are stored in.
    """

    level: LevelRecord
    tiles: Floats
    kept: npt.DTypeLike
    sources: npt.NDArray[np.int32] | None = None

    @classmethod
    def from_state(cls, level: LevelRecord, state: Mapping[str, Array], where: str) -> TileBank:
        """A level's tensors `level` [N, C, H, W] and perhaps `sources` [N, H, W]."""
        sheets = state["level"]
        _check_sheets(sheets, level, where)
        sources = state.get("sources")
        if sources is not None:
            if sources.shape != (len(sheets), level.height, level.width):
                raise BundleError(f"{where}: the sources of level {level.level} do not fit it")
            sources = to_tiles(sources[:, None].astype(np.int32))[..., 0]
        return cls(level, to_tiles(rounded(sheets, level.dtype)), sheets.dtype, sources)

    @property
    def tensor(self) -> Floats:
        """The graph's input [R, S, 4, N, C]."""
        return self.tiles

    @property
    def sheets(self) -> int:
        """How many sheets, N."""
        return int(self.tiles.shape[3])

    def extended(self, sheets: Array, samples: Array) -> Self:
        """With sheets [N', C, H, W] behind its own."""
        _check_sheets(sheets, self.level, "the new sheets")
        new = to_tiles(rounded(sheets, self.level.dtype))
        sources = self.sources
        if sources is not None:
            own = np.broadcast_to(samples.astype(np.int32), (*sources.shape[:3], len(samples)))
            sources = np.concatenate([sources, own], axis=3)
        return replace(self, tiles=np.concatenate([self.tiles, new], axis=3), sources=sources)

    def without(self, sample: int) -> Self:
        """Without all that came from a sample; another prototype takes each one's place."""
        if self.sources is None:
            if not 0 <= sample < self.sheets:
                raise ParameterError(f"there is no sample {sample} in a set of {self.sheets}")
            if self.sheets == 1:
                raise ParameterError("the last sheet cannot be removed: nothing would be left")
            return replace(self, tiles=np.delete(self.tiles, sample, axis=3))
        own = self.sources == sample
        at, donors = self._replaced(own, sample)
        tiles, sources = self.tiles.copy(), self.sources.copy()
        tiles[at], sources[at] = tiles[donors], sources[donors]
        kept = ~(own | ~self._inside()[..., None]).all(axis=(0, 1, 2))  # sheets with others, too
        sources = sources[..., kept]
        sources = np.where(sources > sample, sources - 1, sources).astype(np.int32)
        return replace(self, tiles=np.ascontiguousarray(tiles[:, :, :, kept]), sources=sources)

    def leaving_out(self, sample: int) -> Floats:
        """The graph's input with another vector in each place of `sample`."""
        if self.sources is None:
            if self.sheets == 1:
                raise CalibrationError(_ALONE)
            tiles = self.tiles.copy()
            tiles[:, :, :, sample] = tiles[:, :, :, 0 if sample else 1]
            return tiles
        try:
            at, donors = self._replaced(self.sources == sample, sample)
        except ParameterError as error:
            raise CalibrationError(_ALONE) from error
        tiles = self.tiles.copy()
        tiles[at] = tiles[donors]
        return tiles

    def state(self) -> dict[str, Array]:
        """`level` [N, C, H, W] as stored, and `sources` [N, H, W]."""
        height, width = self.level.height, self.level.width
        found: dict[str, Array] = {"level": from_tiles(self.tiles, height, width).astype(self.kept)}
        if self.sources is not None:
            found["sources"] = from_tiles(self.sources[..., None], height, width)[:, 0]
        return found

    def vectors(self, y: int, x: int) -> Iterator[tuple[int, Floats, Array]]:
        """The vectors of all sheets at a pixel."""
        found = pixel(self.tiles, y, x)
        own = None if self.sources is None else pixel(self.sources, y, x)
        yield 0, found, np.arange(len(found)) if own is None else own

    def _replaced(self, own: Array, sample: int) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Indices of the vectors `own`, and for each that of another sample's at its pixel."""
        lonely = own.all(axis=3) & self._inside()
        if bool(lonely.any()):
            raise ParameterError(
                f"sample {sample} cannot be removed: some pixels have no other prototype"
            )
        r, s, p, n = np.nonzero(own)
        return (r, s, p, n), (r, s, p, (~own).argmax(axis=3)[r, s, p])

    def _inside(self) -> Array:
        """Which tile pixels lie in the map and not in the border's padding, [R, S, 4]."""
        real = np.ones((1, 1, self.level.height, self.level.width), bool)
        return to_tiles(real)[..., 0, 0]


@dataclass(frozen=True)
class FreeBank(Bank):
    """A location-free level's vectors [M, D] with their `sources` and `places` [M]."""

    level: LevelRecord
    flat: Floats
    kept: npt.DTypeLike
    sources: Array
    places: Array
    components: Floats | None

    @classmethod
    def from_state(cls, level: LevelRecord, state: Mapping[str, Array], where: str) -> FreeBank:
        """A level's tensors as hetmm/free.py stores them."""
        vectors, components = state["level"], state.get("components")
        length = level.channels if components is None else components.shape[1]
        shapes = {len(vectors), len(state["sources"]), len(state["places"])}
        if vectors.ndim != 2 or vectors.shape[1] != length or len(shapes) != 1:
            raise BundleError(f"{where}: the vectors of level {level.level} do not fit its graph")
        flat = rounded(vectors, level.dtype)
        return cls(level, flat, vectors.dtype, state["sources"], state["places"], components)

    @property
    def tensor(self) -> Floats:
        """The graph's input [M, D]."""
        return self.flat

    def extended(self, sheets: Array, samples: Array) -> Self:
        """With every vector of sheets [N', C, H, W]."""
        _check_sheets(sheets, self.level, "the new sheets")
        pixels = self.level.height * self.level.width
        vectors = sheets.astype(np.float32).reshape(len(sheets), -1, pixels).transpose(0, 2, 1)
        if self.components is not None:
            vectors = vectors @ self.components
            vectors /= np.maximum(np.linalg.norm(vectors, axis=2, keepdims=True), 1e-12)
        kept = vectors.reshape(-1, vectors.shape[2]).astype(self.kept)
        copies = _copy_numbers(samples)
        places = (copies[:, None] * pixels + np.arange(pixels)).ravel()
        return replace(
            self,
            flat=np.concatenate([self.flat, rounded(kept, self.level.dtype)]),
            sources=np.concatenate([self.sources, samples.repeat(pixels).astype(np.int32)]),
            places=np.concatenate([self.places, places.astype(self.places.dtype)]),
        )

    def without(self, sample: int) -> Self:
        """Without the vectors of a sample."""
        kept = self.sources != sample
        if not bool(kept.any()):
            raise ParameterError(
                "this sample is the last template; add another before it is removed"
            )
        sources = self.sources[kept]
        return replace(
            self,
            flat=self.flat[kept],
            sources=sources - (sources > sample).astype(sources.dtype),
            places=self.places[kept],
        )

    def leaving_out(self, sample: int) -> Floats:
        """The vectors of the others."""
        kept = self.sources != sample
        if not bool(kept.any()):
            raise CalibrationError(_ALONE)
        return self.flat if bool(kept.all()) else self.flat[kept]

    def state(self) -> dict[str, Array]:
        """The tensors as hetmm/free.py stores them."""
        found: dict[str, Array] = {
            "level": self.flat.astype(self.kept),
            "sources": self.sources,
            "places": self.places,
            "shape": np.array([self.level.height, self.level.width], np.int32),
        }
        if self.components is not None:
            found["components"] = self.components
        return found

    def vectors(self, y: int, x: int) -> Iterator[tuple[int, Floats, Array]]:
        """All vectors, wherever the pixel is."""
        yield 0, self.flat, self.sources


def rounded(values: Array, dtype: str) -> Floats:
    """Values as float32 that hold what the stored type holds."""
    if dtype == "float16":
        return values.astype(np.float16).astype(np.float32)
    exact = values.astype(np.float32)
    if dtype == "bfloat16":  # NumPy has none: the upper half of the bits, rounded to even
        bits = exact.view(np.uint32)
        bits = bits + (0x7FFF + ((bits >> 16) & 1)).astype(np.uint32)
        exact = (bits & np.uint32(0xFFFF0000)).view(np.float32)
    return exact


def _copy_numbers(samples: Array) -> Array:
    """For each sheet which copy of its sample it is: a sample's copies lie in a row."""
    starts = np.flatnonzero(np.r_[True, samples[1:] != samples[:-1]])
    lengths = np.diff(np.r_[starts, len(samples)])
    return np.arange(len(samples)) - starts.repeat(lengths)


def _check_sheets(sheets: Array, level: LevelRecord, where: str) -> None:
    wanted = (level.channels, level.height, level.width)
    if sheets.ndim != 4 or sheets.shape[1:] != wanted or not len(sheets):
        raise BundleError(
            f"{where}: level {level.level} has sheets of shape {list(sheets.shape)}, its graph "
            f"takes [N, {', '.join(map(str, wanted))}]; export the bundle again"
        )
    if sheets.dtype.kind != "f":
        raise BundleError(f"{where}: the sheets of level {level.level} are {sheets.dtype}")
