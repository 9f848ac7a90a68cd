"""A torch detector as an engine: NumPy arrays in and out, batches on its device between."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from blemish.bundle import Tensors
from blemish.detector import Detector, batches, to_batch
from blemish.engine import Engine, Images, Laps, Maps, Nearest, Parts, TiledEngine
from blemish.errors import ParameterError
from blemish.imaging import Progress, silent

_BATCH = 8  # images whose sheets are made at a time


class TorchEngine(Engine):
    """Runs `detector`, fitted or restored, on `device`."""

    def __init__(self, detector: Detector, device: torch.device) -> None:
        self.detector, self.device = detector, device
        self.method = detector.method
        self.leaves_one_out = detector.leaves_one_out
        self.updates = detector.updates

    @property
    def templates(self) -> int:
        """How many good images are templates."""
        return len(self.detector.templates_)

    def maps(self, images: Images, laps: Laps | None = None) -> Maps:
        """Anomaly maps [B, H, W] of images of the view."""
        found = self.detector.anomaly_maps(to_batch(images, self.device)).cpu().numpy()
        if laps is not None:
            laps.lap("detector")
        return found

    def examined(
        self, image: npt.NDArray[np.float32], laps: Laps | None = None
    ) -> tuple[Maps, Nearest]:
        """The map [1, H, W] of one image, and the template of any place in it."""
        found, nearest = self.detector.examined(to_batch([image], self.device))
        maps = found.cpu().numpy()
        if laps is not None:
            laps.lap("detector")
        return maps, nearest

    def scores(self, maps: Maps) -> npt.NDArray[np.float32]:
        """One raw score [B] a map."""
        return self.detector.scores(torch.from_numpy(maps)).numpy()

    def calibration_maps(
        self,
        images: Images,
        positions: Sequence[int],
        own: Sequence[int],
        progress: Progress = silent,
    ) -> Iterator[Maps]:
        """Maps of good images, each as if it was not learned from."""
        found = self.detector.calibration_maps(images, positions, own, progress=progress)
        return (maps.cpu().numpy() for maps in found)

    def state(self) -> Parts:
        """Everything learned, as named tensors."""
        return self.detector.state()

    def whole(self) -> Self:
        """The engine that loading its `state` would give."""
        before = self.detector
        again = type(before)(**before.parameters())
        again.recall(before.learned())
        again.restore(before.state(), before.backbone_, list(range(self.templates)))
        return self._of(again)

    def sheets_of(
        self, images: Images, positions: Sequence[int], progress: Progress = silent
    ) -> Tensors:
        """What `added` keeps of the good images at `positions`."""
        if not self.updates:
            raise ParameterError(self.no_update())
        read = batches(
            images, positions, size=_BATCH, device=self.device, stage="learning", progress=progress
        )
        found = [self.detector.sheets_of(batch) for _, batch in read]
        return {name: np.concatenate([part[name] for part in found]) for name in found[0]}

    def added(self, sheets: Mapping[str, npt.NDArray[np.generic]], samples: int) -> Self:
        """An engine that has learned `samples` more images."""
        return self._of(self.detector.added(sheets, samples))

    def removed(self, positions: Sequence[int]) -> Self:
        """An engine without the templates at `positions`."""
        return self._of(self.detector.removed(positions))

    def parameters(self) -> Mapping[str, Any]:
        """The detector's hyper-parameters."""
        return self.detector.parameters()

    def _of(self, detector: Detector) -> Self:
        return type(self)(detector, self.device)


def detector_of(engine: Engine) -> Detector:
    """The torch detector that an engine wraps, of tiles the first one's.

    Raises ParameterError for exported graphs.
    """
    if isinstance(engine, TiledEngine):
        return detector_of(engine.tiles[0])
    if isinstance(engine, TorchEngine):
        return engine.detector
    raise ParameterError(
        "this inspector was exported: it runs graphs and has no PyTorch detector; "
        "use the bundle that it was exported from"
    )
