"""Augmented copies of templates: what each is, and that they stay copies of one sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from blemish.detector import parse_settings, to_batch
from blemish.errors import ParameterError
from blemish.hetmm import HETMM
from blemish.hetmm.augmentation import augmented
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


def test_copies_of_a_batch_lie_in_a_row() -> None:
    """Images [B, 3, H, W] become [B V, 3, H, W], image by image."""
    batch = to_batch([IMAGE, IMAGE * 0.5], "cpu")
    found = augmented(batch, copies(("flip-h",)))
    assert torch.equal(found[0], batch[0])
    assert torch.allclose(found[3], batch[1].flip(-1), atol=1e-6)


def test_a_flipped_part_is_known_only_to_flipped_templates(good_images: list[np.ndarray]) -> None:
    """With `flip-h` the mirror image of a template scores nothing; without, it is an anomaly."""
    mirrored = to_batch([np.ascontiguousarray(good_images[0][:, ::-1])], "cpu")
    plain = HETMM(sheets=None).fit(good_images[:3])
    doubled = HETMM(sheets=None, augment="flip-h").fit(good_images[:3])
    assert float(plain.anomaly_maps(mirrored).max()) > 0.1
    assert float(doubled.anomaly_maps(mirrored).max()) < 1e-4


def test_leaving_one_out_leaves_out_all_its_copies(good_images: list[np.ndarray]) -> None:
    """Calibration matches a template with the copies of the other images only."""
    fitted = HETMM(sheets=None, augment=("shift", "rotate")).fit(good_images[:3])
    others = HETMM(sheets=None, augment=("shift", "rotate"))
    others = others.fit(good_images[:3]).removed([1])
    left_out = next(fitted.calibration_maps(good_images[:3], [1], [1]))
    assert float(left_out.max()) > 0.01
    expected = others.anomaly_maps(to_batch(good_images[1:2], "cpu"))
    torch.testing.assert_close(left_out, expected, atol=1e-5, rtol=0)


def test_copies_only_lower_the_map(good_images: list[np.ndarray]) -> None:
    """More sheets can only find nearer neighbours; `sheets` still counts images."""
    query = to_batch(good_images[8:], "cpu")
    plain = HETMM(sheets=2).fit(good_images[:5])
    more = HETMM(sheets=2, augment=("rotate", "shift")).fit(good_images[:5])
    assert plain.templates_ == more.templates_ == [0, 4]
    assert more.banks_[0].sheets == 2 * 8
    assert bool((more.anomaly_maps(query) <= plain.anomaly_maps(query) + 1e-5).all())


def test_augmented_templates_survive_the_bundle(parts: Path, tmp_path: Path) -> None:
    """Saved and loaded, copies give the same score and stay one sample for calibration."""
    images = sorted((parts / "train" / "good").iterdir())[:4]
    settings = HETMM(sheets=3, augment=["flip-h", "shift"])
    inspector = Inspector(settings, size=64, device="cpu").fit(images)
    inspector.save(tmp_path / "part.blemish")
    loaded = Inspector.load(tmp_path / "part.blemish", device="cpu")
    assert loaded.inspect(images[1]).score == inspector.inspect(images[1]).score
    assert len(loaded.templates) == 3


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"augment": "twist"}, "augment has no 'twist'; give some of rotate, shift"),
        ({"augment": ("flip-h",), "selection": "kcenter"}, "augment needs whole sheets"),
    ],
)
def test_wrong_augmentations_are_refused(
    settings: dict[str, object], told: str, good_images: list[np.ndarray]
) -> None:
    """An unknown name, or copies of prototypes chosen for each pixel, is one clear sentence."""
    with pytest.raises(ParameterError, match=told):
        HETMM(**settings).fit(good_images[:2])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "value"), [("augment=rotate", "rotate"), ("augment=rotate,shift", ("rotate", "shift"))]
)
def test_augment_on_the_command_line(text: str, value: object) -> None:
    """`--set augment=` takes one name or several."""
    assert parse_settings(HETMM, [text]) == {"augment": value}
