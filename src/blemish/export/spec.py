"""What the line floor must know to run HETMM's two graphs, as plain values for the bundle."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from blemish.errors import NotFittedError
from blemish.hetmm import HETMM
from blemish.hetmm.free import FreeBank
from blemish.hetmm.matching import directions_needed

Kind = Literal["tiles", "free"]


@dataclass(frozen=True)
class LevelSpec:
    """One level that is on: its map [channels, height, width] and the graphs' names for it.

    `features` is an output of the features graph and an input of the match graph, `templates` the
    input for what was learned, float32. Of the kind `tiles` these are N sheets in 2 x 2 tiles
    [R, S, 4, N, C], zeros where the last tiles reach beyond the map: [r, s, 2 i + j, k] is the
    vector of sheet k at (2 r + i, 2 s + j). Of the kind `free` they are M vectors [M, D]. N and M
    may change from call to call. `dtype`: the type whose rounding the values must have.
    """

    level: int
    kind: Kind
    channels: int
    height: int
    width: int
    features: str
    templates: str
    dtype: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class GraphSpec:
    """The view's size in pixels, and the levels; `image` is [1, height, width, 3] RGB in [0, 1]."""

    height: int
    width: int
    levels: tuple[LevelSpec, ...]
    image: str = "image"
    anomaly_map: str = "anomaly_map"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "levels": [level.to_dict() for level in self.levels]}


@dataclass(frozen=True)
class Search:
    """How one level is matched: radii in pixels (None: that direction is off) and weights."""

    forward: int | None
    backward: int | None
    alpha: float
    weight: float

    @property
    def reach(self) -> int:
        """How far from a template pixel a query pixel is looked at."""
        return max(radius for radius in (self.forward, self.backward) if radius is not None)


def graph_spec(detector: HETMM, size: tuple[int, int]) -> GraphSpec:
    """The layout of a fitted detector's graphs for views of `size` (height, width)."""
    if not hasattr(detector, "banks_"):
        raise NotFittedError("This HETMM has no templates yet; call fit with good images first")
    levels = []
    for level, bank in zip(detector.levels, detector.banks_, strict=True):
        if bank is None:  # the level is off
            continue
        if isinstance(bank, FreeBank):
            kind: Kind = "free"
            reduced = bank.components
            channels = bank.vectors.shape[1] if reduced is None else len(reduced)
            templates, dtype = f"vectors{level}", bank.vectors.dtype
        else:
            kind, channels = "tiles", bank.channels
            templates, dtype = f"templates{level}", bank.dtype
        levels.append(
            LevelSpec(
                level=level,
                kind=kind,
                channels=channels,
                height=bank.height,
                width=bank.width,
                features=f"level{level}",
                templates=templates,
                dtype=str(dtype).removeprefix("torch."),
            )
        )
    return GraphSpec(*size, tuple(levels))


def search_of(detector: HETMM, level: int) -> Search:
    """How `level` of a fitted detector is matched; a location-free one has no radii."""
    index = list(detector.levels).index(level)
    weight = detector.level_weights[index]
    windows = detector.searched
    forward, backward = windows.forward[index], windows.backward[index]
    if forward == "map":
        return Search(None, None, 1.0, weight)
    forward, backward, alpha = directions_needed(forward, backward, detector.alpha[index])
    return Search(
        forward // 2 if forward else None, backward // 2 if backward else None, alpha, weight
    )
