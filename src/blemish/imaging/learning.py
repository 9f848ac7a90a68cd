"""What a view learns from good images: the golden image, whether and how to align, two limits.

Whether aligning helps is asked of the good images alone: does it bring each of them closer to the
others? A freer motion is taken only where it gains clearly over every simpler one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from blemish.errors import NoImagesError, ParameterError
from blemish.imaging.alignment import Aligner, Mode, Placement
from blemish.imaging.areas import counted, to_area
from blemish.imaging.geometry import Mask, Matrix, inverse, lands_in, warp
from blemish.imaging.golden import Golden
from blemish.imaging.raster import Pixels, Raster
from blemish.imaging.sequence import Progress, silent
from blemish.imaging.sketches import Sketch, shrunk_mask
from blemish.imaging.view import View

# A homography always fits a little closer, costs most, and is for a camera or part that tilts:
# it is for those who know that, and ask.
AUTOMATIC: tuple[Mode, ...] = ("none", "translation", "rigid", "similarity")
EXAMINED = 24  # good images that a motion is chosen with
JUDGED = 60  # good images that the limits come from
FEWEST = 3  # so that the limits have two parts beside the golden image
GAIN = 0.25  # of the distance that a freer motion must save,
LEVEL = 0.5  # and grey levels of 255: less is a fraction of a pixel, or noise
_SLACK = 0.15  # of what counts that may be missing, beyond what good parts miss
_TIGHT = 0.1  # residual that is never a misplaced part: a defect can have as much
_UNLIKE = 0.5  # residual of the middle good part that a golden image is refused at
_FLAT = 1e-3  # standard deviation in [0, 1] of a picture without texture

Grey = npt.NDArray[np.float32]


@dataclass(frozen=True)
class AlignChoice:
    """The motion taken, and how far good parts are from their nearest other with each one tried.

    The distance is the mean difference in grey levels (of 255), brightness apart.
    """

    taken: Mode
    tried: tuple[tuple[Mode, float], ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        return {"taken": self.taken, "tried": {mode: round(far, 3) for mode, far in self.tried}}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> AlignChoice:
        """What `to_dict` gave."""
        return cls(values["taken"], tuple(values["tried"].items()))

    def __str__(self) -> str:
        tried = ", ".join(f"{mode} {far:.1f}" for mode, far in self.tried)
        return f"{self.taken} (grey levels from a good part to its nearest other: {tried})"


def learn_view(
    view: View,
    images: Sequence[Pixels | Raster],
    *,
    roi: Any = None,
    ignore: Any = None,
    golden: Pixels | Raster | None = None,
    progress: Progress = silent,
) -> tuple[View, AlignChoice | None]:
    """The view with what it needs of good images as read, and the choice made for auto.

    `roi` and `ignore` are areas (see `to_area`) in pixels of the golden image [H, W, 3]; if none is
    given, that is the first image where there are areas, else the most typical one. Raises
    NoImagesError and ParameterError.
    """
    areas = [None if area is None else to_area(area) for area in (roi, ignore)]
    drawn = any(area is not None for area in areas)
    if view.align == "none":
        if not drawn:
            return replace(view, golden=None), None
        hw = _hw(images[0] if golden is None else golden)
        return replace(view, golden=Golden(hw, mask=counted(hw, *areas))), None
    learner = _Learner(view, images, progress)
    position = None
    if golden is None:
        position = 0 if drawn else learner.most_typical()
        golden = images[position]
    mask = counted(_hw(golden), *areas) if drawn else None
    return learner.learned(golden, position, mask)


class _Learner:
    """Learns how to align from good images, each of which is sketched once."""

    def __init__(self, view: View, images: Sequence[Pixels | Raster], progress: Progress) -> None:
        if len(images) < FEWEST:
            raise NoImagesError(
                f"{len(images)} good images are too few to align parts with: give at least {FEWEST}"
            )
        self.view, self.images, self.progress = view, images, progress
        self._examined = spaced(len(images), EXAMINED)
        self._known: dict[int, Sketch] = {}

    def most_typical(self) -> int:
        """The position of the good image nearest to all others, as they lie and then aligned."""
        sketches = self._sketches(self._examined)
        at = 0
        for mode in ("none", "rigid"):
            placed = _placements(sketches[at], None, mode, sketches)
            far = distances(sketches[at], None, sketches, placed)
            np.fill_diagonal(far, 0)
            at = int(far.sum(axis=1).argmin())
        return self._examined[at]

    def learned(
        self, golden: Pixels | Raster, position: int | None, mask: Mask | None
    ) -> tuple[View, AlignChoice | None]:
        """The view that aligns with `golden`, which is the image at `position` or none of them."""
        hw, sketch = _hw(golden), Sketch.of(golden)
        if float(sketch.high.grey.std()) < _FLAT:
            raise ParameterError(
                "the golden image is one even grey, with nothing in it to align by; choose another "
                "or leave alignment out"
            )
        choice, mode = None, self.view.align
        if mode == "auto":
            choice = choose(sketch, mask, self._sketches(self._examined))
            mode = choice.taken
        if mode == "none":
            found = None if mask is None else Golden(hw, mask=mask)
            return replace(self.view, align="none", golden=found), choice
        others = [at for at in spaced(len(self.images), JUDGED) if at != position]
        judged = self._sketches(others)
        if position is None:  # one of them all the same, perhaps, which fits itself too well
            judged = [one for one in judged if not one.shows(sketch)] or judged
        placed = _placements(sketch, mask, mode, judged)
        if position is None:
            _check_alike(placed)
        seldom = ~_often_shown(sketch, judged, placed)
        if seldom.any():
            mask = ~_enlarged(seldom, hw) if mask is None else mask & ~_enlarged(seldom, hw)
            placed = _placements(sketch, mask, mode, judged)
        limit, least = _limits(placed)
        whole = replace(self.view, align="none", window=None, golden=None)
        picture = np.rint(whole.apply(golden) * np.float32(255)).astype(np.uint8)
        return replace(
            self.view, align=mode, golden=Golden(hw, picture, mask, limit, least)
        ), choice

    def _sketches(self, positions: Sequence[int]) -> list[Sketch]:
        for done, at in enumerate(positions):
            self.progress("aligning good images", done, len(positions))
            if at not in self._known:
                self._known[at] = Sketch.of(self.images[at])
        self.progress("aligning good images", len(positions), len(positions))
        return [self._known[at] for at in positions]


def choose(golden: Sketch, mask: Mask | None, sketches: Sequence[Sketch]) -> AlignChoice:
    """The simplest motion that brings good parts clearly closer to each other."""
    tried: list[tuple[Mode, float]] = []
    for mode in AUTOMATIC:
        apart = distances(golden, mask, sketches, _placements(golden, mask, mode, sketches))
        tried.append((mode, float(apart.min(axis=1).mean())))
    taken, best = tried[0]
    for mode, far in tried[1:]:
        if far < min((1 - GAIN) * best, best - LEVEL):
            taken, best = mode, far
    return AlignChoice(taken, tuple(tried))


def distances(
    golden: Sketch, mask: Mask | None, sketches: Sequence[Sketch], placed: Sequence[Placement]
) -> npt.NDArray[np.float64]:
    """Mean differences in grey levels between aligned parts where both count; inf to itself."""
    level = golden.high
    counts = np.ones(level.hw, np.bool_) if mask is None else shrunk_mask(mask, level.hw)
    pictures, shown = [], []
    for sketch, placement in zip(sketches, placed, strict=True):
        matrix = _onto(golden, sketch, placement)
        pictures.append(np.asarray(warp(sketch.high.grey, matrix, level.hw), np.float32))
        shown.append(counts & lands_in(matrix, level.hw, sketch.high.hw))
    found = np.full((len(pictures), len(pictures)), np.inf)
    for i in range(len(pictures)):
        for j in range(i):
            both = shown[i] & shown[j]
            if both.any():
                difference = (pictures[i] - pictures[j])[both]
                found[i, j] = found[j, i] = 255 * np.abs(difference - difference.mean()).mean()
    return found


def _placements(
    golden: Sketch, mask: Mask | None, mode: Mode, sketches: Sequence[Sketch]
) -> list[Placement]:
    if mode == "none":
        return [Placement(np.eye(3), 0.0, 1.0)] * len(sketches)
    aligner = Aligner(golden, mask, mode)
    return [aligner.place(sketch) for sketch in sketches]


def _check_alike(placed: Sequence[Placement]) -> None:
    """Raise ParameterError where good parts are not like the golden image that was given."""
    middle = float(np.median([one.residual for one in placed]))
    if not middle <= _UNLIKE:
        raise ParameterError(
            f"the good images cannot be aligned with the golden image (half of them have a "
            f"residual of {middle:.2f} or more, where 0 is a perfect fit); give a picture of a "
            "good part of the same kind, or leave the golden image out"
        )


def _limits(placed: Sequence[Placement]) -> tuple[float, float]:
    """The residual and the share shown that good parts stay within."""
    residuals = np.array([one.residual for one in placed])
    worst = float(residuals.max())
    # As far again beyond the worst good part as that is from the middle one.
    limit = max(_TIGHT, worst + worst - float(np.median(residuals)))
    return limit, max(0.0, min(one.shown for one in placed) - _SLACK)


def _often_shown(golden: Sketch, sketches: Sequence[Sketch], placed: Sequence[Placement]) -> Mask:
    """Which pixels of the golden image at its high level at least half of these parts show.

    Where fewer do, the corners of parts at any angle, there are too few templates to compare with.
    """
    level = golden.high
    shown = np.zeros(level.hw, np.int64)
    for sketch, placement in zip(sketches, placed, strict=True):
        shown += lands_in(_onto(golden, sketch, placement), level.hw, sketch.high.hw)
    return np.asarray(2 * shown >= len(sketches))


def _onto(golden: Sketch, part: Sketch, placement: Placement) -> Matrix:
    """From pixels of the golden image's high level to those of the part's."""
    return np.asarray(part.high.to_pixels @ placement.matrix @ inverse(golden.high.to_pixels))


def _enlarged(mask: Mask, hw: tuple[int, int]) -> Mask:
    return np.asarray(
        cv2.resize(mask.astype(np.uint8), (hw[1], hw[0]), interpolation=cv2.INTER_NEAREST) > 0
    )


def _hw(image: Pixels | Raster) -> tuple[int, int]:
    return image.hw if isinstance(image, Raster) else (image.shape[0], image.shape[1])


def spaced(count: int, wanted: int) -> list[int]:
    """At most `wanted` positions of `count`, evenly spaced."""
    if count <= wanted:
        return list(range(count))
    return [int(at) for at in np.linspace(0, count - 1, wanted).round()]
