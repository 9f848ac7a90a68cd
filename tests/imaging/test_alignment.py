"""Parts are found where they lie, at any angle, and what cannot be aligned says so."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import pytest

from blemish.imaging.alignment import MODES, Aligner, Mode
from blemish.imaging.geometry import Matrix, corners, stretch
from blemish.imaging.sketches import Sketch

from .lying import HW, moved, nut, screw


def off_by(found: Matrix, motion: Matrix, hw: tuple[int, int] = HW) -> float:
    """Largest distance in pixels between where two matrices put points of the middle."""
    longest = max(hw)
    middle = (hw[1] / 4, hw[0] / 4, hw[1] / 2, hw[0] / 2)
    in_pixels = stretch(longest, longest) @ found @ stretch(1 / longest, 1 / longest)
    gaps = corners(middle, in_pixels) - corners(middle, motion)
    return float(np.linalg.norm(gaps, axis=1).max())


@cache
def known(part, mode: Mode) -> Aligner:
    """An aligner of the plain screw or nut, made once."""
    return aligner(part(0), mode)


def aligner(golden: np.ndarray, mode: Mode, mask: np.ndarray | None = None) -> Aligner:
    """An aligner with this golden image."""
    return Aligner(Sketch.of(golden), mask, mode)


@pytest.mark.parametrize("mode", MODES[1:])
def test_a_shift_is_found(mode: Mode) -> None:
    """Every motion finds a shift of 10 px to within half a pixel, under another light."""
    align = known(screw, mode)
    for seed, (x, y) in enumerate([(10, -7.5), (-10, 3), (0, 0)], start=1):
        part, motion = moved(screw(seed), x, y)
        placed = align.place(Sketch.of(part))
        assert off_by(placed.matrix, motion) < (0.5 if mode != "homography" else 1.5)
        assert placed.residual < 0.05


@pytest.mark.parametrize("part", [screw, nut])
@pytest.mark.parametrize("mode", ["rigid", "similarity"])
@pytest.mark.parametrize("degrees", [5, 61, 137, 180, 233, 358])
def test_a_full_turn_is_found(part, mode: Mode, degrees: float) -> None:
    """A part at any angle, head or mark where it belongs, and shifted besides."""
    found, motion = moved(part(1), 9, -6, degrees)
    placed = known(part, mode).place(Sketch.of(found))
    assert off_by(placed.matrix, motion) < 1
    assert placed.residual < 0.1


@pytest.mark.parametrize("scale", [0.82, 0.93, 1.1, 1.25])
def test_similarity_finds_the_scale(scale: float) -> None:
    """A part nearer to or farther from the camera, and turned."""
    found, motion = moved(screw(1), 4, 5, 200, scale)
    placed = known(screw, "similarity").place(Sketch.of(found))
    assert off_by(placed.matrix, motion) < 1.5
    linear = placed.matrix[:2, :2]
    np.testing.assert_allclose(linear @ linear.T, np.eye(2) * np.linalg.det(linear), atol=1e-9)


def test_a_rigid_motion_keeps_lengths() -> None:
    """Rigid turns and shifts, and nothing else."""
    found, _ = moved(screw(1), 4, 5, 70)
    linear = known(screw, "rigid").place(Sketch.of(found)).matrix[:2, :2]
    np.testing.assert_allclose(linear @ linear.T, np.eye(2), atol=1e-6)


def test_a_homography_finds_a_tilt() -> None:
    """A board seen at an angle is laid straight; no simpler motion fits as well."""
    generator = np.random.default_rng(5)
    board = cv2.resize(generator.random((20, 20, 3)).astype(np.float32), (256, 256))
    tilt = np.array([[1.02, 0.03, -4.0], [-0.02, 0.97, 5.0], [2e-4, -1e-4, 1.0]])
    seen = cv2.warpPerspective(board, tilt, (256, 256), borderMode=cv2.BORDER_REFLECT)
    placed = {mode: aligner(board, mode).place(Sketch.of(seen)) for mode in MODES[1:]}
    assert off_by(placed["homography"].matrix, tilt, (256, 256)) < 1.5
    assert placed["homography"].residual < 0.5 * placed["similarity"].residual


def test_only_what_counts_is_aligned() -> None:
    """A background that stays while the part turns misleads, unless the mask leaves it out."""
    background = screw(9)
    rows, columns = np.indices(HW)
    on_part = (rows - 80) ** 2 + (columns - 80) ** 2 < 60**2
    turned, motion = moved(nut(1), degrees=180)
    golden = np.where(on_part[..., None], nut(0), background)
    part = np.where(on_part[..., None], turned, background)
    placed = aligner(golden, "rigid", on_part).place(Sketch.of(part))
    assert off_by(placed.matrix, motion) < 1


def test_parts_may_have_another_size_and_shape_of_image() -> None:
    """Units are of each image's longest side, so a camera of twice the pixels changes nothing."""
    wide = (120, 160)
    part, _ = moved(screw(1, wide), 6, 4, 30)
    larger = cv2.resize(part, (320, 240), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    align = aligner(screw(0, wide), "rigid")
    small, large = align.place(Sketch.of(part)), align.place(Sketch.of(larger))
    np.testing.assert_allclose(small.matrix, large.matrix, atol=0.01)


@pytest.mark.parametrize("mode", MODES[1:])
@pytest.mark.parametrize(
    "part",
    [
        np.zeros((*HW, 3), np.float32),
        np.full((3, 200, 3), 0.5, np.float32),
        np.ones((1, 1, 3), np.float32),
        np.random.default_rng(1).random((*HW, 3), np.float32),
    ],
    ids=["black", "flat strip", "one pixel", "noise"],
)
def test_nothing_to_align_has_a_large_residual(mode: Mode, part: np.ndarray) -> None:
    """An image without the part gives a finite matrix and a residual far from a part's."""
    placed = known(screw, mode).place(Sketch.of(part))
    assert np.isfinite(placed.matrix).all()
    assert placed.residual > 0.5


def test_a_part_cut_off_shows_less() -> None:
    """What has left the image is missing from the share that is shown."""
    part, _ = moved(screw(1), x=40)
    placed = aligner(screw(0), "translation").place(Sketch.of(part))
    assert placed.shown == pytest.approx(120 / 160, abs=0.02)


@pytest.mark.parametrize("mode", MODES[1:])
def test_the_same_part_is_placed_the_same(mode: Mode) -> None:
    """Bit for bit, at fit and at inspection, whatever the number of threads."""
    part, _ = moved(screw(3), 5, -4, 12)
    threads = cv2.getNumThreads()
    found = []
    try:
        for count in (1, 2, 4):
            cv2.setNumThreads(count)
            found.append(aligner(screw(0), mode).place(Sketch.of(part)))
    finally:
        cv2.setNumThreads(threads)
    for other in found[1:]:
        np.testing.assert_array_equal(other.matrix, found[0].matrix)
        assert other.residual == found[0].residual
