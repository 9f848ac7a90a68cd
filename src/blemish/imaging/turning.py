"""Where a part lies, however it is turned: correlation at every angle and shift on thumbnails.

Normalised cross-correlation of what both images show (Padfield, "Masked object registration in the
Fourier domain", IEEE TIP 2012), with the golden image at 72 angles. Nothing is assumed of the
part's shape, and the half turn that leaves principal axes undecided is one of the angles.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from blemish.imaging.geometry import Mask, Matrix, inverse, shift, stretch, turn, warp
from blemish.imaging.sketches import THUMB, Level

ANGLES = tuple(math.radians(degrees) for degrees in range(0, 360, 5))
SCALES = (0.85, 1.0, 1.18)  # where the part's size may differ
# Of what counts: a square image turned by 45 degrees shows 83 %.
PLENTY = 0.83
# A golden thumbnail turned by 45 degrees fits, and so does a shift by 15 px without wrapping.
_CANVAS = 64
_REACH = 15
_LEAST = 0.6  # of the golden image's counted pixels that a place must show
_APART = math.radians(14)  # angles nearer than this are one place

Grey = npt.NDArray[np.float32]  # [h, w]
Real = npt.NDArray[np.floating]
Spectra = npt.NDArray[np.complexfloating]  # [poses, _CANVAS, _CANVAS // 2 + 1]


class TurnSearch:
    """Finds where a golden thumbnail lies in others, at the given angles and scales.

    Matrices lead from the golden image to the part, in units of each image's longest side.
    """

    def __init__(
        self,
        golden: Level,
        mask: Mask,
        *,
        angles: Sequence[float],
        scales: Sequence[float] = (1.0,),
    ) -> None:
        assert max(golden.hw) <= THUMB
        self._golden = golden
        self._poses = [turn(angle) @ stretch(s, s) for s in scales for angle in angles]
        self._angles = np.tile(np.asarray(angles, np.float64), len(scales))
        level = golden.grey - golden.grey[mask].mean()  # so that float32 sums cancel little
        posed = [self._posed(level, mask, pose) for pose in self._poses]
        values, counts = (np.stack(each) for each in zip(*posed, strict=True))
        self._area = counts.sum(axis=(1, 2))[:, None, None]
        self._values, self._squares, self._counts = (
            np.conj(np.fft.rfft2(each)) for each in (values * counts, values**2 * counts, counts)
        )
        self._seen: tuple[tuple[int, int], tuple[Real, Real, Real]] | None = None

    def places(self, part: Level, count: int) -> list[Matrix]:
        """The best places of different angles, best first, at most `count`."""
        ncc = self._correlation(part.grey)  # [poses, shifts, shifts]
        flat = ncc.reshape(len(ncc), -1)
        at_best, best = flat.argmax(axis=1), flat.max(axis=1)
        taken: list[int] = []
        for pose in np.argsort(-best, kind="stable").tolist():
            gaps = np.abs(self._angles[taken] - self._angles[pose])
            if np.all(np.minimum(gaps, 2 * math.pi - gaps) > _APART):
                taken.append(pose)
            if len(taken) == count:
                break
        return [self._matrix(pose, int(at_best[pose]), part) for pose in taken]

    def _posed(self, level: Grey, mask: Mask, pose: Matrix) -> tuple[Grey, Grey]:
        """The golden thumbnail in a pose about the canvas's centre, and where it counts."""
        height, width = self._golden.hw
        centre = _CANVAS / 2
        back = inverse(shift(centre, centre) @ pose @ shift(-width / 2, -height / 2))
        canvas = (_CANVAS, _CANVAS)
        shown = warp(mask.astype(np.float32), back, canvas, outside=0.0)
        return warp(level, back, canvas), np.asarray(shown > 0.5, np.float32)

    def _correlation(self, part: Grey) -> npt.NDArray[np.float32]:
        """How well each pose fits at each shift up to _REACH, [poses, y, x]; -1 unseen."""
        shown, golden_sum, golden_var = self._seen_by((part.shape[0], part.shape[1]))
        canvas = _on_canvas(part - part.mean())
        spectrum = np.fft.rfft2(canvas)
        part_sum = _at_shifts(self._counts, spectrum)
        part_squares = _at_shifts(self._counts, np.fft.rfft2(canvas**2))
        product = _at_shifts(self._values, spectrum) - golden_sum * part_sum / shown
        part_var = np.maximum(part_squares - part_sum**2 / shown, 0)
        # Less that is shown counts as a worse fit, or half a hole pattern would fit best of all.
        share = np.minimum(1, shown / (PLENTY * self._area))
        found = product / np.sqrt(golden_var * part_var + 1e-6) * np.sqrt(share)
        found[shown < _LEAST * self._area] = -1
        return np.asarray(found, np.float32)

    def _seen_by(self, hw: tuple[int, int]) -> tuple[Real, Real, Real]:
        """Pixels, sum and variance of what parts of this size show of the golden image."""
        if self._seen is None or self._seen[0] != hw:
            frame = np.fft.rfft2(_on_canvas(np.ones(hw, np.float32)))
            shown = np.maximum(_at_shifts(self._counts, frame), 1e-3)
            total = _at_shifts(self._values, frame)
            variance = np.maximum(_at_shifts(self._squares, frame) - total**2 / shown, 0)
            # One assignment, so that threads see this size's figures or another's, never a mix.
            self._seen = hw, (shown, total, variance)
            return shown, total, variance
        return self._seen[1]

    def _matrix(self, pose: int, place: int, part: Level) -> Matrix:
        """From golden to part units, for a pose at a flat index of its shifts."""
        down, across = divmod(place, 2 * _REACH + 1)
        y, x = _corner(part.hw)
        centre = _CANVAS / 2
        height, width = self._golden.hw
        return np.asarray(
            inverse(part.to_pixels)
            @ shift(centre - x + across - _REACH, centre - y + down - _REACH)
            @ self._poses[pose]
            @ shift(-width / 2, -height / 2)
            @ self._golden.to_pixels
        )


def _corner(hw: tuple[int, int]) -> tuple[int, int]:
    """Top and left of a picture of `hw` in the middle of the canvas."""
    return (_CANVAS - hw[0]) // 2, (_CANVAS - hw[1]) // 2


def _on_canvas(picture: Grey) -> Grey:
    height, width = picture.shape
    top, left = _corner((height, width))
    canvas = np.zeros((_CANVAS, _CANVAS), np.float32)
    canvas[top : top + height, left : left + width] = picture
    return canvas


def _at_shifts(posed: Spectra, spectrum: Spectra) -> Real:
    """Sums of products of what `posed` and `spectrum` come from, at shifts up to _REACH."""
    full = np.fft.irfft2(posed * spectrum, s=(_CANVAS, _CANVAS))
    near = np.arange(-_REACH, _REACH + 1)
    return np.asarray(full[:, near[:, None], near])
