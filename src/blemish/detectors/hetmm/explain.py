"""Why HETMM scores a point as it does: the template pixels that matched best, and where they lie.

The map is a weighted sum of distances to nearest neighbours (docs/methods/hetmm.md), so each point
has a witness for each level and direction: forward, the template pixel most like the image's;
backward, the image's pixel most like the template's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from blemish.detectors.base import Picture, Pictures, Point
from blemish.detectors.hetmm.nearest import Match, backward_match, forward_match, to_cell
from blemish.detectors.hetmm.templates import FreeSet, LevelTemplates
from blemish.errors import ParameterError
from blemish.imaging.augmentation import Copy, copies
from blemish.imaging.contact import below, beside, captioned

if TYPE_CHECKING:
    from blemish.detectors.hetmm.detector import HETMM

Floats = npt.NDArray[np.float32]

CONTEXT = 0.25  # of the view's side: what a patch shows around its point
PATCH = 176  # px: the side of a drawn patch
_CELL = (255, 40, 60)
_WINDOW = (0, 150, 255)


@dataclass(frozen=True)
class Witness:
    """The best match of one point at one level in one direction.

    `direction`: `forward`, the image's pixel looks in the templates around its place, `anywhere`,
    in all of them; `backward`, the template's pixel looks in the image. `template` is the position
    in the detector's templates, `copy` which augmented copy of it (empty: the image itself).
    `distance` is 1 - cosine, anywhere less the template's radius; `share` what it adds to the map
    before smoothing, and before what is usual at that place is taken off. `image` and `matched` are
    (x, y) of the view, in the image and in the template.
    """

    level: int
    direction: str
    template: int
    copy: str
    distance: float
    share: float
    image: Point
    matched: Point

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


def peak(anomaly_map: npt.NDArray[np.float32]) -> Point:
    """Find the highest point (x, y) of a map [H, W]."""
    y, x = divmod(int(anomaly_map.argmax()), anomaly_map.shape[1])
    return x, y


def find_witnesses(
    detector: HETMM, features: Sequence[Floats], points: Sequence[Point]
) -> list[list[Witness]]:
    """Find the witnesses of each point (x, y) of one image, level by level.

    `features` are `HETMM.features` of that image.
    """
    size = detector.hw
    _check_points(points, size)
    found: list[list[Witness]] = [[] for _ in points]
    for own, query in zip(detector.sets_, features, strict=True):
        grid = (own.level.height, own.level.width)
        for witnesses, point in zip(found, points, strict=True):
            cell = to_cell(point, size, grid)
            unit = detector.deviation_at(own.level, *cell)
            for direction, share, match, copy in _matches(detector, own, query, cell):
                here, there = cell, (match.y, match.x)
                if direction == "backward":
                    here, there = there, here
                matched = copy.to_image(_to_view(there, size, grid), *size)
                witnesses.append(
                    Witness(
                        level=own.level.number,
                        direction=direction,
                        template=match.sample,
                        copy=copy.name,
                        distance=match.distance,
                        share=own.level.weight * share * match.distance / unit,
                        image=_whole(_to_view(here, size, grid), size),
                        matched=_whole(matched, size),
                    )
                )
    return found


def _matches(
    detector: HETMM, own: LevelTemplates, query: Floats, cell: tuple[int, int]
) -> Iterator[tuple[str, float, Match, Copy]]:
    """The best match of a level's pixel in each direction, its weight, and the template's copy."""
    level, made = own.level, copies(detector.config.augment)
    y, x = cell
    if isinstance(own, FreeSet):
        pixel = own.queries(query[:, y : y + 1, x : x + 1])  # (1, D)
        match = forward_match(pixel.T[:, :, None], own, 0, 0, 0)
        copy, place = divmod(int(own.places[match.sheet]), level.height * level.width)
        row, column = divmod(place, level.width)
        yield "anywhere", 1.0, replace(match, y=row, x=column), made[copy]
        return
    for direction, radius, share in (
        ("forward", level.forward, level.alpha),
        ("backward", level.backward, 1 - level.alpha),
    ):
        if radius is not None:
            search = forward_match if direction == "forward" else backward_match
            match = search(query, own, y, x, radius)
            # Sheets hold a sample's copies in a row, the image itself first.
            yield direction, share, match, made[match.sheet % len(made)]


def explain_image(
    detector: HETMM, image: Floats, pictures: Pictures | None, points: Sequence[Point]
) -> dict[str, Picture]:
    """Draw one picture [H', W', 3] a point, `evidence 1` and on: patches and their best matches.

    A row a level: the image's pixel beside its best template pixel (forward), then a template pixel
    beside the best of the image (backward); the search window is drawn in blue, the pixel in red.
    Another row for a level that is matched anywhere.
    """
    view = _bytes(image)
    drawn = {}
    for number, witnesses in enumerate(
        find_witnesses(detector, detector.features(image), points), start=1
    ):
        rows = [
            beside([_drawn(detector, view, w, pictures) for w in row]) for row in _rows(witnesses)
        ]
        drawn[f"evidence {number}"] = below(rows)
    return drawn


def _rows(witnesses: Sequence[Witness]) -> list[list[Witness]]:
    """The witnesses of each level, those found anywhere in rows of their own."""
    rows: dict[tuple[int, bool], list[Witness]] = {}
    for witness in witnesses:
        rows.setdefault((witness.level, witness.direction == "anywhere"), []).append(witness)
    return list(rows.values())


def _drawn(detector: HETMM, view: Picture, witness: Witness, pictures: Pictures | None) -> Picture:
    """A witness as two patches side by side, the matched pixels at their centres, under text."""
    kind = "free" if witness.direction == "anywhere" else "sheets"
    level = next(
        each
        for each in detector.record_.levels
        if (each.number, each.kind) == (witness.level, kind)
    )
    cell = (view.shape[1] - 1) / max(1, level.width - 1)
    forward = witness.direction != "backward"
    searched = None
    radius = level.forward if forward else level.backward
    # A turned or flipped copy was searched in its own frame, where the window is not upright; and
    # one as large as the map would only be a frame around the picture.
    if not witness.copy and radius is not None:
        searched = cell * (2 * radius + 1)
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


def _check_points(points: Sequence[Point], size: tuple[int, int]) -> None:
    for x, y in points:
        if not (0 <= x < size[1] and 0 <= y < size[0]):
            raise ParameterError(
                f"the point {x},{y} lies outside the view of {size[1]} x {size[0]} pixels"
            )


def _bytes(values: npt.NDArray[np.floating]) -> Picture:
    picture: Picture = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    return picture
