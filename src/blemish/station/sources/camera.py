"""Parts from a camera: each frame that is taken is kept as a PNG, to the last bit."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt

from blemish.imaging import encode_png
from blemish.station.inspecting import Inspecting, Part
from blemish.station.settings import CameraSource
from blemish.station.sources.intake import Intake, request_key
from blemish.station.store import new_id
from blemish.streams import Camera, Opener
from blemish.streams.capture import opencv


class CameraIntake(Intake):
    """The frames of a camera, which is opened again when it is lost; `counts` has `reconnects`.

    With `every_s` the frames between are read and let go, so that the next one is fresh.
    """

    def __init__(
        self, settings: CameraSource, inspecting: Inspecting, *, open: Opener = opencv
    ) -> None:
        super().__init__(settings.name, settings.inspector, inspecting)
        self.every = settings.every_s
        self._settings, self._open = settings, open
        self._camera = self._made()

    def _run(self) -> None:
        if self._camera.health.state != "ready":
            self._camera = self._made()
        if self._stopping.is_set():
            return
        due = 0.0
        for frame in self._camera:
            now = time.monotonic()
            if now < due:
                continue
            due = now + self.every
            image: Any = frame.image
            part = Part(
                self.inspector,
                encode_png(_rgb(image)),
                source=self.name,
                image=frame.name,
                # Of its own: a frame that was recorded just when the database went is not twice.
                request_key=request_key("camera", self.name, new_id()),
                arrived=now,
            )
            if not self._take(part):
                return

    def _leave(self) -> None:
        self._camera.close()

    def _source_trouble(self) -> str | None:
        health = self._camera.health
        return health.last_error if health.state in {"retrying", "failed"} else None

    def _source_counts(self) -> dict[str, int]:
        return dict(self._camera.health.counts)

    def _made(self) -> Camera:
        return Camera(
            self._settings.address, timeout=self._settings.timeout_s, reconnect=True,
            open=self._open,
        )  # fmt: skip


def _rgb(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """RGB of grey [H, W], which `encode_png` does not take."""
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image
