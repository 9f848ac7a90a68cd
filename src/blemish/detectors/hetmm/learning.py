"""How HETMM learns: features of the good images, and of these the vectors that are kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from blemish.backbones import Backbone, FilterBank, LevelFeatures, create_backbone, features_graph
from blemish.bundle import Level
from blemish.detectors.base import Images
from blemish.detectors.hetmm.coreset import k_centre
from blemish.detectors.hetmm.normalisation import radii
from blemish.detectors.hetmm.selection import WHOLE_SHEETS, Method, select, whole_sheets
from blemish.detectors.hetmm.settings import Branch, HetmmConfig
from blemish.detectors.hetmm.templates import (
    SHORTEST,
    FreeSet,
    LevelTemplates,
    TemplateSet,
    reduced,
    with_radii,
)
from blemish.detectors.hetmm.vectors import (
    MEBIBYTE,
    SheetStore,
    Vectors,
    bands,
    make_vectors,
)
from blemish.errors import WeightsError
from blemish.graphs.sessions import OnnxSession, threads
from blemish.imaging import Progress
from blemish.imaging.augmentation import copies

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int32]
Band = npt.NDArray[np.float32]  # all sheets' vectors [p, N, C] of a run of map pixels
# Applies a function that can be pickled to each band, as `map` does: results in order.
BandMap = Callable[[Callable[[Band], Any], Iterable[Band]], Iterable[Any]]

GATHERED = 512  # MiB of sheets in memory while they are chosen from; more go to a scratch file
_COMPONENT_IMAGES = 48  # good images that principal components are taken from
_BANK_IMAGES = 60  # good images that the filter bank learns what texture is like from
_RUN = 65_536  # vectors added up at a time
_THINNED_ON = 64  # directions that decide which vectors stay
_DRAWN = 10  # times the vectors that stay: among so many they are chosen


@dataclass(frozen=True)
class LearnedTemplates:
    """What `learn_templates` gives: the features graph, loaded too, and the levels' sets.

    `templates` are the positions of the images that they come from.
    """

    graph: bytes
    session: OnnxSession
    sets: Sequence[LevelTemplates]
    templates: Sequence[int]


def learn_backbone(
    config: HetmmConfig, images: Images, hw: tuple[int, int], seed: int, progress: Progress
) -> Backbone:
    """Make the backbone; one that learns from good images sees some of them."""
    made = create_backbone(config.backbone, levels=config.levels, taps=config.taps, seed=seed)
    if isinstance(made, FilterBank):
        return made.fit(images, whole_sheets(len(images), _BANK_IMAGES), hw, progress)
    return made


def learn_templates(
    config: HetmmConfig,
    images: Images,
    backbone: Backbone,
    hw: tuple[int, int],
    seed: int,
    band_map: BandMap | None,
    progress: Progress,
) -> LearnedTemplates:
    """Extract the good images' features, and keep what the resolved `config` says of them."""
    assert config.pool is not None
    wanted = [
        LevelFeatures(
            number=config.levels[each.position],
            output=f"{'free' if each.free else 'level'}{config.levels[each.position]}",
            pool=each.pool,
            average=each.average,
            dtype=config.precision,
        )
        for each in config.branches
    ]
    graph = features_graph(backbone, wanted, hw)
    session = OnnxSession(graph, backbone.name, WeightsError)
    made = copies(config.augment)
    # Copies belong to whole sheets: which one a prototype came from could not be told later.
    selects = config.selection not in WHOLE_SHEETS and len(made) == 1
    method = config.selection if config.selection in WHOLE_SHEETS else "spaced"
    chosen = whole_sheets(len(images), None if selects else config.sheets, method=method, seed=seed)
    every = list(range(len(images))) if any(each.free for each in config.branches) else chosen

    def features(image: Floats) -> dict[str, Floats]:
        found = session.run({"image": np.ascontiguousarray(image)[None]})
        return {name: values[0] for name, values in found.items()}

    gatherers: list[_Sheets | _FreeVectors] = []
    for branch, asked in zip(config.branches, wanted, strict=True):
        if branch.free:
            gatherers.append(_FreeVectors(config, branch, asked, images, every, features, progress))
        else:
            share = (config.memory or GATHERED) * MEBIBYTE // len(wanted)
            gatherers.append(_Sheets(config, branch, asked, share))
    keeps = set(chosen)
    progress("templates", 0, len(every))
    for sample, position in enumerate(every):
        image = images[position]
        for number, copy in enumerate(made):
            levels = features(copy.apply(image))
            for gatherer in gatherers:
                if isinstance(gatherer, _FreeVectors) or position in keeps:
                    gatherer.add(levels[gatherer.asked.output], sample, number)
        progress("templates", sample + 1, len(every))
    count = config.sheets if selects and (config.sheets or len(images)) < len(images) else None
    # Else a sheet's place is its sample's number.
    numbered = count is not None or len(every) > len(chosen) or len(made) > 1
    choose = Choose(count, config.selection)
    sets = [
        gatherer.templates(choose, numbered, band_map or threaded_map, progress)
        for gatherer in gatherers
    ]
    return LearnedTemplates(graph, session, sets, every)


@dataclass(frozen=True)
class Choose:
    """Chooses prototypes in bands of sheets [p, N, C]; another process may do it."""

    count: int | None
    method: Method

    def __call__(self, band: Band) -> npt.NDArray[np.intp] | None:
        """Give the positions [p, K] of the sheets taken; None: all of them."""
        if self.count is None or self.count >= band.shape[1]:
            return None
        return select(band, self.count, method=self.method)


def threaded_map(function: Callable[[Band], Any], band_list: Iterable[Band]) -> Iterator[Any]:
    """Apply `function` to each band on all cores; few bands are in memory at a time."""
    workers = threads()
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[Any]] = deque()
        for band in band_list:
            waiting.append(pool.submit(function, band))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


class _Sheets:
    """Gathers the sheets of one level that has places."""

    def __init__(
        self, config: HetmmConfig, branch: Branch, asked: LevelFeatures, limit: int
    ) -> None:
        self.config, self.branch, self.asked = config, branch, asked
        self._store, self._samples = SheetStore(limit), list[int]()
        self._hw = (0, 0)

    def add(self, level: Floats, sample: int, _copy: int) -> None:
        """Take in a sheet [C, H, W] of a sample."""
        self._hw = (level.shape[1], level.shape[2])
        self._store.append(level)
        self._samples.append(sample)

    def templates(
        self, choose: Choose, numbered: bool, band_map: BandMap, progress: Progress
    ) -> TemplateSet:
        """Keep all of them, or the prototypes that `choose` takes pixel by pixel."""
        config = self.config
        store = self._store
        forward, backward, alpha = config.directions(self.branch.position)
        level = _level(
            self.asked, "sheets", store.shape[1], self._hw,
            forward=forward, backward=backward, alpha=alpha,
            weight=self.branch.weight,
        )  # fmt: skip
        share = None if config.memory is None else config.memory * MEBIBYTE // len(config.branches)
        samples = np.array(self._samples, np.int32)
        report = partial(progress, f"selecting prototypes {self.asked.number}")
        vectors, sources = _prototypes(store, choose, samples, share, band_map, report)
        return TemplateSet(level, vectors, sources if numbered else None, share)


def _prototypes(
    store: SheetStore,
    choose: Choose,
    samples: Integers,
    limit: int | None,
    band_map: BandMap,
    progress: Callable[[int, int], None],
) -> tuple[Vectors, Integers]:
    """The vectors [P, C, K] taken at each pixel, and their samples [P, K]."""
    pixels, channels = store.shape
    taken = min(choose.count or len(store), len(store))
    sources = np.empty((pixels, taken), np.int32)
    runs = list(bands(pixels, 4 * channels * len(store)))
    if taken == len(store):
        sources[:] = samples

        def all_of(start: int, stop: int) -> Floats:
            return store.band(start, stop).transpose(0, 2, 1)

        return make_vectors((pixels, channels, taken), all_of, limit), sources
    progress(0, pixels)
    # Chosen and gathered band by band: the positions first, so that another process may do it.
    positions = np.empty((pixels, taken), np.intp)
    found = band_map(choose, (store.band(start, stop) for start, stop in runs))
    for (start, stop), chosen in zip(runs, found, strict=True):
        positions[start:stop] = chosen
        progress(stop, pixels)
    sources[:] = samples[positions]

    def some_of(start: int, stop: int) -> Floats:
        band = np.take_along_axis(store.band(start, stop), positions[start:stop, :, None], axis=1)
        return band.transpose(0, 2, 1)

    return make_vectors((pixels, channels, taken), some_of, limit), sources


class _FreeVectors:
    """Gathers a location-free level's vectors, and thins them out whenever they are too many."""

    def __init__(
        self,
        config: HetmmConfig,
        branch: Branch,
        asked: LevelFeatures,
        images: Images,
        every: Sequence[int],
        features: Callable[[Floats], dict[str, Floats]],
        progress: Progress,
    ) -> None:
        assert config.vectors is not None
        assert config.components is not None
        self.config, self.branch, self.asked = config, branch, asked
        self._most, self._progress = config.vectors, progress
        self._sheets = len(every) * len(copies(config.augment))
        spaced = [every[i] for i in whole_sheets(len(every), _COMPONENT_IMAGES)]
        levels = (features(images[position])[asked.output] for position in spaced)
        self._components = principal_components(levels, config.components)
        self._parts: list[Floats] = []
        self._sources: list[Integers] = []
        self._places: list[Integers] = []
        self._count, self._channels, self._hw = 0, 0, (0, 0)

    def add(self, level: Floats, sample: int, copy: int) -> None:
        """Take in a sheet [C, H, W] of a sample's copy."""
        self._channels, self._hw = len(level), (level.shape[1], level.shape[2])
        vectors = reduced(level, self._components, self.asked.dtype)
        pixels = len(vectors)
        # Of many sheets each gives some, spread over it and other ones than the sheet before.
        step = max(1, pixels * self._sheets // (_DRAWN * self._most))
        drawn = np.arange(_drawn_first(sample, step), pixels, step, dtype=np.int32)
        self._parts.append(vectors[drawn])
        self._sources.append(np.full(len(drawn), sample, np.int32))
        self._places.append(copy * np.int32(pixels) + drawn)
        self._count += len(drawn)
        if self._count > 2 * _DRAWN * self._most:  # memory stays bounded, however many images
            self._thin()

    def templates(
        self, _choose: Choose, _numbered: bool, _band_map: BandMap, _progress: Progress
    ) -> FreeSet:
        """Keep at most the limit of vectors."""
        self._thin()
        level = _level(
            self.asked, "free", self._channels, self._hw,
            weight=self.branch.weight, radius=bool(self.config.normalise),
        )  # fmt: skip
        vectors, sources, places = self._parts[0], self._sources[0], self._places[0]
        if level.radius:
            vectors = with_radii(vectors, radii(vectors, sources, vectors, sources), level)
        return FreeSet.from_vectors(level, vectors, sources, places, self._components)

    def _thin(self) -> None:
        vectors: Floats = np.concatenate(self._parts)
        sources: Integers = np.concatenate(self._sources)
        places: Integers = np.concatenate(self._places)
        if len(vectors) > self._most:
            # The strongest directions tell near from far at a part of the cost.
            short: Floats = vectors @ _strongest(_second_moment(vectors), _THINNED_ON)
            short /= np.maximum(np.linalg.norm(short, axis=1, keepdims=True), SHORTEST)
            kept = k_centre(short, self._most, progress=self._progress)
            vectors, sources, places = vectors[kept], sources[kept], places[kept]
        self._parts, self._sources, self._places = [vectors], [sources], [places]
        self._count = len(vectors)


def _drawn_first(sample: int, step: int) -> int:
    """The first pixel that is drawn of a sample's sheet: any two in a row differ much."""
    return int(step * ((sample * 0.6180339887) % 1))


def _level(
    asked: LevelFeatures, kind: str, channels: int, hw: tuple[int, int], **settings: Any
) -> Level:
    return Level.model_validate(
        {
            "number": asked.number, "kind": kind, "pool": asked.pool, "channels": channels,
            "height": hw[0], "width": hw[1], "features": asked.output, "dtype": asked.dtype,
            **settings,
        }
    )  # fmt: skip


def principal_components(levels: Iterator[Floats], count: int) -> Floats | None:
    """Find the `count` strongest directions [C, D] of unit vectors [C, H, W], sheet by sheet.

    Not centred, so that cosines stay cosines. None where there is nothing to reduce.
    """
    total: npt.NDArray[np.float64] | None = None
    for level in levels:
        if len(level) <= count:
            return None
        second = _second_moment(level.reshape(len(level), -1).T)
        total = second if total is None else total + second
    assert total is not None  # there is an image to learn from
    return _strongest(total, count)


def _second_moment(vectors: Floats) -> npt.NDArray[np.float64]:
    """Sum the outer products [C, C] of vectors [M, C], in float64 so that runs do not matter."""
    total = np.zeros((vectors.shape[1],) * 2)
    for start in range(0, len(vectors), _RUN):
        part = vectors[start : start + _RUN].astype(np.float64)
        total += part.T @ part
    return total


def _strongest(second: npt.NDArray[np.float64], count: int) -> Floats:
    """Find the `count` directions [C, count] along which a second moment [C, C] is largest."""
    _, directions = np.linalg.eigh(second)  # ascending
    return np.ascontiguousarray(directions[:, -count:], np.float32)
