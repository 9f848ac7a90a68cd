"""The components of the synthetic circuit board: how each kind looks, and where each one sits.

Shapes and colours follow common surface-mount packages; the circuit itself is made up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from blemish.demo.pen import FINE, Colour, Pen, Pixels

SILVER: Colour = (186, 188, 186)
GOLD: Colour = (206, 172, 96)
BLACK: Colour = (36, 37, 40)
MARGIN = 2.0  # empty units around a sprite, so that its edge can turn without being cut


@dataclass(frozen=True)
class Place:
    """Where a component sits: its name, kind, centre in units, turn in degrees."""

    name: str
    kind: str
    x: float
    y: float
    turn: float = 0.0


@dataclass(frozen=True)
class Sprite:
    """One kind of component, drawn once: `ink` uint8 [h,w,4] (RGB, height), `cover` uint8 [h,w]."""

    ink: Pixels
    cover: Pixels


PLACES = (
    Place("U1", "processor", 116, 122),
    Place("U2", "memory", 188, 74),
    Place("Y1", "crystal", 116, 73),
    Place("J1", "header", 36, 114),
    Place("J2", "socket", 128, 219),
    Place("C1", "can", 205, 122),
    Place("C2", "can", 205, 158),
    Place("L1", "coil", 186, 202),
    Place("T1", "tantalum", 66, 180),
    Place("T2", "tantalum", 66, 200),
    Place("D1", "led", 156, 40, 90),
    Place("D2", "led", 172, 40, 90),
    Place("D3", "led", 188, 40, 90),
    Place("C3", "ceramic", 92, 73, 90),
    Place("C4", "ceramic", 140, 73, 90),
    Place("C5", "ceramic", 63, 124),
    Place("C6", "ceramic", 63, 138),
    Place("C7", "ceramic", 167, 116, 90),
    Place("C8", "ceramic", 167, 138, 90),
    Place("C9", "ceramic", 97, 174),
    Place("C10", "ceramic", 119, 174),
    Place("R1", "resistor", 58, 44, 90),
    Place("R2", "resistor", 74, 44, 90),
    Place("R3", "resistor", 90, 44, 90),
    Place("R4", "resistor", 106, 44, 90),
    Place("R5", "resistor", 63, 96),
    Place("R6", "resistor", 63, 110),
    Place("R7", "resistor", 63, 152),
    Place("R8", "resistor", 141, 174),
    Place("R9", "resistor", 163, 174),
    Place("R10", "resistor", 92, 200, 90),
)

# Those a placing machine could drop or shift without anybody noticing at once.
LOOSE = tuple(p for p in PLACES if p.kind not in {"processor", "header", "socket"})


def _chip(pen: Pen, body: Colour, ends: Colour, mark: str) -> None:
    w, h = _size(pen)
    pen.rect((w / 2, h / 2), (w - 2 * MARGIN, h - 2 * MARGIN), ends, 118, corner=0.8)
    pen.rect((w / 2, h / 2), (w - 2 * MARGIN - 6, h - 2 * MARGIN), body, 132)
    pen.rect((w / 2, h / 2 - 1.4), (w - 2 * MARGIN - 6, 1.6), _lighter(body, 1.12), 134)
    for x in (MARGIN + 1.2, w - MARGIN - 1.2):
        pen.line([(x, MARGIN + 1.6), (x, h - MARGIN - 1.6)], 0.9, _lighter(ends, 1.2), 112)
    if mark:
        pen.text(mark, (w / 2, h / 2), 3.2, (205, 205, 200), 132)


def _resistor(pen: Pen) -> None:
    _chip(pen, BLACK, SILVER, "103")


def _ceramic(pen: Pen) -> None:
    _chip(pen, (166, 132, 98), SILVER, "")


def _led(pen: Pen) -> None:
    _chip(pen, (226, 222, 206), GOLD, "")
    w, h = _size(pen)
    pen.disc((w / 2, h / 2), 2.9, (236, 214, 122), 140)
    pen.disc((w / 2 - 0.6, h / 2 - 0.7), 1.2, (250, 240, 190), 142)
    pen.rect((MARGIN + 3.6, h / 2), (0.9, h - 2 * MARGIN), (70, 150, 90), 133)


def _tantalum(pen: Pen) -> None:
    w, h = _size(pen)
    pen.rect((w / 2, h / 2), (w - 2 * MARGIN, h - 2 * MARGIN - 3.4), SILVER, 104)
    pen.rect((w / 2, h / 2), (w - 2 * MARGIN - 3, h - 2 * MARGIN), (206, 150, 56), 165, corner=0.8)
    pen.rect((MARGIN + 4, h / 2), (2.6, h - 2 * MARGIN), (122, 70, 30), 165)
    pen.text("106", (w / 2 + 2, h / 2), 3.6, (92, 56, 24), 165)


def _body(pen: Pen, extent: tuple[float, float], tall: int, *, dot: tuple[float, float]) -> None:
    w, h = _size(pen)
    pen.rect((w / 2, h / 2), extent, (52, 53, 56), tall - 12, corner=1.0)
    pen.rect((w / 2, h / 2), (extent[0] - 2.4, extent[1] - 2.4), BLACK, tall, corner=0.8)
    pen.disc(dot, 1.7, (62, 62, 64), tall - 6)


def _memory(pen: Pen) -> None:
    w, h = _size(pen)
    for i in range(4):
        x = w / 2 + (i - 1.5) * 6
        pen.rect((x, h / 2), (2.4, h - 2 * MARGIN), SILVER, 100)
        for y in (MARGIN + 1.2, h - MARGIN - 1.2):
            pen.rect((x, y), (2.4, 1.6), _lighter(SILVER, 1.2), 96)
    _body(pen, (w - 2 * MARGIN, h - 2 * MARGIN - 8), 160, dot=(MARGIN + 4, h / 2 + 5.5))
    pen.text("25Q64", (w / 2, h / 2 - 2.6), 3.6, (150, 150, 146), 160)
    pen.text("B4217", (w / 2, h / 2 + 3.2), 2.8, (128, 128, 124), 160)


def _processor(pen: Pen) -> None:
    w, h = _size(pen)
    for i in range(12):
        at = w / 2 + (i - 5.5) * 3.8
        pen.rect((at, h / 2), (1.9, h - 2 * MARGIN), SILVER, 98)
        pen.rect((w / 2, at), (w - 2 * MARGIN, 1.9), SILVER, 98)
        for end in (MARGIN + 1.0, w - MARGIN - 1.0):
            pen.rect((at, end), (1.9, 1.5), _lighter(SILVER, 1.2), 94)
            pen.rect((end, at), (1.5, 1.9), _lighter(SILVER, 1.2), 94)
    _body(pen, (w - 2 * MARGIN - 9, h - 2 * MARGIN - 9), 165, dot=(MARGIN + 10, MARGIN + 10))
    for words, y, tallness in (("BLM32", -6, 5.6), ("F407 48", 2, 4.0), ("2417 TW", 9, 3.4)):
        pen.text(words, (w / 2, h / 2 + y), tallness, (152, 152, 148), 165)


def _crystal(pen: Pen) -> None:
    w, h = _size(pen)
    radius = (h - 2 * MARGIN) / 2
    pen.rect((w / 2, h / 2), (w - 2 * MARGIN, 2 * radius), (150, 152, 152), 125, corner=radius)
    inner = (w - 2 * MARGIN - 2.6, 2 * radius - 2.6)
    pen.rect((w / 2, h / 2), inner, (196, 198, 198), 170, corner=radius - 1.3)
    pen.rect((w / 2, h / 2 - 2), (inner[0] - 6, 1.8), (222, 223, 222), 172)
    pen.text("16.000", (w / 2, h / 2 + 0.8), 3.2, (110, 112, 112), 170)


def _can(pen: Pen) -> None:
    w, h = _size(pen)
    x0, x1 = MARGIN, w - MARGIN
    pen.rect((w / 2, h / 2), (w - 2 * MARGIN + 2, 4), SILVER, 98)
    cut = [(x0, x0), (x1, x0), (x1, x1 - 5), (x1 - 5, x1), (x0 + 5, x1), (x0, x1 - 5)]
    pen.polygon(cut, (44, 45, 48), 120)
    for step in range(5):  # a rounded rim, brighter towards the top
        grey = 150 + 12 * step
        pen.disc((w / 2, h / 2), 12.6 - 0.5 * step, (grey, grey + 1, grey + 3), 180 + 8 * step)
    turns = np.radians(np.linspace(20, 160, 24))
    arc = [(w / 2 + 10.4 * np.cos(t), h / 2 - 10.4 * np.sin(t)) for t in turns]
    pen.polygon(arc, (58, 60, 64), 212)
    pen.text("100", (w / 2, h / 2 + 1.6), 3.8, (92, 94, 98), 212)
    pen.text("16V", (w / 2, h / 2 + 6.8), 3.0, (92, 94, 98), 212)


def _coil(pen: Pen) -> None:
    w, h = _size(pen)
    pen.rect((w / 2, h / 2), (w - 2 * MARGIN, h - 2 * MARGIN - 12), SILVER, 100)
    pen.rect((w / 2, h / 2), (w - 2 * MARGIN - 2, h - 2 * MARGIN), (72, 73, 76), 165, corner=2.5)
    pen.disc((w / 2, h / 2), 9.2, (56, 57, 60), 150)
    pen.disc((w / 2, h / 2), 8.0, (84, 85, 88), 170)
    pen.text("4R7", (w / 2, h / 2), 4.4, (176, 176, 172), 170)


def _header(pen: Pen) -> None:
    w, h = _size(pen)
    pen.rect((w / 2, h / 2), (w - 2 * MARGIN, h - 2 * MARGIN), (48, 49, 52), 165, corner=0.6)
    for i in range(7):
        y = h / 2 + (i - 3) * 10
        pen.rect((w / 2, y), (w - 2 * MARGIN - 1, 8.6), BLACK, 172, corner=1.4)
        pen.rect((w / 2, y), (3.6, 3.6), (150, 122, 60), 215)
        pen.rect((w / 2, y), (2.2, 2.2), (236, 208, 130), 240)


def _socket(pen: Pen) -> None:
    w, h = _size(pen)
    for y in (h / 2 - 7, h / 2 + 5):
        pen.rect((w / 2, y), (w - 2 * MARGIN, 4.6), (168, 170, 170), 105, corner=1.4)
    pen.rect((w / 2, h / 2), (w - 2 * MARGIN - 5, h - 2 * MARGIN), (176, 178, 180), 175, corner=1.2)
    pen.rect((w / 2, h / 2 - 9), (w - 2 * MARGIN - 7, 2.0), (206, 208, 208), 178)
    for x in (w / 2 - 7, w / 2 + 7):
        pen.rect((x, h / 2 + 3), (3.4, 8.0), (120, 122, 124), 160, corner=0.6)
        pen.rect((x, h / 2 + 3.6), (2.4, 6.4), (190, 192, 192), 170)
    pen.line([(w / 2, MARGIN + 3), (w / 2, h - MARGIN - 4)], 0.5, (146, 148, 150), 170)


_KINDS: dict[str, tuple[float, float, Callable[[Pen], None]]] = {
    "resistor": (14, 7.4, _resistor),
    "ceramic": (13, 7.6, _ceramic),
    "led": (14, 8.4, _led),
    "tantalum": (20, 12, _tantalum),
    "memory": (27, 30, _memory),
    "processor": (62, 62, _processor),
    "crystal": (32, 13, _crystal),
    "can": (29, 29, _can),
    "coil": (25, 25, _coil),
    "header": (12, 72, _header),
    "socket": (38, 28, _socket),
}


def extent(kind: str) -> tuple[float, float]:
    """Width and height of a kind in units, before it is turned."""
    width, height, _ = _KINDS[kind]
    return width, height


@cache
def sprite(kind: str) -> Sprite:
    """The drawn component, on the canvas' scale, with an empty margin of `MARGIN` units."""
    width, height, draw = _KINDS[kind]
    pen = Pen(width + 2 * MARGIN, height + 2 * MARGIN)
    draw(pen)
    ink, cover = pen.reduced()
    # Under the antialiased edge the ink is mixed with the empty ground: undo that.
    weight = np.maximum(cover[..., None].astype(np.float32) / 255, 1e-3)
    ink = np.clip(ink.astype(np.float32) / weight, 0, 255).astype(np.uint8)
    return Sprite(cv2.GaussianBlur(ink, (3, 3), 0.45).astype(np.uint8), cover)


def _size(pen: Pen) -> tuple[float, float]:
    height, width = pen.cover.shape
    return width / FINE, height / FINE


def _lighter(colour: Colour, by: float) -> Colour:
    red, green, blue = (min(255, round(channel * by)) for channel in colour)
    return red, green, blue
