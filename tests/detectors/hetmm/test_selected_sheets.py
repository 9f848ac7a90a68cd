"""HETMM with prototypes chosen for each pixel: saved, loaded and calibrated like whole sheets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hetmm_tools import CLOSE, RAW, fitted_with, sheets_in

from blemish.detectors import HETMM
from blemish.detectors.hetmm.selection import METHODS, select
from blemish.detectors.hetmm.templates import TemplateSet
from blemish.inspector import Inspector

SIZE = 64
FAST = {"backbone": "filterbank", "levels": (2, 3)}


@pytest.fixture
def good(parts: Path) -> list[Path]:
    """Made-up good boards."""
    return sorted(next(parts.rglob("train")).glob("good/*.png"))


@pytest.fixture(params=["kcenter", "pts"])
def method(request: pytest.FixtureRequest) -> str:
    """Each way to choose prototypes that can run here."""
    if request.param == "pts":
        pytest.importorskip("sklearn")
    found: str = request.param
    return found


def test_prototypes_are_those_selected_from_all_images(
    method: str, good_images: list[np.ndarray]
) -> None:
    """Each pixel keeps the vectors that `select` takes there, and knows whose they are."""
    detector = fitted_with(good_images, sheets=4, selection=method, **RAW)
    assert detector.templates_ == list(range(10))
    for index, own in enumerate(detector.sets_):
        assert isinstance(own, TemplateSet)
        assert own.sources is not None
        sheets = np.stack([detector.features(image)[index] for image in good_images])
        every = sheets.reshape(10, len(sheets[0]), -1).transpose(2, 0, 1)  # [P, N, C]
        chosen = select(np.ascontiguousarray(every), 4, method=method)  # type: ignore[arg-type]
        np.testing.assert_array_equal(own.sources, chosen)
        vectors = np.take_along_axis(every, chosen[..., None], axis=1)
        height, width = own.level.height, own.level.width
        found = sheets_in(own.vectors, height, width).reshape(4, -1, height * width)
        np.testing.assert_array_equal(found.transpose(2, 0, 1), vectors)


def test_leaving_out_equals_removing(method: str, good_images: list[np.ndarray]) -> None:
    """A template's calibration map is that of the set without it, its prototypes replaced."""
    detector = fitted_with(good_images, sheets=4, selection=method, **RAW)
    for sample in (0, 7):
        (left_out,) = detector.calibration_maps(good_images, [sample], [sample])
        without = detector.removed([sample]).maps([good_images[sample]])
        np.testing.assert_allclose(left_out, without, atol=1e-5, rtol=0)
        assert float(left_out.max()) > 0.001


def test_an_added_image_is_known_whole(method: str, good_images: list[np.ndarray]) -> None:
    """What is added after selecting scores nothing, and everything as before once it is gone."""
    detector = fitted_with(good_images[:8], sheets=3, selection=method, **RAW)
    probes = good_images[8:]
    before = detector.maps(probes)
    more = detector.added(detector.sheets_of(good_images, [8, 9]), 2)
    assert more.templates == 10
    assert np.abs(more.maps(probes)).max() < 10 * CLOSE
    np.testing.assert_array_equal(more.removed([9, 8]).maps(probes), before)
    np.testing.assert_array_equal(detector.maps(probes), before)
    one = more.removed([0, 8])  # the second of those added is now the eighth
    assert np.abs(one.maps(probes[1:])).max() < 10 * CLOSE


@pytest.mark.parametrize("selection", METHODS)
def test_saved_selection_scores_alike(selection: str, good: list[Path], tmp_path: Path) -> None:
    """Scores and leave-one-out calibration are bit-equal after saving and loading."""
    if selection == "pts":
        pytest.importorskip("sklearn")
    detector = HETMM(sheets=4, selection=selection, **FAST)
    fitted = Inspector(detector, size=SIZE, device="cpu").fit(good)
    fitted.calibrate(false_alarm_rate=0.2)
    fitted.save(tmp_path / "part.blemish")
    loaded = Inspector.load(tmp_path / "part.blemish", device="cpu")
    assert loaded.inspect(good[0]).score == fitted.inspect(good[0]).score
    assert fitted.calibration is not None
    again = loaded.calibrate(good, false_alarm_rate=0.2).calibration
    assert again is not None
    np.testing.assert_array_equal(again.scores, fitted.calibration.scores)
    assert again.method == "leave-one-out"


def test_keeping_as_many_as_there_are_changes_nothing(
    method: str, good_images: list[np.ndarray]
) -> None:
    """With K >= N every sheet is kept, so maps equal those of the whole set."""
    probe = good_images[9:]
    whole = fitted_with(good_images[:6], sheets=None, selection="spaced").maps(probe)
    for count in (6, 9, None):
        chosen = fitted_with(good_images[:6], sheets=count, selection=method)
        np.testing.assert_array_equal(chosen.maps(probe), whole)
