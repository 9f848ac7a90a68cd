"""TFA-Net without PyTorch: an exported graph from image to map."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from blemish.bundle import BackboneRecord, GraphsRecord
from blemish.detectors.base import Images, Laps, Maps, Parts
from blemish.detectors.graph import GraphDetector
from blemish.errors import ParameterError
from blemish.graphs.sessions import Session
from blemish.imaging import Progress, silent


class NetworkDetector(GraphDetector):
    """A trained network's graph; it has no templates that could come and go."""

    method: ClassVar[str] = "tfanet"
    leaves_one_out: ClassVar[bool] = False

    def __init__(
        self,
        parameters: Mapping[str, Any],
        record: GraphsRecord,
        backbone: BackboneRecord,
        network: Session,
        files: Mapping[str, bytes],
        templates: int,
    ) -> None:
        self._parameters, self._record, self._backbone = dict(parameters), record, backbone
        self._network, self._files = network, dict(files)
        self.templates_ = list(range(templates))

    def fit(
        self,
        images: Images,
        *,
        device: str = "auto",
        seed: int = 0,
        progress: Progress = silent,
    ) -> Self:
        """Raise ParameterError: a graph learns nothing more."""
        raise ParameterError(
            "this inspector was exported: its network cannot be trained on; fit a new one"
        )

    @property
    def hw(self) -> tuple[int, int]:
        """Height and width of the images that the graph takes."""
        return self._record.height, self._record.width

    @property
    def backbone_record(self) -> BackboneRecord:
        """See `Detector.backbone_record`."""
        return self._backbone

    def parameters(self) -> dict[str, Any]:
        """See `Detector.parameters`."""
        return self._parameters

    def scores(self, maps: Maps) -> npt.NDArray[np.float32]:
        """See `Detector.scores`: each map's population standard deviation, or maximum."""
        pixels = maps.reshape(len(maps), -1)
        found = pixels.max(1) if self._record.score == "max" else pixels.std(1)
        return np.asarray(found, np.float32)

    def state(self) -> Parts:
        """See `Detector.state`: nothing beside the graph."""
        return {}

    def graphs(self) -> tuple[GraphsRecord | None, dict[str, bytes]]:
        """See `Detector.graphs`."""
        return self._record, self._files

    def whole(self) -> Self:
        """See `Detector.whole`: itself, for nothing ever changes."""
        return self

    def _map(self, image: npt.NDArray[np.float32], laps: Laps | None) -> npt.NDArray[np.float32]:
        found = self._network.run({self._record.image: image})[self._record.anomaly_map]
        if laps is not None:
            laps.lap("network")
        anomaly_map: npt.NDArray[np.float32] = found[0]
        return anomaly_map

    def _map_without(
        self, image: npt.NDArray[np.float32], template: int
    ) -> npt.NDArray[np.float32]:
        if template >= 0:
            raise ParameterError(
                "TFA-Net cannot calibrate on images it was trained on; give other good parts."
            )
        return self._map(image, None)
