"""TFA-Net on the line floor: one graph from image to map."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from blemish.bundle import GraphsRecord
from blemish.engine import Laps, Maps, Parts
from blemish.errors import ParameterError
from blemish.runtime.engine import GraphEngine
from blemish.runtime.sessions import Session


class NetworkEngine(GraphEngine):
    """A trained network's graph; it has no templates that could come and go."""

    leaves_one_out = False
    updates = False

    def __init__(
        self,
        method: str,
        record: GraphsRecord,
        parameters: Mapping[str, Any],
        network: Session,
        templates: int,
    ) -> None:
        super().__init__(method, record, parameters)
        self._network, self._templates = network, templates

    @property
    def templates(self) -> int:
        """How many good images it was trained on."""
        return self._templates

    def state(self) -> Parts:
        """Nothing beside the graph."""
        return {}

    def whole(self) -> Self:
        """Itself: nothing ever changes."""
        return self

    def _map(self, image: npt.NDArray[np.float32], laps: Laps | None) -> Maps:
        found = self._network.run({self.record.image: image})[self.record.anomaly_map]
        if laps is not None:
            laps.lap("network")
        return found

    def _map_without(self, image: npt.NDArray[np.float32], template: int) -> Maps:
        if template >= 0:
            raise ParameterError(
                "TFA-Net cannot calibrate on images it was trained on; give other good parts."
            )
        return self._map(image, None)
