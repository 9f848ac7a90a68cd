"""Tiles cover an image, their maps blend without seams, and memory stays bounded."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blemish.errors import ParameterError
from blemish.imaging.tiling import MOST_TILES, Tiling
from tolerances import assert_sums_agree

LONGEST = 700  # px


@st.composite
def tilings(draw: st.DrawFn) -> Tiling:
    """Draw tiles as they are allowed: however long one side is, the other's leave few enough."""
    side = draw(st.integers(32, 300))
    overlap = int(draw(st.floats(0, 0.5)) * side)
    step = side - overlap
    one = draw(st.integers(1, LONGEST))
    along = max(1, math.ceil((one - overlap) / step))
    other = draw(st.integers(1, min(LONGEST, overlap + MOST_TILES // along * step)))
    return Tiling(draw(st.sampled_from([(one, other), (other, one)])), side, overlap)


@given(tiling=tilings())
def test_tiles_cover_the_image(tiling: Tiling) -> None:
    """Every pixel is in a tile, no tile leaves the image, and neighbours share the overlap."""
    height, width = tiling.hw
    covered = np.zeros(tiling.hw, np.int32)
    for x, y, w, h in tiling.windows:
        assert x + w <= width
        assert y + h <= height
        covered[y : y + h, x : x + w] += 1
    assert covered.min() >= 1
    lefts = sorted({x for x, _, _, _ in tiling.windows})
    assert all(b <= a + tiling.side - tiling.overlap for a, b in pairwise(lefts))


def test_a_large_image_needs_few_tiles() -> None:
    """4000x3000 in tiles of 1000 px that share 125 px: 5 x 4 of them, evenly spread."""
    tiling = Tiling.over((3000, 4000), 1000)
    assert len(tiling) == 20
    assert tiling.windows[0] == (0, 0, 1000, 1000)
    assert tiling.windows[-1] == (3000, 2000, 1000, 1000)
    assert tiling.windows[1][0] == 750


@given(
    tiling=tilings(), shape=st.integers(8, 64), most=st.integers(8, 500),
    value=st.floats(-10, 10, width=32),
)  # fmt: skip
def test_a_constant_map_blends_to_the_constant(
    tiling: Tiling, shape: int, most: int, value: float
) -> None:
    """Weights sum to one everywhere, and the map has the bounded size."""
    maps = [np.full((shape, shape), value, np.float32)] * len(tiling)
    blended = tiling.blend(maps, most=most)
    assert max(blended.shape) <= most
    # Half of a tile may be shared on each side, so up to 9 tiles mix, of 4 pixels each.
    assert_sums_agree(blended, np.full_like(blended, value), 9 * 4)


def test_a_smooth_map_has_no_seams() -> None:
    """Tiles cut from one smooth map blend back to it."""
    rows, columns = np.indices((600, 900), dtype=np.float32)
    whole = np.sin(rows / 90) + np.cos(columns / 70)
    tiling = Tiling((600, 900), 256, 64)
    blended = tiling.blend(tiling.cut(whole))
    np.testing.assert_allclose(blended, whole, atol=1e-3)


def test_an_overlap_mixes_by_linear_ramps() -> None:
    """Between two tiles of 0 and 1 the map rises steadily over what they share."""
    tiling = Tiling((64, 112), 64, 16)
    zero, one = np.zeros((64, 64)), np.ones((64, 64))
    row = tiling.blend([zero, one])[30]
    assert row[:48].max() == 0
    assert row[64:].min() == 1
    np.testing.assert_allclose(np.diff(row[48:64]), 1 / 16, atol=1e-6)


@given(y=st.integers(0, 99), x=st.integers(0, 99), most=st.integers(30, 200))
def test_a_peak_stays_as_high_where_the_map_gets_coarser(y: int, x: int, most: int) -> None:
    """One hot pixel of a tile is as hot in a smaller map."""
    found = np.zeros((100, 100), np.float32)
    found[y, x] = 7
    assert Tiling((200, 200), 200, 0).blend([found], most=most).max() == pytest.approx(7)


def test_a_box_of_a_tile_maps_to_its_pixels() -> None:
    """The pixels that a tile's box covers are those of the image at the mapped box."""
    image = np.arange(300 * 500).reshape(300, 500)
    tiling = Tiling((300, 500), 100, 20)
    tiles = list(tiling.cut(image))
    for number in (0, 7, len(tiling) - 1):
        x, y, w, h = tiling.to_source((10, 20, 30, 15), number, (50, 50))
        np.testing.assert_array_equal(image[y : y + h, x : x + w], tiles[number][40:70, 20:80])


def test_memory_does_not_grow_with_the_number_of_tiles() -> None:
    """A 4000x3000 image: tiles are not copied and the map is bounded, 40 MB in all."""
    image = np.zeros((3000, 4000, 3), np.uint8)
    tiling = Tiling.over((3000, 4000), 250)  # 266 tiles

    def maps() -> Iterator[np.ndarray]:
        for tile in tiling.cut(image):
            yield tile[:, :, 0].astype(np.float32)

    tracemalloc.start()
    try:
        blended = tiling.blend(maps(), most=2000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert blended.shape == (1500, 2000)
    # Two accumulators and the result of 12 MB each.
    assert peak < 40e6


@pytest.mark.parametrize(
    ("hw", "side", "overlap", "says"),
    [
        ((100, 100), 4, 0, "8 pixels or more"),
        ((100, 100), 50, 26, "give 0 to 25"),
        ((3000, 4000), 16, 8, "give larger ones"),
    ],
)
def test_impossible_tiles(hw: tuple[int, int], side: int, overlap: int, says: str) -> None:
    """Tiles that cannot be are refused when they are made."""
    with pytest.raises(ParameterError, match=says):
        Tiling(hw, side, overlap)


def test_images_and_maps_must_be_those_of_the_tiles() -> None:
    """An image of another size and a missing map are errors, not a wrong map."""
    tiling = Tiling((100, 200), 64, 8)
    with pytest.raises(ParameterError, match="200x100"):
        list(tiling.cut(np.zeros((200, 100, 3))))
    with pytest.raises(ParameterError, match="1 maps were given for 8 tiles"):
        tiling.blend([np.zeros((8, 8))])
