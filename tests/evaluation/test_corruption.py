"""Corruption: pixels change as said, geometry takes the truth along, the seed decides."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from blemish.errors import ParameterError
from blemish.evaluation.datasets import Defect
from blemish.evaluation.protocols import KINDS, corrupt, parse_corruptions
from blemish.evaluation.trial import Truth

NOTHING = Truth(None)
LEVELS = [(name, level) for name, kind in KINDS.items() for level in kind.levels]


def picture() -> np.ndarray:
    """A coloured gradient [192, 256, 3] with a bright block."""
    y, x = np.mgrid[:192, :256].astype(np.float32)
    image = np.stack([x / 256, y / 192, (x + y) / 448], axis=2)
    image[block()] = 1.0
    return image.astype(np.float32)


def block() -> np.ndarray:
    """The block of `picture` as a mask."""
    mask = np.zeros((192, 256), dtype=bool)
    mask[80:104, 120:160] = True
    return mask


@pytest.mark.parametrize(("name", "level"), LEVELS)
def test_every_level_gives_another_image(name: str, level: float) -> None:
    """Each default level changes the image and keeps its contract; the original stays."""
    image = picture()
    changed, _ = corrupt(image, NOTHING, name, level, seed=(0, 3))
    assert (changed.shape, changed.dtype) == (image.shape, np.float32)
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert np.abs(changed - image).mean() > 1e-4
    assert np.array_equal(image, picture())


@pytest.mark.parametrize("name", ["blur", "jpeg", "shift", "rotation"])
def test_levels_go_from_mild_to_strong(name: str) -> None:
    """A later default level is further from the original than an earlier one."""
    image = picture()
    far = [
        float(np.abs(corrupt(image, NOTHING, name, level, seed=1)[0] - image).mean())
        for level in KINDS[name].levels
    ]
    assert all(near < further for near, further in pairwise(far))


def test_brightness_is_a_relative_change() -> None:
    """Brightness multiplies and clips: half as bright is exactly that, and white stays white."""
    image = picture()
    assert np.allclose(corrupt(image, NOTHING, "brightness", -0.5)[0], image / 2)
    brighter = corrupt(image, NOTHING, "brightness", 0.5)[0]
    assert brighter[90, 140].tolist() == [1, 1, 1]
    assert np.allclose(brighter[10, 10], image[10, 10] * 1.5)


def test_blur_scales_with_the_image() -> None:
    """A level of blur means the same share of the picture at every resolution."""
    edges = []
    for side in (128, 256):
        step = np.zeros((side, side, 3), np.float32)
        step[:, side // 2 :] = 1
        row = corrupt(step, NOTHING, "blur", 4)[0][side // 2, :, 0]
        edges.append(((row > 0.16) & (row < 0.84)).sum() / side)
    assert edges[0] == pytest.approx(2 * 4 / 256, abs=2 / 128)
    assert edges[0] == pytest.approx(edges[1], abs=2 / 128)


@pytest.mark.parametrize("name", ["shift", "rotation"])
@pytest.mark.parametrize("seed", range(5))
def test_the_truth_moves_with_the_picture(name: str, seed: int) -> None:
    """After a shift or turn the mask marks the block's new place, and each defect's mask too."""
    truth = Truth(block(), (Defect(block(), 7.0, "block"),))
    image = np.zeros((192, 256, 3), np.float32)
    image[block()] = 1
    for level in KINDS[name].levels:
        changed, moved = corrupt(image, truth, name, level, seed=seed)
        assert moved.mask is not None
        bright = changed[..., 0] > 0.5
        # Masks move by nearest neighbour, pixels by interpolation: only the rim may differ.
        assert (bright ^ moved.mask).sum() <= (0 if name == "shift" else 32)
        assert np.array_equal(moved.defects[0].mask, moved.mask)
        assert (moved.defects[0].saturation_area, moved.defects[0].kind) == (7.0, "block")


def test_a_defect_that_leaves_the_picture_is_gone() -> None:
    """A defect shifted out is no defect any more; the mask is there and marks nothing of it."""
    mask = np.zeros((40, 40), dtype=bool)
    mask[19:21, 0] = True
    truth = Truth(mask, (Defect(mask, 1.0, "chip"),))
    image = np.zeros((40, 40, 3), np.float32)
    found = [corrupt(image, truth, "shift", 0.5, seed=seed)[1] for seed in range(12)]
    assert {len(moved.defects) for moved in found} == {0, 1}
    assert all(moved.mask is not None for moved in found)
    assert all(bool(moved.defects) == bool(moved.mask.any()) for moved in found)


def test_the_seed_and_the_position_draw_the_direction() -> None:
    """The same seed gives the same picture; other positions go other ways."""
    image = picture()
    once, again = (corrupt(image, NOTHING, "shift", 0.1, seed=(4, 2))[0] for _ in range(2))
    assert np.array_equal(once, again)
    several = {corrupt(image, NOTHING, "shift", 0.1, seed=(4, i))[0].tobytes() for i in range(6)}
    assert len(several) > 3


def test_light_focus_and_coding_leave_the_truth_alone() -> None:
    """Only what moves the picture moves its ground truth."""
    truth = Truth(block())
    for name in ("brightness", "blur", "jpeg"):
        assert corrupt(picture(), truth, name, KINDS[name].levels[0])[1] is truth


def test_corruptions_are_read_from_the_command_line() -> None:
    """A name takes the default levels, levels can be given, all means all, a later one wins."""
    (blur,) = parse_corruptions(["blur"])
    assert (blur.name, blur.levels) == ("blur", KINDS["blur"].levels)
    (jpeg,) = parse_corruptions(["jpeg=80,40"])
    assert jpeg.levels == (80, 40)
    everything = parse_corruptions(["all", "blur=1"])
    assert [found.name for found in everything] == list(KINDS)
    assert {found.name: found.levels for found in everything}["blur"] == (1,)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fog", "choose from brightness, blur, jpeg, shift, rotation, or all"),
        ("blur=", "separated by commas"),
        ("blur=soft", "separated by commas"),
        ("blur=0", "from 0.01 to 100"),
        ("jpeg=101", "from 1 to 100"),
        ("shift=nan", "from 0 to 0.5"),
        ("all=1", "choose from"),
    ],
)
def test_what_is_no_corruption_is_refused(text: str, said: str) -> None:
    """An unknown name and levels out of range are one sentence that says what is allowed."""
    with pytest.raises(ParameterError, match=said):
        parse_corruptions([text])
