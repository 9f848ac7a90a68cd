"""Alignment: the transform that lays the golden image over a part, and how well it then fits.

Start values come from phase correlation, a search over a full turn, or features with RANSAC; each
is improved by ECC (Evangelidis and Psarakis, PAMI 2008) and the one that correlates best is taken.
The part is compared in grey, at 128 px on its longest side, so brightness and contrast may differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import numpy as np

from blemish.imaging.geometry import (
    Mask,
    Matrix,
    between_coordinates,
    corners,
    inverse,
    lands_in,
    shift,
    warp,
)
from blemish.imaging.raster import Pixels
from blemish.imaging.sketches import Level, Sketch, shrunk_mask
from blemish.imaging.turning import ANGLES, PLENTY, SCALES, TurnSearch

Mode = Literal["none", "translation", "rigid", "similarity", "homography"]
MODES: tuple[Mode, ...] = get_args(Mode)  # from simple to free

_PLACES = 3  # of the search over angles that are looked at more closely
_ROUGH, _LAST = 12, 30  # steps of ECC
_ENOUGH = 1e-4  # of correlation that one more step must gain
_LEAST = 0.4  # of what counts that must be seen
_SCALES = 0.7, 1.4  # the least and most that a part may be enlarged
_FEATURES, _MATCHES = 500, 8
_OFF = 3.0  # px of the fine level that a match may lie off
_WORST = -1.0  # the correlation of what cannot be compared


@dataclass(frozen=True)
class Placement:
    """Where a part lies: the matrix from golden to part, in units of each image's longest side.

    `residual` is 1 - the correlation of the two in grey, where the golden image counts and the part
    shows it: 0 is a perfect fit, 1 none at all. `shown` is the share of what counts that it shows.
    """

    matrix: Matrix
    residual: float
    shown: float


class Aligner:
    """Aligns parts with a golden image, looking at its pixels that count [H, W].

    `translation` shifts; `rigid` shifts and turns, by any angle; `similarity` also enlarges, by 0.7
    to 1.4; `homography` also tilts.
    """

    def __init__(self, golden: Sketch, mask: Mask | None, mode: Mode) -> None:
        assert mode != "none"
        mask = np.ones(golden.fine.hw, np.bool_) if mask is None else mask
        self.mode = mode
        self._high = _Fit(golden.high, mask)
        self._low = _Fit(golden.low, mask)
        self._search = TurnSearch(
            golden.thumb,
            shrunk_mask(mask, golden.thumb.hw),
            angles=ANGLES if mode != "translation" else (0.0,),
            scales=SCALES if mode in ("similarity", "homography") else (1.0,),
        )
        self._features = _Features(golden.fine, mask) if mode == "homography" else None

    def place(self, part: Sketch) -> Placement:
        """Where the part lies as well as can be found; the caller judges the residual."""
        turns = self.mode != "translation"
        motion = cv2.MOTION_EUCLIDEAN if turns else cv2.MOTION_TRANSLATION
        starts = [np.eye(3), *self._search.places(part.thumb, _PLACES)]
        if not turns:
            starts.append(self._low.shifted(part.low))
        low, high = self._low, self._high
        best = low.best(
            [low.improved(start, part.low, motion, _ROUGH) for start in starts], part.low
        )
        if self.mode == "similarity":
            best = low.enlarged(best, part.low)
        best = high.improved(best, part.high, motion, _LAST)
        if self.mode == "similarity":
            best = high.enlarged(best, part.high)
        if self.mode == "homography":
            best = self._tilted(best, part)
        correlation, share = high.fit(best, part.high)
        return Placement(best, 1 - correlation, share)

    def _tilted(self, best: Matrix, part: Sketch) -> Matrix:
        assert self._features is not None
        matched = self._features.matrix_to(part.fine)
        starts = [best] if matched is None else [best, matched]
        found = [
            self._high.improved(start, part.high, cv2.MOTION_HOMOGRAPHY, _LAST) for start in starts
        ]
        return self._high.best([best, *(one for one in found if _is_plausible(one))], part.high)


class _Fit:
    """How well a part fits the golden image at one level, and transforms that fit better."""

    def __init__(self, golden: Level, mask: Mask) -> None:
        self.golden = golden
        self.mask = shrunk_mask(mask, golden.hw)

    def fit(self, matrix: Matrix, part: Level) -> tuple[float, float]:
        """How the two correlate in grey, -1 to 1, and the share that is compared.

        That is what counts of the golden image and the part shows.
        """
        to_part = part.to_pixels @ matrix @ inverse(self.golden.to_pixels)
        shown = self.mask & lands_in(to_part, self.golden.hw, part.hw)
        share = float(shown.sum() / self.mask.sum())
        if share < _LEAST:
            return _WORST, share
        theirs = warp(part.grey, to_part, self.golden.hw)[shown]
        ours = self.golden.grey[shown]
        theirs, ours = theirs - theirs.mean(), ours - ours.mean()
        power = float(np.sqrt((theirs @ theirs) * (ours @ ours)))
        return (float(theirs @ ours) / power if power > 1e-6 else 0.0), share

    def best(self, matrices: Sequence[Matrix], part: Level) -> Matrix:
        """The one that fits best; one that shows little of the golden image has to fit better."""

        def merit(matrix: Matrix) -> float:
            correlation, share = self.fit(matrix, part)
            return correlation * math.sqrt(min(1.0, share / PLENTY))

        return max(matrices, key=merit)

    def shifted(self, part: Level) -> Matrix:
        """The shift that phase correlation finds; none where the two differ in shape."""
        if part.hw != self.golden.hw:
            return np.eye(3)
        window = cv2.createHanningWindow(part.hw[::-1], cv2.CV_32F)
        # Copies, since OpenCV multiplies its arguments by the window in place.
        (x, y), _ = cv2.phaseCorrelate(self.golden.grey.copy(), part.grey.copy(), window)
        return np.asarray(inverse(part.to_pixels) @ shift(x, y) @ self.golden.to_pixels)

    def improved(self, matrix: Matrix, part: Level, motion: int, steps: int) -> Matrix:
        """The matrix after steps of ECC, or as it was where these do not bring it closer."""
        return self._closer(matrix, self._stepped(matrix, part, motion, steps), part)

    def enlarged(self, matrix: Matrix, part: Level) -> Matrix:
        """The matrix with a better scale, which ECC has only among affine motions."""
        affine = self._stepped(matrix, part, cv2.MOTION_AFFINE, _ROUGH)
        if affine is None:
            return matrix
        similar = _nearest_similarity(affine, self.golden)
        return self._closer(
            matrix, self.improved(similar, part, cv2.MOTION_EUCLIDEAN, _ROUGH), part
        )

    def _closer(self, matrix: Matrix, step: Matrix | None, part: Level) -> Matrix:
        """Where a small step leads, if it leads to a higher correlation."""
        if step is None or self.fit(step, part)[0] <= self.fit(matrix, part)[0]:
            return matrix
        return step

    def _stepped(self, matrix: Matrix, part: Level, motion: int, steps: int) -> Matrix | None:
        # The golden image is laid over the part as the matrix says, so that ECC looks for a small
        # motion from there: its Euclidean motion cannot turn by more than 90 degrees.
        back = self.golden.to_pixels @ inverse(part.to_pixels @ matrix)
        laid = warp(self.golden.grey, back, part.hw)
        counts = warp(self.mask.astype(np.float32), back, part.hw, smooth=False, outside=0.0)
        over = (counts > 0.5).astype(np.uint8)
        homography = motion == cv2.MOTION_HOMOGRAPHY
        start = np.eye(3 if homography else 2, 3, dtype=np.float32)
        criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, steps, _ENOUGH)
        try:
            _, step = cv2.findTransformECC(part.grey, laid, start, motion, criteria, over, 1)
            full = step if homography else np.vstack([step, [0, 0, 1]])
            onward = inverse(between_coordinates(full.astype(np.float64)))
        except (cv2.error, np.linalg.LinAlgError):  # no texture, or it has left the image
            return None
        found = inverse(part.to_pixels) @ onward @ part.to_pixels @ matrix
        return np.asarray(found / found[2, 2]) if np.isfinite(found).all() else None


class _Features:
    """SIFT features of the golden image where it counts, to be found again in a part."""

    def __init__(self, golden: Level, mask: Mask) -> None:
        self._to_pixels = golden.to_pixels
        self._points, self._vectors = _described(golden, shrunk_mask(mask, golden.hw))

    def matrix_to(self, part: Level) -> Matrix | None:
        """The homography that RANSAC finds; None where too few features agree."""
        points, vectors = _described(part, None)
        if len(self._points) < _MATCHES or len(points) < _MATCHES:
            return None
        pairs = cv2.BFMatcher(cv2.NORM_L2).knnMatch(self._vectors, vectors, k=2)
        # Lowe's ratio: a feature that has two equals in the part tells nothing.
        good = [
            a
            for a, b in (pair for pair in pairs if len(pair) == 2)
            if a.distance < 0.8 * b.distance
        ]
        if len(good) < _MATCHES:
            return None
        ours = self._points[[match.queryIdx for match in good]]
        theirs = points[[match.trainIdx for match in good]]
        found, agree = cv2.findHomography(ours, theirs, cv2.RANSAC, _OFF)
        if found is None or int(agree.sum()) < _MATCHES:
            return None
        between = between_coordinates(np.asarray(found, np.float64))
        moved = inverse(part.to_pixels) @ between @ self._to_pixels
        return np.asarray(moved / moved[2, 2])


def _described(level: Level, mask: Mask | None) -> tuple[Pixels, Pixels]:
    """Places [n, 2] and descriptors [n, 128] of features."""
    grey = np.rint(level.grey * 255).astype(np.uint8)
    allowed = None if mask is None else mask.astype(np.uint8)
    points, vectors = cv2.SIFT.create(_FEATURES).detectAndCompute(grey, allowed)
    places = np.array([point.pt for point in points], np.float32).reshape(-1, 2)
    found = np.zeros((0, 128), np.float32) if vectors is None else vectors
    return places, np.asarray(found, np.float32)


def _nearest_similarity(affine: Matrix, golden: Level) -> Matrix:
    """The similarity that keeps an affine motion's area, mean turn, and place of the middle."""
    linear = affine[:2, :2]
    left, _, right = np.linalg.svd(linear)
    scale = float(np.clip(np.sqrt(abs(np.linalg.det(linear))), *_SCALES))
    found = np.eye(3)
    found[:2, :2] = scale * left @ np.diag([1.0, np.linalg.det(left @ right)]) @ right
    middle = inverse(golden.to_pixels) @ (golden.hw[1] / 2, golden.hw[0] / 2, 1.0)
    found[:2, 2] = (affine @ middle - found @ middle)[:2]
    return found


def _is_plausible(matrix: Matrix) -> bool:
    """Whether a homography shows the unit square as a camera could: not folded, nor much larger."""
    quad = corners((0, 0, 1, 1), matrix)  # [4, 2]
    depths = matrix[2] @ np.array([[0, 1, 1, 0], [0, 0, 1, 1], [1, 1, 1, 1]])
    sides = np.roll(quad, -1, axis=0) - quad
    following = np.roll(sides, -1, axis=0)
    bends = sides[:, 0] * following[:, 1] - sides[:, 1] * following[:, 0]
    low, high = _SCALES
    lengths = np.linalg.norm(sides, axis=1)
    return bool(
        (depths > 0).all()
        and (bends > 0).all()
        and (lengths > low).all()
        and (lengths < high).all()
    )
