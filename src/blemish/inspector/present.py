"""What an inspector is at present: its version, templates, calibration, pictures and history."""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt

from blemish.bundle import HistoryEntry, TemplateRecord, TrainingRecord
from blemish.detectors import HETMM, Detector
from blemish.errors import NotFittedError
from blemish.inspector.archive import Archive
from blemish.inspector.pictures import PictureAt, as_bytes, at_positions
from blemish.inspector.snapshot import Snapshot, recorded_detection
from blemish.verdict import Calibration, Detection


class Present:
    """Reads the current version, which is one object that is only ever replaced."""

    _detector: Detector | None
    _now: Snapshot | None
    _archive: Archive
    _changing: threading.RLock

    def snapshot(self) -> Snapshot:
        """The current version, which nothing changes any more."""
        return self._fitted()

    @property
    def detector(self) -> Detector:
        """The detector of the current version, or, before `fit`, the one that it will fit."""
        if (now := self._now) is not None:
            return now.detector
        self._detector = self._detector or HETMM()
        return self._detector

    @property
    def version(self) -> int:
        """The current version's number: from 1, 0 before `fit`."""
        return 0 if (now := self._now) is None else now.manifest.version

    @property
    def calibration(self) -> Calibration | None:
        """The current version's calibration, if it has one."""
        return None if (now := self._now) is None else now.calibration

    @property
    def detection(self) -> Detection | None:
        """What synthetic defects were found when that was asked last, of this or an older one."""
        return recorded_detection(None if (now := self._now) is None else now.manifest.detection)

    @property
    def templates(self) -> tuple[TemplateRecord, ...]:
        """The current version's templates, in the detector's order."""
        return () if (now := self._now) is None else tuple(now.manifest.templates)

    @property
    def training(self) -> TrainingRecord:
        """What `fit` learned from."""
        return self._fitted().manifest.training

    @property
    def history(self) -> tuple[HistoryEntry, ...]:
        """Every version, oldest first."""
        with self._changing:
            found = self._archive.versions(self._fitted().version)
            return tuple(HistoryEntry.of(version.manifest) for version in found)[::-1]

    def picture(self, key: str) -> npt.NDArray[np.uint8]:
        """The viewed pixels [H, W, 3] of the good image with this id; raises ParameterError."""
        return as_bytes(self._fitted().pictures[key])

    def template_pictures(self) -> PictureAt | None:
        """What `Detector.explain` shows of a template, by its position; None without pictures."""
        now = self._fitted()
        return at_positions(now.pictures, [record.id for record in now.manifest.templates])

    def _fitted(self) -> Snapshot:
        now = self._now
        if now is None:
            raise NotFittedError("This inspector has not learned yet; call fit or Inspector.load")
        return now
