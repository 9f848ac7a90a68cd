"""Augmented copies of templates, for parts of which only a few good images exist.

Each copy is a sheet more of the same sample. Small turns and half-cell shifts add what the search
windows cannot reach: windows move in whole feature cells and never rotate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from blemish.errors import ParameterError

AUGMENTATIONS = ("rotate", "shift", "flip-h", "flip-v")
ANGLES = (-6.0, -3.0, 3.0, 6.0)  # degrees
# Pixels of the view. Cells of the finest level lie 4 px apart, so 2 px are half a cell.
SHIFTS = ((2.0, 0.0), (0.0, 2.0), (2.0, 2.0))

Matrix = npt.NDArray[np.float64]  # [2, 3]: source pixel (x, y, 1) to the copy's pixel


@dataclass(frozen=True)
class Copy:
    """One augmented copy: flipped first, then turned counter-clockwise about the centre or shifted.

    `angle` in degrees, `shift` (x, y) in pixels of the view.
    """

    angle: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    flip_h: bool = False
    flip_v: bool = False

    @property
    def name(self) -> str:
        """What was done, for people; empty for the image itself."""
        words = ["flip-h"] * self.flip_h + ["flip-v"] * self.flip_v
        words += [f"rotate {self.angle:+g}"] * bool(self.angle)
        words += [f"shift {self.shift[0]:g},{self.shift[1]:g}"] * any(self.shift)
        return " ".join(words)

    def matrix(self, height: int, width: int) -> Matrix:
        """The affine map of pixel centres from the image to this copy, [2, 3]."""
        centre = ((width - 1) / 2, (height - 1) / 2)
        turn = _square(cv2.getRotationMatrix2D(centre, self.angle, 1.0))
        flip = np.eye(3)
        if self.flip_h:
            flip[0] = [-1, 0, width - 1]
        if self.flip_v:
            flip[1] = [0, -1, height - 1]
        moved = turn @ flip
        moved[:2, 2] += self.shift
        return np.asarray(moved[:2], np.float64)

    def to_image(self, point: tuple[float, float], height: int, width: int) -> tuple[float, float]:
        """Where the copy's pixel (x, y) lies in the image it was made of."""
        inverse = np.linalg.inv(_square(self.matrix(height, width)))
        x, y = inverse[:2] @ (*point, 1.0)
        return float(x), float(y)

    def apply(self, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The copy of an image [H, W, 3]; what enters at the border mirrors what is inside."""
        if not self.name:
            return image
        height, width = image.shape[:2]
        warped = cv2.warpAffine(
            image,
            self.matrix(height, width),
            (width, height),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        return np.asarray(warped, np.float32)


def copies(augment: str | Sequence[str]) -> list[Copy]:
    """The copies that names of AUGMENTATIONS ask for, the image itself first.

    Turns and shifts stand beside each other; a flip doubles all of them. Raises ParameterError.
    """
    names = [augment] if isinstance(augment, str) else list(augment)
    unknown = [name for name in names if name not in AUGMENTATIONS]
    if unknown:
        raise ParameterError(
            f"augment has no '{unknown[0]}'; give some of {', '.join(AUGMENTATIONS)}"
        )
    moves = [Copy()]
    if "rotate" in names:
        moves += [Copy(angle=angle) for angle in ANGLES]
    if "shift" in names:
        moves += [Copy(shift=shift) for shift in SHIFTS]
    across = (False, True) if "flip-h" in names else (False,)
    upright = (False, True) if "flip-v" in names else (False,)
    return [
        Copy(move.angle, move.shift, flip_h, flip_v)
        for flip_v in upright
        for flip_h in across
        for move in moves
    ]


def _square(matrix: npt.ArrayLike) -> Matrix:
    """[2, 3] with the row that makes it [3, 3]."""
    return np.concatenate([np.asarray(matrix, np.float64), [[0.0, 0.0, 1.0]]])
