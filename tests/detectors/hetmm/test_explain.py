"""HETMM's explanations: the witnesses add up to the map, and the pictures show them."""

from __future__ import annotations

import numpy as np
import pytest
from hetmm_tools import CLOSE, RAW, fitted_with, near, sheets_in

from blemish.detectors import HETMM
from blemish.detectors.hetmm.explain import PATCH, find_witnesses, peak
from blemish.errors import ImageArrayError, NotFittedError, ParameterError
from blemish.imaging.contact import below, beside, captioned, contact_sheet


@pytest.fixture(scope="module")
def fitted(good_images: list[np.ndarray]) -> HETMM:
    """Four templates, no smoothing, no pooling: a corner of the view is one of every level."""
    return fitted_with(good_images[:4], sheets=None, sigma=0.0, pool=(1, 1, 1), **RAW)


def test_shares_add_up_to_the_map(fitted: HETMM, good_images: list[np.ndarray]) -> None:
    """At a corner, which every level hits exactly, the shares' sum is the unsmoothed map."""
    corners = [(0, 0), (63, 0), (0, 63), (63, 63)]
    found = find_witnesses(fitted, fitted.features(good_images[7]), corners)
    values = fitted.maps(good_images[7:8])[0]
    for (x, y), witnesses in zip(corners, found, strict=True):
        total = sum(witness.share for witness in witnesses)
        assert total == pytest.approx(float(values[y, x]), abs=1e-5)


@pytest.mark.parametrize("images", [3, 6])
def test_shares_add_up_to_the_normalised_map(images: int, good_images: list[np.ndarray]) -> None:
    """By the default they are in the map's units; what is usual at the place is taken off them."""
    made = fitted_with(good_images[:images], sheets=None, sigma=0.0)
    features, values = made.features(good_images[7]), made.maps(good_images[7:8])[0]
    usual = np.zeros((1, 1))
    if images > 3:  # of fewer nothing is measured
        assert made.normalisation_ is not None
        mean, deviation = made.normalisation_.moments
        usual = (mean / deviation).sum(axis=0)
    else:
        assert made.normalisation_ is None
    for x, y in [(0, 0), (63, 0), (0, 63), (63, 63)]:
        (witnesses,) = find_witnesses(made, features, [(x, y)])
        assert {w.direction for w in witnesses} == {"forward", "backward", "anywhere"}
        total = sum(w.share for w in witnesses) - usual[-(y > 0), -(x > 0)]
        assert total == pytest.approx(float(values[y, x]), abs=1e-3)


def test_witnesses_are_what_a_brute_force_search_finds(
    fitted: HETMM, good_images: list[np.ndarray]
) -> None:
    """Every template pixel in the window was looked at, forward; every pixel of the image, back."""
    features, point = fitted.features(good_images[8]), (37, 20)
    (witnesses,) = find_witnesses(fitted, features, [point])
    for own, query in zip(fitted.sets_, features, strict=True):
        level = own.level
        assert level.forward is not None
        assert level.backward is not None
        grid, step = (level.height, level.width), 63 / (level.width - 1)
        y, x = round(point[1] / step), round(point[0] / step)
        sheets = sheets_in(own.vectors, *grid)
        there, back = (w for w in witnesses if w.level == level.number)
        forward = {
            (k, row, column): 1 - float(query[:, y, x] @ sheets[k, :, row, column])
            for row, column in near(y, x, grid, level.forward)
            for k in range(4)
        }
        backward = {
            (k, row, column): 1 - float(query[:, row, column] @ sheets[k, :, y, x])
            for row, column in near(y, x, grid, level.backward)
            for k in range(4)
        }
        for witness, cosines in ((there, forward), (back, backward)):
            sheet, row, column = min(cosines, key=cosines.__getitem__)
            assert witness.template == sheet
            assert witness.distance == pytest.approx(cosines[sheet, row, column], abs=CLOSE)
            searched = witness.matched if witness is there else witness.image
            assert searched == (round(column * step), round(row * step))


def test_a_template_is_its_own_witness(fitted: HETMM, good_images: list[np.ndarray]) -> None:
    """An image that is a template matches itself, at the same place, with no distance."""
    (witnesses,) = find_witnesses(fitted, fitted.features(good_images[2]), [(21, 42)])
    assert [(w.level, w.direction) for w in witnesses] == [
        (level, direction) for level in (1, 2, 3) for direction in ("forward", "backward")
    ]
    forward = [w for w in witnesses if w.direction == "forward"]
    assert all(w.template == 2 and w.image == w.matched for w in forward)
    assert max(w.distance for w in witnesses) < CLOSE


def test_a_moved_part_is_found_where_it_was(good_images: list[np.ndarray]) -> None:
    """Shifted by one cell of level 1, the best template pixel lies one cell away."""
    detector = fitted_with(
        good_images[:1], sheets=None, levels=(1,), pool=(1,), forward=(5,), backward=(5,), **RAW
    )
    moved = np.roll(good_images[0], 4, axis=1)
    (witnesses,) = find_witnesses(detector, detector.features(moved), [(34, 29)])
    for witness in witnesses:
        assert witness.image[0] - witness.matched[0] == pytest.approx(4, abs=1)
        assert witness.image[1] == witness.matched[1]


@pytest.mark.parametrize("position", [1, 2])
def test_a_flipped_copy_is_named_and_traced_back(
    position: int, good_images: list[np.ndarray]
) -> None:
    """A mirrored template's witness is its flipped copy, one that was added later too."""
    detector = fitted_with(good_images[:2], sheets=None, augment=("flip-h",), **RAW)
    detector = detector.added(detector.sheets_of(good_images, [2]), 1)
    mirrored = np.ascontiguousarray(good_images[position][:, ::-1])
    (witnesses,) = find_witnesses(detector, detector.features(mirrored), [(17, 30)])
    assert all((w.template, w.copy) == (position, "flip-h") for w in witnesses)
    assert all(w.matched[0] == pytest.approx(63 - w.image[0], abs=1) for w in witnesses)


def test_prototypes_name_the_image_they_come_from(good_images: list[np.ndarray]) -> None:
    """Chosen pixel by pixel, a vector still tells which image it is of."""
    detector = fitted_with(good_images[:6], sheets=3, pool=(1, 1, 1), **RAW)
    for position in range(6):
        features = detector.features(good_images[position])
        ((*_, witness, _),) = find_witnesses(detector, features, [(40, 30)])  # level 3, forward
        own = detector.sets_[2]
        _, samples = own.at(*(round(value * 3 / 63) for value in (30, 40)))
        if position in samples:
            assert witness.template == position
        assert witness.template < 6


def test_a_direction_without_weight_has_no_witness(good_images: list[np.ndarray]) -> None:
    """What does not count in the map is not shown as a reason for it."""
    detector = fitted_with(
        good_images[:3], sheets=2, alpha=(1.0, 0.0, 0.3), level_weights=(1.0, 1.0, 0.0), **RAW
    )
    (witnesses,) = find_witnesses(detector, detector.features(good_images[5]), [(5, 5)])
    assert [(w.level, w.direction) for w in witnesses] == [(1, "forward"), (2, "backward")]


def test_the_template_of_a_place_is_that_of_its_strongest_witness(
    fitted: HETMM, good_images: list[np.ndarray]
) -> None:
    """Examining names, for each point, the template whose match adds most to the map there."""
    points = [(0, 0), (63, 63), (20, 41)]
    maps, nearest = fitted.examined(good_images[7])
    found = find_witnesses(fitted, fitted.features(good_images[7]), points)
    strongest = [max(witnesses, key=lambda one: one.share) for witnesses in found]
    assert nearest(points) == [witness.template for witness in strongest]
    np.testing.assert_array_equal(maps, fitted.maps(good_images[7:8]))
    _, own = fitted.examined(good_images[2])
    assert own([(21, 42)]) == [2]


def test_pictures_show_the_template_that_matched(
    fitted: HETMM, good_images: list[np.ndarray]
) -> None:
    """Only witnesses' templates are asked for; there is one evidence picture a point."""
    asked: list[int] = []

    def picture(index: int) -> np.ndarray:
        asked.append(index)
        return np.full((64, 64, 3), 40 * index, np.uint8)

    points = [(3, 3), (40, 20)]
    pictures = fitted.explain(good_images[8], picture, points)
    assert list(pictures) == ["anomaly", "evidence 1", "evidence 2"]
    found = find_witnesses(fitted, fitted.features(good_images[8]), points)
    assert sorted(asked) == sorted(w.template for witnesses in found for w in witnesses)
    assert pictures["evidence 1"].shape[1] > 4 * PATCH
    assert pictures["evidence 1"].dtype == np.uint8


def test_without_points_the_peak_is_explained(fitted: HETMM, good_images: list[np.ndarray]) -> None:
    """The default place is the map's highest; without pictures the template's half is blank."""
    (found,) = fitted.maps(good_images[9:])
    x, y = peak(found)
    assert found[y, x] == found.max()
    blank = fitted.explain(good_images[9])
    asked = fitted.explain(good_images[9], None, [(x, y)])
    np.testing.assert_array_equal(blank["evidence 1"], asked["evidence 1"])


def test_wrong_questions_are_refused(fitted: HETMM, good_images: list[np.ndarray]) -> None:
    """Another size, a point outside the view, or a detector without templates: one sentence."""
    with pytest.raises(ImageArrayError, match=r"take images of shape \[64, 64, 3\]"):
        fitted.explain(good_images[0][:, :-1])
    with pytest.raises(ParameterError, match="64,0 lies outside the view of 64 x 64"):
        find_witnesses(fitted, fitted.features(good_images[0]), [(64, 0)])
    with pytest.raises(NotFittedError):
        HETMM().explain(good_images[0])


def test_contact_sheet_keeps_every_pixel_of_pictures_of_any_size() -> None:
    """Pictures of different sizes stand on white in rows, none cut off or scaled."""
    small, large = np.full((10, 40, 3), 7, np.uint8), np.full((30, 90, 3), 9, np.uint8)
    sheet = contact_sheet({"a": small, "b": large, "c": small}, width=150)
    assert (sheet == 7).all(-1).sum() >= 2 * 10 * 40
    assert (sheet == 9).all(-1).sum() >= 30 * 90
    assert sheet.shape[1] == 40 + 8 + 90 + 8
    assert beside([small, large], 2).shape == (32, 134, 3)
    assert below([small, large]).shape == (40, 90, 3)
    assert captioned(small, "x", "y").shape[0] == 10 + 2 * 18 + 4
