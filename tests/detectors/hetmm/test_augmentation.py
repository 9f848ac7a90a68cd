"""Augmented copies of templates: what each is, and that they stay copies of one sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hetmm_tools import RAW, fitted_with

from blemish.detectors import HETMM, parse_settings
from blemish.errors import ParameterError
from blemish.imaging.augmentation import ANGLES, SHIFTS, Copy, copies
from blemish.inspector import Inspector

IMAGE = np.random.default_rng(0).random((24, 32, 3), np.float32)


def test_copies_are_counted() -> None:
    """Turns and shifts stand beside each other, flips double everything, the image comes first."""
    moves = 1 + len(ANGLES) + len(SHIFTS)
    assert len(copies(())) == 1
    assert len(copies("rotate")) == 1 + len(ANGLES)
    assert len(copies(("rotate", "shift"))) == moves
    assert len(copies(("rotate", "shift", "flip-h", "flip-v"))) == 4 * moves
    assert copies(("flip-v", "shift"))[0] == Copy()
    assert len({copy.name for copy in copies(("rotate", "shift", "flip-h"))}) == 2 * moves


@pytest.mark.parametrize(
    ("copy", "expected"),
    [
        (Copy(), IMAGE),
        (Copy(flip_h=True), IMAGE[:, ::-1]),
        (Copy(flip_v=True), IMAGE[::-1]),
        (Copy(flip_h=True, flip_v=True), IMAGE[::-1, ::-1]),
        (Copy(angle=180.0), IMAGE[::-1, ::-1]),
    ],
)
def test_flips_and_half_turns_move_pixels_exactly(copy: Copy, expected: np.ndarray) -> None:
    """A flip or a half turn loses nothing: every pixel is one of the image's."""
    np.testing.assert_allclose(copy.apply(IMAGE), expected, atol=1e-5)


def test_a_shift_moves_right_and_down_and_mirrors_what_enters() -> None:
    """A shift of (2, 1) puts pixel (y, x) at (y + 1, x + 2); the border shows what is inside."""
    moved = Copy(shift=(2.0, 1.0)).apply(IMAGE)
    np.testing.assert_allclose(moved[1:, 2:], IMAGE[:-1, :-2], atol=1e-6)
    np.testing.assert_allclose(moved[1:, 1], IMAGE[:-1, 1], atol=1e-6)


@pytest.mark.parametrize("copy", copies(("rotate", "shift", "flip-h", "flip-v")))
def test_points_are_traced_back(copy: Copy) -> None:
    """`to_image` finds where a copy's pixel came from: a dot drawn there appears there."""
    dot = np.zeros((41, 41, 3), np.float32)
    dot[15, 22] = 1.0
    y, x = np.unravel_index(copy.apply(dot)[..., 0].argmax(), (41, 41))
    found = copy.to_image((float(x), float(y)), 41, 41)
    assert np.abs(np.subtract(found, (22, 15))).max() < 1.0


def test_copies_of_images_lie_in_a_row(good_images: list[np.ndarray]) -> None:
    """New sheets come image by image, each followed by its copies, in the order of `copies`."""
    detector = fitted_with(good_images[:2], augment=("flip-h",))
    found = detector.sheets_of(good_images, [4, 7])["level1"]
    views = [good_images[4], good_images[4][:, ::-1], good_images[7], good_images[7][:, ::-1]]
    for sheet, view in zip(found, views, strict=True):
        wanted = detector.features(np.ascontiguousarray(view))[0]
        np.testing.assert_allclose(sheet, wanted, atol=1e-4)  # the flip rounds colours


def test_a_flipped_part_is_known_only_to_flipped_templates(good_images: list[np.ndarray]) -> None:
    """With `flip-h` the mirror image of a template scores nothing; without, it is an anomaly."""
    mirrored = [np.ascontiguousarray(good_images[0][:, ::-1])]
    plain = fitted_with(good_images[:3], sheets=None, **RAW)
    doubled = fitted_with(good_images[:3], sheets=None, augment="flip-h", **RAW)
    assert float(plain.maps(mirrored).max()) > 0.01
    assert float(doubled.maps(mirrored).max()) < 1e-4


@pytest.mark.parametrize("position", [0, 1, 2])
def test_leaving_one_out_leaves_out_all_its_copies(
    position: int, good_images: list[np.ndarray]
) -> None:
    """Calibration matches a template with the copies of the other images only."""
    options = {"sheets": None, "augment": ("shift", "rotate"), **RAW}
    fitted = fitted_with(good_images[:3], **options)
    left_out = next(fitted.calibration_maps(good_images[:3], [position], [position]))
    assert float(left_out.max()) > 0.001
    for others in (
        fitted.removed([position]),
        fitted_with(
            [image for index, image in enumerate(good_images[:3]) if index != position], **options
        ),
    ):
        expected = others.maps([good_images[position]])
        np.testing.assert_allclose(left_out, expected, atol=1e-5, rtol=0)


def test_copies_only_lower_the_map(good_images: list[np.ndarray]) -> None:
    """More sheets can only find nearer neighbours; `sheets` still counts images, kept whole."""
    plain = fitted_with(good_images[:5], sheets=2, selection="spaced", **RAW)
    more = fitted_with(good_images[:5], sheets=2, augment=("rotate", "shift"), **RAW)
    assert plain.templates_ == more.templates_ == [0, 4]
    assert more.sets_[0].vectors.shape[2] == 2 * 8
    assert (more.maps(good_images[8:]) <= plain.maps(good_images[8:]) + 1e-5).all()


def test_an_added_image_comes_and_goes_with_its_copies(good_images: list[np.ndarray]) -> None:
    """An update adds the copies too; removed again, the maps are those of before, to the bit."""
    fitted = fitted_with(good_images[:3], sheets=None, augment=("flip-h",), **RAW)
    mirrored = [np.ascontiguousarray(good_images[5][:, ::-1])]
    before = fitted.maps(mirrored)
    more = fitted.added(fitted.sheets_of(good_images, [4, 5]), 2)
    assert float(more.maps(mirrored).max()) < 1e-4 < float(before.max())
    np.testing.assert_array_equal(more.removed([3, 4]).maps(mirrored), before)


def test_augmented_templates_survive_the_bundle(parts: Path, tmp_path: Path) -> None:
    """Saved and loaded, copies give the same score and stay one sample for calibration."""
    images = sorted((parts / "train" / "good").iterdir())[:4]
    settings = HETMM(sheets=3, augment=["flip-h", "shift"], backbone="filterbank", levels=(2,))
    inspector = Inspector(settings, size=64, device="cpu").fit(images)
    inspector.save(tmp_path / "part.blemish")
    loaded = Inspector.load(tmp_path / "part.blemish", device="cpu")
    assert loaded.inspect(images[1]).score == inspector.inspect(images[1]).score
    assert len(loaded.templates) == 4  # location-free vectors come from every image


class Counted(Sequence[Any]):
    """Images, and how often each was read."""

    def __init__(self, images: list[np.ndarray]) -> None:
        self.images, self.read = images, Counter[int]()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Any) -> Any:
        self.read[index] += 1
        return self.images[index]


@pytest.mark.parametrize(
    ("options", "times"),
    [
        (RAW, 1),
        ({"windows": "manual"}, 2),  # last, good parts are measured
        ({"components": 4}, 4),  # and those of two levels are found first
    ],
    ids=["raw", "measured", "components"],
)
def test_an_image_is_read_once_for_all_its_copies(
    options: dict[str, Any], times: int, good_images: list[np.ndarray]
) -> None:
    """Decoding is the slow part: copies are made of the same pixels, in `fit` and in updates."""
    images = Counted(good_images[:4])
    fitted = fitted_with(images, sheets=None, augment=("rotate", "flip-h"), **options)
    # The first one's size is looked at before.
    assert images.read == {0: times + 1, 1: times, 2: times, 3: times}
    images.read.clear()
    fitted.sheets_of(images, [1, 3])
    assert images.read == {1: 1, 3: 1}


def test_an_unknown_augmentation_is_refused(good_images: list[np.ndarray]) -> None:
    """A name that there is not is one clear sentence, which lists those there are."""
    with pytest.raises(ParameterError, match="augment has no 'twist'; give some of rotate, shift"):
        HETMM(augment="twist").fit(good_images[:2])


@pytest.mark.parametrize(
    ("text", "value"), [("augment=rotate", "rotate"), ("augment=rotate,shift", ("rotate", "shift"))]
)
def test_augment_on_the_command_line(text: str, value: object) -> None:
    """`--set augment=` takes one name or several."""
    assert parse_settings(HETMM, [text]) == {"augment": value}
