"""How a bundle's detector is made on this machine."""

from __future__ import annotations

import os
from dataclasses import dataclass

from blemish.bundle import Manifest, read_content, read_part
from blemish.detectors import Detector, restore_detector


@dataclass(frozen=True)
class Opening:
    """Where and within what a detector runs: the `device`, MiB of `memory` for templates."""

    device: str = "auto"
    memory: int | None = None

    def detector(self, folder: str | os.PathLike[str], manifest: Manifest) -> Detector:
        """Rebuild the detector of a version's whole state, before its steps."""
        return restore_detector(
            manifest,
            lambda part: read_content(folder, manifest, part),
            lambda part: read_part(folder, manifest, part),
            os.fspath(folder),
            device=self.device,
            memory=self.memory,
        )
