"""What a detector is: the one interface behind `Inspector`, the command line and the bundle.

Habits of scikit-learn: the constructor stores keyword hyper-parameters unchanged and does no work,
`fit` returns self, learned attributes end in `_`, and a higher score always means worse.
"""

from __future__ import annotations

import inspect
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, ClassVar, Self, get_type_hints

import numpy as np
import numpy.typing as npt
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from blemish.engine import Images, Nearest, Parts
from blemish.errors import NoImagesError, ParameterError
from blemish.features import Backbone
from blemish.imaging import Progress, silent


class Detector(ABC):
    """Learns from good images [H, W, 3] and gives anomaly maps and scores; higher = worse."""

    method: ClassVar[str]  # the name on the command line and in the manifest
    leaves_one_out: ClassVar[bool]  # whether a template can be scored as if it were not one
    updates: ClassVar[bool] = False  # whether templates can come and go after `fit`

    levels: Sequence[int]
    taps: str

    backbone_: Backbone
    templates_: list[int]  # positions in the training images of those kept as templates

    def start(self, device: torch.device | str) -> bool:
        """Start the other processes that `fit` learns with, if any; whether this is the first.

        All of them must call `fit`; only the first should keep what it gives. A method that learns
        in one process raises ParameterError where torchrun has started more.
        """
        if under_torchrun() and int(os.environ["WORLD_SIZE"]) > 1:
            raise ParameterError(
                f"{self.method} learns in one process; start the command without torchrun"
            )
        return True

    @abstractmethod
    def fit(
        self,
        images: Images,
        *,
        device: torch.device | str = "cpu",
        seed: int = 0,
        progress: Progress = silent,
    ) -> Self:
        """Learn what good looks like; returns self."""

    @abstractmethod
    def anomaly_maps(self, images: Tensor) -> Tensor:
        """Maps [B, H, W] of images [B, 3, H, W] (RGB in [0, 1]), in raw score units."""

    @abstractmethod
    def scores(self, maps: Tensor) -> Tensor:
        """One raw score [B] a map [B, H, W]."""

    @abstractmethod
    def calibration_maps(
        self,
        images: Images,
        positions: Sequence[int],
        own: Sequence[int],
        *,
        progress: Progress = silent,
    ) -> Iterator[Tensor]:
        """Maps [B, H, W] of the good images at `positions`, each as if it was not learned from.

        `own` tells which template an image is (-1: none), so that it can be left out.
        """

    def calibration_parts(self, images: int) -> int:
        """How many of `images` good images are left to calibrate on after `fit` has seen them."""
        return images

    @abstractmethod
    def state(self) -> Parts:
        """Everything learned, as named tensors for the bundle."""

    def learned(self) -> dict[str, Any]:
        """What was decided while learning, as plain values for the manifest and the summary."""
        return dict(getattr(self, "learned_", {}))

    def decisions(self) -> dict[str, str]:
        """The same in words, a line each, for the summary."""
        return {}

    def recall(self, learned: Mapping[str, Any]) -> None:
        """Take back what `learned` gave; `restore` comes next."""
        self.learned_ = dict(learned)

    @abstractmethod
    def restore(self, parts: Mapping[str, Any], backbone: Backbone, templates: list[int]) -> Self:
        """Take back what `state` gave; returns self."""

    def sheets_of(self, images: Tensor) -> dict[str, npt.NDArray[np.generic]]:
        """What `added` keeps of good images [B, 3, H, W], as named tensors for the bundle."""
        raise ParameterError(self._no_update())

    def added(self, sheets: Mapping[str, npt.NDArray[np.generic]], samples: int) -> Self:
        """A detector that has learned `samples` more images, whose `sheets_of` are given.

        This one stays as it is; the two share what they have in common.
        """
        raise ParameterError(self._no_update())

    def removed(self, positions: Sequence[int]) -> Self:
        """A detector without the templates at `positions`; the later ones move down."""
        raise ParameterError(self._no_update())

    def _no_update(self) -> str:
        return (
            f"an inspector of the method {self.method} cannot be updated: what it learned does not "
            "come apart into images; fit again with the good images it should know"
        )

    def examined(self, images: Tensor) -> tuple[Tensor, Nearest]:
        """The map [1, H, W] of one image [1, 3, H, W], and the template of any place in it.

        Both from one pass. The second gives for pixels (x, y) of the view the positions of the
        templates they were compared with; None where a detector compares with no one template,
        which is the default.
        """
        return self.anomaly_maps(images), lambda points: [None for _ in points]

    def explain(
        self,
        images: Tensor,
        pictures: Callable[[int], npt.NDArray[np.uint8]] | None = None,
        points: Sequence[tuple[int, int]] = (),
    ) -> dict[str, npt.NDArray[np.uint8]]:
        """Pictures [H, W, 3] by name of what leads to the map of one image [1, 3, H, W].

        `pictures` gives a template's viewed pixels, `points` (x, y) are places of the view to look
        into; a method without templates has no use for either.
        """
        from blemish.imaging import overlay

        image = np.ascontiguousarray(images[0].movedim(0, -1).cpu().numpy())
        found = self.anomaly_maps(images)[0].cpu().numpy()
        scale = max(float(found.max()), 1e-6)
        return {"anomaly": overlay(image, found, threshold=None, scale=scale)}

    @classmethod
    def setting_names(cls) -> list[str]:
        """What `--set` may name: the constructor's arguments."""
        return list(inspect.signature(cls).parameters)

    def parameters(self) -> dict[str, Any]:
        """The constructor's hyper-parameters, as stored."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in self.parameters().items())
        return f"{type(self).__name__}({values})"


def under_torchrun() -> bool:
    """Whether torchrun has started this process; then WORLD_SIZE has the number of all."""
    # A PyTorch without torch.distributed does not have the second.
    return torch.distributed.is_available() and torch.distributed.is_torchelastic_launched()


def to_batch(images: Sequence[npt.NDArray[np.float32]], device: torch.device | str) -> Tensor:
    """Images [H, W, 3] as one tensor [B, 3, H, W] on `device`."""
    batch = torch.from_numpy(np.stack(images)).to(device)
    return batch.permute(0, 3, 1, 2)  # channels-last in memory, as the backbones want it


def batches(
    images: Images,
    positions: Sequence[int],
    *,
    size: int,
    device: torch.device | str,
    stage: str,
    progress: Progress = silent,
) -> Iterator[tuple[list[int], Tensor]]:
    """Read the images at `positions` in batches of `size`; memory is bounded by one batch."""
    progress(stage, 0, len(positions))
    for start in range(0, len(positions), size):
        part = list(positions[start : start + size])
        yield part, to_batch([images[index] for index in part], device)
        progress(stage, start + len(part), len(positions))


def check_enough(images: int, least: int, why: str) -> None:
    """Raise unless there are `least` images to learn from."""
    if images < least:
        raise NoImagesError(f"{images} good images are too few: {why} needs at least {least}")


def parse_settings(detector: type[Detector], settings: Sequence[str]) -> dict[str, Any]:
    """`key=value` strings as keyword arguments of a detector, for `--set`.

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
        parsed[key] = _checked(detector, key, _parse_value(text.strip()), setting)
    return parsed


def check_settings(detector: type[Detector], settings: Mapping[str, Any]) -> None:
    """Raise ParameterError for a value that is not of the kind that the constructor says."""
    for key, value in settings.items():
        try:
            _check_kind(detector, key, value, strict=True)
        except ValidationError as error:
            raise ParameterError(f"{key}: {error.errors()[0]['msg'].lower()}") from error


def _checked(detector: type[Detector], key: str, value: Any, setting: str) -> Any:
    """The value, if the constructor's annotation allows it; options without one pass."""
    try:
        _check_kind(detector, key, value, strict=False)
    except ValidationError as error:
        raise ParameterError(f"--set {setting}: {error.errors()[0]['msg'].lower()}") from error
    return value


def _check_kind(detector: type[Detector], key: str, value: Any, *, strict: bool) -> None:
    kind = _kinds(detector).get(key)
    if kind is not None:
        kind.validate_python(value, strict=strict)


@cache
def _kinds(detector: type[Detector]) -> dict[str, TypeAdapter[Any]]:
    hints = get_type_hints(detector.__init__)
    return {name: TypeAdapter(kind) for name, kind in hints.items() if name in _names(detector)}


def _names(detector: type[Detector]) -> set[str]:
    return set(inspect.signature(detector).parameters)


def _parse_value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        pass
    if "," in text:
        return tuple(_parse_value(part.strip()) for part in text.split(",") if part.strip())
    return {"none": None, "true": True, "false": False}.get(text.lower(), text)
