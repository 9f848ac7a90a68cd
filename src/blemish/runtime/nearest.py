"""The pair of vectors behind one value of a distance map: the one search that finds it.

Both floors explain with it: PyTorch's banks and the line floor's hand over the vectors of a pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Samples = npt.NDArray[Any]
# A map pixel (y, x) to runs of its template vectors: the first one's sheet, vectors [n, C] and
# their samples [n].
Vectors = Callable[[int, int], Iterator[tuple[int, Floats, Samples]]]


@dataclass(frozen=True)
class Match:
    """The pair of vectors behind one value of a distance map.

    The template vector is in sheet `sheet` and comes from sample `sample`; (`y`, `x`) is where the
    search ended: forward the template's pixel, backward the query's. `distance` is 1 - cosine.
    """

    sheet: int
    sample: int
    y: int
    x: int
    distance: float


def forward_match(
    query: Floats, vectors: Vectors, y: int, x: int, reach: int, exclude: int = -1
) -> Match:
    """The template vector that gives F at (y, x) of a query [C, H, W] (docs/matching.md)."""
    _, height, width = query.shape
    wanted = query[:, y, x]
    found: Match | None = None
    for row in range(max(0, y - reach), min(height, y + reach + 1)):
        for column in range(max(0, x - reach), min(width, x + reach + 1)):
            for first, candidates, samples in vectors(row, column):
                cosines = candidates @ wanted
                if exclude >= 0:
                    cosines = np.where(samples == exclude, -np.inf, cosines)
                best = int(cosines.argmax())
                distance = 1 - float(cosines[best])
                if found is None or distance < found.distance:
                    found = Match(first + best, int(samples[best]), row, column, distance)
    assert found is not None  # the window holds the pixel itself, and a bank a vector for it
    return found


def backward_match(
    query: Floats, vectors: Vectors, y: int, x: int, reach: int, exclude: int = -1
) -> Match:
    """The template vector at (y, x) that gives B there, and the query's pixel it matched."""
    top, left = max(0, y - reach), max(0, x - reach)
    patch = query[:, top : y + reach + 1, left : x + reach + 1]  # (C, h, w)
    flat = patch.reshape(len(query), -1)
    found = []
    for first, candidates, samples in vectors(y, x):
        cosines = candidates @ flat  # (n, h w)
        cosines = np.where((samples == exclude)[:, None], -np.inf, cosines)
        best, place = divmod(int(cosines.argmax()), cosines.shape[1])
        distance = 1 - float(cosines[best, place])
        row, column = divmod(place, patch.shape[2])
        found.append(Match(first + best, int(samples[best]), top + row, left + column, distance))
    return min(found, key=lambda match: match.distance)


def to_cell(
    point: tuple[int, int], size: tuple[int, int], grid: tuple[int, int]
) -> tuple[int, int]:
    """(row, column) of the level's pixel that the map draws at a view's (x, y): corners align.

    `size` and `grid` are the view's and the level's (height, width).
    """
    x, y = point
    row, column = (
        round(value * (cells - 1) / max(1, pixels - 1))
        for value, pixels, cells in zip((y, x), size, grid, strict=True)
    )
    return row, column
