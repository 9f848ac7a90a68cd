"""OpenCV's VideoCapture as this package uses it, so that another library can take its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt


class Capture(Protocol):
    """The methods of `cv2.VideoCapture` that are used; frames are BGR [H, W, 3] or grey [H, W]."""

    def isOpened(self) -> bool:
        """Whether it gives frames."""

    def grab(self) -> bool:
        """Step to the next frame; False when there is none."""

    def read(self) -> tuple[bool, Any]:
        """Step to the next frame and decode it."""

    def get(self, propId: int, /) -> float:
        """A property by OpenCV's number."""

    def set(self, propId: int, value: float, /) -> bool:
        """Set a property; False when it cannot be."""

    def release(self) -> None:
        """Let go of the camera or file."""


Opener: TypeAlias = Callable[[Any], Capture]  # from an index, a URL or a file's name


def opencv(where: int | str) -> Capture:
    """`cv2.VideoCapture(where)`, which tells by `isOpened` whether it could be opened."""
    import cv2

    return cv2.VideoCapture(where)


def to_rgb(image: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """RGB of OpenCV's BGR [H, W, 3]; grey [H, W] stays."""
    import cv2

    if image.ndim == 2:
        return image
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
