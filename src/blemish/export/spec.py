"""What HETMM's two graphs take and give, level by level, as the bundle records it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from blemish.bundle import LevelRecord
from blemish.errors import NotFittedError
from blemish.detectors import HETMM
from blemish.detectors.hetmm.free import FreeBank
from blemish.detectors.hetmm.matching import directions_needed


@dataclass(frozen=True)
class GraphSpec:
    """The view's size in pixels, and the levels; `image` is [1, height, width, 3] RGB in [0, 1]."""

    height: int
    width: int
    levels: tuple[LevelRecord, ...]
    image: str = "image"
    anomaly_map: str = "anomaly_map"


def graph_spec(detector: HETMM, size: tuple[int, int]) -> GraphSpec:
    """The layout of a fitted detector's graphs for views of `size` (height, width)."""
    if not hasattr(detector, "banks_"):
        raise NotFittedError("This HETMM has no templates yet; call fit with good images first")
    levels = []
    windows = detector.searched
    settings = zip(
        detector.levels,
        detector.banks_,
        windows.forward,
        windows.backward,
        detector.alpha,
        detector.level_weights,
        strict=True,
    )
    for level, bank, forward, backward, alpha, weight in settings:
        if bank is None:  # the level is off
            continue
        radii: dict[str, int | None] = {"forward": None, "backward": None}
        if isinstance(bank, FreeBank) or forward == "map":
            assert isinstance(bank, FreeBank)
            kind: Literal["tiles", "free"] = "free"
            reduced = bank.components
            channels = bank.vectors.shape[1] if reduced is None else len(reduced)
            templates, dtype, alpha = f"vectors{level}", bank.vectors.dtype, 1.0
        else:
            kind, channels = "tiles", bank.channels
            templates, dtype = f"templates{level}", bank.dtype
            forward, backward, alpha = directions_needed(forward, backward, alpha)
            radii = {
                "forward": forward // 2 if forward else None,
                "backward": backward // 2 if backward else None,
            }
        record = {
            "level": level,
            "kind": kind,
            "channels": channels,
            "height": bank.height,
            "width": bank.width,
            "features": f"level{level}",
            "templates": templates,
            "dtype": str(dtype).removeprefix("torch."),
            "alpha": alpha,
            "weight": weight,
            **radii,
        }
        levels.append(LevelRecord.model_validate(record))
    return GraphSpec(*size, tuple(levels))
