"""How far each level searches, and which of several ways suits a part, from good images alone.

One rule for every part. Each way in turn scores good images, each matched with all others, and the
same images with defects made by cutting and pasting (Li et al., CutPaste, CVPR 2021). The way that
tells them apart best is taken; the earlier in the list where two do so almost equally well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from blemish.errors import NoImagesError
from blemish.imaging import Progress, silent

Window = int | Literal["map"]  # "map": as large as the map, so that a pixel's place does not matter

EXAMINED = 240  # good images that a way is tried with: more tell the same, later
QUERIES = 24  # of those, scored as good parts
DEFECTS = 3  # made in each of these
CLOSE = 0.005  # ways whose AUROC differs by less are equally good

Image = npt.NDArray[np.float32]  # [H, W, 3] in [0, 1]


@dataclass(frozen=True)
class Windows:
    """Search windows a level, forward and backward, and the side of local averaging (1: none)."""

    name: str
    forward: tuple[Window, ...]
    backward: tuple[int, ...]
    average: int = 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    def settings(self) -> dict[str, Any]:
        """The detector's keyword arguments that search this way."""
        return {
            "windows": "given",
            "forward": self.forward,
            "backward": self.backward,
            "average": self.average,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Windows:
        """What `to_dict` gave."""
        return cls(
            values["name"], tuple(values["forward"]), tuple(values["backward"]), values["average"]
        )


@dataclass(frozen=True)
class Choice:
    """The way taken, and the AUROC of synthetic defects against good parts for each way tried."""

    taken: Windows
    tried: tuple[tuple[Windows, float], ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        return {
            "taken": self.taken.to_dict(),
            "tried": [{**way.to_dict(), "auroc": round(auroc, 4)} for way, auroc in self.tried],
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Choice:
        """What `to_dict` gave."""
        tried = tuple((Windows.from_dict(way), way["auroc"]) for way in values["tried"])
        return cls(Windows.from_dict(values["taken"]), tried)

    def __str__(self) -> str:
        tried = ", ".join(f"{way.name} {100 * auroc:.1f}" for way, auroc in self.tried)
        return f"{self.taken.name} (synthetic defects found, AUROC: {tried})"


def ways(given: Windows, on: Sequence[int]) -> list[Windows]:
    """What is tried: the windows as given, then location-free on the last of the levels `on`.

    `on` are positions; a level that is off stays off.
    """
    levels = range(len(given.forward))
    off = (0,) * len(levels)

    def anywhere(free: Sequence[int]) -> tuple[Window, ...]:
        return tuple("map" if index in free else 0 for index in levels)

    found = [
        replace(given, name="in place"),
        Windows("anywhere", anywhere(on[-1:]), off),
        Windows("anywhere, averaged", anywhere(on[-1:]), off, 3),
    ]
    if len(on) > 1:
        found.append(Windows("anywhere, two levels", anywhere(on[-2:]), off))
    return found


def choose(
    candidates: Sequence[Windows],
    images: Sequence[Image],
    scores: Callable[[Windows, Sequence[Image], list[tuple[int, Image]]], npt.NDArray[np.float64]],
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> Choice:
    """The best of `candidates` for the good `images`.

    `scores(way, images, queries)` fits that way on `images` and scores each query, an image made
    from the one at its position, matched with all others.
    """
    if len(images) < 4:
        raise NoImagesError(
            f"{len(images)} good images are too few to choose windows from: give at least 4, "
            "or leave --windows out"
        )
    examined = [images[i] for i in _spaced(len(images), EXAMINED)]
    generator = np.random.default_rng(seed)
    queries: list[tuple[int, Image]] = []
    for position in _spaced(len(examined), QUERIES):
        queries.append((position, examined[position]))
        queries += [(position, with_defect(examined[position], generator)) for _ in range(DEFECTS)]
    good = np.arange(len(queries)) % (DEFECTS + 1) == 0
    tried = []
    for number, way in enumerate(candidates):
        progress("choosing windows", number, len(candidates))
        found = scores(way, examined, queries)
        tried.append((way, _auroc(found[~good], found[good])))
    progress("choosing windows", len(candidates), len(candidates))
    best = max(auroc for _, auroc in tried)
    taken = next(way for way, auroc in tried if auroc >= best - CLOSE)
    return Choice(taken, tuple(tried))


def with_defect(image: Image, generator: np.random.Generator) -> Image:
    """The image [H, W, 3] with a piece of itself pasted elsewhere, turned and a little changed.

    A patch of 0.5 to 4 % of the area, or a scar of 5 to 25 % of the side and 1 to 3 % wide; never
    so thin that it falls between pixels.
    """
    height, width = image.shape[:2]
    side = float(np.sqrt(height * width))
    if generator.random() < 0.5:
        area = generator.uniform(0.005, 0.04) * height * width
        ratio = np.exp(generator.uniform(-1, 1))
        size = np.sqrt(area * ratio), np.sqrt(area / ratio)
    else:
        size = generator.uniform(0.05, 0.25) * side, generator.uniform(0.01, 0.03) * side
    inside = _turned_box(height, width, size, generator)
    shift = (
        generator.integers(height // 8, height - height // 8 + 1),
        generator.integers(width // 8, width - width // 8 + 1),
    )
    piece = np.roll(image, shift, axis=(0, 1)) * generator.uniform(0.7, 1.3)
    return np.where(inside[..., None], piece.clip(0, 1), image).astype(np.float32)


def _turned_box(
    height: int, width: int, size: tuple[float, float], generator: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Which pixels lie in a box of this size, anywhere and at any angle: at least one.

    Any point among the pixels is within sqrt(1/2) of one, so 1.5 pixels are wide enough.
    """
    y = np.arange(height)[:, None] - generator.uniform(0, height - 1)
    x = np.arange(width)[None] - generator.uniform(0, width - 1)
    angle = generator.uniform(0, np.pi)
    half = max(size[0], 1.5) / 2, max(size[1], 1.5) / 2
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    inside: npt.NDArray[np.bool_] = (abs(along) <= half[0]) & (abs(across) <= half[1])
    return inside


def _auroc(worse: npt.NDArray[np.float64], better: npt.NDArray[np.float64]) -> float:
    above = (worse[:, None] > better).mean() + 0.5 * (worse[:, None] == better).mean()
    return float(above)


def _spaced(count: int, wanted: int) -> list[int]:
    if count <= wanted:
        return list(range(count))
    return [int(i) for i in np.linspace(0, count - 1, wanted).round()]
