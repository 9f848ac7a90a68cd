"""What every detector promises, checked on every detector that is registered."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from blemish.learning import DETECTORS
from torch import Tensor

from blemish.demo.parts import DEFECTS, render
from blemish.detectors import HETMM, Detector, to_batch
from blemish.errors import BlemishError, NoImagesError, NotFittedError, ParameterError
from blemish.inspector import Inspector
from blemish.train.tfanet import TFANet

SIZE = 64
# The cheapest working configuration of each detector. A new one without a line here fails.
FACTORIES: dict[str, Callable[[], Detector]] = {
    "hetmm": lambda: HETMM(sheets=6, batch_size=4),
    "tfanet": lambda: TFANet(
        dim=32, depth=1, heads=2, fdrm_dim=16, fdrm_depth=1, fdrm_heads=2, grid=16, epochs=3
    ),
}

Pictures = list[np.ndarray]


@pytest.fixture(params=sorted(DETECTORS))
def make(request: pytest.FixtureRequest) -> Callable[[], Detector]:
    """Makes an unfitted detector of each registered kind."""
    if request.param not in FACTORIES:
        pytest.fail(f"the detector '{request.param}' has no entry in FACTORIES")
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


class Kept:
    """One fitted detector of each kind, since fitting is what costs."""

    def __init__(self) -> None:
        self.by_kind: dict[type, Detector] = {}

    def get(self, make: Callable[[], Detector], pictures: Pictures) -> Detector:
        made = make()
        if type(made) not in self.by_kind:
            self.by_kind[type(made)] = made.fit(pictures)
        return self.by_kind[type(made)]


@pytest.fixture(scope="module")
def kept() -> Kept:
    """The fitted detectors of this module."""
    return Kept()


@pytest.fixture
def fitted_detector(make: Callable[[], Detector], kept: Kept, pictures: Pictures) -> Detector:
    """A detector of each kind that has learned from the good parts."""
    return kept.get(make, pictures)


def maps_of(detector: Detector, images: Pictures) -> Tensor:
    """Anomaly maps [B, H, W] of images, on the CPU."""
    return detector.anomaly_maps(to_batch(images, "cpu")).cpu()


def scores_of(detector: Detector, images: Pictures) -> np.ndarray:
    """Raw scores [B]."""
    return detector.scores(maps_of(detector, images)).numpy()


def test_constructor_only_stores(make: Callable[[], Detector]) -> None:
    """Hyper-parameters are keywords, kept as given, and nothing is learned or looked up yet."""
    kind = type(make())
    declared = inspect.signature(kind).parameters.values()
    assert {p.kind for p in declared} <= {
        inspect.Parameter.KEYWORD_ONLY,
        inspect.Parameter.VAR_KEYWORD,
    }
    given = {p.name: p.default for p in declared if p.kind == inspect.Parameter.KEYWORD_ONLY}
    given["backbone"] = "no such network"  # which any work would stumble over
    made = kind(**given)
    assert all(getattr(made, name) is value for name, value in given.items())
    assert not [name for name in vars(made) if name.endswith("_")]


def test_registered_under_its_own_name(make: Callable[[], Detector]) -> None:
    """The registry, the class and the command line know a detector by one name."""
    detector = make()
    assert DETECTORS[detector.method] is type(detector)
    assert isinstance(detector.leaves_one_out, bool)
    assert all(hasattr(detector, name) for name in ("backbone", "levels", "taps"))


def test_parameters_survive_json(make: Callable[[], Detector]) -> None:
    """The hyper-parameters go through a manifest and build an equal detector."""
    detector = make()
    again = type(detector)(**json.loads(json.dumps(detector.parameters())))
    assert json.dumps(again.parameters()) == json.dumps(detector.parameters())
    assert repr(detector).startswith(f"{type(detector).__name__}(")


def test_fit_returns_self_and_marks_what_it_learned(
    make: Callable[[], Detector], pictures: Pictures
) -> None:
    """fit returns self, leaves hyper-parameters alone, and learned names end in `_`."""
    detector = make()
    before, names = dict(detector.parameters()), set(vars(detector))
    assert detector.fit(pictures) is detector
    assert detector.parameters() == before
    learned = {n for n in vars(detector) if not n.startswith("_")} - names
    assert learned
    assert all(name.endswith("_") for name in learned)
    assert all(0 <= index < len(pictures) for index in detector.templates_)


def test_maps_and_scores_have_their_shapes(fitted_detector: Detector, pictures: Pictures) -> None:
    """One map of the image's size and one score an image, finite float32."""
    maps = maps_of(fitted_detector, pictures[:3])
    assert (maps.shape, maps.dtype) == ((3, SIZE, SIZE), torch.float32)
    scores = fitted_detector.scores(maps)
    assert (scores.shape, scores.dtype) == ((3,), torch.float32)
    assert bool(maps.isfinite().all())
    assert not maps.requires_grad


def test_examining_gives_the_same_map_and_a_template_or_none(
    fitted_detector: Detector, twins: tuple[Pictures, Pictures]
) -> None:
    """One pass gives the map of `anomaly_maps` and, for any places, positions of templates."""
    batch = to_batch(twins[1][:1], "cpu")
    found, nearest = fitted_detector.examined(batch)
    assert torch.equal(found, fitted_detector.anomaly_maps(batch))
    known = {None, *range(len(fitted_detector.templates_))}
    places = [(0, 0), (SIZE - 1, 3), (SIZE // 2, SIZE - 1)]
    assert len(nearest(places)) == 3
    assert set(nearest(places)) <= known
    assert nearest([]) == []


def test_scores_do_not_depend_on_the_batch(
    fitted_detector: Detector, twins: tuple[Pictures, Pictures]
) -> None:
    """An image has one map, alone or among others, first or last."""
    images = [*twins[0][:2], *twins[1][:3]]
    together = maps_of(fitted_detector, images)
    turned = maps_of(fitted_detector, images[::-1]).flip(0)
    alone = torch.cat([maps_of(fitted_detector, [image]) for image in images])
    scale = float(together.abs().max())
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5 * scale)
    torch.testing.assert_close(together, turned, rtol=1e-5, atol=1e-5 * scale)


def test_same_seed_same_result(
    make: Callable[[], Detector], pictures: Pictures, twins: tuple[Pictures, Pictures]
) -> None:
    """Two detectors fitted with one seed agree to the last bit, whatever was drawn in between."""
    torch.manual_seed(1)
    one = make().fit(pictures, seed=5)
    torch.manual_seed(2)
    other = make().fit(pictures, seed=5)
    assert torch.equal(maps_of(one, twins[1]), maps_of(other, twins[1]))


def test_looking_changes_nothing(
    fitted_detector: Detector, twins: tuple[Pictures, Pictures]
) -> None:
    """Inspecting learns nothing: the second look gives the bits of the first."""
    first = maps_of(fitted_detector, twins[1])
    maps_of(fitted_detector, twins[0])
    assert torch.equal(first, maps_of(fitted_detector, twins[1]))


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
    """The map's maximum lies in a foreign patch, wherever on the part it is."""
    for top, left in ((8, 8), (8, 40), (40, 24)):
        image = twins[0][0].copy()
        image[top : top + 16, left : left + 16] = (1.0, 0.0, 1.0)
        peak = int(maps_of(fitted_detector, [image])[0].argmax())
        row, column = divmod(peak, SIZE)
        assert top - 8 <= row < top + 24
        assert left - 8 <= column < left + 24


def test_save_and_load_change_nothing(
    make: Callable[[], Detector],
    pictures: Pictures,
    twins: tuple[Pictures, Pictures],
    tmp_path: Path,
) -> None:
    """A loaded inspector gives the saved one's maps and scores, bit by bit."""
    inspector = Inspector(make(), size=SIZE, device="cpu").fit(pictures)
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


def test_declared_colour_order_matters(
    make: Callable[[], Detector], kept: Kept, pictures: Pictures
) -> None:
    """BGR declared as such scores as RGB does; declared wrongly it scores otherwise."""
    inspector = Inspector(make(), size=SIZE, device="cpu").fit(pictures)
    image = (pictures[0] * 255).round().astype(np.uint8)
    right = inspector.inspect(image, order="rgb").score
    swapped = np.ascontiguousarray(image[..., ::-1])
    assert inspector.inspect(swapped, order="bgr").score == right
    assert inspector.inspect(swapped, order="rgb").score > right


def test_calibration_maps_come_in_order(fitted_detector: Detector, twins: Any) -> None:
    """Calibration gives one map for each position asked for; strangers score as on inspection."""
    images = twins[0]
    positions = [3, 0, 2]
    found = fitted_detector.calibration_maps(images, positions, [-1] * 3)
    maps = torch.cat([batch.cpu() for batch in found])
    expected = maps_of(fitted_detector, [images[index] for index in positions])
    scale = float(expected.abs().max())
    torch.testing.assert_close(maps, expected, rtol=1e-5, atol=1e-5 * scale)


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
    fitted_detector: Detector, pictures: Pictures, twins: tuple[Pictures, Pictures]
) -> None:
    """Adding and removing leave the detector as it was; one that cannot says what to do."""
    if not fitted_detector.updates:
        with pytest.raises(ParameterError, match="fit again"):
            fitted_detector.sheets_of(to_batch(twins[0][:1], "cpu"))
        with pytest.raises(ParameterError, match="fit again"):
            fitted_detector.added({}, 1)
        with pytest.raises(ParameterError, match="fit again"):
            fitted_detector.removed([0])
        return
    before, kept = maps_of(fitted_detector, twins[0]), len(fitted_detector.templates_)
    more = fitted_detector.added(fitted_detector.sheets_of(to_batch(twins[0][:1], "cpu")), 1)
    assert (len(more.templates_), len(fitted_detector.templates_)) == (kept + 1, kept)
    assert scores_of(more, twins[0][:1])[0] < 0.01 * scores_of(fitted_detector, twins[0][:1])[0]
    less = more.removed([kept])
    torch.testing.assert_close(maps_of(less, twins[0]), before, rtol=1e-4, atol=1e-6)
    assert torch.equal(maps_of(fitted_detector, twins[0]), before)


def test_progress_reaches_its_end(make: Callable[[], Detector], pictures: Pictures) -> None:
    """Each stage (named before the comma) starts at zero, never goes back, ends at its total."""
    stages: dict[str, list[tuple[int, int]]] = {}

    def report(stage: str, done: int, total: int) -> None:
        stages.setdefault(stage.partition(",")[0], []).append((done, total))

    make().fit(pictures, progress=report)
    assert stages
    for steps in stages.values():
        done = [step for step, _ in steps]
        assert done[0] == 0
        assert done == sorted(done)
        assert done[-1] == steps[-1][1]


def test_nothing_before_fit(make: Callable[[], Detector], pictures: Pictures) -> None:
    """Whatever is asked of a detector that has not learned is one clear error."""
    batch = to_batch(pictures[:1], "cpu")
    with pytest.raises(NotFittedError):
        make().anomaly_maps(batch)
    with pytest.raises(NotFittedError):
        make().state()
    with pytest.raises(NotFittedError):
        list(make().calibration_maps(pictures, [0], [-1]))


def test_no_images_to_learn_from(make: Callable[[], Detector]) -> None:
    """Without good images there is nothing to learn, and the error says so."""
    with pytest.raises(NoImagesError, match="0 good images are too few"):
        make().fit([])


def test_hyper_parameters_of_the_wrong_kind(make: Callable[[], Detector]) -> None:
    """A backbone nobody knows is refused by fit with an error of ours."""
    detector = type(make())(**{**make().parameters(), "backbone": "no such network"})
    with pytest.raises(BlemishError, match="no such network"):
        detector.fit([np.zeros((SIZE, SIZE, 3), np.float32)] * 8)
