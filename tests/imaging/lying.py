"""Made-up parts that lie somewhere and turned: a screw and a marked nut, for tests of alignment."""

from __future__ import annotations

import math

import cv2
import numpy as np

from blemish.imaging.geometry import Matrix, inverse, shift, stretch, turn, warp

HW = (160, 160)


def screw(seed: int = 0, hw: tuple[int, int] = HW) -> np.ndarray:
    """A screw lying across grey, with light and noise of its own, [H, W, 3] in [0, 1]."""
    side = min(hw)
    picture = np.full((*hw, 3), 0.75, np.float32)
    middle, left = hw[0] // 2, hw[1] // 2 - round(0.32 * side)
    head, shaft = round(0.13 * side), round(0.05 * side)
    cv2.rectangle(
        picture, (left, middle - head), (left + head, middle + head), (0.3, 0.3, 0.35), -1
    )
    end = left + round(0.65 * side)
    cv2.rectangle(picture, (left, middle - shaft), (end, middle + shaft), (0.45, 0.42, 0.4), -1)
    for x in range(left + 2 * head, end, max(3, side // 32)):
        cv2.line(picture, (x, middle - shaft), (x + 2, middle + shaft), (0.2, 0.2, 0.2), 1)
    return _taken(picture, seed)


def nut(seed: int = 0, hw: tuple[int, int] = HW) -> np.ndarray:
    """A hexagonal nut with one corner marked, [H, W, 3] in [0, 1]: only the mark tells its turn."""
    side = min(hw)
    picture = np.full((*hw, 3), 0.2, np.float32)
    centre = np.array([hw[1] / 2, hw[0] / 2])
    ring = [
        centre + 0.3 * side * np.array([math.cos(k), math.sin(k)])
        for k in np.arange(6) * math.pi / 3
    ]
    cv2.fillPoly(picture, [np.rint(ring).astype(np.int32)], (0.7, 0.68, 0.6))
    cv2.circle(
        picture, np.rint(centre).astype(int).tolist(), round(0.15 * side), (0.1, 0.1, 0.1), -1
    )
    mark = np.rint(centre + np.array([0.22 * side, 0])).astype(int)
    cv2.circle(picture, mark.tolist(), round(0.04 * side), (0.05, 0.05, 0.3), -1)
    return _taken(picture, seed)


def moved(
    picture: np.ndarray, x: float = 0, y: float = 0, degrees: float = 0, scale: float = 1
) -> tuple[np.ndarray, Matrix]:
    """The picture turned about its middle, enlarged, then shifted; and the matrix that did it."""
    height, width = picture.shape[:2]
    about = shift(width / 2, height / 2)
    motion = shift(x, y) @ about @ turn(math.radians(degrees)) @ stretch(scale, scale)
    motion = motion @ inverse(about)
    found = warp(picture, inverse(motion), (height, width), cubic=True)
    return np.clip(found, 0, 1), motion


def _taken(picture: np.ndarray, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    soft = cv2.GaussianBlur(picture, (5, 5), 0)
    light = generator.uniform(0.9, 1.1)
    noise = generator.normal(0, 0.01, picture.shape)
    return np.clip(soft * light + noise, 0, 1).astype(np.float32)
