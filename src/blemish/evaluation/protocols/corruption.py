"""Test-time corruption: what a line does to pictures (light, focus, coding, placement), in steps.

Images are changed before the view and after fitting, so the inspector meets them as it would meet
a lamp that ages. What moves the picture moves its ground truth alike. Directions and signs are
drawn from the seed and the image's position, and are the same at every level.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from blemish.errors import ParameterError
from blemish.evaluation.datasets import Sample
from blemish.evaluation.protocol import Look
from blemish.evaluation.trial import Truth
from blemish.imaging import encode_jpeg, read_image
from blemish.inspector import Inspector
from blemish.verdict import Inspection

Pixels = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]
REFERENCE_SIDE = 256  # px: blur is given for an image of this longer side


@dataclass(frozen=True)
class Kind:
    """One way to corrupt: what a level means, those taken by default, and what is allowed.

    Either `change` gives new pixels [H, W, 3], or `move` an affine matrix [2, 3] from the old
    picture to the new one.
    """

    unit: str
    levels: tuple[float, ...]
    allowed: tuple[float, float]
    change: Callable[[Pixels, float], Pixels] | None = None
    move: Callable[[tuple[int, int], float, np.random.Generator], Matrix] | None = None


@dataclass(frozen=True)
class Corruption:
    """A kind by name, and the levels to try."""

    name: str
    levels: tuple[float, ...]

    @property
    def unit(self) -> str:
        """What a level is."""
        return KINDS[self.name].unit


def _brightness(image: Pixels, level: float) -> Pixels:
    return np.asarray(np.clip(image * np.float32(1 + level), 0, 1), np.float32)


def _blur(image: Pixels, level: float) -> Pixels:
    sigma = level * max(image.shape[:2]) / REFERENCE_SIDE
    blurred = cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(np.clip(blurred, 0, 1), np.float32)  # float sums pass 1 by a rounding error


def _jpeg(image: Pixels, level: float) -> Pixels:
    rgb = np.rint(image * 255).astype(np.uint8)
    return read_image(encode_jpeg(rgb, quality=round(level)))


def _shift(size: tuple[int, int], level: float, rng: np.random.Generator) -> Matrix:
    height, width = size
    angle = rng.uniform(0, 2 * math.pi)
    # Whole pixels, so that a shift is a shift and not a little blur as well.
    right, down = round(level * width * math.cos(angle)), round(level * height * math.sin(angle))
    return np.array([[1, 0, right], [0, 1, down]], np.float64)


def _rotation(size: tuple[int, int], level: float, rng: np.random.Generator) -> Matrix:
    height, width = size
    centre = ((width - 1) / 2, (height - 1) / 2)
    return np.asarray(cv2.getRotationMatrix2D(centre, rng.choice((-level, level)), 1.0))


KINDS: dict[str, Kind] = {
    "brightness": Kind(
        "relative change", (-0.3, -0.2, -0.1, 0.1, 0.2, 0.3), (-1, 4), change=_brightness
    ),
    "blur": Kind("sigma in px of an image 256 px long", (0.5, 1, 2, 4), (0.01, 100), change=_blur),
    "jpeg": Kind("quality", (90, 70, 50, 30, 10), (1, 100), change=_jpeg),
    "shift": Kind("share of the side", (0.01, 0.02, 0.05, 0.1), (0, 0.5), move=_shift),
    "rotation": Kind("degrees", (1, 2, 5, 10), (0, 180), move=_rotation),
}


def parse_corruptions(texts: Sequence[str]) -> tuple[Corruption, ...]:
    """`blur`, `blur=1,2`, or `all`, as on the command line; raises ParameterError."""
    found: dict[str, Corruption] = {}
    for text in texts:
        name, equals, levels = text.partition("=")
        if name == "all" and not equals:
            found |= {name: Corruption(name, kind.levels) for name, kind in KINDS.items()}
        elif name not in KINDS:
            raise ParameterError(f"--corrupt {text}: choose from {', '.join(KINDS)}, or all")
        else:
            found[name] = Corruption(
                name, _levels(name, levels, text) if equals else KINDS[name].levels
            )
    return tuple(found.values())


def corrupt(
    image: Pixels, truth: Truth, name: str, level: float, *, seed: Any = 0
) -> tuple[Pixels, Truth]:
    """The image [H, W, 3] at one level of a corruption, and its ground truth moved with it.

    What comes in at a border is the picture's own mirror image, in the truth as well.
    """
    kind = KINDS[name]
    if kind.change is not None:
        return kind.change(image, level), truth
    assert kind.move is not None
    size = image.shape[:2]
    matrix = kind.move((size[0], size[1]), level, np.random.default_rng(seed))
    moved = np.clip(_warped(image, matrix, cv2.INTER_LINEAR), 0, 1)
    return np.asarray(moved, np.float32), _moved(truth, matrix)


def corrupted(name: str, level: float, seed: int) -> Look:
    """The `Look` of a corruption: each test image is read, corrupted, and inspected."""

    def look(
        inspector: Inspector, position: int, sample: Sample, truth: Truth
    ) -> tuple[Inspection, Truth]:
        image = inspector.read(sample.image)
        changed, moved = corrupt(image, truth, name, level, seed=(seed, position))
        return inspector.inspect(changed), moved

    return look


def _levels(name: str, text: str, whole: str) -> tuple[float, ...]:
    low, high = KINDS[name].allowed
    try:
        levels = tuple(float(part) for part in text.split(","))
    except ValueError:
        levels = ()
    if not levels or not all(low <= level <= high for level in levels):
        raise ParameterError(
            f"--corrupt {whole}: levels of {name} ({KINDS[name].unit}) are numbers from {low:g} "
            f"to {high:g}, separated by commas"
        )
    return levels


def _moved(truth: Truth, matrix: Matrix) -> Truth:
    def move(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        return _warped(mask.astype(np.uint8), matrix, cv2.INTER_NEAREST).astype(np.bool_)

    defects = [replace(defect, mask=move(defect.mask)) for defect in truth.defects]
    return Truth(
        None if truth.mask is None else move(truth.mask),
        tuple(defect for defect in defects if defect.mask.any()),  # less what has left the picture
    )


def _warped(image: npt.NDArray[Any], matrix: Matrix, interpolation: int) -> npt.NDArray[Any]:
    height, width = image.shape[:2]
    return cv2.warpAffine(
        image, matrix, (width, height), flags=interpolation, borderMode=cv2.BORDER_REFLECT_101
    )
