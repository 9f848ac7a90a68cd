"""Fitting: from good images to an engine, and what the bundle must know of how it was made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from blemish.bundle import BackboneRecord
from blemish.detector import Detector
from blemish.engine import Images
from blemish.imaging import Progress, silent
from blemish.learning.device import resolve_device
from blemish.learning.engine import TorchEngine


@dataclass(frozen=True)
class Fitted:
    """What `fit` left: the engine, the records of it, and which images became templates."""

    engine: TorchEngine
    method: str
    parameters: dict[str, Any]
    learned: dict[str, Any]
    backbone: BackboneRecord
    templates: tuple[int, ...]


def fitted(
    detector: Detector, images: Images, *, device: str, seed: int, progress: Progress = silent
) -> Fitted:
    """Fit `detector` on good images [H, W, 3]."""
    found = resolve_device(device)
    detector.fit(images, device=found, seed=seed, progress=progress)
    backbone = detector.backbone_
    return Fitted(
        engine=TorchEngine(detector, found),
        method=detector.method,
        parameters={
            name: list(value) if isinstance(value, tuple) else value
            for name, value in detector.parameters().items()
        },
        learned=detector.learned(),
        backbone=BackboneRecord(
            name=backbone.name,
            levels=list(detector.levels),
            taps=detector.taps,
            weights_sha256=backbone.weights_sha256,
        ),
        templates=tuple(detector.templates_),
    )
