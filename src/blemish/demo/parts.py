"""A seeded camera over a synthetic product: small circuit boards, good ones and flawed ones.

Every picture differs as real ones do: light, position, turn, component placement, colour, dust
and sensor noise. A flaw is drawn from its own random stream, so a part of a given seed looks the
same with and without it everywhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.demo import flaws
from blemish.demo.board import CORE, FACE, Seat, populate
from blemish.demo.components import PLACES
from blemish.demo.pen import CANVAS, UNITS, Pixels
from blemish.errors import ParameterError

GOOD = "good"
DEFECTS: tuple[str, ...] = flaws.DEFECTS

Floats = NDArray[np.float32]

_SMALLEST, _LARGEST = 64, 1024  # pixels


@dataclass(frozen=True)
class Part:
    """One picture: `image` uint8 [size,size,3] RGB, `mask` bool [size,size], `defect` or None."""

    image: Pixels
    mask: NDArray[np.bool_]
    defect: str | None


def render(seed: int, defect: str | None = None, size: int = 256) -> Part:
    """The part of this seed, `size` pixels square, flawed if `defect` (one of DEFECTS) is named.

    The same arguments give the same pixels. Raises ParameterError.
    """
    _check(seed, defect, size)
    rng = np.random.default_rng([seed, 0])
    seats = tuple(_seat(rng, index) for index in range(len(PLACES)))
    if defect is None:
        board, changed = populate(seats), np.zeros((CANVAS, CANVAS), np.uint8)
    else:
        flaw_rng = np.random.default_rng([seed, 1 + DEFECTS.index(defect)])
        board, changed = flaws.spoil(defect, seats, flaw_rng)
    pose = _pose(rng)
    image = _photograph(_posed(board, pose, size, ground=(*CORE, 0)), rng)
    mask = _posed(changed, pose, size, ground=(0,)) > 127
    return Part(image, mask, defect)


def write_dataset(
    folder: Path | str,
    *,
    good: int = 40,
    test_good: int = 20,
    per_defect: int = 6,
    seed: int = 0,
    size: int = 256,
) -> Path:
    """Write a data set in MVTec AD's layout into `folder`, and return it.

    `train/good`, `test/good`, `test/<defect>` and `ground_truth/<defect>/000_mask.png`, PNG.
    Files of these names are overwritten, others left. Raises ParameterError.
    """
    for name, count in (("good", good), ("test_good", test_good), ("per_defect", per_defect)):
        if count < 0:
            raise ParameterError(f"{name} is {count}; give a number of parts of 0 or more.")
    root = Path(folder)
    if root.exists() and not root.is_dir():
        raise ParameterError(f"{root} is a file; give a folder to write the synthetic parts into.")
    # A stream of seeds per data set: parts of two data sets are never the same.
    seeds = iter(np.random.SeedSequence(_checked_seed(seed)).generate_state(
        good + test_good + per_defect * len(DEFECTS), np.uint64
    ).tolist())  # fmt: skip
    for split, count in (("train", good), ("test", test_good)):
        for index in range(count):
            part = render(next(seeds), size=size)
            _write(root / split / GOOD / f"{index:03d}.png", part.image)
    for defect in DEFECTS:
        for index in range(per_defect):
            part = render(next(seeds), defect, size)
            _write(root / "test" / defect / f"{index:03d}.png", part.image)
            mask = np.where(part.mask, 255, 0).astype(np.uint8)
            _write(root / "ground_truth" / defect / f"{index:03d}_mask.png", mask)
    return root


def _seat(rng: np.random.Generator, index: int) -> Seat:
    """A placing machine's ordinary tolerance."""
    dx, dy = rng.uniform(-0.45, 0.45, 2)
    return Seat(PLACES[index], dx, dy, rng.uniform(-1.2, 1.2), rng.uniform(0.94, 1.06))


def _pose(rng: np.random.Generator) -> NDArray[np.float64]:
    """A turn of up to 1.5 degrees and a shift of up to 2.5 units, as a 2x3 map on the canvas."""
    middle = (CANVAS - 1) / 2
    turn = rng.uniform(-1.5, 1.5)
    pose = np.array(cv2.getRotationMatrix2D((middle, middle), turn, 1.0), np.float64)
    pose[:, 2] += rng.uniform(-2.5, 2.5, 2) * CANVAS / UNITS
    return pose


def _posed(
    canvas: Pixels, pose: NDArray[np.float64], size: int, *, ground: tuple[int, ...]
) -> Pixels:
    """Move the canvas and bring it to the picture's size."""
    moved = cv2.warpAffine(canvas, pose, (CANVAS, CANVAS), borderValue=ground)
    how = cv2.INTER_AREA if size <= CANVAS else cv2.INTER_LINEAR
    return cv2.resize(moved, (size, size), interpolation=how).astype(np.uint8)


def _photograph(view: Pixels, rng: np.random.Generator) -> Pixels:
    """Put the board ([size,size,4]) on its table, light it, and take a noisy picture of it."""
    size = view.shape[0]
    unit = size / UNITS
    height: Floats = view[..., 3].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    toward = np.array([np.cos(angle), np.sin(angle)], np.float32)

    solid = np.clip(height / (FACE - 12), 0, 1)[..., None]
    table = _table(size, rng)
    scene: Floats = np.asarray(table + solid * (view[..., :3] - table), np.float32)
    _dust(scene, unit, rng)
    scene *= (_relief(height, toward) * _shadow(height, toward, unit))[..., None]
    scene *= _light(size, toward, rng)[..., None]
    scene *= rng.uniform(0.985, 1.015, 3).astype(np.float32)  # white balance
    blurred = cv2.GaussianBlur(scene, (0, 0), rng.uniform(0.35, 0.6) * unit)
    return _sensor(np.asarray(blurred, np.float32), rng)


def _relief(height: Floats, toward: Floats) -> Floats:
    """Slopes that face the light are brighter."""
    slope_x = cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=1 / 8)
    slope_y = cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=1 / 8)
    facing = -(slope_x * toward[0] + slope_y * toward[1])
    return np.asarray(1 + 0.30 * np.tanh(facing / 24), np.float32)


def _shadow(height: Floats, toward: Floats, unit: float) -> Floats:
    """Taller neighbours on the light's side throw soft shadows."""
    shade = np.zeros_like(height)
    for step in (1.5, 3.0):
        shift = -toward * step * unit
        move = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
        taller = cv2.warpAffine(height, move, height.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
        shade = np.maximum(shade, np.clip((taller - height - 18 * step) / 60, 0, 1))
    return np.asarray(1 - 0.42 * cv2.GaussianBlur(shade, (0, 0), 0.9 * unit), np.float32)


def _light(size: int, toward: Floats, rng: np.random.Generator) -> Floats:
    """A lamp a little to one side: overall strength, a slope across the picture, darker corners."""
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    slope = rng.uniform(0.02, 0.08) * (toward[0] * axis[None, :] + toward[1] * axis[:, None])
    corner = -0.05 * (axis[None, :] ** 2 + axis[:, None] ** 2)
    return np.asarray(rng.uniform(0.97, 1.12) * (1 + slope + corner), np.float32)


def _table(size: int, rng: np.random.Generator) -> Floats:
    """A grey antistatic mat: a different patch of the same grain under every part."""
    grain = _grain()
    top, left = rng.integers(0, grain.shape[0] - CANVAS // 2, 2)
    crop = grain[top : top + CANVAS // 2, left : left + CANVAS // 2]
    patch = np.asarray(cv2.resize(crop, (size, size)), np.float32)
    tone = np.array([74, 77, 82], np.float32) * rng.uniform(0.94, 1.06)
    return np.asarray(tone + 5.0 * patch[..., None], np.float32)


@cache
def _grain() -> Floats:
    rng = np.random.default_rng(20)
    fine = cv2.GaussianBlur(rng.standard_normal((768, 768), np.float32), (0, 0), 0.8)
    broad = cv2.GaussianBlur(rng.standard_normal((768, 768), np.float32), (0, 0), 12)
    return np.asarray(fine / fine.std() * 0.8 + broad / broad.std() * 0.6, np.float32)


def _dust(scene: Floats, unit: float, rng: np.random.Generator) -> None:
    """A few pale specks, harmless."""
    for _ in range(int(rng.integers(2, 8))):
        x, y = rng.uniform(8, UNITS - 8, 2) * unit
        radius = rng.uniform(0.25, 0.7) * unit
        lift = float(rng.uniform(10, 34))
        reach = int(3 * radius) + 1
        ys, xs = np.mgrid[int(y) - reach : int(y) + reach + 1, int(x) - reach : int(x) + reach + 1]
        speck = lift * np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2 * radius**2))
        scene[ys[0, 0] : ys[-1, 0] + 1, xs[0, 0] : xs[0, -1] + 1] += speck[..., None]


def _sensor(scene: Floats, rng: np.random.Generator) -> Pixels:
    """Read noise, and shot noise that grows with the light."""
    noise = rng.standard_normal(scene.shape, np.float32)
    noisy = scene + noise * np.sqrt(1.2 + 0.022 * np.maximum(scene, 0))
    return np.clip(np.round(noisy), 0, 255).astype(np.uint8)


def _check(seed: int, defect: str | None, size: int) -> None:
    _checked_seed(seed)
    if defect is not None and defect not in DEFECTS:
        raise ParameterError(
            f"There is no defect {defect!r} on the synthetic board; choose {', '.join(DEFECTS)}."
        )
    if not _SMALLEST <= size <= _LARGEST:
        raise ParameterError(f"size is {size}; choose {_SMALLEST} to {_LARGEST} pixels.")


def _checked_seed(seed: int) -> int:
    if seed < 0:
        raise ParameterError(f"seed is {seed}; give 0 or a positive whole number.")
    return seed


def _write(path: Path, pixels: Pixels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR).astype(np.uint8)
    _, encoded = cv2.imencode(".png", pixels)
    path.write_bytes(encoded.tobytes())
