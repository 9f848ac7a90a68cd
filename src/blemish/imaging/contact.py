"""Contact sheets: several pictures with their names on one page, for people who compare them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import numpy.typing as npt

Rgb8 = npt.NDArray[np.uint8]  # [H, W, 3]

LINE_HEIGHT = 18  # px of one line of text
_PAPER = 255
_INK = (0, 0, 0)


def captioned(picture: Rgb8, *lines: str, size: float = 0.42) -> Rgb8:
    """A picture [H, W, 3] with lines of text above it, [H', W, 3]; long lines are cut off."""
    title = np.full((LINE_HEIGHT * len(lines) + 4, picture.shape[1], 3), _PAPER, np.uint8)
    for index, line in enumerate(lines):
        place = (2, LINE_HEIGHT * (index + 1) - 4)
        cv2.putText(title, line, place, cv2.FONT_HERSHEY_SIMPLEX, size, _INK, 1, cv2.LINE_AA)
    return np.concatenate([title, picture])


def beside(pictures: Sequence[Rgb8], gap: int = 8) -> Rgb8:
    """Pictures side by side, tops aligned, on white, [H', W', 3]."""
    height = max(len(picture) for picture in pictures)
    padded = [
        np.pad(p, ((0, height - len(p) + gap), (0, gap), (0, 0)), constant_values=_PAPER)
        for p in pictures
    ]
    row: Rgb8 = np.concatenate(padded, axis=1)
    return row


def below(pictures: Sequence[Rgb8]) -> Rgb8:
    """Pictures under each other, left sides aligned, on white, [H', W', 3]."""
    width = max(picture.shape[1] for picture in pictures)
    padded = [
        np.pad(p, ((0, 0), (0, width - p.shape[1]), (0, 0)), constant_values=_PAPER)
        for p in pictures
    ]
    column: Rgb8 = np.concatenate(padded)
    return column


def contact_sheet(pictures: Mapping[str, Rgb8], *, gap: int = 8, width: int = 2400) -> Rgb8:
    """All pictures with their names above them, in rows of at most `width` px, [H', W', 3]."""
    rows: list[list[Rgb8]] = [[]]
    for name, picture in pictures.items():
        tile = captioned(picture, name, size=0.5)
        used = sum(each.shape[1] + gap for each in rows[-1])
        if rows[-1] and used + tile.shape[1] > width:
            rows.append([])
        rows[-1].append(tile)
    return below([beside(row, gap) for row in rows])
