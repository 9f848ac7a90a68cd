"""What every detector promises, checked on every method there is."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blemish.demo.parts import DEFECTS, render
from blemish.detectors import HETMM, METHODS, Detector, Laps, detector_class
from blemish.errors import BlemishError, NoImagesError, NotFittedError, ParameterError
from blemish.inspector import Inspector
from common import SIZE

TINY: dict[str, Any] = {
    "dim": 32, "depth": 1, "heads": 2, "fdrm_dim": 16, "fdrm_depth": 1, "fdrm_heads": 2,
    "grid": 16, "epochs": 3,
}  # fmt: skip
# The cheapest working configurations of each method. A new one without a line here fails.
FACTORIES: dict[str, Callable[[], Detector]] = {
    "hetmm": lambda: HETMM(sheets=6),
    "hetmm-filterbank": lambda: HETMM(sheets=6, backbone="filterbank"),
    "tfanet": lambda: detector_class("tfanet")(backbone="filterbank", **TINY),
}
# Sums of float32 numbers in another order, relative to the largest.
ROUNDING = 1e-5

Pictures = list[np.ndarray]


@pytest.fixture(params=sorted({*METHODS, *FACTORIES}), scope="module")
def make(request: pytest.FixtureRequest) -> Callable[[], Detector]:
    """Makes an unfitted detector of each kind."""
    if request.param not in FACTORIES:
        pytest.fail(f"the method '{request.param}' has no entry in FACTORIES")
    if request.param == "tfanet" and find_spec("torch") is None:
        pytest.skip("TFA-Net is trained with blemish[train]")
    return FACTORIES[request.param]


@pytest.fixture(scope="module")
def pictures(good_images: Pictures) -> Pictures:
    """Good parts to learn from."""
    return good_images


@pytest.fixture(scope="module")
def twins() -> tuple[Pictures, Pictures]:
    """New good parts, and the same parts with a flaw each."""
    good = [render(100 + index, size=SIZE).image for index in range(len(DEFECTS))]
    bad = [render(100 + index, defect, size=SIZE).image for index, defect in enumerate(DEFECTS)]
    return as_pictures(good), as_pictures(bad)


def as_pictures(images: list[np.ndarray]) -> Pictures:
    """uint8 images as float32 in [0, 1]."""
    return [(image / 255).astype(np.float32) for image in images]


@pytest.fixture(scope="module")
def inspector(make: Callable[[], Detector], pictures: Pictures) -> Inspector:
    """An inspector of each kind that has learned from the good parts; fitting is what costs."""
    return Inspector(make(), size=SIZE, device="cpu").fit(pictures)


@pytest.fixture(scope="module")
def fitted_detector(inspector: Inspector) -> Detector:
    """Its detector; tests leave it as it is."""
    return inspector.detector


def scores_of(detector: Detector, images: Pictures) -> np.ndarray:
    """Raw scores [B]."""
    return detector.scores(detector.maps(images))


def close(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal but for rounding."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=ROUNDING * np.abs(expected).max())


def test_constructor_only_stores(make: Callable[[], Detector]) -> None:
    """Hyper-parameters are keywords, kept as given, and nothing is learned or looked up yet."""
    made = make()
    kind = type(made)
    declared = inspect.signature(kind).parameters.values()
    assert {p.kind for p in declared} <= {
        inspect.Parameter.KEYWORD_ONLY,
        inspect.Parameter.VAR_KEYWORD,
    }
    given = {**made.parameters(), "backbone": "no such network"}  # any work would stumble over it
    again = kind(**given)
    kept = again.parameters()
    assert {name: kept[name] for name in given} == given
    assert not [n for n in vars(again) if n.endswith("_") and getattr(again, n) is not None]


def test_known_under_its_own_name(make: Callable[[], Detector]) -> None:
    """The registry, the class and the command line know a method by one name."""
    detector = make()
    assert detector_class(detector.method) is type(detector)
    assert isinstance(detector, Detector)
    assert isinstance(detector.leaves_one_out, bool)
    assert isinstance(detector.updates, bool)
    assert set(detector.parameters()) <= set(detector.setting_names())


def test_an_unknown_option_is_refused(make: Callable[[], Detector]) -> None:
    """The sentence names it, and those there are."""
    kind = type(make())
    with pytest.raises(ParameterError, match=r"has no option 'colour'; it has .*backbone"):
        kind(colour="red")


def test_parameters_survive_json(make: Callable[[], Detector]) -> None:
    """The hyper-parameters go through a manifest and build an equal detector."""
    detector = make()
    again = type(detector)(**json.loads(json.dumps(detector.parameters())))
    assert json.dumps(again.parameters()) == json.dumps(detector.parameters())
    assert repr(detector).startswith(f"{type(detector).__name__}(")


def test_fit_returns_self_and_marks_what_it_learned(
    make: Callable[[], Detector], pictures: Pictures
) -> None:
    """fit returns self, leaves hyper-parameters and images alone, and learned names end in `_`."""
    detector, given = make(), deepcopy(pictures)
    before, names = dict(detector.parameters()), set(vars(detector))
    assert detector.fit(pictures, device="cpu") is detector
    assert detector.parameters() == before
    learned = {n for n in vars(detector) if not n.startswith("_")} - names
    assert learned
    assert all(name.endswith("_") for name in learned)
    assert all(0 <= index < len(pictures) for index in detector.templates_)
    assert detector.templates == len(detector.templates_)
    assert all(np.array_equal(one, two) for one, two in zip(given, pictures, strict=True))


def test_maps_and_scores_have_their_shapes(fitted_detector: Detector, pictures: Pictures) -> None:
    """One map of the image's size and one score an image: finite float32 arrays of NumPy's."""
    laps = Laps()
    maps = fitted_detector.maps(pictures[:3], laps)
    assert type(maps) is np.ndarray
    assert (maps.shape, maps.dtype) == ((3, SIZE, SIZE), np.float32)
    scores = fitted_detector.scores(maps)
    assert type(scores) is np.ndarray
    assert (scores.shape, scores.dtype) == ((3,), np.float32)
    assert np.isfinite(maps).all()
    assert laps.spent
    assert all(spent > 0 for spent in laps.spent.values())


def test_a_score_of_some_pixels(fitted_detector: Detector, twins: Any) -> None:
    """Pixels that do not count change no score; all of them give the map's own."""
    (found,) = fitted_detector.maps(twins[1][:1])
    inside = np.zeros(found.shape, np.bool_)
    inside[8:40, 8:40] = True
    changed = np.where(inside, found, np.float32(1e6))
    part = fitted_detector.score(found, inside)
    assert fitted_detector.score(changed, inside) == part
    assert fitted_detector.score(found) == float(fitted_detector.scores(found[None])[0])


def test_examining_gives_the_same_map_and_a_template_or_none(
    fitted_detector: Detector, twins: tuple[Pictures, Pictures]
) -> None:
    """One pass gives the map of `maps` and, for any places, positions of templates."""
    image = twins[1][0]
    found, nearest = fitted_detector.examined(image)
    np.testing.assert_array_equal(found, fitted_detector.maps([image]))
    known = {None, *range(fitted_detector.templates)}
    places = [(0, 0), (SIZE - 1, 3), (SIZE // 2, SIZE - 1)]
    assert len(nearest(places)) == 3
    assert set(nearest(places)) <= known
    assert nearest([]) == []


def test_scores_do_not_depend_on_the_batch(
    fitted_detector: Detector, twins: tuple[Pictures, Pictures]
) -> None:
    """An image has one map, alone or among others, first or last."""
    images = [*twins[0][:2], *twins[1][:3]]
    together = fitted_detector.maps(images)
    close(fitted_detector.maps(images[::-1])[::-1], together)
    close(np.concatenate([fitted_detector.maps([image]) for image in images]), together)


def test_same_seed_same_result(
    make: Callable[[], Detector],
    fitted_detector: Detector,
    pictures: Pictures,
    twins: tuple[Pictures, Pictures],
) -> None:
    """A second fit with one seed gives the bits of the first, whatever was drawn in between."""
    np.random.default_rng(1).random(3)
    other = make().fit(pictures, device="cpu", seed=0)
    np.testing.assert_array_equal(fitted_detector.maps(twins[1]), other.maps(twins[1]))
    one, two = fitted_detector.state(), other.state()
    assert one.keys() == two.keys()
    for part, tensors in one.items():
        assert tensors.keys() == two[part].keys()
        for name, values in tensors.items():
            np.testing.assert_array_equal(values, two[part][name])


def test_looking_changes_nothing(
    fitted_detector: Detector, twins: tuple[Pictures, Pictures]
) -> None:
    """Inspecting learns nothing: the second look gives the bits of the first."""
    given = deepcopy(twins[1])
    first = fitted_detector.maps(twins[1])
    fitted_detector.maps(twins[0])
    np.testing.assert_array_equal(first, fitted_detector.maps(twins[1]))
    assert all(np.array_equal(one, two) for one, two in zip(given, twins[1], strict=True))


def test_higher_is_worse(fitted_detector: Detector, twins: tuple[Pictures, Pictures]) -> None:
    """A foreign patch raises every part's score, and flaws raise the parts' mean score."""
    good, bad = twins
    patched = [image.copy() for image in good]
    for image in patched:
        image[24:40, 24:40] = (1.0, 0.0, 1.0)
    plain = scores_of(fitted_detector, good)
    assert (scores_of(fitted_detector, patched) > plain).all()
    assert scores_of(fitted_detector, bad).mean() > plain.mean()


def test_the_map_peaks_where_the_flaw_is(
    fitted_detector: Detector, twins: tuple[Pictures, Pictures]
) -> None:
    """The map's maximum lies within half a foreign patch of it, wherever on the part that is."""
    for top, left in ((8, 8), (8, 40), (40, 24)):
        image = twins[0][0].copy()
        image[top : top + 16, left : left + 16] = (1.0, 0.0, 1.0)
        peak = int(fitted_detector.maps([image])[0].argmax())
        row, column = divmod(peak, SIZE)
        assert top - 8 <= row <= top + 24
        assert left - 8 <= column <= left + 24


def test_an_explanation_is_pictures(
    fitted_detector: Detector, twins: tuple[Pictures, Pictures]
) -> None:
    """Pictures of 8 bits by name, with and without points to look into."""
    for points in ((), [(SIZE // 2, 5)]):
        drawn = fitted_detector.explain(twins[1][0], None, points)
        assert drawn
        for picture in drawn.values():
            assert picture.dtype == np.uint8
            assert picture.ndim == 3
            assert picture.shape[2] == 3


def test_save_and_load_change_nothing(
    inspector: Inspector, twins: tuple[Pictures, Pictures], tmp_path: Path
) -> None:
    """A loaded inspector gives the saved one's maps and scores, bit by bit."""
    inspector.save(tmp_path / "part.blemish")
    loaded = Inspector.load(tmp_path / "part.blemish", device="cpu")
    parameters = [json.dumps(i.detector.parameters()) for i in (loaded, inspector)]
    assert parameters[0] == parameters[1]
    for image in (*twins[0][:2], *twins[1]):
        one, other = inspector.inspect(image), loaded.inspect(image)
        assert one.score == other.score
        np.testing.assert_array_equal(one.anomaly_map, other.anomaly_map)
    loaded.save(tmp_path / "again.blemish")
    names = [{p.name for p in tmp_path.glob(f"{b}.blemish/*")} for b in ("part", "again")]
    assert names[0] == names[1]  # files are named by content
    if not loaded.detector.updates:
        with pytest.raises(ParameterError, match="fit again"):
            loaded.update(add=[twins[0][0]])


def test_an_exported_bundle_agrees(
    inspector: Inspector, twins: tuple[Pictures, Pictures], tmp_path: Path
) -> None:
    """Exported graphs give the maps, to the bit where nothing had to be converted."""
    done = inspector.export(tmp_path / "line.blemish", images=twins[0])
    exported = Inspector.load(tmp_path / "line.blemish", device="cpu")
    graphs = done.manifest.graphs
    assert graphs is not None
    assert graphs.parity is not None
    assert graphs.parity.relative == done.agreement.relative <= 1e-4
    converted = "network" in graphs.parts
    for image in (*twins[0][:2], *twins[1]):
        one, other = inspector.inspect(image), exported.inspect(image)
        if converted:
            scale = np.abs(one.anomaly_map).max()
            np.testing.assert_allclose(other.anomaly_map, one.anomaly_map, atol=1e-4 * scale)
            assert other.score == pytest.approx(one.score, rel=1e-3)
        else:
            np.testing.assert_array_equal(other.anomaly_map, one.anomaly_map)
            assert other.score == one.score


def test_declared_colour_order_matters(inspector: Inspector, pictures: Pictures) -> None:
    """BGR declared as such scores as RGB does; declared wrongly it scores otherwise."""
    image = (pictures[0] * 255).round().astype(np.uint8)
    right = inspector.inspect(image, order="rgb").score
    swapped = np.ascontiguousarray(image[..., ::-1])
    assert inspector.inspect(swapped, order="bgr").score == right
    assert inspector.inspect(swapped, order="rgb").score > right


def test_calibration_maps_come_in_order(fitted_detector: Detector, twins: Any) -> None:
    """Calibration gives one map for each position asked for; strangers score as on inspection."""
    images = twins[0]
    positions = [3, 0, 2]
    found = np.concatenate(list(fitted_detector.calibration_maps(images, positions, [-1] * 3)))
    close(found, fitted_detector.maps([images[index] for index in positions]))


def test_a_template_is_left_out_of_its_own_map(
    fitted_detector: Detector, pictures: Pictures
) -> None:
    """It scores as a stranger would; a method that cannot leave one out says so."""
    position = fitted_detector.templates_[0]
    found = fitted_detector.calibration_maps(pictures, [position], [0])
    if not fitted_detector.leaves_one_out:
        with pytest.raises(ParameterError, match="other good parts"):
            list(found)
        return
    assert next(iter(found)).max() > 2 * fitted_detector.maps([pictures[position]]).max()


def test_calibration_parts_are_what_calibration_uses(
    make: Callable[[], Detector], pictures: Pictures
) -> None:
    """The number of parts said before fitting is the number of scores after it."""
    inspector = Inspector(make(), size=SIZE, device="cpu")
    said = inspector.calibration_parts(pictures)
    inspector.fit(pictures).calibrate(false_alarm_rate=0.6)
    assert inspector.calibration is not None
    assert len(inspector.calibration.scores) == said


def test_an_update_makes_a_new_detector(
    fitted_detector: Detector, twins: tuple[Pictures, Pictures]
) -> None:
    """Adding and removing leave the detector as it was; one that cannot says what to do."""
    if not fitted_detector.updates:
        with pytest.raises(ParameterError, match="fit again"):
            fitted_detector.sheets_of(twins[0], [0])
        with pytest.raises(ParameterError, match="fit again"):
            fitted_detector.added({}, 1)
        with pytest.raises(ParameterError, match="fit again"):
            fitted_detector.removed([0])
        return
    before, kept = fitted_detector.maps(twins[0]), fitted_detector.templates
    more = fitted_detector.added(fitted_detector.sheets_of(twins[0], [0]), 1)
    assert (more.templates, fitted_detector.templates) == (kept + 1, kept)
    assert scores_of(more, twins[0][:1])[0] < 0.01 * scores_of(fitted_detector, twins[0][:1])[0]
    less = more.removed([kept])
    close(less.maps(twins[0]), before)
    np.testing.assert_array_equal(fitted_detector.maps(twins[0]), before)


def test_its_state_is_named_tensors(fitted_detector: Detector) -> None:
    """What a bundle keeps are arrays by part and name, and the graphs that it runs."""
    for tensors in fitted_detector.state().values():
        assert all(isinstance(values, np.ndarray) for values in tensors.values())
    record, files = fitted_detector.graphs()
    assert record is not None
    assert (record.height, record.width) == (SIZE, SIZE)
    assert set(record.parts.values()) == set(files)
    assert fitted_detector.backbone_record.name == fitted_detector.parameters()["backbone"]
    assert np.array_equal(
        fitted_detector.whole().maps([np.zeros((SIZE, SIZE, 3), np.float32)]),
        fitted_detector.maps([np.zeros((SIZE, SIZE, 3), np.float32)]),
    )


def test_progress_reaches_its_end(make: Callable[[], Detector], pictures: Pictures) -> None:
    """Each stage (named before the comma) starts at zero, never goes back, ends at its total."""
    stages: dict[str, list[tuple[int, int]]] = {}

    def report(stage: str, done: int, total: int) -> None:
        stages.setdefault(stage.partition(",")[0], []).append((done, total))

    make().fit(pictures, device="cpu", progress=report)
    assert stages
    for steps in stages.values():
        done = [step for step, _ in steps]
        assert done[0] == 0
        assert done == sorted(done)
        assert done[-1] == steps[-1][1]


def test_nothing_before_fit(make: Callable[[], Detector], pictures: Pictures) -> None:
    """Whatever is asked of a detector that has not learned is one clear error."""
    asked: list[Callable[[], Any]] = [
        lambda: make().maps(pictures[:1]),
        lambda: make().examined(pictures[0]),
        lambda: make().state(),
        lambda: make().graphs(),
        lambda: make().backbone_record,
        lambda: make().explain(pictures[0]),
        lambda: list(make().calibration_maps(pictures, [0], [-1])),
    ]
    for call in asked:
        with pytest.raises(NotFittedError, match="call fit with good images first"):
            call()


def test_no_images_to_learn_from(make: Callable[[], Detector]) -> None:
    """Without good images there is nothing to learn, and the error says so."""
    with pytest.raises(NoImagesError, match="0 good images are too few"):
        make().fit([], device="cpu")


def test_hyper_parameters_of_the_wrong_kind(make: Callable[[], Detector]) -> None:
    """A backbone nobody knows is refused by fit with an error of ours."""
    detector = type(make())(**{**make().parameters(), "backbone": "no such network"})
    with pytest.raises(BlemishError, match="no such network"):
        detector.fit([np.zeros((SIZE, SIZE, 3), np.float32)] * 8, device="cpu")
