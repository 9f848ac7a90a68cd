"""Overlays show what is above the threshold, and only that, in colours that never stretch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from blemish.errors import ImageArrayError, ParameterError
from blemish.imaging import encode_jpeg, encode_png, overlay, read_image

GREY = np.full((96, 128, 3), 0.5, np.float32)
GREY8 = np.full((96, 128, 3), 128, np.uint8)


@dataclass
class Region:
    """A region as far as drawing knows it."""

    box: tuple[int, int, int, int]


def blob(peak: float) -> np.ndarray:
    """A map [24, 32] of 0.2 with one smooth bump of height `peak` at its middle."""
    rows, columns = np.indices((24, 32))
    bump = np.exp(-((rows - 12) ** 2 + (columns - 16) ** 2) / 18)
    return (0.2 + (peak - 0.2) * bump).astype(np.float32)


def test_normal_part_is_untouched() -> None:
    """A map well below the threshold leaves the picture as it was, whatever its own range."""
    np.testing.assert_array_equal(overlay(GREY, blob(0.5), threshold=1.0), GREY8)


def test_just_below_threshold_is_faint() -> None:
    """A map at 95 % of the threshold shows a tint, but a faint one and no outline."""
    change = np.abs(overlay(GREY, blob(0.95), threshold=1.0).astype(int) - GREY8)
    assert 0 < change.max() < 15


def test_defect_is_coloured_and_its_surround_is_not() -> None:
    """Where the map passes the threshold the picture turns red; far from it nothing changes."""
    picture = overlay(GREY, blob(3.0), threshold=1.0)
    red, _green, blue = picture[48, 64].astype(int)
    assert red - blue > 30
    np.testing.assert_array_equal(picture[:16], GREY8[:16])


def test_colour_depends_on_the_value_alone() -> None:
    """The same value has the same colour beside a small and beside a huge peak."""
    small, huge = np.full((24, 32), 0.2, np.float32), np.full((24, 32), 0.2, np.float32)
    small[:8], huge[:8] = 1.5, 1.5
    huge[16:] = 100.0
    pictures = [overlay(GREY, values, threshold=1.0) for values in (small, huge)]
    np.testing.assert_array_equal(pictures[0][:20], pictures[1][:20])


def test_outline_follows_the_threshold_at_source_resolution() -> None:
    """With no heat at all, pixels change only near where the enlarged map crosses the threshold."""
    values = np.tile(np.linspace(0, 2, 32, dtype=np.float32), (24, 1))
    picture = overlay(GREY, values, threshold=1.0, opacity=0.0)
    changed = np.flatnonzero((picture != GREY8).any(axis=(0, 2)))
    assert 62 <= changed.min() <= 66  # the crossing; the outline also closes along the border
    assert (picture[40:50, 70:120] == 128).all()


def test_boxes_are_drawn() -> None:
    """A region's box is drawn on its own pixels, and its inside is left clear."""
    picture = overlay(GREY, blob(0.3), threshold=1.0, regions=[Region((10, 20, 30, 15))])
    changed = (picture != GREY8).any(axis=2)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (20, 34, 10, 39)
    assert not changed[22:33, 12:38].any()


def test_scale_stands_in_for_a_missing_threshold() -> None:
    """Without a threshold, `scale` is full heat: half of it is drawn as the threshold would be."""
    np.testing.assert_array_equal(
        overlay(GREY, blob(0.95), threshold=None, scale=2.0),
        overlay(GREY, blob(0.95), threshold=1.0),
    )


@pytest.mark.parametrize("threshold", [0.0, -1.0])
def test_threshold_of_zero_or_below_works(threshold: float) -> None:
    """A threshold at or below zero still colours only what is above it."""
    values = np.full((24, 32), threshold - 1, np.float32)
    values[:8] = threshold + 1
    picture = overlay(GREY, values, threshold=threshold)
    assert (picture[4, 60] != 128).any()
    assert (picture[60:] == 128).all()


def test_inputs_are_not_changed() -> None:
    """Drawing leaves the image and the map as they were."""
    image, values = GREY.copy(), blob(3.0)
    kept = values.copy()
    overlay(image, values, threshold=1.0, regions=[Region((0, 0, 9, 9))])
    np.testing.assert_array_equal(image, GREY)
    np.testing.assert_array_equal(values, kept)


def test_bad_options() -> None:
    """No threshold and no scale, a wrong opacity, NaN and wrong shapes are all named."""
    with pytest.raises(ParameterError, match="give a threshold"):
        overlay(GREY, blob(1), threshold=None)
    with pytest.raises(ParameterError, match="opacity"):
        overlay(GREY, blob(1), threshold=1.0, opacity=2)
    with pytest.raises(ParameterError, match="threshold is nan"):
        overlay(GREY, blob(1), threshold=float("nan"))
    with pytest.raises(ImageArrayError, match="NaN"):
        overlay(GREY, np.full((4, 4), np.nan), threshold=1.0)
    with pytest.raises(ImageArrayError, match=r"shape \[h, w\]"):
        overlay(GREY, np.zeros((1, 4, 4)), threshold=1.0)
    with pytest.raises(ImageArrayError, match="use read_image first"):
        overlay(GREY8, blob(1), threshold=1.0)


def test_png_round_trip_and_jpeg_colours() -> None:
    """A PNG gives the same pixels back; a JPEG gives red for red, not blue."""
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    np.testing.assert_array_equal(read_image(encode_png(picture)), picture / np.float32(255))
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 255
    np.testing.assert_allclose(read_image(encode_jpeg(red)), red / 255, atol=0.02)


def test_encoders_refuse_other_arrays() -> None:
    """Encoders take uint8 RGB only, and a JPEG quality from 1 to 100."""
    with pytest.raises(ImageArrayError, match="uint8"):
        encode_png(GREY)
    with pytest.raises(ImageArrayError, match="uint8"):
        encode_jpeg(np.zeros((4, 4), np.uint8))
    with pytest.raises(ParameterError, match="quality"):
        encode_jpeg(GREY8, quality=0)


def _shared() -> Path:
    """The folder of real images beside the checkout, or $BLEMISH_SHARED."""
    default = Path(__file__).parents[2] / ".." / "shared"
    return Path(os.environ.get("BLEMISH_SHARED", default))


@pytest.mark.real
def test_real_part() -> None:
    """On a real bottle the overlay changes the marked part of the picture and nothing far away."""
    path = _shared() / "data" / "mvtec_256" / "bottle" / "test" / "broken_large" / "000.png"
    if not path.exists():
        pytest.skip("the real bottle images are not here (set BLEMISH_SHARED)")
    image = read_image(path)
    plain = np.rint(image * 255).astype(np.uint8)
    changed = (overlay(image, blob(3.0), threshold=1.0) != plain).any(axis=2)
    assert changed[128, 128]
    assert 0.005 < changed.mean() < 0.3


def test_what_does_not_count_is_darker_and_cold() -> None:
    """Beyond the region of interest the picture is at half light, whatever the map says there."""
    counted = np.zeros((96, 128), np.bool_)
    counted[:, :40] = True
    picture = overlay(GREY, blob(3.0), threshold=1.0, counted=counted)
    np.testing.assert_array_equal(picture[:, 43:], GREY8[:, 43:] // 2)
    np.testing.assert_array_equal(picture[2:-2, 2:30], GREY8[2:-2, 2:30])
    with pytest.raises(ImageArrayError, match="one of the image's size"):
        overlay(GREY, blob(3.0), threshold=1.0, counted=counted[1:])
