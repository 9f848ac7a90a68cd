"""A pen that draws colour and height at once, in part units and finer than the final picture.

Nothing here is from a paper: shapes are drawn large and averaged down, so edges come out
antialiased, and height travels beside colour so that light and shadow can be added later.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

UNITS = 256  # a frame is this many part units wide
CANVAS = 512  # pixels of the frame in which parts are put together, twice the final size
FINE = 6  # drawn pixels per unit; averaged down to CANVAS / UNITS

Colour = tuple[int, int, int]
Pixels = NDArray[np.uint8]


class Pen:
    """Draws on `ink` (uint8 [H,W,4]: red, green, blue, height) and marks `cover` (uint8 [H,W])."""

    def __init__(self, width: float, height: float, ground: Colour = (0, 0, 0)) -> None:
        shape = (round(height * FINE), round(width * FINE))
        self.ink: Pixels = np.zeros((*shape, 4), np.uint8)
        self.ink[..., :3] = ground
        self.cover: Pixels = np.zeros(shape, np.uint8)

    def rect(
        self,
        centre: tuple[float, float],
        extent: tuple[float, float],
        colour: Colour,
        tall: int,
        *,
        corner: float = 0.0,
    ) -> None:
        """Fill a rectangle of `extent` (width, height) about `centre`; `corner` rounds it."""
        (x, y), (w, h) = centre, extent
        if not corner:
            box = [(x - w / 2, y - h / 2), (x + w / 2, y - h / 2)]
            box += [(x + w / 2, y + h / 2), (x - w / 2, y + h / 2)]
            self.polygon(box, colour, tall)
            return
        self.rect(centre, (w - 2 * corner, h), colour, tall)
        self.rect(centre, (w, h - 2 * corner), colour, tall)
        for sx in (-1, 1):
            for sy in (-1, 1):
                at = (x + sx * (w / 2 - corner), y + sy * (h / 2 - corner))
                self.disc(at, corner, colour, tall)

    def polygon(self, points: Sequence[tuple[float, float]], colour: Colour, tall: int) -> None:
        """Fill a polygon."""
        corners = _pixels(points)
        cv2.fillPoly(self.ink, [corners], (*colour, tall))
        cv2.fillPoly(self.cover, [corners], 255)

    def disc(self, centre: tuple[float, float], radius: float, colour: Colour, tall: int) -> None:
        """Fill a circle."""
        at = _pixels([centre])[0].tolist()
        cv2.circle(self.ink, at, round(radius * FINE), (*colour, tall), -1)
        cv2.circle(self.cover, at, round(radius * FINE), 255, -1)

    def line(
        self, points: Sequence[tuple[float, float]], width: float, colour: Colour, tall: int
    ) -> None:
        """Stroke a polyline with round joints."""
        thick = max(1, round(width * FINE))
        cv2.polylines(self.ink, [_pixels(points)], False, (*colour, tall), thick)
        cv2.polylines(self.cover, [_pixels(points)], False, 255, thick)

    def text(
        self, words: str, centre: tuple[float, float], tallness: float, colour: Colour, tall: int
    ) -> None:
        """Write `words`, `tallness` units high, about `centre`."""
        font = cv2.FONT_HERSHEY_SIMPLEX
        size = tallness * FINE / 21  # this font's capitals are 21 pixels high at size 1
        thick = max(1, round(tallness * FINE / 9))
        (w, h), _ = cv2.getTextSize(words, font, size, thick)
        x, y = _pixels([centre])[0].tolist()
        at = (x - w // 2, y + h // 2)
        cv2.putText(self.ink, words, at, font, size, (*colour, tall), thick)

    def reduced(self) -> tuple[Pixels, Pixels]:
        """Ink and cover averaged down to the canvas' scale."""
        factor = CANVAS / UNITS / FINE
        size = (round(self.ink.shape[1] * factor), round(self.ink.shape[0] * factor))
        ink = cv2.resize(self.ink, size, interpolation=cv2.INTER_AREA)
        cover = cv2.resize(self.cover, size, interpolation=cv2.INTER_AREA)
        return ink.astype(np.uint8), cover.astype(np.uint8)


def _pixels(points: Sequence[tuple[float, float]]) -> NDArray[np.int32]:
    return np.round(np.asarray(points, np.float64) * FINE).astype(np.int32)
