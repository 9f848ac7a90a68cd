"""The synthetic circuit board: its bare face drawn once, then populated part by part.

A board is one uint8 [512,512,4] array: red, green, blue, and height. Height 0 is the
table under the board, `FACE` its bare surface; edges, holes, shadows and relief follow from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.demo.components import GOLD, PLACES, SILVER, Place, extent, sprite
from blemish.demo.pen import CANVAS, UNITS, Colour, Pen, Pixels

K = CANVAS / UNITS  # canvas pixels per unit
FACE = 84  # height of the bare board
CORE: Colour = (172, 164, 122)  # the pale glass-fibre inside, seen where the board is cut
EDGE = (19.0, 237.0)  # the board spans this range of units, both ways

_MASK: Colour = (24, 84, 56)  # solder mask over glass fibre
_TRACE: Colour = (36, 110, 72)  # solder mask over copper
_INK: Colour = (214, 218, 208)  # silk-screen
_HOLES = ((32, 32), (224, 32), (32, 224), (224, 224))


@dataclass(frozen=True)
class Seat:
    """How one component sits on one board: offset in units, turn in degrees, brightness."""

    place: Place
    dx: float = 0.0
    dy: float = 0.0
    turn: float = 0.0
    shade: float = 1.0


@cache
def bare() -> Pixels:
    """The board without components; do not write to it."""
    pen = Pen(UNITS, UNITS, CORE)
    middle, span = (EDGE[0] + EDGE[1]) / 2, EDGE[1] - EDGE[0]
    pen.rect((middle, middle), (span, span), CORE, FACE, corner=4)
    pen.rect((middle, middle), (span - 1.6, span - 1.6), _MASK, FACE, corner=3.4)
    _pour(pen)
    _traces(pen)
    for place in PLACES:
        _footprint(pen, place)
    for at in _HOLES:
        pen.disc(at, 8.2, GOLD, FACE + 4)
        pen.disc(at, 4.8, (60, 54, 36), 0)
    _lettering(pen)
    return pen.reduced()[0]


def populate(seats: tuple[Seat, ...]) -> Pixels:
    """A copy of the bare board with every seat's component on it."""
    canvas = bare().copy()
    for seat in seats:
        put(canvas, seat)
    return canvas


def footprint(seat: Seat) -> Pixels:
    """Where the seat's component covers the canvas, uint8 [512,512], 255 = wholly."""
    cover = np.zeros((CANVAS, CANVAS), np.uint8)
    art = sprite(seat.place.kind)
    box, move = _landing(seat, art.cover.shape)
    cover[box] = cv2.warpAffine(art.cover, move, _size(box))
    return cover


def put(canvas: Pixels, seat: Seat) -> None:
    """Set one component onto the canvas, in place."""
    art = sprite(seat.place.kind)
    box, move = _landing(seat, art.cover.shape)
    ink = cv2.warpAffine(art.ink, move, _size(box), borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.warpAffine(art.cover, move, _size(box)).astype(np.float32) / 255
    # Height takes the shade too: components of one kind differ a little in that as well.
    ink = cv2.convertScaleAbs(ink, alpha=seat.shade)
    canvas[box] = cv2.blendLinear(ink, canvas[box], alpha, 1 - alpha)


def _landing(seat: Seat, shape: tuple[int, ...]) -> tuple[tuple[slice, slice], NDArray[np.float32]]:
    """The box of the canvas a sprite may touch, and the affine map from sprite to box."""
    height, width = shape
    turn = seat.place.turn + seat.turn
    x, y = (seat.place.x + seat.dx) * K, (seat.place.y + seat.dy) * K
    cos, sin = abs(np.cos(np.radians(turn))), abs(np.sin(np.radians(turn)))
    across = int((width * cos + height * sin) / 2) + 2
    along = int((width * sin + height * cos) / 2) + 2
    left, top = max(0, int(x) - across), max(0, int(y) - along)
    right, bottom = min(CANVAS, int(x) + across), min(CANVAS, int(y) + along)
    middle = ((width - 1) / 2, (height - 1) / 2)
    move = np.array(cv2.getRotationMatrix2D(middle, turn, 1.0), np.float32)
    move[:, 2] += np.array([x - left - middle[0], y - top - middle[1]], np.float32)
    return (slice(top, bottom), slice(left, right)), move


def _size(box: tuple[slice, slice]) -> tuple[int, int]:
    return box[1].stop - box[1].start, box[0].stop - box[0].start


def _pour(pen: Pen) -> None:
    """Two large copper areas under the mask."""
    pen.polygon(
        [(176, 98), (232, 98), (232, 178), (222, 188), (176, 188), (182, 170), (182, 110)],
        _TRACE, FACE + 3,
    )  # fmt: skip
    pen.polygon([(46, 24), (140, 24), (140, 32), (132, 34), (54, 34)], _TRACE, FACE + 3)


def _traces(pen: Pen) -> None:
    """Buses of parallel tracks leaving the processor, each ending in a via."""
    for i in range(12):
        pin = 122 + (i - 5.5) * 3.8
        row = 94 + i * 5.2
        _track(pen, [(88, pin), (80 - 0.7 * abs(i - 5.5), pin), (74, row), (56, row)])
        if i % 2:
            _track(pen, [(56, row), (47, row - 4), (40, row - 4)])
        if i < 8:
            _track(pen, [(145, pin), (152, pin), (158 + i * 1.2, pin - 8 - i), (172, pin - 8 - i)])
    for i in range(12):
        pin = 116 + (i - 5.5) * 3.8
        if 3 < i < 8:
            _track(pen, [(pin, 150), (pin, 186), (128 + (i - 5.5) * 5, 196)])
            _track(pen, [(128 + (i - 5.5) * 5, 196), (128 + (i - 5.5) * 5, 210)])
        elif i <= 3:
            _track(pen, [(pin, 150), (pin, 160), (pin - 14, 166 + 2 * i), (pin - 14, 190)])
        else:
            end = pin + 14 + 3 * (i - 8)
            _track(pen, [(pin, 150), (pin, 158 - i / 2), (end, 166), (end, 186 + 3 * (i - 8))])
        if i % 3 == 0:
            _track(pen, [(pin, 95), (pin, 84), (pin - 4, 80), (pin - 4, 62 - i)])
    for i in range(6):
        x = 58 + 16 * min(i, 3)
        if i < 4:
            _track(pen, [(x, 50), (x, 58 + 3 * i), (x + 8, 66 + 3 * i), (x + 8, 82 - i)])
        _track(pen, [(150, 90 - 4 * i), (160, 90 - 4 * i), (172, 86 - 4 * i), (176, 86 - 4 * i)])
    for i in range(4):
        x = 179 + 6 * i
        _track(pen, [(x, 62), (x, 56), (x - 9, 50), (x - 9, 30)])
        _track(pen, [(x, 88), (x, 92 + 2 * i), (x + 12, 98 + 2 * i), (x + 12, 106)])
    for y in (206, 211, 216):
        _track(pen, [(148, y), (158, y), (164, y - 4), (172, y - 4)])
        _track(pen, [(106, y), (100, y), (92, y + 6), (52, y + 6)])


def _track(pen: Pen, points: Sequence[tuple[float, float]]) -> None:
    pen.line(points, 1.5, _TRACE, FACE + 4)
    pen.disc(points[-1], 1.9, GOLD, FACE + 5)
    pen.disc(points[-1], 0.9, (46, 44, 34), FACE - 30)


def _footprint(pen: Pen, place: Place) -> None:
    """Tinned pads and the silk-screen outline, seen when the component is not there."""
    w, h = extent(place.kind)
    if round(place.turn) % 180:
        w, h = h, w
    corners = [
        (place.x + sx * (w / 2 + 1.6), place.y + sy * (h / 2 + 1.6))
        for sx, sy in ((-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1))
    ]
    if place.kind != "socket":
        pen.line(corners, 0.7, _INK, FACE + 1)
    along = w >= h
    if place.kind == "memory":
        for i in range(4):
            for side in (-1, 1):
                at = (place.x + (i - 1.5) * 6, place.y + side * (h / 2 - 2.5))
                pen.rect(at, (3.2, 5.0), SILVER, FACE + 6, corner=0.6)
        return
    for side in (-1, 1):
        if along:
            at, pad = (place.x + side * (w / 2 - 2.2), place.y), (4.6, min(h - 1.0, 9.0))
        else:
            at, pad = (place.x, place.y + side * (h / 2 - 2.2)), (min(w - 1.0, 9.0), 4.6)
        pen.rect(at, pad, SILVER, FACE + 6, corner=0.8)


def _lettering(pen: Pen) -> None:
    for words, x, y, tallness in (
        ("BLEMISH DEMO", 64, 64, 4.2), ("REV C", 208, 226, 3.6), ("24 MHZ BUS", 63, 167, 3.2),
        ("C1", 182, 122, 3.4), ("C2", 182, 158, 3.4), ("L1", 167, 203, 3.4), ("U2", 211, 74, 3.4),
        ("PWR", 156, 52, 3.0), ("RX", 172, 52, 3.0), ("TX", 188, 52, 3.0), ("T1", 50, 180, 3.2),
        ("T2", 50, 200, 3.2), ("Y1", 116, 62, 3.0), ("R9", 163, 167, 3.0), ("R10", 92, 188, 3.0),
        ("J1", 36, 73, 3.4), ("1", 28, 84, 3.0), ("+", 222, 112, 4.0), ("+", 222, 148, 4.0),
    ):  # fmt: skip
        pen.text(words, (x, y), tallness, _INK, FACE + 1)
