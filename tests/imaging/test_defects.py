"""Synthetic defects: of the size, place and kind that was asked for, and to be seen."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from blemish.errors import ParameterError
from blemish.imaging.defects import KINDS, VISIBLE, Kind, make_defect

SIDE = 96


def picture() -> npt.NDArray[np.float32]:
    """A part with texture and edges on a plain ground."""
    generator = np.random.default_rng(3)
    image = np.full((SIDE, SIDE, 3), 0.8, np.float32)
    image[16:80, 16:80] = 0.45 + 0.08 * generator.standard_normal((64, 64, 1))
    image[30:40, 20:76] = 0.2
    return image.clip(0, 1).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1.0, 4.0, 20.0])
def test_a_defect_changes_its_pixels_alone(kind: Kind, size: float) -> None:
    """It lies where it was asked for, and the image it was made from stays."""
    image = picture()
    kept = image.copy()
    inside = np.zeros((SIDE, SIDE), np.bool_)
    inside[40:60, 40:60] = True
    found = make_defect(image, np.random.default_rng(1), kind=kind, size=size, inside=inside)
    np.testing.assert_array_equal(image, kept)
    assert found.image.shape == image.shape
    assert found.image.dtype == np.float32
    assert 0 <= found.image.min() <= found.image.max() <= 1
    assert found.mask.any()
    assert inside[found.centre[1], found.centre[0]]
    # Beyond its soft edge nothing differs.
    y, x = np.nonzero(abs(found.image - image).max(axis=2) > 0.02)
    away = np.hypot(y - found.centre[1], x - found.centre[0])
    assert away.max(initial=0) <= 0.75 * size + 4


@pytest.mark.parametrize("kind", KINDS)
def test_a_defect_can_be_seen_and_grows_with_its_size(kind: Kind) -> None:
    """Nearly all change their pixels visibly; a larger one covers more."""
    areas = []
    for size in (8.0, 32.0):
        made = [
            make_defect(picture(), np.random.default_rng(seed), kind=kind, size=size)
            for seed in range(12)
        ]
        assert sum(each.contrast >= VISIBLE for each in made) >= 11
        areas.append(np.mean([each.mask.sum() for each in made]))
    assert areas[1] > 2 * areas[0]


def test_the_same_seed_gives_the_same_defect() -> None:
    """A study can be repeated."""
    one, other = (
        make_defect(picture(), np.random.default_rng(5), kind="stain", size=9.0) for _ in range(2)
    )
    np.testing.assert_array_equal(one.image, other.image)
    assert one.centre == other.centre


def test_what_cannot_be_made_is_refused() -> None:
    """One sentence for an unknown kind or a size below a pixel."""
    for kind, size in (("dent", 4.0), ("cut", 0.5), ("cut", float("nan"))):
        with pytest.raises(ParameterError, match="a defect has a kind"):
            make_defect(picture(), np.random.default_rng(0), kind=kind, size=size)  # type: ignore[arg-type]
