"""The HETMM detector: sheets of features from good images, matched with every query both ways.

Training-free: fitting extracts features of the good images by a graph and keeps some of them. One
frozen configuration serves every part (docs/matching.md says how it was found).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, ClassVar, Self, get_type_hints

import numpy as np
import numpy.typing as npt

from blemish.bundle import MEASUREMENT, BackboneRecord, GraphsRecord, Level, Tensors
from blemish.detectors.base import (
    Images,
    Laps,
    Maps,
    Nearest,
    Parts,
    Picture,
    Pictures,
    Point,
    check_enough,
)
from blemish.detectors.graph import GraphDetector
from blemish.detectors.hetmm.explain import explain_image, find_witnesses, peak
from blemish.detectors.hetmm.matching import (
    Matcher,
    make_matcher,
    map_graph,
    match_graph,
    summed_map_graph,
)
from blemish.detectors.hetmm.normalisation import Normalisation, tail
from blemish.detectors.hetmm.restoring import check_levels
from blemish.detectors.hetmm.selection import whole_sheets
from blemish.detectors.hetmm.settings import HetmmConfig
from blemish.detectors.hetmm.templates import LevelTemplates
from blemish.detectors.maps import axis_matrix
from blemish.errors import BundleError, CalibrationError, NotFittedError, ParameterError
from blemish.graphs.sessions import OnnxSession, Session
from blemish.imaging import Progress, silent
from blemish.imaging.augmentation import copies

if TYPE_CHECKING:
    from blemish.backbones import Backbone
    from blemish.detectors.hetmm.learning import BandMap

Floats = npt.NDArray[np.float32]

FEATURES, MATCH, MAP = "features.onnx", "match.onnx", "map.onnx"  # parts of the bundle
MEASURED = 48  # good parts whose leave-one-out maps tell how good parts vary


class HETMM(GraphDetector):
    """Template mutual matching (Chen, Xie, Yang, Lai; IJCV 2024); settings: `HetmmConfig`."""

    method: ClassVar[str] = "hetmm"
    leaves_one_out: ClassVar[bool] = True
    updates: ClassVar[bool] = True

    record_: GraphsRecord
    files_: Mapping[str, bytes]  # the graphs
    sets_: tuple[LevelTemplates, ...]  # of the levels that are on
    normalisation_: Normalisation | None = None

    def __init__(self, **settings: Any) -> None:
        try:
            self.config = HetmmConfig(**settings)
        except TypeError as error:
            unknown = sorted(set(settings) - set(self.setting_names()))
            raise ParameterError(
                f"HETMM has no option '{unknown[0]}'; it has {', '.join(self.setting_names())}"
            ) from error
        self.band_map: BandMap | None = None

    @classmethod
    def setting_kinds(cls) -> dict[str, Any]:
        """See `Detector.setting_kinds`."""
        return get_type_hints(HetmmConfig)

    def parameters(self) -> dict[str, Any]:
        """See `Detector.parameters`."""
        return self.config.parameters()

    def select_with(self, band_map: BandMap | None) -> Self:
        """Choose prototypes by `band_map` in place of threads: in processes, say; returns self."""
        self.band_map = band_map
        return self

    # Learning -------------------------------------------------------------------------------

    def fit(
        self,
        images: Images,
        *,
        device: str = "auto",
        seed: int = 0,
        progress: Progress = silent,
        backbone: Backbone | None = None,
        measured: int = MEASURED,
    ) -> Self:
        """Keep features of good images [H, W, 3] as the template set.

        `backbone` is one that is at hand, to be shared; by default it is made. How good parts vary
        is `measured` on so many of them. `device` is where matching runs: a GPU only if `cuda` is
        asked for.
        """
        # Loaded by those who learn alone: it makes graphs, which takes a while to import.
        from blemish.detectors.hetmm.learning import learn_backbone, learn_templates

        config = self.config.resolved()
        check_enough(len(images), 1, "matching needs a template and")
        make_matcher(match_graph(), device)  # so that what cannot run is said before the work
        height, width = images[0].shape[:2]
        if backbone is None:
            backbone = learn_backbone(config, images, (height, width), seed, progress)
        learned = learn_templates(
            config, images, backbone, (height, width), seed, self.band_map, progress
        )
        self._backbone = BackboneRecord(
            name=backbone.name,
            levels=list(config.levels),
            taps=config.taps,
            weights_sha256=backbone.weights_sha256,
        )
        levels = [each.level for each in learned.sets]
        self.files_ = {
            FEATURES: learned.graph,
            MATCH: match_graph(),
            MAP: (
                summed_map_graph(_grid(levels), (height, width), config.sigma)
                if config.normalise
                else map_graph(levels, (height, width), config.sigma)
            ),
        }
        self.record_ = GraphsRecord(
            parts={"features": FEATURES, "match": MATCH, "map": MAP},
            height=height,
            width=width,
            levels=levels,
            score=config.statistic or "max",
        )
        self.sets_, self.templates_ = tuple(learned.sets), list(learned.templates)
        self._run(learned.session, device)
        own = self.wanted_to_measure(measured)
        chosen = [images[self.templates_[template]] for template in own]
        self.normalisation_ = self.measured(chosen, own, progress).normalisation_
        return self

    @classmethod
    def restored(
        cls,
        parameters: Mapping[str, Any],
        record: GraphsRecord,
        backbone: BackboneRecord,
        features: Session,
        files: Mapping[str, bytes],
        sets: Sequence[LevelTemplates],
        templates: int,
        device: str,
    ) -> Self:
        """Take back what `state` and `graphs` gave; `features` runs the graph of features."""
        made = cls(**parameters)
        resolved = made.config.resolved()
        check_levels(resolved, record.levels)
        if record.score != resolved.statistic:
            raise ParameterError("its score is not the one that its settings ask for")
        made.record_, made._backbone, made.files_ = record, backbone, dict(files)
        made.sets_, made.templates_ = tuple(sets), list(range(templates))
        return made._run(features, device)

    @property
    def backbone_record(self) -> BackboneRecord:
        """See `Detector.backbone_record`."""
        self._check_fitted()
        return self._backbone

    @property
    def hw(self) -> tuple[int, int]:
        """Height and width of the images that the graphs take."""
        self._check_fitted()
        return self.record_.height, self.record_.width

    # At work --------------------------------------------------------------------------------

    def examined(self, image: Floats, laps: Laps | None = None) -> tuple[Maps, Nearest]:
        """See `Detector.examined`: the template is the one that adds most to the map there."""
        levels = self.features(image)
        if laps is not None:
            laps.lap("features")
        found = self._matched(levels)
        if laps is not None:
            laps.lap("matching")

        def nearest(points: Sequence[Point]) -> list[int | None]:
            return [
                max(seen, key=lambda witness: witness.share).template if seen else None
                for seen in find_witnesses(self, levels, points)
            ]

        return found[None], nearest

    def scores(self, maps: Maps) -> npt.NDArray[np.float32]:
        """See `Detector.scores`: each map's maximum, or the mean of its upper tail."""
        flat = maps.reshape(len(maps), -1)
        if self.record_.score == "tail":
            return np.array([tail(values) for values in flat], np.float32)
        return np.asarray(flat.max(axis=1), np.float32)

    def features(self, image: Floats) -> list[Floats]:
        """Compute the unit vectors [C, h, w] of the levels in use of one image [H, W, 3]."""
        return self._levels(self.checked(image))

    def explain(
        self,
        image: Floats,
        pictures: Pictures | None = None,
        points: Sequence[Point] = (),
    ) -> dict[str, Picture]:
        """See `Detector.explain`: the map, and what matched best at each point.

        Without points the map's highest serves.
        """
        points = points or [peak(self.maps([image])[0])]
        drawn = explain_image(self, image, pictures, points)
        return {**super().explain(image), **drawn}

    # Keeping, and changing --------------------------------------------------------------------

    def state(self) -> Parts:
        """See `Detector.state`: the template set, as `level1`, `sources1`..."""
        self._check_fitted()
        templates = {
            f"{name}{each.level.key}": values
            for each in self.sets_
            for name, values in each.state().items()
        }
        measured = self.measurement()
        return {"templates": templates, **({MEASUREMENT: measured} if measured else {})}

    def graphs(self) -> tuple[GraphsRecord | None, dict[str, bytes]]:
        """See `Detector.graphs`."""
        self._check_fitted()
        return self.record_, dict(self.files_)

    def whole(self) -> Self:
        """See `Detector.whole`: itself, for its state is what it holds."""
        return self

    def sheets_of(
        self, images: Images, positions: Sequence[int], progress: Progress = silent
    ) -> Tensors:
        """See `Detector.sheets_of`: the sheets, and those of augmented copies, level by level."""
        wanted = copies(self.config.augment)
        found: dict[str, list[npt.NDArray[np.generic]]] = {}
        progress("learning", 0, len(positions))
        for done, position in enumerate(positions, start=1):
            image = images[position]
            for each in wanted:
                levels = self.features(each.apply(image))
                for own, sheet in zip(self.sets_, levels, strict=True):
                    kept = sheet.astype(own.level.dtype)
                    found.setdefault(f"level{own.level.key}", []).append(kept)
            progress("learning", done, len(positions))
        return {name: np.stack(sheets) for name, sheets in found.items()}

    def added(self, sheets: Mapping[str, npt.NDArray[np.generic]], samples: int) -> Self:
        """See `Detector.added`: whole sheets also where prototypes were selected."""
        first = self.templates
        numbers = np.arange(first, first + samples, dtype=np.int32)
        numbers = numbers.repeat(len(copies(self.config.augment)))
        names = [f"level{each.level.key}" for each in self.sets_]
        if any(name not in sheets for name in names) or any(
            len(found) != len(numbers) for found in sheets.values()
        ):
            raise BundleError("sheets that were added do not fit the levels that are matched")
        sets = [
            each.extended(sheets[name], numbers)
            for name, each in zip(names, self.sets_, strict=True)
        ]
        return self._with(sets, first + samples)

    def relearned(self, images: Images) -> Self:
        """Give one whose templates are taken anew from their images: its graph is another one.

        `images` are the templates', in their order. Copies, and location-free vectors, stay.
        """
        if len(copies(self.config.augment)) > 1:
            return self
        sheets: list[list[Floats]] = [self.features(image) for image in images]
        sets = [
            each.refilled(lambda sample, index=index: sheets[sample][index])  # type: ignore[misc]
            for index, each in enumerate(self.sets_)
        ]
        return self._with(sets, self.templates)

    def removed(self, positions: Sequence[int]) -> Self:
        """See `Detector.removed`: without their sheets, or prototypes."""
        if sorted(set(positions) & set(range(self.templates))) != sorted(positions):
            raise ParameterError(
                f"the templates {list(positions)} cannot be removed: there are {self.templates}, "
                "counted from 0"
            )
        left = self.templates - len(positions)
        if left < 1:
            raise ParameterError("the last template cannot be removed: nothing would be left")
        sets = list(self.sets_)
        for position in sorted(positions, reverse=True):  # so that the others keep their numbers
            sets = [each.without(position) for each in sets]
        return self._with(sets, left)

    def wanted_to_measure(self, most: int = MEASURED) -> list[int]:
        """See `Detector.wanted_to_measure`: some of the templates, spread evenly."""
        return whole_sheets(self.templates, most) if self._normalises else []

    def measured(self, images: Images, own: Sequence[int], progress: Progress = silent) -> Self:
        """See `Detector.measured`: m and s of the leave-one-out distances of `images`."""
        maps, samples = [], []
        progress("measuring good parts", 0, len(own))
        for done, template in enumerate(own if self.templates > 1 else (), start=1):
            levels = self._levels(self.checked(images[done - 1]))
            try:
                maps.append(self._summed(levels, template))
                samples.append(template)
            except CalibrationError:  # one part gave all the prototypes of a place
                pass
            progress("measuring good parts", done, len(own))
        changed = copy(self)
        changed.normalisation_ = Normalisation.from_maps(maps, samples)
        return changed

    def measurement(self) -> Tensors:
        """See `Detector.measurement`."""
        return {} if self.normalisation_ is None else self.normalisation_.state()

    def with_measurement(self, tensors: Tensors, where: str) -> Self:
        """See `Detector.with_measurement`."""
        changed = copy(self)
        shape = (len(self._kinds), *_grid(self.record_.levels))
        changed.normalisation_ = Normalisation.from_state(tensors, shape, where)
        return changed

    def renumbered(self, removed: Sequence[int]) -> Self:
        """See `Detector.renumbered`."""
        changed = copy(self)
        if self.normalisation_ is not None:
            changed.normalisation_ = self.normalisation_.without(removed)
        return changed

    def deviation_at(self, level: Level, y: int, x: int) -> float:
        """Look up s at a pixel of a level: what its distances are divided by, 1 if by nothing."""
        if self.normalisation_ is None:
            return 1.0
        _, deviation = self.normalisation_.moments
        values = deviation[self._kinds.index(level.kind)]
        cell = (
            round(at * (len(axis) - 1) / max(1, side - 1))
            for at, side, axis in ((y, level.height, values), (x, level.width, values[0]))
        )
        return float(values[tuple(cell)])

    # Inside -----------------------------------------------------------------------------------

    def _map(self, image: Floats, laps: Laps | None) -> Floats:
        found: Floats = self.examined(image[0], laps)[0][0]
        return found

    def _map_without(self, image: Floats, template: int) -> Floats:
        if template >= 0:
            check_enough(self.templates, 2, "leaving one out of the templates")
        return self._matched(self._levels(image), template)

    def _levels(self, image: Floats) -> list[Floats]:
        found = self._features.run({self.record_.image: image})
        return [found[level.features][0] for level in self.record_.levels]

    @property
    def _kinds(self) -> list[str]:
        """The kinds of levels there are, each of which is normalised for itself."""
        return list(dict.fromkeys(level.kind for level in self.record_.levels))

    def _distances(self, levels: Sequence[Floats], without: int) -> dict[str, Floats]:
        return {
            each.level.features: each.distances(self._matcher, query, without)
            for each, query in zip(self.sets_, levels, strict=True)
        }

    def _summed(self, levels: Sequence[Floats], without: int = -1) -> Floats:
        """sum_l lambda_l D_l on the common grid, [G, h, w]: a sum a kind of level."""
        distances = self._distances(levels, without)
        height, width = _grid(self.record_.levels)
        found = np.zeros((len(self._kinds), height, width), np.float32)
        for level in self.record_.levels:
            rows = axis_matrix(level.height, height, 0).astype(np.float32)
            columns = axis_matrix(level.width, width, 0).astype(np.float32)
            enlarged = rows @ distances[level.features] @ columns.T
            found[self._kinds.index(level.kind)] += np.float32(level.weight) * enlarged
        return found

    def _matched(self, levels: Sequence[Floats], without: int = -1) -> Floats:
        """S = sum_l lambda_l A_l, smoothed, [H, W]; normalised where the settings say so."""
        if not self._normalises:
            inputs = self._distances(levels, without)
        else:
            maps = self._summed(levels, without)
            normal = self.normalisation_
            summed = maps.sum(axis=0) if normal is None else normal.applied(maps, without)
            inputs = {"summed": summed}
        found: Floats = self._map_session.run(inputs)[self.record_.anomaly_map]
        return found

    def _run(self, features: Session, device: str) -> Self:
        self._features = features
        self._normalises = bool(self.config.resolved().normalise)
        self._matcher: Matcher = make_matcher(self.files_[MATCH], device)
        self._map_session = OnnxSession(self.files_[MAP], MAP)
        return self

    def _with(self, sets: Sequence[LevelTemplates], templates: int) -> Self:
        changed = copy(self)
        changed.sets_, changed.templates_ = tuple(sets), list(range(templates))
        return changed

    def _check_fitted(self) -> None:
        if not hasattr(self, "sets_"):
            raise NotFittedError("This HETMM has no templates yet; call fit with good images first")


def _grid(levels: Sequence[Level]) -> tuple[int, int]:
    """Give the grid on which levels are added up: the finest of theirs."""
    return max(level.height for level in levels), max(level.width for level in levels)
