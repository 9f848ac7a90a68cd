"""Five things that go wrong with the synthetic board; each changes the board and nothing else.

The mask of a flaw is measured, not declared: it is where the flawed board differs from the
same board without the flaw, before light, shadow, dust and noise are added, together with the
outline of the stain or component in question, parts of which may happen to look alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.demo.board import CORE, EDGE, FACE, K, Seat, footprint, populate, put
from blemish.demo.components import LOOSE
from blemish.demo.pen import CANVAS, Pixels

_SEEN = 8  # grey levels of difference that count as changed
_SHOWS = 14  # mean grey levels of difference that a stain must make
_TONES = ((196, 158, 84), (206, 204, 188), (60, 46, 24))  # flux, dried solvent, oil

Seats = tuple[Seat, ...]


def spoil(name: str, seats: Seats, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
    """A board with the flaw `name`, and its mask (uint8 [512,512], 255 = changed)."""
    return _MAKERS[name](seats, rng)


def _scratch(seats: Seats, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
    """A sharp point drawn over the board: a pale groove with a darker flank."""
    good = populate(seats)
    length = rng.uniform(26, 95) * K
    angle = rng.uniform(0, 2 * np.pi)
    centre = rng.uniform(70, 186, 2) * K
    along = np.linspace(-0.5, 0.5, 40)
    bend = rng.uniform(-0.14, 0.14) * (along**2 - 0.08) * 4 + rng.normal(0, 0.0025, 40).cumsum()
    cos, sin = np.cos(angle), np.sin(angle)
    path = centre + length * np.stack([along * cos - bend * sin, along * sin + bend * cos], axis=1)
    pressure = np.clip(np.sin(np.linspace(0.25, 2.9, 39)) + rng.normal(0, 0.15, 39), 0.15, 1)
    groove = np.zeros((CANVAS, CANVAS), np.uint8)
    widest = rng.uniform(1.5, 3.4)
    for start, end, press in zip(path[:-1], path[1:], pressure, strict=True):
        strength = int(255 * (0.45 + 0.4 * press))
        width = max(1, round(widest * press))
        ends = [np.round(p * 16).astype(int).tolist() for p in (start, end)]
        cv2.line(groove, ends[0], ends[1], strength, width, cv2.LINE_AA, 4)
    groove[good[..., 3] < FACE - 20] = 0
    flank = np.roll(groove, (1, 1), axis=(0, 1))
    bad = _blend(good, flank, (14, 26, 20), 0.5)
    bad = _blend(bad, groove, (188, 196, 172), 0.9)
    return bad, _changed(good, bad)


def _missing(seats: Seats, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
    """A component was never placed: its tinned pads show."""
    index = _loose(seats, rng)
    bad = populate(seats[:index] + seats[index + 1 :])
    return bad, _moved(_with(bad, seats[index]), bad, seats[index])


def _misplaced(seats: Seats, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
    """A component sits skewed or beside its pads, or another kind took its place."""
    index = _loose(seats, rng)
    seat = seats[index]
    small = seat.place.kind in {"resistor", "ceramic", "led"}
    if small and rng.random() < 0.3:
        other = {"resistor": "ceramic", "ceramic": "resistor", "led": "resistor"}[seat.place.kind]
        wrong = replace(seat, place=replace(seat.place, kind=other))
    else:
        side = rng.choice((-1, 1), 3)
        wrong = replace(
            seat,
            dx=seat.dx + side[0] * rng.uniform(1.5, 4.5),
            dy=seat.dy + side[1] * rng.uniform(1.5, 4.5),
            turn=seat.turn + side[2] * rng.uniform(9, 38),
        )
    others = populate(seats[:index] + seats[index + 1 :])
    bad = _with(others, wrong)
    return bad, _moved(_with(others, seat), bad, seat, wrong)


def _stain(seats: Seats, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
    """Dried flux or oil: a translucent blot, darker along its rim."""
    good = populate(seats)
    centre, radius = rng.uniform(60, 196, 2) * K, rng.uniform(8, 24) * K
    blot = _blot(centre, radius, rng)
    inside = cv2.GaussianBlur(cv2.erode(blot, np.ones((5, 5), np.uint8)), (0, 0), 3)
    rim = cv2.subtract(blot, inside).astype(np.uint8)
    blot[good[..., 3] < FACE - 20] = 0
    strength = rng.uniform(0.18, 0.36)
    tone = _visible_tone(good[blot > 127][:, :3], strength, rng)
    bad = _blend(good, blot, tone, strength)
    bad = _blend(bad, rim, tone, 1.1 * strength)
    # What happens to have the stain's own colour lies under it all the same.
    under = np.where(blot > 127, 255, 0).astype(np.uint8)
    return bad, np.maximum(_changed(good, bad), under)


def _visible_tone(
    surface: Pixels, strength: float, rng: np.random.Generator
) -> tuple[int, int, int]:
    """A stain's colour that shows on the surface pixels [n,3]: dark oil on black does not."""
    tones = [_TONES[i] for i in rng.permutation(len(_TONES))]
    contrast = [
        strength * np.abs(surface.astype(np.float32) - tone).max(axis=1).mean() for tone in tones
    ]
    return next((t for t, c in zip(tones, contrast, strict=True) if c >= _SHOWS), tones[0])


def _chipped(seats: Seats, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
    """A piece broken off the board's edge or corner, with bare glass fibre along the break."""
    good = populate(seats)
    low, high = EDGE[0] * K, EDGE[1] * K
    spot = low if rng.random() < 0.35 else rng.uniform(low + 10, high - 10)
    centre = np.array([spot, low])
    for _ in range(int(rng.integers(4))):  # a quarter turn moves it to another side
        centre = np.array([low + high - centre[1], centre[0]])
    bite = _blot(centre, rng.uniform(5, 13) * K, rng, rough=0.5)
    bite = np.where(bite > 127, 255, 0).astype(np.uint8)
    around = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))
    torn = cv2.dilate(bite, around).astype(np.uint8)
    ragged = cv2.blur(rng.integers(0, 256, bite.shape, dtype=np.uint8), (5, 5))
    torn[(ragged < 118) & (bite == 0)] = 0
    torn[good[..., 3] < FACE - 20] = 0
    bad = _blend(good, cv2.GaussianBlur(torn, (3, 3), 0).astype(np.uint8), CORE, 0.85)
    bad[..., 3] = np.where(torn > 0, np.minimum(bad[..., 3], FACE - 8), bad[..., 3])
    bad[bite > 0] = (*CORE, 0)
    return bad, _changed(good, bad)


def _with(board: Pixels, seat: Seat) -> Pixels:
    out = board.copy()
    put(out, seat)
    return out


def _loose(seats: Seats, rng: np.random.Generator) -> int:
    names = {place.name for place in LOOSE}
    return int(rng.choice([i for i, seat in enumerate(seats) if seat.place.name in names]))


def _blot(
    centre: NDArray[np.float64], radius: float, rng: np.random.Generator, *, rough: float = 0.35
) -> Pixels:
    """A filled closed curve whose radius wavers with direction, uint8 [512,512], soft-edged."""
    turns = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    waver = np.ones_like(turns)
    for wave in range(1, 9):
        waver += (
            rng.normal(0, rough / wave**1.3) * np.cos(wave * turns + rng.uniform(0, 2 * np.pi)) / 2
        )
    reach = radius * np.clip(waver, 0.4, 1.8)
    curve = centre + reach[:, None] * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    blot = np.zeros((CANVAS, CANVAS), np.uint8)
    cv2.fillPoly(blot, [np.round(curve * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return cv2.GaussianBlur(blot, (5, 5), 1.2).astype(np.uint8)


def _blend(board: Pixels, cover: Pixels, colour: tuple[int, int, int], strength: float) -> Pixels:
    """Mix `colour` into the board where `cover` says; height stays."""
    out = board.copy()
    box = cv2.boundingRect(cover)
    at = (slice(box[1], box[1] + box[3]), slice(box[0], box[0] + box[2]))
    alpha = cover[at][..., None].astype(np.float32) * (strength / 255)
    under = out[at][..., :3].astype(np.float32)
    out[at][..., :3] = (under + alpha * (np.array(colour, np.float32) - under)).astype(np.uint8)
    return out


def _changed(good: Pixels, bad: Pixels) -> Pixels:
    """Where any channel, height too, differs by more than `_SEEN` levels."""
    red, green, blue, height = cv2.split(cv2.absdiff(good, bad))
    apart = cv2.max(cv2.max(red, green), cv2.max(blue, height))
    seen = np.where(apart > _SEEN, 255, 0).astype(np.uint8)
    return cv2.morphologyEx(seen, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)).astype(np.uint8)


def _moved(good: Pixels, bad: Pixels, *seats: Seat) -> Pixels:
    """As `_changed`, with the component's whole outline: part of it may look as before."""
    mask = _changed(good, bad)
    for seat in seats:
        mask = np.maximum(mask, np.where(footprint(seat) > 127, 255, 0).astype(np.uint8))
    return mask


_MAKERS: dict[str, Callable[[Seats, np.random.Generator], tuple[Pixels, Pixels]]] = {
    "scratch": _scratch,
    "missing": _missing,
    "misplaced": _misplaced,
    "stain": _stain,
    "chipped": _chipped,
}

DEFECTS = tuple(_MAKERS)
