"""Why HETMM scores a point as it does: the template pixels that matched best, and where they lie.

The map is a weighted sum of distances to nearest neighbours (docs/hetmm.md), so each point has a
witness for each level and direction: forward, the template pixel most like the image's; backward,
the image's pixel most like the template's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from blemish.errors import ImageArrayError, ParameterError
from blemish.hetmm.free import FreeBank
from blemish.hetmm.matching import best_match, directions_needed
from blemish.imaging.augmentation import copies
from blemish.imaging.contact import below, beside, captioned
from blemish.runtime.nearest import to_cell

if TYPE_CHECKING:
    from blemish.hetmm.detector import HETMM

Picture = npt.NDArray[np.uint8]  # [H, W, 3], RGB
Pictures = Callable[[int], Picture]  # a template's position to its viewed pixels
Point = tuple[int, int]  # x, y in pixels of the view

CONTEXT = 0.25  # of the view's side: what a patch shows around its point
PATCH = 176  # px: the side of a drawn patch
_CELL = (255, 40, 60)
_WINDOW = (0, 150, 255)


@dataclass(frozen=True)
class Witness:
    """The best match of one point at one level in one direction.

    `template` is the position in the detector's templates, `copy` which augmented copy of it
    (empty: the image itself). `distance` is 1 - cosine, `share` what it adds to the map before
    smoothing. `image` and `matched` are (x, y) of the view, in the image and in the template.
    """

    level: int
    direction: str  # forward: image pixel looks in templates; backward: template pixel in the image
    template: int
    copy: str
    distance: float
    share: float
    image: Point
    matched: Point

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


def peak(anomaly_map: Tensor) -> Point:
    """The highest point (x, y) of a map [H, W]."""
    y, x = divmod(int(anomaly_map.argmax()), anomaly_map.shape[1])
    return x, y


def find_witnesses(
    detector: HETMM,
    images: Tensor,
    points: Sequence[Point],
    features: Sequence[Tensor] | None = None,
) -> list[list[Witness]]:
    """The witnesses of each point (x, y) of one image [1, 3, H, W] in [0, 1], level by level.

    `features` are the detector's of this image, where they are at hand.
    """
    size = _one_image(images)
    _check_points(points, size)
    found: list[list[Witness]] = [[] for _ in points]
    searched = detector.searched
    settings = zip(
        detector.levels,
        detector.features(images) if features is None else features,
        detector.banks_,
        searched.forward,
        searched.backward,
        detector.alpha,
        detector.level_weights,
        strict=True,
    )
    wanted = copies(detector.augment)
    for level, query, bank, forward, backward, alpha, weight in settings:
        grid = (query.shape[-2], query.shape[-1])
        if bank is None:  # the level is off
            continue
        cells = [to_cell(point, size, grid) for point in points]
        numbers = None
        with torch.inference_mode():
            if isinstance(bank, FreeBank) or forward == "map":
                assert isinstance(bank, FreeBank)
                matches, alpha = bank.best_match(query, cells), 1.0
                numbers = list(range(len(wanted)))  # the match tells the copy itself
            else:
                forward, backward, alpha = directions_needed(forward, backward, alpha)
                matches = best_match(query, bank, cells, forward=forward, backward=backward)
                if len(wanted) > 1:
                    numbers = _copy_numbers(bank.sources_tensor(), len(wanted))
        for witnesses, cell, match in zip(found, cells, matches, strict=True):
            for direction, share in (("forward", alpha), ("backward", 1 - alpha)):
                best = match.get(direction)
                if best is None:
                    continue
                copy = wanted[0 if numbers is None else numbers[best.sheet]]
                here, there = (cell, (best.y, best.x))
                if direction == "backward":
                    here, there = there, here
                matched = copy.to_image(_to_view(there, size, grid), *size)
                witnesses.append(
                    Witness(
                        level=level,
                        direction=direction,
                        template=best.sample,
                        copy=copy.name,
                        distance=best.distance,
                        share=weight * share * best.distance,
                        image=_whole(_to_view(here, size, grid), size),
                        matched=_whole(matched, size),
                    )
                )
    return found


def explain_image(
    detector: HETMM, images: Tensor, pictures: Pictures | None, points: Sequence[Point]
) -> dict[str, Picture]:
    """One picture [H', W', 3] a point, `evidence 1` and on: patches beside their best matches.

    A row a level: the image's pixel beside its best template pixel (forward), then a template pixel
    beside the best of the image (backward); the search window is drawn in blue, the pixel in red.
    """
    view = _bytes(images[0].movedim(0, -1).cpu().numpy())
    drawn = {}
    for number, witnesses in enumerate(find_witnesses(detector, images, points), start=1):
        rows = [
            beside([_drawn(detector, view, w, pictures) for w in witnesses if w.level == level])
            for level in dict.fromkeys(witness.level for witness in witnesses)
        ]
        drawn[f"evidence {number}"] = below(rows)
    return drawn


def _drawn(detector: HETMM, view: Picture, witness: Witness, pictures: Pictures | None) -> Picture:
    """A witness as two patches side by side, the matched pixels at their centres, under text."""
    index = list(detector.levels).index(witness.level)
    bank = detector.banks_[index]
    assert bank is not None  # a witness of this level was found in it
    cell = (view.shape[1] - 1) / max(1, bank.width - 1)
    forward = witness.direction == "forward"
    searched = None
    side = (detector.searched.forward if forward else detector.searched.backward)[index]
    # A turned or flipped copy was searched in its own frame, where the window is not upright; and
    # one as large as the map would only be a frame around the picture.
    if not witness.copy and side != "map":
        searched = cell * side
    image = _patch(view, witness.image, cell, None if forward else (witness.matched, searched))
    if pictures is None:
        template = np.full_like(image, 235)
    else:
        picture = pictures(witness.template)
        around = (witness.image, searched) if forward else None
        template = _patch(picture, witness.matched, cell, around)
    return captioned(
        beside([image, template], gap=2),
        f"level {witness.level} {witness.direction}: distance {witness.distance:.3f}",
        f"image | template {witness.template} {witness.copy}",
    )


def _patch(
    picture: Picture, centre: Point, cell: float, searched: tuple[Point, float | None] | None
) -> Picture:
    """[PATCH, PATCH, 3] around a point of the view, with its cell and the searched window."""
    side = max(8, round(CONTEXT * picture.shape[1]))
    scale = PATCH / side
    corner = (centre[0] - side / 2 + 0.5, centre[1] - side / 2 + 0.5)
    half = side // 2 + 1
    padded = cv2.copyMakeBorder(
        picture, half, half, half, half, cv2.BORDER_CONSTANT, value=(255,) * 3
    )
    left, top = round(corner[0]) + half, round(corner[1]) + half
    patch = cv2.resize(
        padded[top : top + side, left : left + side], (PATCH, PATCH), interpolation=cv2.INTER_CUBIC
    )
    drawn = np.ascontiguousarray(patch, np.uint8)

    def frame(point: Point, size: float, colour: tuple[int, int, int]) -> None:
        x, y = ((point[axis] - round(corner[axis]) + 0.5) * scale for axis in (0, 1))
        reach = size * scale / 2
        first, last = (round(x - reach), round(y - reach)), (round(x + reach), round(y + reach))
        cv2.rectangle(drawn, first, last, colour, 1)

    if searched is not None and searched[1] is not None:
        frame(searched[0], searched[1], _WINDOW)
    frame(centre, cell, _CELL)
    return drawn


def _copy_numbers(sources: Tensor | None, count: int) -> list[int] | None:
    """For each sheet which copy of its sample it is: a sample's copies lie in a row, in order."""
    if sources is None:
        return None
    seen: dict[int, int] = {}
    numbers = []
    for sample in sources[:, 0, 0].tolist():
        numbers.append(seen.get(sample, 0) % count)
        seen[sample] = seen.get(sample, 0) + 1
    return numbers


def _to_view(
    cell: tuple[int, int], size: tuple[int, int], grid: tuple[int, int]
) -> tuple[float, float]:
    """The view's (x, y) of a level's (row, column)."""
    y, x = (
        value * (pixels - 1) / max(1, cells - 1)
        for value, pixels, cells in zip(cell, size, grid, strict=True)
    )
    return x, y


def _whole(point: tuple[float, float], size: tuple[int, int]) -> Point:
    height, width = size
    return min(max(round(point[0]), 0), width - 1), min(max(round(point[1]), 0), height - 1)


def _one_image(images: Tensor) -> tuple[int, int]:
    if images.dim() != 4 or len(images) != 1:
        raise ImageArrayError(
            f"array: explain takes one image of shape [1, 3, H, W], not {list(images.shape)}."
        )
    return images.shape[-2], images.shape[-1]


def _check_points(points: Sequence[Point], size: tuple[int, int]) -> None:
    for x, y in points:
        if not (0 <= x < size[1] and 0 <= y < size[0]):
            raise ParameterError(
                f"the point {x},{y} lies outside the view of {size[1]} x {size[0]} pixels"
            )


def _bytes(values: npt.NDArray[np.floating]) -> Picture:
    picture: Picture = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    return picture
