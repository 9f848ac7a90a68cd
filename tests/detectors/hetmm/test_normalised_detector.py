"""HETMM by its default: distances by how good parts vary, measured, updated, kept and loaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hetmm_tools import CLOSE, RAW, fitted_with

from blemish.bundle import read_manifest
from blemish.detectors import HETMM
from blemish.detectors.hetmm.detector import MEASURED
from blemish.detectors.hetmm.normalisation import LEAST, Normalisation, tail
from blemish.detectors.hetmm.templates import FreeSet
from blemish.detectors.maps import enlarge
from blemish.errors import BundleError
from blemish.inspector import Inspector
from common import picture

SIZE = 32


@pytest.fixture(scope="module")
def fitted(good_images: list[np.ndarray]) -> HETMM:
    """Six made-up parts, by the default settings."""
    return fitted_with(good_images[:6])


def measurement_of(detector: HETMM) -> Normalisation:
    """What was measured of good parts."""
    assert detector.normalisation_ is not None
    return detector.normalisation_


def test_the_score_is_the_tail(fitted: HETMM, good_images: list[np.ndarray]) -> None:
    """Scores are the mean of each map's maximum and upper tails; of the paper, the maximum."""
    maps = fitted.maps(good_images[7:9])
    wanted = [tail(each.ravel()) for each in maps]
    np.testing.assert_array_equal(fitted.scores(maps), np.array(wanted, np.float32))
    assert (fitted.scores(maps) < maps.max(axis=(1, 2))).all()
    raw = fitted_with(good_images[:2], **RAW)
    np.testing.assert_array_equal(raw.scores(maps), maps.max(axis=(1, 2)))
    record, _ = fitted.graphs()
    assert record is not None
    assert record.score == "tail"


@pytest.mark.parametrize("windows", ["both", "manual", "global"])
def test_what_is_measured_are_leave_one_out_maps(
    windows: str, good_images: list[np.ndarray]
) -> None:
    """Sums are of each template's distances without it, a branch for places and one for none."""
    detector = fitted_with(good_images[:5], windows=windows)
    own = measurement_of(detector)
    assert own.samples.tolist() == [0, 1, 2, 3, 4]
    shape = {"both": (2, 8, 8), "manual": (1, 8, 8), "global": (1, 4, 4)}[windows]
    assert own.sums.shape == own.squares.shape == shape
    maps = [
        detector._summed(detector.features(image), index)
        for index, image in enumerate(good_images[:5])
    ]
    wanted = Normalisation.from_maps(maps, range(5))
    assert wanted is not None
    np.testing.assert_array_equal(own.sums, wanted.sums)
    np.testing.assert_array_equal(own.squares, wanted.squares)
    summed = wanted.applied(detector._summed(detector.features(good_images[7])))
    np.testing.assert_allclose(
        detector.maps(good_images[7:8])[0], enlarge(summed, (64, 64), 4.0), atol=1e-3
    )


def test_a_template_left_out_is_compared_with_the_others(
    fitted: HETMM, good_images: list[np.ndarray]
) -> None:
    """Calibration takes a template's own map off what was measured, as if it came later."""
    maps = [
        fitted._summed(fitted.features(image), index) for index, image in enumerate(good_images[:6])
    ]
    for own in (0, 3):
        others = [index for index in range(6) if index != own]
        alone = Normalisation.from_maps([maps[index] for index in others], others)
        assert alone is not None
        wanted = enlarge(alone.applied(maps[own]), (64, 64), 4.0)
        (found,) = fitted.calibration_maps(good_images, [own], [own])
        np.testing.assert_allclose(found[0], wanted, atol=1e-3)


def test_a_few_parts_are_measured_of_many(good_images: list[np.ndarray]) -> None:
    """So many as are asked for, spread evenly; of fewer than four nothing is told."""
    few = fitted_with(good_images[:3])
    assert few.normalisation_ is None
    assert set(few.state()) == {"templates"}
    assert np.isfinite(few.maps(good_images[5:6])).all()
    many = fitted_with(good_images)
    assert many.wanted_to_measure() == list(range(10))
    assert len(many.wanted_to_measure(LEAST)) == LEAST
    assert MEASURED >= LEAST
    raw = fitted_with(good_images[:6], **RAW)
    assert (raw.wanted_to_measure(), raw.normalisation_, raw.measurement()) == ([], None, {})


def test_an_added_part_is_known(fitted: HETMM, good_images: list[np.ndarray]) -> None:
    """Its distances are nothing in place and nothing beyond a radius anywhere."""
    probes, before = good_images[7:9], fitted.maps(good_images[7:9])
    more = fitted.added(fitted.sheets_of(good_images, [7, 8]), 2)
    for image in probes:
        for own, query in zip(more.sets_, more.features(image), strict=True):
            found = own.distances(more._matcher, query)
            assert float(found.max()) < CLOSE
            assert isinstance(own, FreeSet) or float(found.min()) > -CLOSE
    normal = measurement_of(more)
    nothing = enlarge(normal.applied(np.zeros(normal.sums.shape, np.float32)), (64, 64), 4.0)
    maps = more.maps(probes)
    assert (maps < nothing + 1e-2).all()
    assert float(maps.max()) < 0 < float(before.max())
    np.testing.assert_array_equal(fitted.maps(probes), before)


@pytest.mark.parametrize("options", [{}, {"selection": "spaced", "sheets": 3}], ids=str)
def test_added_then_removed_is_what_was_before(
    options: dict[str, object], good_images: list[np.ndarray]
) -> None:
    """Measured again from the same pictures, maps and tensors are those of before, to the bit."""
    fitted = fitted_with(good_images[:6], **options)
    probes = good_images[7:9]
    more = fitted.added(fitted.sheets_of(good_images, [7, 8]), 2)
    more = more.measured([*good_images[:6], *good_images[7:9]], range(8))
    assert not np.array_equal(more.maps(probes), fitted.maps(probes))
    fewer = more.removed([6, 7])
    own = fewer.wanted_to_measure()
    back = fewer.measured([good_images[index] for index in own], own)
    np.testing.assert_array_equal(back.maps(probes), fitted.maps(probes))
    assert back.state().keys() == fitted.state().keys() == {"templates", "measurement"}
    for part, tensors in fitted.state().items():
        for name, values in tensors.items():
            np.testing.assert_array_equal(back.state()[part][name], values)


def test_without_pictures_what_was_measured_stays(
    fitted: HETMM, good_images: list[np.ndarray]
) -> None:
    """Renumbered, a removed template still counts for new parts, and the others go as they did."""
    fewer = fitted.removed([1])
    renumbered = fewer.renumbered([1])
    probe = good_images[7:8]
    np.testing.assert_array_equal(renumbered.maps(probe), fewer.maps(probe))
    assert measurement_of(renumbered).samples.tolist() == [0, 1, 2, 3, 4, -1]
    assert measurement_of(fewer).samples.tolist() == [0, 1, 2, 3, 4, 5]


# In a bundle


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of six good parts, by the default settings; to be loaded, not changed."""
    folder = tmp_path_factory.mktemp("normalised") / "part.blemish"
    made = Inspector(HETMM(backbone="filterbank", vectors=300), size=SIZE, device="cpu")
    made.fit([small(seed) for seed in range(6)]).calibrate(false_alarm_rate=0.2)
    made.save(folder)
    return folder


def small(seed: int) -> np.ndarray:
    """One good made-up part [32, 32, 3], uint8."""
    return np.ascontiguousarray((picture(seed)[::2, ::2] * 255).round().astype(np.uint8))


def load(folder: Path) -> Inspector:
    """The inspector of a bundle, on the CPU."""
    return Inspector.load(folder, device="cpu")


def maps_of(inspector: Inspector) -> np.ndarray:
    """Maps of two parts that are no templates."""
    return np.stack([inspector.inspect(small(seed)).anomaly_map for seed in (30, 31)])


def measurements(folder: Path) -> list[str]:
    """The names of the parts that were measured."""
    return [name for name in read_manifest(folder).files if name.startswith("measurement")]


def test_a_bundle_gives_the_same_maps_after_updates(shelf: Path, tmp_path: Path) -> None:
    """Each version's measurement replaces the one before; loaded, maps are equal to the bit."""
    made, folder = load(shelf), tmp_path / "part.blemish"
    first = maps_of(made)
    np.testing.assert_array_equal(maps_of(load(shelf)), first)
    assert measurements(shelf) == ["measurement"]
    made.save(folder)
    made.update(add=[small(50)], false_alarm_rate=0.2)
    made.save(folder)
    assert measurements(folder) == ["measurement-2"]
    second = maps_of(made)
    np.testing.assert_array_equal(maps_of(load(folder)), second)
    made = load(folder)
    report = made.update(add=[small(51)], remove=[made.templates[0].id], false_alarm_rate=0.2)
    assert report.seconds["measuring"] > 0
    made.save(folder)
    assert measurements(folder) == ["measurement-3"]
    third = maps_of(made)
    again = load(folder)
    np.testing.assert_array_equal(maps_of(again), third)
    assert not np.array_equal(first, second)
    assert not np.array_equal(second, third)
    np.testing.assert_array_equal(maps_of(again.rollback(2)), second)
    np.testing.assert_array_equal(maps_of(again.rollback(1)), first)
    again.save(folder)
    np.testing.assert_array_equal(maps_of(load(folder)), first)


def test_two_updates_between_saves(shelf: Path, tmp_path: Path) -> None:
    """Versions that were never saved one by one are loaded as they were in memory."""
    made, folder = load(shelf), tmp_path / "part.blemish"
    made.update(add=[small(50)], recalibrate=False)
    made.update(add=[small(51)], recalibrate=False)
    detector = made.detector
    assert isinstance(detector, HETMM)
    assert measurement_of(detector).samples.tolist() == list(range(8))
    made.save(folder)
    again = load(folder)
    np.testing.assert_array_equal(maps_of(again), maps_of(made))
    assert isinstance(again.detector, HETMM)
    for name, values in detector.measurement().items():
        np.testing.assert_array_equal(again.detector.measurement()[name], values)


def test_what_is_measured_after_an_update_is_measured_anew(shelf: Path) -> None:
    """The measurement of an update is what measuring all templates' pictures gives."""
    made = load(shelf)
    made.update(add=[small(50)], remove=[made.templates[2].id], recalibrate=False)
    detector = made.detector
    assert isinstance(detector, HETMM)
    images = [made.view.apply(made.read(made.picture(one.id))) for one in made.templates]
    again = detector.measured(images, range(len(images)))
    for name, values in detector.measurement().items():
        np.testing.assert_array_equal(again.measurement()[name], values)


@pytest.mark.parametrize("damage", ["changed", "cut off", "gone"])
def test_a_damaged_measurement_is_refused(damage: str, shelf: Path, tmp_path: Path) -> None:
    """A file that is not what the manifest says is one clear sentence."""
    made, folder = load(shelf), tmp_path / "part.blemish"
    made.save(folder)
    made.update(add=[small(50)], recalibrate=False)
    made.save(folder)
    path = folder / read_manifest(folder).files["measurement-2"].file
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(data[:-1] if damage == "cut off" else data[:-1] + bytes([data[-1] ^ 1]))
    said = {"changed": "sha256 does not match", "cut off": "bytes instead of", "gone": "is missing"}
    with pytest.raises(BundleError, match=said[damage]) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_a_measurement_of_other_levels_is_refused(fitted: HETMM) -> None:
    """What fits another grid, or other branches, is one sentence with the bundle's name."""
    tensors = fitted.measurement()
    again = fitted.with_measurement(tensors, "here")
    for name, values in tensors.items():
        np.testing.assert_array_equal(again.measurement()[name], values)
    for name in ("sums", "squares"):
        with pytest.raises(BundleError, match="here: how good parts vary does not fit"):
            fitted.with_measurement({**tensors, name: tensors[name][:1]}, "here")
