"""Fitting: from good images to an engine, and what the bundle must know of how it was made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from blemish.bundle import BackboneRecord
from blemish.detector import Detector
from blemish.engine import Engine, Images
from blemish.imaging import Progress, Tiling, silent
from blemish.learning.device import resolve_device
from blemish.learning.engine import TorchEngine, detector_of
from blemish.learning.tiles import fitted_tiles


@dataclass(frozen=True)
class Fitted:
    """What `fit` left: the engine, the records of it, and which images became templates."""

    engine: Engine
    method: str
    parameters: dict[str, Any]
    learned: dict[str, Any]
    backbone: BackboneRecord
    templates: tuple[int, ...]


def started(detector: Detector, device: str) -> bool:
    """Start the other processes that `detector` learns with; whether this is the first of all."""
    return detector.start(resolve_device(device))


def fitted(
    detector: Detector,
    images: Images,
    *,
    device: str,
    seed: int,
    tiling: Tiling | None = None,
    progress: Progress = silent,
) -> Fitted:
    """Fit `detector` on good images [H, W, 3], or one like it a tile of tall images."""
    found = resolve_device(device)
    engine: Engine
    if tiling is None:
        detector.fit(images, device=found, seed=seed, progress=progress)
        engine = TorchEngine(detector, found)
    else:
        engine = fitted_tiles(detector, images, tiling, device=found, seed=seed, progress=progress)
        detector = detector_of(engine.tiles[0])
    backbone = detector.backbone_
    return Fitted(
        engine=engine,
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
