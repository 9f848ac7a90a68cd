"""Views that pad, mask and align: what counts, where it comes from, and what is kept of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.errors import ImageError, NoImagesError, NotFittedError, ParameterError
from blemish.imaging import ImageSequence, View
from blemish.imaging.geometry import corners, inverse, lands_in
from blemish.imaging.learning import learn_view

from .lying import HW, moved, nut, screw

SIZE = 96
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def rigid() -> View:
    """A view that has learned to lay screws straight."""
    return learned(View(SIZE, align="rigid"), lying(8, px=8, degrees=180))


def lying(count: int, px: float = 0, degrees: float = 0, scale: float = 0) -> list[np.ndarray]:
    """Good screws, moved at random by at most so much."""
    generator = np.random.default_rng(1)
    found = []
    for seed in range(count):
        x, y, turned = generator.uniform(-1, 1, 3)
        by = np.exp(scale * generator.uniform(-1, 1))
        found.append(moved(screw(seed), px * x, px * y, degrees * turned, by)[0])
    return found


def learned(view: View, images: Sequence[np.ndarray], **options: Any) -> View:
    """The view that has learned."""
    return learn_view(view, images, **options)[0]


# Padding --------------------------------------------------------------------------------------


def test_padding_keeps_the_aspect_and_never_counts() -> None:
    """A wide image lies in the middle of the square, as a plain view of its shape shows it."""
    image = RNG.random((50, 100, 3), np.float32)
    seen = View(64, aspect="pad").see(image)
    expected = View(64).see(np.repeat(image, 2, axis=0)).pixels
    assert seen.inside is not None
    rows = np.flatnonzero(seen.inside.any(axis=1))
    assert (rows[0], rows[-1]) == (16, 47)
    assert seen.inside[16:48].all()
    assert seen.pixels.shape == expected.shape
    np.testing.assert_array_equal(seen.pixels[15], seen.pixels[16])


def test_padding_of_a_square_is_nothing() -> None:
    """A square image is seen as by a plain view, and counts everywhere."""
    image = RNG.random((50, 50, 3), np.float32)
    seen = View(64, aspect="pad").see(image)
    assert seen.inside is None
    np.testing.assert_array_equal(seen.pixels, View(64).apply(image))


@given(
    box=st.tuples(*[st.integers(0, 63)] * 2, *[st.integers(1, 64)] * 2),
    hw=st.tuples(st.integers(1, 500), st.integers(1, 500)),
)
def test_boxes_of_a_padded_view_map_back(box: tuple[int, ...], hw: tuple[int, int]) -> None:
    """Never empty, inside the image, and one scale in both directions up to rounding."""
    x, y, w, h = View(64, aspect="pad").to_source(box, hw)
    assert w >= 1
    assert h >= 1
    assert 0 <= x <= x + w <= hw[1]
    assert 0 <= y <= y + h <= hw[0]


def test_a_padded_view_maps_its_content_to_the_whole_image() -> None:
    """The box of everything that counts is the whole image."""
    assert View(64, aspect="pad").to_source((0, 16, 64, 32), (100, 200)) == (0, 0, 200, 100)
    assert View(64, aspect="pad").to_source((0, 0, 64, 64), (100, 200)) == (0, 0, 200, 100)


# Areas ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("aspect", ["stretch", "pad"])
def test_a_region_of_interest_counts_at_the_view(aspect: str) -> None:
    """Pixels inside are those that a box of the view maps back into the polygon."""
    image = RNG.random((100, 200, 3), np.float32)
    box = [[20, 10], [120, 10], [120, 90], [20, 90]]
    view = learned(View(64, aspect=aspect), [image], roi=[box])
    seen = view.see(image)
    assert seen.inside is not None
    for y, x in np.ndindex(64, 64):
        u, v, _ = seen.matrix @ (x + 0.5, y + 0.5, 1)
        near_edge = min(abs(u - 20), abs(u - 120), abs(v - 10), abs(v - 90)) < 2
        assert near_edge or seen.inside[y, x] == (20 < u < 120 and 10 < v < 90)


def test_a_view_of_areas_alone_changes_no_pixel() -> None:
    """Without alignment a mask only says what counts."""
    image = RNG.random((50, 80, 3), np.float32)
    view = learned(View(64), [image], ignore=[[[0, 0], [10, 0], [10, 10]]])
    np.testing.assert_array_equal(view.apply(image), View(64).apply(image))
    assert not view.see(image).inside[0, 0]
    assert learned(View(64), [image]) == View(64)


# Alignment ------------------------------------------------------------------------------------


def test_parts_lie_where_the_golden_image_has_them(rigid: View) -> None:
    """However a part lies, the view shows it in one place, and maps boxes back to where it is."""
    golden = rigid.golden.picture / np.float32(255)
    head = (0.75 - golden.mean(axis=2)) > 0.25
    for seed, degrees in enumerate((0, 100, 222), start=30):
        part, _ = moved(screw(seed), 6, -5, degrees)
        seen = rigid.see(part)
        assert seen.problem is None
        assert seen.residual < 0.1
        assert np.abs(seen.pixels - golden)[seen.inside & head].mean() < 0.1
        dark = (0.75 - part.mean(axis=2)) > 0.25
        shown = seen.onto_source(head.astype(np.float32), 0.0) > 0.5
        assert (shown & dark).sum() > 0.9 * dark.sum()
        x, y, w, h = seen.to_source(cv2.boundingRect(head.astype(np.uint8)))
        assert dark[y : y + h, x : x + w].sum() > 0.99 * dark.sum()


def test_what_is_not_in_the_image_does_not_count(rigid: View) -> None:
    """Beyond a turned image's edges the golden image goes on, and nothing counts there."""
    part, _ = moved(screw(31), degrees=45)
    seen = rigid.see(part)
    shown = lands_in(seen.matrix, (SIZE, SIZE), HW)
    backdrop = rigid.golden.picture / np.float32(255)
    np.testing.assert_array_equal(seen.pixels[~shown], backdrop[~shown])
    assert not (seen.inside & ~shown).any()
    assert 0.6 < seen.inside.mean() < shown.mean() < 0.95
    u, v = corners((0, 0, *HW), inverse(seen.matrix)).T
    assert np.ptp(u) > SIZE  # the image's own corners lie outside the view
    assert np.ptp(v) > SIZE


def test_what_few_good_parts_show_does_not_count(rigid: View) -> None:
    """Of parts at any angle the corners have too few templates to be compared with."""
    seen = rigid.see(rigid.golden.picture / np.float32(255))
    assert not seen.inside[[0, 0, -1, -1], [0, -1, 0, -1]].any()
    rows, columns = np.indices((SIZE, SIZE)) - SIZE / 2 + 0.5
    assert seen.inside[rows**2 + columns**2 < (0.4 * SIZE) ** 2].all()


def test_a_part_that_cannot_be_aligned_is_a_problem(rigid: View) -> None:
    """No part, another part, or one mostly outside the image: a sentence says so."""
    for image in (np.full((*HW, 3), 0.5, np.float32), RNG.random((*HW, 3), np.float32)):
        assert "could not be aligned" in rigid.see(image).problem
    cut = moved(screw(32), x=75)[0]
    assert rigid.see(cut).problem is not None
    assert rigid.see(moved(screw(33), 3, 2, 77)[0]).problem is None


def test_a_part_that_has_left_the_image_is_a_problem() -> None:
    """A part that fits where it is shown is not passed by what is not shown."""
    view = learned(View(SIZE, align="translation"), lying(6, px=4))
    assert view.see(moved(screw(40), y=8)[0]).problem is None
    assert "of what counts" in view.see(moved(screw(40), y=45)[0]).problem


def test_a_good_part_is_seen_alike_by_the_saved_view(rigid: View) -> None:
    """to_dict and tensors, through JSON, give an equal view that shows the same bits."""
    again = View.from_dict(json.loads(json.dumps(rigid.to_dict())), rigid.tensors())
    assert again == rigid
    part = moved(screw(34), 3, 2, 200)[0]
    one, other = rigid.see(part), again.see(part)
    np.testing.assert_array_equal(one.pixels, other.pixels)
    np.testing.assert_array_equal(one.inside, other.inside)
    assert one.residual == other.residual


def test_a_mask_survives_saving() -> None:
    """Packed to bits and back, whatever the width."""
    image = RNG.random((50, 83, 3), np.float32)
    view = learned(View(64), [image], roi=[[[3, 3], [70, 9], [33, 44]]])
    again = View.from_dict(json.loads(json.dumps(view.to_dict())), view.tensors())
    assert again == view
    assert again != View(64)
    np.testing.assert_array_equal(again.see(image).inside, view.see(image).inside)


def test_old_manifests_and_plain_views_are_as_they_were() -> None:
    """A plain view writes what version 0.1 wrote and reads it."""
    assert View(320, "area").to_dict() == {"size": 320, "resample": "area"}
    assert View.from_dict({"size": 320, "resample": "area"}) == View(320, "area")
    assert View().tensors() == {}


VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-3, 300)
    | st.floats()
    | st.sampled_from(
        [
            "stretch",
            "pad",
            "rigid",
            "auto",
            "none",
            "bilinear",
            [1, 2, 3, 4],
            {"hw": [9, 9]},
            {},
            [],
        ]
    )
)


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from(["size", "aspect", "align", "window", "golden"]), VALUES))
def test_any_manifest_is_a_view_or_one_error(values: dict[str, Any]) -> None:
    """Whatever a manifest says of the view, nothing but ParameterError comes of it."""
    try:
        view = View.from_dict(values)
    except ParameterError:
        return
    assert View.from_dict(view.to_dict(), view.tensors()) == view


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("golden", np.zeros((4, 4, 3), np.uint8)),
        ("golden", np.zeros((SIZE, SIZE, 3), np.float32)),
        ("golden", np.zeros((SIZE, SIZE), np.uint8)),
        ("mask", np.zeros((HW[0], HW[1]), np.uint8)),
        ("mask", np.zeros((HW[0], HW[1] // 8), np.uint8)),
        ("mask", np.ones((HW[0], HW[1] // 8), np.float32)),
    ],
)
def test_wrong_tensors_are_refused(rigid: View, name: str, tensor: np.ndarray) -> None:
    """A golden image or mask of another type or shape, or a mask of nothing, is no view."""
    with pytest.raises(ParameterError):
        View.from_dict(rigid.to_dict(), {**rigid.tensors(), name: tensor})


def test_a_view_that_aligns_must_learn_first(rigid: View) -> None:
    """Before that it is applied to nothing; afterwards boxes need the part."""
    for align in ("rigid", "auto"):
        with pytest.raises(NotFittedError, match="no golden image yet"):
            View(align=align).apply(RNG.random((9, 9, 3), np.float32))
    with pytest.raises(ParameterError, match=r"see\(image\).to_source"):
        rigid.to_source((0, 0, 1, 1), HW)
    with pytest.raises(NoImagesError, match="at least 3"):
        learned(View(align="rigid"), lying(2))
    with pytest.raises(ParameterError, match="one even grey"):
        learned(View(align="rigid"), [np.full((*HW, 3), 0.5, np.float32)] * 4)


# The choice -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("px", "degrees", "scale", "expected"),
    [
        (0.3, 0, 0, "none"),
        (9, 0, 0, "translation"),
        (3, 180, 0, "rigid"),
        (3, 180, 0.15, "similarity"),
    ],
)
def test_auto_takes_the_simplest_motion_that_helps(
    px: float, degrees: float, scale: float, expected: str
) -> None:
    """From how good parts lie: as they are, shifted, turned, or turned and nearer or farther."""
    view, choice = learn_view(View(SIZE, align="auto"), lying(10, px, degrees, scale))
    assert view.align == choice.taken == expected
    assert view.is_learned
    assert str(choice).startswith(f"{expected} (grey levels from a good part")
    assert type(choice).from_dict(json.loads(json.dumps(choice.to_dict()))).taken == expected


def test_a_golden_image_may_be_given() -> None:
    """With areas, which are drawn on it, it is that image, or else the first."""
    images = lying(4, px=4)
    own = screw(50)
    for options, expected in (
        ({"golden": own}, own),
        ({"roi": [[[0, 0], [160, 0], [80, 160]]]}, images[0]),
    ):
        view = learned(View(160, align="translation"), images, **options)
        np.testing.assert_allclose(view.golden.picture / 255, expected, atol=0.5 / 255 + 1e-6)


def test_a_golden_image_among_the_good_ones_fits_itself_too_well() -> None:
    """Given as a picture it leads to the view, limit and all, that it does when it is chosen."""
    images = lying(7, px=5, degrees=180)
    for image in images[1::2]:  # so that some fit worse, and the limit follows from how they do
        image[95:125, 40:120] = 0
    roi = [[[20, 20], [140, 20], [140, 140], [20, 140]]]
    chosen = learned(View(SIZE, align="rigid"), images, roi=roi)  # the first, where areas are
    given = learned(View(SIZE, align="rigid"), images, roi=roi, golden=images[0].copy())
    assert given == chosen
    assert given.golden.limit > 0.1


def test_a_golden_image_of_something_else_is_refused() -> None:
    """What good parts cannot be laid onto would put each of them anywhere."""
    for golden in (RNG.random((*HW, 3), np.float32), nut()):
        with pytest.raises(ParameterError, match="cannot be aligned with the golden image"):
            learned(View(SIZE, align="rigid"), lying(5, degrees=180), golden=golden)
    same = [screw(3)] * 3
    assert learned(View(SIZE, align="rigid"), same, golden=screw(3)).is_learned


# Tiles ----------------------------------------------------------------------------------------


def test_a_tile_is_a_window_of_the_view() -> None:
    """Its pixels are those of the window, its boxes lie in it, and it needs the learned size."""
    image = RNG.random((80, 120, 3), np.float32)
    tile = View(16).tile((40, 20, 32, 32))
    np.testing.assert_array_equal(tile.apply(image), View(16).apply(image[20:52, 40:72]))
    assert tile.to_source((4, 4, 8, 8), (80, 120)) == (48, 28, 16, 16)
    with pytest.raises(ImageError, match="size that was learned"):
        tile.apply(image[:40])
    with pytest.raises(ParameterError, match="window"):
        View(window=(0, 0, 0, 5))


def test_tiles_of_an_aligned_view_share_its_place(rigid: View) -> None:
    """A tile shows what the whole view shows there, through the same placement."""
    part = moved(screw(35), 5, 4, 130)[0]
    placement = rigid.place(part)
    whole = rigid.see(part, placement)
    tile = rigid.tile((40, 40, 80, 80)).see(part, placement)
    found = cv2.resize(tile.pixels, (SIZE // 2, SIZE // 2), interpolation=cv2.INTER_AREA)
    middle = whole.pixels[SIZE // 4 : 3 * SIZE // 4, SIZE // 4 : 3 * SIZE // 4]
    assert np.abs(found - middle).mean() < 0.02
    assert tile.to_source((0, 0, SIZE, SIZE)) == whole.to_source(
        (SIZE // 4, SIZE // 4, SIZE // 2, SIZE // 2)
    )


# Sequences ------------------------------------------------------------------------------------


def test_a_sequence_places_each_part_once(rigid: View, monkeypatch: pytest.MonkeyPatch) -> None:
    """Passes after the first know where parts lie, and show the same."""
    images = ImageSequence(lying(3, px=5, degrees=180), rigid)
    placed = []
    original = View.place
    monkeypatch.setattr(
        View, "place", lambda self, image: placed.append(1) or original(self, image)
    )
    first = [images[index] for index in range(3)]
    tiles = images.viewed(rigid.tile((0, 0, 80, 80)))
    for index in range(3):
        np.testing.assert_array_equal(images[index], first[index])
        assert tiles.see(index).inside is not None
    fewer = images.without([1])
    np.testing.assert_array_equal(fewer[1], first[2])
    assert len(placed) == 3
    assert len(images.sources()) == 3
    assert images.sources()[1].hw == HW


def test_shrinking_an_aligned_image_averages() -> None:
    """A fine checkerboard beside the part turns grey at a third of the size: nothing is skipped."""
    rows, columns = np.indices((480, 480))
    board = ((rows + columns) % 2).astype(np.float32)[..., None].repeat(3, axis=2)
    image = cv2.resize(screw(0), (480, 480), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    image[:60] = board[:60]
    view = learned(View(SIZE, align="translation"), [image] * 3)
    band = view.apply(image)[2:10]
    np.testing.assert_allclose(band, 0.5, atol=0.05)
