"""HETMM's explanations: the witnesses add up to the map, and the pictures show them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from blemish.hetmm.explain import PATCH, find_witnesses, peak

from blemish.detectors import HETMM, to_batch
from blemish.errors import ImageArrayError, NotFittedError, ParameterError
from blemish.imaging.contact import below, beside, captioned, contact_sheet


@pytest.fixture(scope="module")
def fitted(good_images: list[np.ndarray]) -> HETMM:
    """Four templates, no smoothing."""
    return HETMM(sheets=None, sigma=0.0).fit(good_images[:4])


def test_shares_add_up_to_the_map(fitted: HETMM, good_images: list[np.ndarray]) -> None:
    """At a corner, which every level hits exactly, the shares' sum is the unsmoothed map."""
    batch = to_batch(good_images[7:8], "cpu")
    corners = [(0, 0), (63, 0), (0, 63), (63, 63)]
    found = find_witnesses(fitted, batch, corners)
    values = fitted.anomaly_maps(batch)[0]
    for (x, y), witnesses in zip(corners, found, strict=True):
        total = sum(witness.share for witness in witnesses)
        assert total == pytest.approx(float(values[y, x]), abs=1e-5)


def test_a_template_is_its_own_witness(fitted: HETMM, good_images: list[np.ndarray]) -> None:
    """An image that is a template matches itself, at the same place, with no distance."""
    (witnesses,) = find_witnesses(fitted, to_batch(good_images[2:3], "cpu"), [(21, 42)])
    assert [(w.level, w.direction) for w in witnesses] == [
        (level, direction) for level in (1, 2, 3) for direction in ("forward", "backward")
    ]
    forward = [w for w in witnesses if w.direction == "forward"]
    assert all(w.template == 2 and w.image == w.matched for w in forward)
    assert max(w.distance for w in witnesses) < 1e-5


def test_a_moved_part_is_found_where_it_was(good_images: list[np.ndarray]) -> None:
    """Shifted by one cell of level 1, the best template pixel lies one cell away."""
    detector = HETMM(
        sheets=None, levels=(1,), forward=(5,), backward=(5,), alpha=(0.5,), level_weights=(1.0,)
    ).fit(good_images[:1])
    moved = np.roll(good_images[0], 4, axis=1)
    (witnesses,) = find_witnesses(detector, to_batch([moved], "cpu"), [(34, 29)])
    for witness in witnesses:
        assert witness.image[0] - witness.matched[0] == pytest.approx(4, abs=1)
        assert witness.image[1] == witness.matched[1]


def test_a_flipped_copy_is_named_and_traced_back(good_images: list[np.ndarray]) -> None:
    """The witness of a mirrored template is its flipped copy, its place the template's own."""
    detector = HETMM(sheets=None, augment=("flip-h",)).fit(good_images[:2])
    mirrored = np.ascontiguousarray(good_images[1][:, ::-1])
    (witnesses,) = find_witnesses(detector, to_batch([mirrored], "cpu"), [(17, 30)])
    assert all((w.template, w.copy) == (1, "flip-h") for w in witnesses)
    assert all(w.matched[0] == pytest.approx(63 - w.image[0], abs=1) for w in witnesses)


def test_a_direction_without_weight_has_no_witness(good_images: list[np.ndarray]) -> None:
    """What does not count in the map is not shown as a reason for it."""
    detector = HETMM(sheets=2, alpha=(1.0, 0.0, 0.3), level_weights=(1.0, 1.0, 0.0))
    detector.fit(good_images[:3])
    (witnesses,) = find_witnesses(detector, to_batch(good_images[5:6], "cpu"), [(5, 5)])
    assert [(w.level, w.direction) for w in witnesses] == [(1, "forward"), (2, "backward")]


def test_the_template_of_a_place_is_that_of_its_strongest_witness(
    fitted: HETMM, good_images: list[np.ndarray]
) -> None:
    """Examining names, for each point, the template whose match adds most to the map there."""
    batch = to_batch(good_images[7:8], "cpu")
    points = [(0, 0), (63, 63), (20, 41)]
    _, nearest = fitted.examined(batch)
    strongest = [max(w, key=lambda one: one.share) for w in find_witnesses(fitted, batch, points)]
    assert nearest(points) == [witness.template for witness in strongest]
    _, own = fitted.examined(to_batch(good_images[2:3], "cpu"))
    assert own([(21, 42)]) == [2]


def test_pictures_show_the_template_that_matched(
    fitted: HETMM, good_images: list[np.ndarray]
) -> None:
    """Only witnesses' templates are asked for; there is one evidence picture a point."""
    asked: list[int] = []

    def picture(index: int) -> np.ndarray:
        asked.append(index)
        return np.full((64, 64, 3), 40 * index, np.uint8)

    batch = to_batch(good_images[8:9], "cpu")
    points = [(3, 3), (40, 20)]
    pictures = fitted.explain(batch, picture, points)
    assert list(pictures) == ["anomaly", "evidence 1", "evidence 2"]
    witnesses = [w for found in find_witnesses(fitted, batch, points) for w in found]
    assert sorted(asked) == sorted(w.template for w in witnesses)
    assert pictures["evidence 1"].shape[1] > 4 * PATCH
    assert pictures["evidence 1"].dtype == np.uint8


def test_without_points_the_peak_is_explained(fitted: HETMM, good_images: list[np.ndarray]) -> None:
    """The default place is the map's highest; without pictures the template's half is blank."""
    batch = to_batch(good_images[9:], "cpu")
    x, y = peak(fitted.anomaly_maps(batch)[0])
    assert float(fitted.anomaly_maps(batch)[0, y, x]) == float(fitted.anomaly_maps(batch).max())
    blank = fitted.explain(batch)
    assert np.array_equal(blank["evidence 1"], fitted.explain(batch, None, [(x, y)])["evidence 1"])


def test_wrong_questions_are_refused(fitted: HETMM, good_images: list[np.ndarray]) -> None:
    """Two images, a point outside the view, or a detector without templates: one sentence each."""
    two = to_batch(good_images[:2], "cpu")
    with pytest.raises(ImageArrayError, match="takes one image"):
        find_witnesses(fitted, two, [(0, 0)])
    with pytest.raises(ParameterError, match="64,0 lies outside the view of 64 x 64"):
        find_witnesses(fitted, two[:1], [(64, 0)])
    with pytest.raises(NotFittedError):
        HETMM().explain(torch.zeros(1, 3, 64, 64))


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
