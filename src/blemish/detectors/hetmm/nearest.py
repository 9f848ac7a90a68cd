"""The pair of vectors behind one value of a distance map: the search that finds it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blemish.detectors.hetmm.templates import LevelTemplates

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Match:
    """The pair of vectors behind one value of a distance map.

    The template vector is number `sheet` of those at its pixel and comes from sample `sample`;
    (`y`, `x`) is where the search ended: forward the template's pixel, backward the query's.
    `distance` is 1 - cosine.
    """

    sheet: int
    sample: int
    y: int
    x: int
    distance: float


def forward_match(query: Floats, templates: LevelTemplates, y: int, x: int, reach: int) -> Match:
    """Find the template vector that gives F at (y, x) of a query [C, H, W] (docs/matching.md)."""
    _, height, width = query.shape
    wanted = query[:, y, x]
    found: Match | None = None
    for row in range(max(0, y - reach), min(height, y + reach + 1)):
        for column in range(max(0, x - reach), min(width, x + reach + 1)):
            vectors, samples = templates.at(row, column)
            cosines = vectors @ wanted
            best = int(cosines.argmax())
            distance = 1 - float(cosines[best])
            if found is None or distance < found.distance:
                found = Match(best, int(samples[best]), row, column, distance)
    assert found is not None  # the window holds the pixel itself, and a set a vector for it
    return found


def backward_match(query: Floats, templates: LevelTemplates, y: int, x: int, reach: int) -> Match:
    """Find the template vector at (y, x) that gives B there, and the query's pixel it matched."""
    top, left = max(0, y - reach), max(0, x - reach)
    patch = query[:, top : y + reach + 1, left : x + reach + 1]  # (C, h, w)
    vectors, samples = templates.at(y, x)
    cosines = vectors @ patch.reshape(len(query), -1)  # (n, h w)
    best, place = divmod(int(cosines.argmax()), cosines.shape[1])
    row, column = divmod(place, patch.shape[2])
    distance = 1 - float(cosines[best, place])
    return Match(best, int(samples[best]), top + row, left + column, distance)


def to_cell(
    point: tuple[int, int], size: tuple[int, int], grid: tuple[int, int]
) -> tuple[int, int]:
    """Find the level's pixel (row, column) that the map draws at a view's (x, y): corners align.

    `size` and `grid` are the view's and the level's (height, width).
    """
    x, y = point
    row, column = (
        round(value * (cells - 1) / max(1, pixels - 1))
        for value, pixels, cells in zip((y, x), size, grid, strict=True)
    )
    return row, column
