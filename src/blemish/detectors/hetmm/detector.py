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

from blemish.bundle import BackboneRecord, GraphsRecord, Tensors
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
from blemish.detectors.hetmm.matching import Matcher, make_matcher, map_graph, match_graph
from blemish.detectors.hetmm.restoring import check_levels
from blemish.detectors.hetmm.settings import HetmmConfig
from blemish.detectors.hetmm.templates import LevelTemplates
from blemish.detectors.hetmm.windows import Choice
from blemish.errors import BundleError, NotFittedError, ParameterError
from blemish.graphs.sessions import OnnxSession, Session
from blemish.imaging import Progress, silent
from blemish.imaging.augmentation import copies

if TYPE_CHECKING:
    from blemish.backbones import Backbone
    from blemish.detectors.hetmm.learning import BandMap

Floats = npt.NDArray[np.float32]

FEATURES, MATCH, MAP = "features.onnx", "match.onnx", "map.onnx"  # parts of the bundle


class HETMM(GraphDetector):
    """Template mutual matching (Chen, Xie, Yang, Lai; IJCV 2024); settings: `HetmmConfig`."""

    method: ClassVar[str] = "hetmm"
    leaves_one_out: ClassVar[bool] = True
    updates: ClassVar[bool] = True

    record_: GraphsRecord
    files_: Mapping[str, bytes]  # the graphs
    sets_: tuple[LevelTemplates, ...]  # of the levels that are on

    def __init__(self, **settings: Any) -> None:
        try:
            self.config = HetmmConfig(**settings)
        except TypeError as error:
            unknown = sorted(set(settings) - set(self.setting_names()))
            raise ParameterError(
                f"HETMM has no option '{unknown[0]}'; it has {', '.join(self.setting_names())}"
            ) from error
        self.choice_: Choice | None = None
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
        choice: Choice | None = None,
    ) -> Self:
        """Keep features of good images [H, W, 3] as the template set.

        `backbone` is one that is at hand, to be shared, `choice` the windows where they were chosen
        before; by default both are made. `device` is where matching runs: a GPU only if `cuda` is
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
        self.choice_ = choice
        if config.windows == "auto" and choice is None:
            self.choice_ = self._choose_windows(images, backbone, device, seed, progress)
        searched = config.searched(None if self.choice_ is None else self.choice_.taken)
        learned = learn_templates(
            searched, images, backbone, (height, width), seed, self.band_map, progress
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
            MAP: map_graph(levels, (height, width), config.sigma),
        }
        self.record_ = GraphsRecord(
            parts={"features": FEATURES, "match": MATCH, "map": MAP},
            height=height,
            width=width,
            levels=levels,
        )
        self.sets_, self.templates_ = tuple(learned.sets), list(learned.templates)
        return self._run(learned.session, device)

    @classmethod
    def restored(
        cls,
        parameters: Mapping[str, Any],
        learned: Mapping[str, Any],
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
        chosen = learned.get("windows")
        made.choice_ = None if chosen is None else Choice.from_dict(chosen)
        check_levels(made.searched, record.levels)
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

    @property
    def searched(self) -> HetmmConfig:
        """The settings in use: those given and the preset's, with the windows that were chosen."""
        return self.config.resolved().searched(None if self.choice_ is None else self.choice_.taken)

    def learned(self) -> dict[str, Any]:
        """See `Detector.learned`: the windows chosen and why."""
        return {} if self.choice_ is None else {"windows": self.choice_.to_dict()}

    def decisions(self) -> dict[str, str]:
        """See `Detector.decisions`: the windows chosen and what else was tried."""
        return {} if self.choice_ is None else {"windows": str(self.choice_)}

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
        """See `Detector.scores`: each map's maximum."""
        return np.asarray(maps.reshape(len(maps), -1).max(axis=1), np.float32)

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
            f"{name}{each.level.number}": values
            for each in self.sets_
            for name, values in each.state().items()
        }
        return {"templates": templates}

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
                    found.setdefault(f"level{own.level.number}", []).append(kept)
            progress("learning", done, len(positions))
        return {name: np.stack(sheets) for name, sheets in found.items()}

    def added(self, sheets: Mapping[str, npt.NDArray[np.generic]], samples: int) -> Self:
        """See `Detector.added`: whole sheets also where prototypes were selected."""
        first = self.templates
        numbers = np.arange(first, first + samples, dtype=np.int32)
        numbers = numbers.repeat(len(copies(self.config.augment)))
        names = [f"level{each.level.number}" for each in self.sets_]
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

    def _matched(self, levels: Sequence[Floats], without: int = -1) -> Floats:
        """S = sum_l lambda_l A_l, smoothed, [H, W]."""
        distances = {
            each.level.features: each.distances(self._matcher, query, without)
            for each, query in zip(self.sets_, levels, strict=True)
        }
        found: Floats = self._map_session.run(distances)[self.record_.anomaly_map]
        return found

    def _run(self, features: Session, device: str) -> Self:
        self._features = features
        self._matcher: Matcher = make_matcher(self.files_[MATCH], device)
        self._map_session = OnnxSession(self.files_[MAP], MAP)
        return self

    def _with(self, sets: Sequence[LevelTemplates], templates: int) -> Self:
        changed = copy(self)
        changed.sets_, changed.templates_ = tuple(sets), list(range(templates))
        return changed

    def _choose_windows(
        self, images: Images, backbone: Backbone, device: str, seed: int, progress: Progress
    ) -> Choice:
        """Choose the windows that suit these good images best, each way tried by a fit."""
        from blemish.detectors.hetmm.windows import Image, Windows, choose, ways

        config = self.config.resolved()

        def scores(
            way: Windows, examined: Sequence[Image], queries: list[tuple[int, Image]]
        ) -> npt.NDArray[np.float64]:
            trial = type(self)(**{**config.parameters(), **way.settings()})
            trial.fit(examined, device=device, seed=seed, backbone=backbone)
            template_of = {position: index for index, position in enumerate(trial.templates_)}
            found = trial.calibration_maps(
                [image for _, image in queries],
                range(len(queries)),
                [template_of.get(position, -1) for position, _ in queries],
            )
            return np.concatenate([trial.scores(maps) for maps in found]).astype(np.float64)

        candidates = ways(config.given, config.on)
        return choose(candidates, images, scores, seed=seed, progress=progress)

    def _check_fitted(self) -> None:
        if not hasattr(self, "sets_"):
            raise NotFittedError("This HETMM has no templates yet; call fit with good images first")
