"""Synthetic defects of known size and place, laid on pictures of good parts.

Nine kinds, so that nothing is tuned to one: what they have in common is only that a good part does
not look so. They tell ways of looking apart, and what size of defect an inspector finds, where no
real defect is at hand. CutPaste (Li et al., CVPR 2021) is one of the kinds, `foreign piece`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt

from blemish.errors import ParameterError

Kind = Literal[
    "cut", "scratch", "spot", "stain", "missing", "foreign piece", "foreign body", "bend", "smear"
]
KINDS: tuple[Kind, ...] = get_args(Kind)
VISIBLE = 4 / 255  # mean change of a defect's pixels below which nobody could see it
_TRIES = 8  # places and strengths tried for a defect that can be seen

Image = npt.NDArray[np.float32]  # [H, W, 3], RGB in [0, 1]
Mask = npt.NDArray[np.bool_]  # [H, W]


@dataclass(frozen=True)
class Defect:
    """A picture with one synthetic defect, and what that is.

    `mask` are its pixels; `size` its diameter or length in pixels, `contrast` the mean change of
    its pixels' values in [0, 1], `centre` its (x, y).
    """

    image: Image
    mask: Mask
    kind: Kind
    size: float
    contrast: float
    centre: tuple[int, int]


def make_defect(
    image: Image,
    generator: np.random.Generator,
    *,
    kind: Kind,
    size: float,
    inside: Mask | None = None,
) -> Defect:
    """Lay a defect of a kind, `size` pixels across or long, on an image [H, W, 3] in [0, 1].

    Its centre lies on a pixel of `inside` (None: anywhere). Where a place shows too little of it
    (a cut in what is black), another is tried. Raises ParameterError for a size below 1.
    """
    if kind not in KINDS or not size >= 1:
        raise ParameterError(
            f"a defect has a kind ({', '.join(KINDS)}) and at least 1 pixel, not {kind} of {size}"
        )
    height, width = image.shape[:2]
    places = np.flatnonzero(np.ones((height, width), np.bool_) if inside is None else inside)
    best: Defect | None = None
    for _ in range(_TRIES):
        y, x = divmod(int(generator.choice(places)), width)
        alpha, changed = _MADE[kind](image, generator, (x, y), float(size))
        made = image + alpha[..., None] * (changed.clip(0, 1) - image)
        mask = alpha > 0.1
        if not mask.any():
            mask[y, x] = True
        contrast = float(abs(made - image)[mask].mean())
        found = Defect(made.astype(np.float32), mask, kind, float(size), contrast, (x, y))
        if contrast >= VISIBLE:
            return found
        if best is None or contrast > best.contrast:
            best = found
    assert best is not None
    return best


Place = tuple[int, int]
Alpha = npt.NDArray[np.float32]  # [H, W] in [0, 1]: how much of the defect covers a pixel
Make = Callable[[Image, np.random.Generator, Place, float], tuple[Alpha, Image]]


def _cut(
    image: Image, generator: np.random.Generator, at: Place, size: float
) -> tuple[Alpha, Image]:
    """A straight dark line."""
    alpha = _line(image, generator, at, size, bend=0)
    return alpha, image * np.float32(generator.uniform(0.1, 0.6))


def _scratch(
    image: Image, generator: np.random.Generator, at: Place, size: float
) -> tuple[Alpha, Image]:
    """A thin bent line, lighter than what it crosses."""
    alpha = _line(image, generator, at, size, bend=0.6)
    return alpha, image + np.float32(generator.uniform(0.15, 0.5))


def _spot(
    image: Image, generator: np.random.Generator, at: Place, size: float
) -> tuple[Alpha, Image]:
    """A disc with an edge, of one tone."""
    tone = generator.uniform(0.1, 0.5) * generator.choice((-1, 1))
    return _blob(image, generator, at, size, edge=0.7), image + np.float32(tone)


def _stain(
    image: Image, generator: np.random.Generator, at: Place, size: float
) -> tuple[Alpha, Image]:
    """A soft faint tint."""
    alpha = _blob(image, generator, at, size, edge=size / 6)
    tint = generator.uniform(-0.25, 0.1, 3).astype(np.float32)
    return alpha, image + tint


def _missing(
    image: Image, generator: np.random.Generator, at: Place, size: float
) -> tuple[Alpha, Image]:
    """A hole that shows what surrounds the part: the tone along the picture's border."""
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    tone = np.median(border, axis=0)
    noise = generator.normal(0, 0.01, image.shape).astype(np.float32)
    return _blob(image, generator, at, size, edge=0.7), tone.astype(np.float32) + noise


def _foreign_piece(
    image: Image, generator: np.random.Generator, at: Place, size: float
) -> tuple[Alpha, Image]:
    """A turned box with another part of the picture."""
    ratio = float(np.exp(generator.uniform(-0.7, 0.7)))
    half = size / 2 * min(1, ratio), size / 2 * min(1, 1 / ratio)
    along, across = _axes(image, at, generator.uniform(0, np.pi))
    alpha = np.clip(half[0] - abs(along) + 0.5, 0, 1) * np.clip(half[1] - abs(across) + 0.5, 0, 1)
    height, width = image.shape[:2]
    shift = (
        int(generator.integers(height // 8, max(height // 8 + 1, height - height // 8))),
        int(generator.integers(width // 8, max(width // 8 + 1, width - width // 8))),
    )
    piece = np.roll(image, shift, axis=(0, 1)) * np.float32(generator.uniform(0.8, 1.2))
    return alpha.astype(np.float32), piece


def _foreign_body(
    image: Image, generator: np.random.Generator, at: Place, size: float
) -> tuple[Alpha, Image]:
    """Something of another colour, lit from one side."""
    alpha = _blob(image, generator, at, size, edge=0.7)
    colour = generator.uniform(0.05, 0.95, 3).astype(np.float32)
    along, _ = _axes(image, at, generator.uniform(0, 2 * np.pi))
    shade = 1 + 0.3 * np.clip(along / size, -1, 1)
    return alpha, (colour * shade[..., None]).astype(np.float32)


def _bend(
    image: Image, generator: np.random.Generator, at: Place, size: float
) -> tuple[Alpha, Image]:
    """The part pushed aside around a place."""
    along, across = _axes(image, at, 0.0)
    near = np.exp(-0.5 * (along**2 + across**2) / (size / 3) ** 2)
    angle, push = generator.uniform(0, 2 * np.pi), size * generator.uniform(0.15, 0.35)
    height, width = image.shape[:2]
    x = np.arange(width)[None] - near * push * np.cos(angle)
    y = np.arange(height)[:, None] - near * push * np.sin(angle)
    bent = cv2.remap(
        image, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )  # fmt: skip
    inside = along**2 + across**2 <= (size / 2) ** 2
    return inside.astype(np.float32), np.asarray(bent, np.float32)


def _smear(
    image: Image, generator: np.random.Generator, at: Place, size: float
) -> tuple[Alpha, Image]:
    """A place wiped along one direction."""
    length = max(3, round(size * generator.uniform(0.4, 0.8)))
    kernel = np.zeros((length, length), np.float32)
    angle = generator.uniform(0, np.pi)
    middle = (length - 1) / 2
    reach = np.array([np.cos(angle), np.sin(angle)]) * middle
    ends = [tuple(np.rint(middle + sign * reach).astype(int).tolist()) for sign in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0)
    wiped = cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT_101)
    return _blob(image, generator, at, size, edge=size / 8), wiped.astype(np.float32)


_MADE: dict[Kind, Make] = {
    "cut": _cut, "scratch": _scratch, "spot": _spot, "stain": _stain, "missing": _missing,
    "foreign piece": _foreign_piece, "foreign body": _foreign_body, "bend": _bend, "smear": _smear,
}  # fmt: skip


def _axes(
    image: Image, at: Place, angle: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Each pixel's distance from a place along a direction, and across it."""
    x = np.arange(image.shape[1])[None] - at[0]
    y = np.arange(image.shape[0])[:, None] - at[1]
    along = x * np.cos(angle) + y * np.sin(angle)
    return along, y * np.cos(angle) - x * np.sin(angle)


def _blob(
    image: Image, generator: np.random.Generator, at: Place, size: float, *, edge: float
) -> Alpha:
    """An uneven ellipse, `size` along its longer axis, whose edge is `edge` pixels soft."""
    along, across = _axes(image, at, generator.uniform(0, np.pi))
    flat = generator.uniform(0.5, 1)
    angle = np.arctan2(across, along)
    phases = generator.uniform(0, 2 * np.pi, 2)
    uneven = 1 - 0.08 * (2 + np.sin(2 * angle + phases[0]) + np.sin(3 * angle + phases[1])) / 2
    away = np.hypot(along, across / flat) - size / 2 * uneven
    alpha: Alpha = np.clip(0.5 - away / max(edge, 0.5), 0, 1).astype(np.float32)
    return alpha


def _line(
    image: Image, generator: np.random.Generator, at: Place, size: float, *, bend: float
) -> Alpha:
    """A line `size` long and 1 to 2.5 pixels wide, bent by at most so many radians a third."""
    angle = generator.uniform(0, 2 * np.pi)
    turns = [angle, *(angle + np.cumsum(generator.uniform(-bend, bend, 2)))]
    steps = np.array([[np.cos(a), np.sin(a)] for a in turns]) * size / 3
    points = np.concatenate([[[0.0, 0.0]], np.cumsum(steps, axis=0)])
    points += np.array(at) - points.mean(axis=0)
    wide = generator.uniform(1, 2.5)
    x, y = np.arange(image.shape[1])[None], np.arange(image.shape[0])[:, None]
    away = np.full(image.shape[:2], np.inf)
    for start, step in zip(points, steps, strict=False):
        share = ((x - start[0]) * step[0] + (y - start[1]) * step[1]) / (step @ step)
        share = share.clip(0, 1)
        to = np.hypot(x - start[0] - share * step[0], y - start[1] - share * step[1])
        away = np.minimum(away, to)
    return np.clip(wide / 2 - away + 0.5, 0, 1).astype(np.float32)
