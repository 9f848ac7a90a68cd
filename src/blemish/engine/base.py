"""What an inspector runs: one interface for PyTorch and for exported graphs, in NumPy arrays.

The learning floor's engine wraps a torch detector (`blemish.learning`), the line floor's runs the
graphs of an exported bundle (`blemish.runtime`). Everything above (calibration, updates, versions)
knows only this. A higher score always means worse.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from blemish.bundle import Tensors
from blemish.errors import ParameterError
from blemish.imaging import Progress, silent

Images = Sequence[npt.NDArray[np.float32]]  # each [H, W, 3], RGB in [0, 1], all of one size
Maps = npt.NDArray[np.float32]  # [B, H, W], in raw score units
Inside = npt.NDArray[np.bool_] | None  # which pixels of a map count; None: all
Parts = dict[str, Tensors]  # a bundle's part to its named tensors
# For pixels (x, y) of the view the positions of the templates that they were compared with.
Nearest = Callable[[Sequence[tuple[int, int]]], list[int | None]]


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


class Engine(ABC):
    """A detector at work: good images learned, maps and scores given; never changed in place."""

    method: str  # `hetmm` or `tfanet`
    leaves_one_out: bool  # whether a template can be scored as if it were not one
    updates: bool  # whether templates can come and go

    @property
    @abstractmethod
    def templates(self) -> int:
        """How many good images are templates."""

    @abstractmethod
    def maps(self, images: Images, laps: Laps | None = None) -> Maps:
        """Anomaly maps [B, H, W] of images of the view, higher = worse."""

    def examined(
        self, image: npt.NDArray[np.float32], laps: Laps | None = None
    ) -> tuple[Maps, Nearest]:
        """The map [1, H, W] of one image, and the template of any place in it, from one pass.

        None where an engine compares with no one template, which is the default.
        """
        return self.maps([image], laps), lambda points: [None for _ in points]

    @abstractmethod
    def scores(self, maps: Maps) -> npt.NDArray[np.float32]:
        """One raw score [B] a map."""

    def score(self, anomaly_map: npt.NDArray[np.float32], inside: Inside = None) -> float:
        """The raw score of one map [h, w], from the pixels that count alone.

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
        """Maps of the good images at `positions`, each as if it was not learned from.

        `own` tells which template an image is (-1: none), so that it can be left out.
        """

    @abstractmethod
    def state(self) -> Parts:
        """Everything learned, as named tensors for the bundle."""

    @abstractmethod
    def whole(self) -> Self:
        """The engine that loading its `state` would give."""

    def sheets_of(
        self, images: Images, positions: Sequence[int], progress: Progress = silent
    ) -> Tensors:
        """What `added` keeps of the good images at `positions`, as named tensors."""
        raise ParameterError(self.no_update())

    def added(self, sheets: Mapping[str, npt.NDArray[np.generic]], samples: int) -> Self:
        """An engine that has learned `samples` more images, whose `sheets_of` are given."""
        raise ParameterError(self.no_update())

    def removed(self, positions: Sequence[int]) -> Self:
        """An engine without the templates at `positions`; the later ones move down."""
        raise ParameterError(self.no_update())

    def parameters(self) -> Mapping[str, Any]:
        """The hyper-parameters that were fitted with."""
        return {}

    def no_update(self) -> str:
        """Why templates cannot come and go, and what to do."""
        return (
            f"an inspector of the method {self.method} cannot be updated: what it learned does not "
            "come apart into images; fit again with the good images it should know"
        )
