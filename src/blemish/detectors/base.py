"""What a detector is: the one contract behind `Inspector`, the command line and the bundle.

Habits of scikit-learn: the constructor stores keyword hyper-parameters and does no work, `fit`
returns self, learned attributes end in `_`, and a higher score always means worse. Images and maps
are NumPy arrays whatever computes them; a fitted detector never changes, `added` and `removed` give
another one.
"""

from __future__ import annotations

import inspect
import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, ClassVar, Self, get_type_hints

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from blemish.bundle import BackboneRecord, GraphsRecord, Tensors
from blemish.errors import BundleError, NoImagesError, ParameterError
from blemish.imaging import Progress, overlay, silent

Images = Sequence[npt.NDArray[np.float32]]  # each [H, W, 3], RGB in [0, 1], all of one size
Maps = npt.NDArray[np.float32]  # [B, H, W], in raw score units
Inside = npt.NDArray[np.bool_] | None  # which pixels of a map count; None: all
Parts = dict[str, Tensors]  # a bundle's part to its named tensors
Picture = npt.NDArray[np.uint8]  # [H, W, 3], RGB
Pictures = Callable[[int], Picture]  # a template's position to its viewed pixels
Point = tuple[int, int]  # x, y in pixels of the view
# For points of the view the positions of the templates that they were compared with.
Nearest = Callable[[Sequence[Point]], list[int | None]]


class Laps:
    """Milliseconds by stage since it was made: each lap ends one."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Count the time since the last lap to `stage`."""
        now = time.perf_counter()
        self.spent[stage] = self.spent.get(stage, 0.0) + 1e3 * (now - self._last)
        self._last = now


class Detector(ABC):
    """Learns from good images [H, W, 3] and gives anomaly maps and scores; higher = worse."""

    method: ClassVar[str]  # the name on the command line and in the manifest
    leaves_one_out: ClassVar[bool]  # whether a template can be scored as if it were not one
    updates: ClassVar[bool] = False  # whether templates can come and go after `fit`

    templates_: list[int]  # positions in the training images of those kept as templates

    # Learning -------------------------------------------------------------------------------

    def start(self, device: str) -> bool:
        """Start the other processes that `fit` learns with, if any; whether this is the first.

        All of them must call `fit`; only the first should keep what it gives. A method that learns
        in one process raises ParameterError where torchrun has started more.
        """
        if "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ParameterError(
                f"{self.method} learns in one process; start the command without torchrun"
            )
        return True

    @abstractmethod
    def fit(
        self,
        images: Images,
        *,
        device: str = "auto",
        seed: int = 0,
        progress: Progress = silent,
    ) -> Self:
        """Learn what good looks like; returns self."""

    def calibration_parts(self, images: int) -> int:
        """Count how many of `images` good images are left to calibrate on after `fit`."""
        return images

    # What it is -----------------------------------------------------------------------------

    @classmethod
    def setting_names(cls) -> list[str]:
        """Name what `--set` may set: the constructor's arguments."""
        return list(cls.setting_kinds())

    @classmethod
    def setting_kinds(cls) -> dict[str, Any]:
        """Give the type of each setting; None where any value may be tried."""
        hints = get_type_hints(cls.__init__)
        return {name: hints.get(name) for name in inspect.signature(cls).parameters}

    @abstractmethod
    def parameters(self) -> dict[str, Any]:
        """Give the constructor's hyper-parameters, as stored."""

    @property
    def templates(self) -> int:
        """How many good images are templates."""
        return len(self.templates_)

    @property
    @abstractmethod
    def backbone_record(self) -> BackboneRecord:
        """The network behind the features, for the manifest."""

    def learned(self) -> dict[str, Any]:
        """Give what was decided while learning, as plain values for the manifest."""
        return {}

    def decisions(self) -> dict[str, str]:
        """Tell the same in words, a line each, for the summary."""
        return {}

    # At work --------------------------------------------------------------------------------

    @abstractmethod
    def maps(self, images: Images, laps: Laps | None = None) -> Maps:
        """Compute anomaly maps [B, H, W] of images of the view, higher = worse."""

    def examined(
        self, image: npt.NDArray[np.float32], laps: Laps | None = None
    ) -> tuple[Maps, Nearest]:
        """Compute the map [1, H, W] of one image, and find the template of any place in it.

        Both from one pass. None where a detector compares with no one template: the default.
        """
        return self.maps([image], laps), lambda points: [None for _ in points]

    @abstractmethod
    def scores(self, maps: Maps) -> npt.NDArray[np.float32]:
        """Reduce each map to one raw score, [B]."""

    def score(self, anomaly_map: npt.NDArray[np.float32], inside: Inside = None) -> float:
        """Reduce one map [h, w] to its raw score, from the pixels that count alone.

        Both rules, the maximum and the standard deviation, are of pixels without an order.
        """
        counted = anomaly_map if inside is None else anomaly_map[inside][None]
        return float(self.scores(np.ascontiguousarray(counted)[None])[0])

    @abstractmethod
    def calibration_maps(
        self,
        images: Images,
        positions: Sequence[int],
        own: Sequence[int],
        progress: Progress = silent,
    ) -> Iterator[Maps]:
        """Compute maps of the good images at `positions`, each as if it was not learned from.

        `own` tells which template an image is (-1: none), so that it can be left out.
        """

    def explain(
        self,
        image: npt.NDArray[np.float32],
        pictures: Pictures | None = None,
        points: Sequence[Point] = (),
    ) -> dict[str, Picture]:
        """Draw what leads to the map of one image [H, W, 3]: pictures [H, W, 3] by name.

        `pictures` gives a template's viewed pixels, `points` are places of the view to look into;
        a method without templates has no use for either.
        """
        found = self.maps([image])[0]
        scale = max(float(found.max()), 1e-6)
        return {"anomaly": overlay(np.ascontiguousarray(image), found, threshold=None, scale=scale)}

    # Keeping, and changing --------------------------------------------------------------------

    @abstractmethod
    def state(self) -> Parts:
        """Give everything learned, as named tensors for the bundle."""

    def graphs(self) -> tuple[GraphsRecord | None, dict[str, bytes]]:
        """Give the record of the graphs that it runs, and their files by part."""
        return None, {}

    @abstractmethod
    def whole(self) -> Self:
        """Give the detector that loading its `state` would give."""

    def sheets_of(
        self, images: Images, positions: Sequence[int], progress: Progress = silent
    ) -> Tensors:
        """Compute what `added` keeps of the good images at `positions`, as named tensors."""
        raise ParameterError(self.no_update())

    def added(self, sheets: Mapping[str, npt.NDArray[np.generic]], samples: int) -> Self:
        """Give a detector that has learned `samples` more images, whose `sheets_of` are given."""
        raise ParameterError(self.no_update())

    def removed(self, positions: Sequence[int]) -> Self:
        """Give a detector without the templates at `positions`; the later ones move down."""
        raise ParameterError(self.no_update())

    def wanted_to_measure(self) -> list[int]:
        """Name the templates whose images `measured` wants: none where nothing is measured."""
        return []

    def measured(self, images: Images, own: Sequence[int], progress: Progress = silent) -> Self:
        """Give a detector that has measured how good parts vary, each compared with all others.

        `images` are those of the templates `own`.
        """
        return self

    def measurement(self) -> Tensors:
        """Give what was measured, as named tensors; none where nothing was."""
        return {}

    def with_measurement(self, tensors: Tensors, where: str) -> Self:
        """Give a detector with what `measurement` gave; `where` names it in errors."""
        raise BundleError(f"{where}: the method {self.method} measures nothing; fit again")

    def renumbered(self, removed: Sequence[int]) -> Self:
        """Give a detector whose measurement knows that the templates at `removed` are gone.

        For where their images are not at hand, so that nothing can be measured again.
        """
        return self

    def no_update(self) -> str:
        """Say why templates cannot come and go, and what to do."""
        return (
            f"an inspector of the method {self.method} cannot be updated: what it learned does not "
            "come apart into images; fit again with the good images it should know"
        )

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in self.parameters().items())
        return f"{type(self).__name__}({values})"


def check_enough(images: int, least: int, why: str) -> None:
    """Raise NoImagesError unless there are `least` images to learn from."""
    if images < least:
        raise NoImagesError(f"{images} good images are too few: {why} needs at least {least}")


def parse_settings(detector: type[Detector], settings: Sequence[str]) -> dict[str, Any]:
    """Read `key=value` strings as keyword arguments of a detector, for `--set`.

    Values are JSON (`0.5`, `null`, `"pre"`), a bare word, or a comma-separated list (`13,9,7`).
    """
    known = detector.setting_names()
    parsed: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        key = key.strip().replace("-", "_")
        if not equals:
            raise ParameterError(f"--set {setting}: write it as key=value")
        if key not in known:
            raise ParameterError(
                f"--set {setting}: {detector.__name__} has no '{key}'; it has {', '.join(known)}"
            )
        value = _parse_value(text.strip())
        try:
            _check_kind(detector, key, value, strict=False)
        except ValidationError as error:
            raise ParameterError(f"--set {setting}: {error.errors()[0]['msg'].lower()}") from error
        parsed[key] = value
    return parsed


def check_settings(detector: type[Detector], settings: Mapping[str, Any]) -> None:
    """Raise ParameterError for a value that is not of the kind that the constructor says."""
    for key, value in settings.items():
        try:
            _check_kind(detector, key, value, strict=True)
        except ValidationError as error:
            raise ParameterError(f"{key}: {error.errors()[0]['msg'].lower()}") from error


def _check_kind(detector: type[Detector], key: str, value: Any, *, strict: bool) -> None:
    kind = _adapters(detector).get(key)
    if kind is not None:
        kind.validate_python(value, strict=strict)


@cache
def _adapters(detector: type[Detector]) -> dict[str, TypeAdapter[Any]]:
    kinds = detector.setting_kinds()
    return {name: TypeAdapter(kind) for name, kind in kinds.items() if kind is not None}


def _parse_value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        pass
    if "," in text:
        return tuple(_parse_value(part.strip()) for part in text.split(",") if part.strip())
    return {"none": None, "true": True, "false": False}.get(text.lower(), text)
