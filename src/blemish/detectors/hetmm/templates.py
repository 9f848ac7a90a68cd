"""Template sets: what good parts look like at each place of a level, or anywhere on it; immutable.

Adding or removing a sample makes a new set, so that readers see the old one or the new. A sample
is left out of its own score by a penalty, never by a copy.

Letters: N sheets, P = H W map pixels, C channels, M location-free vectors of length D.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from blemish.bundle import Level
from blemish.detectors.hetmm.matching import (
    Matcher,
    backward_distances,
    forward_distances,
    volume,
)
from blemish.detectors.hetmm.normalisation import radii
from blemish.detectors.hetmm.vectors import MemoryVectors, Vectors, make_vectors
from blemish.errors import BundleError, CalibrationError, ParameterError

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int32]

RUN = 2048  # location-free vectors of one block: a product of them stays in the caches
SHORTEST = 1e-12  # vectors are divided by no less

_ALONE = (
    "These templates cannot be scored without one another: at some pixels all prototypes come from "
    "one image. Add good parts, or fit again with more sheets."
)


class LevelTemplates(ABC):
    """One level's templates."""

    level: Level

    @abstractmethod
    def distances(self, matcher: Matcher, query: Floats, without: int = -1) -> Floats:
        """Compute distances [H, W] in [0, 2] of unit vectors `query` [C, H, W].

        `without` names a sample to leave out (-1: none); raises CalibrationError where nothing is
        left to compare with.
        """

    @abstractmethod
    def extended(self, sheets: Array, samples: Integers) -> Self:
        """With sheets [N', C, H, W] behind, of `samples` [N']."""

    @abstractmethod
    def without(self, sample: int) -> Self:
        """Without a sample; later ones move down by one. Raises ParameterError for the last."""

    @abstractmethod
    def refilled(self, sheet_of: Callable[[int], Floats]) -> Self:
        """With each sample's vectors taken from its sheet [C, H, W] anew: of another graph, say."""

    @abstractmethod
    def state(self) -> dict[str, Array]:
        """The named tensors of the bundle, less the level's number."""

    @abstractmethod
    def at(self, y: int, x: int) -> tuple[Floats, Array]:
        """The vectors [n, C] that a map pixel is matched with, and their samples [n]."""


@dataclass(frozen=True)
class TemplateSet(LevelTemplates):
    """Sheets: for each map pixel the vectors [C, N] that good parts have there.

    `sources` [P, N] are the samples of prototypes selected pixel by pixel (None: sheet k is sample
    k). `limit`: bytes beyond which a changed set goes to a scratch file (None: never).
    """

    level: Level
    vectors: Vectors
    sources: Integers | None = None
    limit: int | None = None

    @classmethod
    def from_state(
        cls, level: Level, state: Mapping[str, Array], where: str, limit: int | None = None
    ) -> TemplateSet:
        """Take back a level's tensors `level` [H, W, C, N] and perhaps `sources` [H, W, N]."""
        values = state["level"]
        wanted = (level.height, level.width, level.channels)
        fits = values.ndim == 4 and values.shape[:3] == wanted and values.shape[3] > 0
        if not fits or values.dtype.kind != "f":
            raise BundleError(
                f"{where}: level {level.number} has templates of shape {list(values.shape)}, its "
                f"graph takes [{', '.join(map(str, wanted))}, N]; fit again"
            )
        pixels = values.shape[0] * values.shape[1]
        flat = values.reshape(pixels, *values.shape[2:])
        sources = state.get("sources")
        if sources is not None:
            if sources.shape != (*wanted[:2], values.shape[3]):
                raise BundleError(f"{where}: the sources of level {level.number} do not fit it")
            sources = np.ascontiguousarray(sources.reshape(pixels, -1), np.int32)
        if limit is None and flat.dtype == np.float32:
            return cls(level, MemoryVectors(flat), sources)
        vectors = make_vectors(
            flat.shape, lambda start, stop: flat[start:stop].astype(np.float32), limit
        )
        return cls(level, vectors, sources, limit)

    @property
    def sheets(self) -> int:
        """How many sheets, N."""
        return self.vectors.shape[2]

    def distances(self, matcher: Matcher, query: Floats, without: int = -1) -> Floats:
        """See `LevelTemplates.distances`: alpha F + (1 - alpha) B."""
        level = self.level
        farthest = max(level.height, level.width) - 1  # a wider window sees no more, at its cost
        cosines = volume(
            matcher, query, self.vectors.band, self.sheets, min(level.reach, farthest),
            None if without < 0 else lambda start, stop: self._penalty(without, start, stop),
        )  # fmt: skip
        found = np.zeros((level.height, level.width), np.float32)
        if level.forward is not None:
            radius = min(level.forward, farthest)
            found += np.float32(level.alpha) * forward_distances(cosines, radius)
        if level.backward is not None:
            radius = min(level.backward, farthest)
            found += np.float32(1 - level.alpha) * backward_distances(cosines, radius)
        if without >= 0 and not np.isfinite(found).all():
            raise CalibrationError(_ALONE)
        return found

    def extended(self, sheets: Array, samples: Integers) -> Self:
        """See `LevelTemplates.extended`."""
        check_sheets(sheets, self.level)
        pixels, channels, count = self.vectors.shape
        new = sheets.reshape(len(sheets), channels, pixels)

        def band(start: int, stop: int) -> Floats:
            added = new[:, :, start:stop].transpose(2, 1, 0).astype(np.float32)
            return np.concatenate([self.vectors.band(start, stop), added], axis=2)

        shape = (pixels, channels, count + len(sheets))
        sources = self.sources
        if sources is not None:
            own = np.broadcast_to(samples.astype(np.int32), (pixels, len(samples)))
            sources = np.concatenate([sources, own], axis=1)
        return replace(self, vectors=make_vectors(shape, band, self.limit), sources=sources)

    def without(self, sample: int) -> Self:
        """See `LevelTemplates.without`; another prototype takes the place of each removed one.

        Duplicates change no maximum.
        """
        pixels, channels, count = self.vectors.shape
        if self.sources is None:
            if not 0 <= sample < count:
                raise ParameterError(f"there is no sample {sample} in a set of {count}")
            if count == 1:
                raise ParameterError("the last sheet cannot be removed: nothing would be left")
            rest = make_vectors(
                (pixels, channels, count - 1),
                lambda start, stop: np.delete(self.vectors.band(start, stop), sample, axis=2),
                self.limit,
            )
            return replace(self, vectors=rest)
        own = self.sources == sample
        if bool(own.all(axis=1).any()):
            raise ParameterError(
                f"sample {sample} cannot be removed: some pixels have no other prototype"
            )
        donor = (~own).argmax(axis=1)[:, None]  # (P, 1)
        taken = np.where(own, donor, np.arange(count))  # which sheet stands in each place now
        taken = taken[:, ~own.all(axis=0)]  # sheets with others, too
        sources = np.take_along_axis(self.sources, taken, axis=1)

        def band(start: int, stop: int) -> Floats:
            vectors = self.vectors.band(start, stop)
            return np.take_along_axis(vectors, taken[start:stop, None], axis=2)

        return replace(
            self,
            vectors=make_vectors((pixels, channels, taken.shape[1]), band, self.limit),
            sources=(sources - (sources > sample)).astype(np.int32),
        )

    def refilled(self, sheet_of: Callable[[int], Floats]) -> Self:
        """See `LevelTemplates.refilled`."""
        pixels, channels, count = self.vectors.shape
        values = np.empty((pixels, channels, count), np.float32)
        sources = self.sources
        if sources is None:
            sources = np.broadcast_to(np.arange(count, dtype=np.int32), (pixels, count))
        for sample in np.unique(sources):
            pixel, sheet = np.nonzero(sources == sample)
            rows = sheet_of(int(sample)).reshape(channels, pixels).T  # (P, C)
            values[pixel, :, sheet] = rows[pixel]
        vectors = make_vectors(values.shape, lambda start, stop: values[start:stop], self.limit)
        return replace(self, vectors=vectors)

    def state(self) -> dict[str, Array]:
        """See `LevelTemplates.state`: `level` [H, W, C, N] as stored, `sources` [H, W, N]."""
        pixels, channels, count = self.vectors.shape
        shape = (self.level.height, self.level.width)
        values = self.vectors.band(0, pixels).astype(self.level.dtype, copy=False)
        found: dict[str, Array] = {"level": values.reshape(*shape, channels, count)}
        if self.sources is not None:
            found["sources"] = self.sources.reshape(*shape, count)
        return found

    def at(self, y: int, x: int) -> tuple[Floats, Array]:
        """See `LevelTemplates.at`."""
        pixel = y * self.level.width + x
        vectors = self.vectors.band(pixel, pixel + 1)[0].T
        own = np.arange(self.sheets) if self.sources is None else self.sources[pixel]
        return vectors, own

    def _penalty(self, sample: int, start: int, stop: int) -> Floats:
        """What is added to cosines so that a sample never wins, [P or 1, 1, N]."""
        own = (
            (np.arange(self.sheets) == sample)[None]
            if self.sources is None
            else self.sources[start:stop] == sample
        )
        return np.where(own, np.float32(-np.inf), np.float32(0))[:, None]


@dataclass(frozen=True)
class FreeSet(LevelTemplates):
    """A location-free level: vectors [M, D] of any place, with their `sources` and `places` [M].

    For textures, and parts without a fixed place: ATMM's forward direction with a window as large
    as the map, F(q) = 1 - max_k max_p <T_k(p), Q(q)>, in which a vector's own place no longer
    matters. There is no backward direction, since "is this template here?" needs a here. A place
    is (copy * H + y) * W + x in an augmented copy of its sample. `components` [C, D] reduces
    features first (None: they stay as they are).

    With `level.radius`, F(q) = min_t d(q, t) - r(t): r is one more entry of each template, 1 of
    each query, and the search stays one product. A radius is measured when its vector is learned.
    """

    level: Level
    blocks: Floats  # [B, D (+ 1), RUN], padded with copies of the first vector
    sources: Integers
    places: Array
    components: Floats | None

    @classmethod
    def from_vectors(
        cls,
        level: Level,
        vectors: Floats,
        sources: Integers,
        places: Array,
        components: Floats | None,
    ) -> Self:
        """Make a set of unit vectors [M, D], or of vectors and radii [M, D + 1]."""
        run = min(RUN, len(vectors))
        filling = -len(vectors) % run
        padded = np.concatenate([vectors, np.repeat(vectors[:1], filling, axis=0)])
        blocks = padded.reshape(-1, run, vectors.shape[1]).transpose(0, 2, 1)
        return cls(level, np.ascontiguousarray(blocks, np.float32), sources, places, components)

    @classmethod
    def from_state(cls, level: Level, state: Mapping[str, Array], where: str) -> Self:
        """Take back what `state` gave."""
        vectors, components = state["level"], state.get("components")
        length = level.channels if components is None else components.shape[1]
        shapes = {len(vectors), len(state["sources"]), len(state["places"])}
        fits = vectors.ndim == 2 and vectors.shape[1] == length + level.radius
        if components is not None and len(components) != level.channels:
            fits = False
        if not fits or vectors.dtype.kind != "f" or len(shapes) != 1 or not len(vectors):
            raise BundleError(f"{where}: the vectors of level {level.number} do not fit its graph")
        sources = state["sources"].astype(np.int32)
        return cls.from_vectors(
            level, vectors.astype(np.float32), sources, state["places"], components
        )

    @property
    def vectors(self) -> Floats:
        """The vectors [M, D], or vectors and radii [M, D + 1]."""
        flat = self.blocks.transpose(0, 2, 1).reshape(-1, self.blocks.shape[1])
        return flat[: len(self.sources)]

    def reduced(self, maps: Array) -> Floats:
        """Turn maps [..., C, H, W] into unit vectors [..., H W, D], rounded as vectors are."""
        return reduced(maps, self.components, self.level.dtype)

    def queries(self, maps: Array) -> Floats:
        """Turn maps [C, H, W] into what is matched with `vectors`: [H W, D] or [H W, D + 1]."""
        pixels = self.reduced(maps)
        return np.pad(pixels, ((0, 0), (0, 1)), constant_values=1) if self.level.radius else pixels

    def distances(self, matcher: Matcher, query: Floats, without: int = -1) -> Floats:
        """See `LevelTemplates.distances`: F, which with radii may be below 0."""
        best = self._best(matcher, self.queries(query), without)
        if not np.isfinite(best).all():
            raise CalibrationError(_ALONE)
        return (1 - best).reshape(self.level.height, self.level.width)

    def extended(self, sheets: Array, samples: Integers) -> Self:
        """See `LevelTemplates.extended`: with every vector of the sheets."""
        check_sheets(sheets, self.level)
        new = self.reduced(sheets)  # (N', P, D)
        pixels = new.shape[1]
        places = (copy_numbers(samples)[:, None] * pixels + np.arange(pixels)).ravel()
        places = places.astype(self.places.dtype)
        sources = samples.repeat(pixels).astype(np.int32)
        vectors = new.reshape(-1, new.shape[2])
        if self.level.radius:
            known = np.concatenate([self.vectors[:, :-1], vectors])
            told = np.concatenate([self.sources, sources])
            vectors = with_radii(vectors, radii(known, told, vectors, sources), self.level)
        return self._of(
            np.concatenate([self.vectors, vectors]),
            np.concatenate([self.sources, sources]),
            np.concatenate([self.places, places]),
        )

    def without(self, sample: int) -> Self:
        """See `LevelTemplates.without`."""
        kept = self.sources != sample
        if not bool(kept.any()):
            raise ParameterError(
                "this sample is the last template; add another before it is removed"
            )
        sources = self.sources[kept]
        moved = (sources - (sources > sample)).astype(np.int32)
        return self._of(self.vectors[kept], moved, self.places[kept])

    def refilled(self, sheet_of: Callable[[int], Floats]) -> Self:
        """See `LevelTemplates.refilled`: the vectors stay, for they may be of augmented copies."""
        return self

    def state(self) -> dict[str, Array]:
        """See `LevelTemplates.state`."""
        found: dict[str, Array] = {
            "level": self.vectors.astype(self.level.dtype),
            "sources": self.sources,
            "places": self.places,
            "shape": np.array([self.level.height, self.level.width], np.int32),
        }
        if self.components is not None:
            found["components"] = self.components
        return found

    def at(self, y: int, x: int) -> tuple[Floats, Array]:
        """See `LevelTemplates.at`: all vectors, wherever the pixel is."""
        return self.vectors, self.sources

    def _best(self, matcher: Matcher, pixels: Floats, without: int = -1) -> Floats:
        """The largest product of each of `pixels` [Q, D] with a vector, [Q]; -inf with none."""
        everyone = np.arange(len(pixels), dtype=np.int32)[None]
        best = np.full(len(pixels), -np.inf, np.float32)
        own = np.zeros(self.blocks.shape[0] * self.blocks.shape[2], np.bool_)
        if without >= 0:
            own[: len(self.sources)] = self.sources == without
            own[len(self.sources) :] = self.sources[0] == without
        for block, mine in zip(self.blocks, own.reshape(len(self.blocks), -1), strict=True):
            penalty = None
            if mine.any():
                penalty = np.where(mine, np.float32(-np.inf), np.float32(0))[None, None]
            np.maximum(best, matcher.best(pixels, everyone, block[None], penalty)[0], out=best)
        return best

    def _of(self, vectors: Floats, sources: Integers, places: Array) -> Self:
        return type(self).from_vectors(self.level, vectors, sources, places, self.components)


def with_radii(vectors: Floats, found: Floats, level: Level) -> Floats:
    """Give vectors [M, D] their radii [M] as last entry, rounded as they are kept: [M, D + 1]."""
    kept = found.astype(level.dtype).astype(np.float32)
    return np.concatenate([vectors, kept[:, None]], axis=1)


def reduced(maps: Array, components: Floats | None, dtype: str) -> Floats:
    """Turn maps [..., C, H, W] into unit vectors [..., H W, D] that hold what `dtype` holds."""
    flat = maps.reshape(*maps.shape[:-2], -1)
    vectors = np.ascontiguousarray(np.moveaxis(flat, -2, -1), np.float32)
    if components is not None:
        vectors = vectors @ components
        vectors /= np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), SHORTEST)
    return vectors.astype(dtype).astype(np.float32)


def copy_numbers(samples: Integers) -> Array:
    """Count for each sheet which copy of its sample it is: a sample's copies lie in a row."""
    starts = np.flatnonzero(np.r_[True, samples[1:] != samples[:-1]])
    lengths = np.diff(np.r_[starts, len(samples)])
    counted: Array = np.arange(len(samples)) - starts.repeat(lengths)
    return counted


def check_sheets(sheets: Array, level: Level) -> None:
    """Raise BundleError unless sheets [N, C, H, W] are those of the level."""
    wanted = (level.channels, level.height, level.width)
    if sheets.ndim != 4 or sheets.shape[1:] != wanted or not len(sheets):
        raise BundleError(
            f"the new sheets of level {level.number} have the shape {list(sheets.shape)}, its "
            f"templates take [N, {', '.join(map(str, wanted))}]; make them anew"
        )
    if sheets.dtype.kind != "f":
        raise BundleError(f"the sheets of level {level.number} are {sheets.dtype}")
