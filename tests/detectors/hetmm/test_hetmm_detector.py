"""The HETMM detector: its maps, leaving one out, changes, keeping, and a real part."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hetmm_tools import (
    CLOSE,
    RAW,
    backward_by_loops,
    fitted_with,
    forward_by_loops,
    sheets_in,
)

from blemish.backbones import WeightStore
from blemish.bundle import BackboneRecord
from blemish.detectors import HETMM
from blemish.detectors.base import Laps
from blemish.detectors.hetmm.restoring import restore_sets
from blemish.detectors.hetmm.templates import FreeSet, TemplateSet
from blemish.detectors.maps import enlarge
from blemish.errors import (
    BundleError,
    ImageArrayError,
    NoImagesError,
    NotFittedError,
    ParameterError,
)
from blemish.graphs.sessions import OnnxSession
from blemish.inspector import Inspector


def restored(made: HETMM, memory: int | None = None) -> HETMM:
    """What a bundle of this detector brings back."""
    record, files = made.graphs()
    assert record is not None
    sets = restore_sets(record.levels, made.state()["templates"], "here", memory)
    again = HETMM.restored(
        made.parameters(), record, made.backbone_record,
        OnnxSession(files["features.onnx"], "here"), files, sets, made.templates, "cpu",
    )  # fmt: skip
    measured = made.state().get("measurement")
    return again if measured is None else again.with_measurement(measured, "here")


def test_map_is_the_weighted_sum_of_levels(good_images: list[np.ndarray]) -> None:
    """S = sum_l lambda_l (alpha_l F_l + (1 - alpha_l) B_l), each level enlarged and smoothed."""
    detector = fitted_with(
        good_images[:5], sheets=4, selection="spaced", alpha=(0.2, 0.5, 1.0),
        level_weights=(1.0, 0.25, 2.0), forward=(5, 3, 1), backward=(3, 3, 3), **RAW,
    )  # fmt: skip
    expected = np.zeros((64, 64))
    config = detector.config.resolved()
    for index, features in enumerate(detector.features(good_images[7])):
        own = detector.sets_[index]
        sheets = sheets_in(own.vectors, own.level.height, own.level.width)
        there = forward_by_loops(features, sheets, config.forward[index] // 2)
        back = backward_by_loops(features, sheets, config.backward[index] // 2)
        alpha = config.alpha[index]
        level = alpha * there + (1 - alpha) * back
        expected += config.level_weights[index] * enlarge(level, (64, 64), 4.0)
    maps = detector.maps(good_images[7:8])
    assert maps.shape == (1, 64, 64)
    assert maps.dtype == np.float32
    # Three weighted levels' roundings, and those of the matrices that enlarge in float32.
    np.testing.assert_allclose(maps[0], expected, atol=10 * CLOSE, rtol=0)
    np.testing.assert_array_equal(detector.scores(maps), [maps.max()])


def test_features_are_unit_vectors_and_templates_are_features(
    good_images: list[np.ndarray],
) -> None:
    """Every vector has length one, so products are cosines; sheets are the images' features."""
    detector = fitted_with(good_images[:3], sheets=None, selection="spaced")
    for index, own in enumerate(detector.sets_):
        features = np.stack([detector.features(image)[index] for image in good_images[:3]])
        np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=CLOSE)
        if isinstance(own, TemplateSet):
            sheets = sheets_in(own.vectors, own.level.height, own.level.width)
            np.testing.assert_array_equal(sheets, features)
        else:
            assert isinstance(own, FreeSet)
            np.testing.assert_array_equal(
                own.vectors[:, :-1], np.concatenate(own.reduced(features))
            )


def test_pooled_levels_are_averages_of_the_finer_ones(good_images: list[np.ndarray]) -> None:
    """`pool` averages a level's raw features over squares of pixels before they become units."""
    plain = fitted_with(good_images[:2], levels=(1,), pool=(1,), **RAW)
    pooled = fitted_with(good_images[:2], levels=(1,), pool=(2,), **RAW)
    assert plain.features(good_images[3])[0].shape == (8, 16, 16)
    assert pooled.features(good_images[3])[0].shape == (8, 8, 8)
    assert (pooled.sets_[0].level.height, pooled.sets_[0].level.pool) == (8, 2)
    # An image of blocks twice a cell's side: all cells of a block agree, so averaging loses none.
    block = np.random.default_rng(0).random((8, 8, 3), np.float32)
    tiled = np.tile(block[:4, :4], (16, 16, 1))
    small, large = pooled.features(tiled)[0], plain.features(tiled)[0]
    np.testing.assert_allclose(small, large[:, ::2, ::2], atol=CLOSE)
    assert float(np.abs(pooled.maps(good_images[:1])).max()) < 10 * CLOSE


def test_a_template_scores_nothing_and_left_out_something(good_images: list[np.ndarray]) -> None:
    """A template's map is zero among all sheets and positive once its own is left out."""
    detector = fitted_with(good_images, sheets=None, **RAW)
    assert float(np.abs(detector.maps(good_images[:3])).max()) < 10 * CLOSE
    left_out = np.concatenate(list(detector.calibration_maps(good_images, [0, 1, 2], [0, 1, 2])))
    assert (left_out.max(axis=(1, 2)) > 0.001).all()


@pytest.mark.parametrize("selection", ["spaced", "kcenter"])
def test_leaving_out_equals_never_having_seen_it(
    selection: str, good_images: list[np.ndarray]
) -> None:
    """A left-out sheet's map is that of a set without it (the features being the same)."""
    options = {"sheets": None, "selection": selection, **RAW}
    detector = fitted_with(good_images[:5], **options)
    (left_out,) = detector.calibration_maps(good_images, [2], [2])
    rest = [image for index, image in enumerate(good_images[:5]) if index != 2]
    expected = fitted_with(rest, **options).maps([good_images[2]])
    np.testing.assert_allclose(left_out, expected, atol=1e-5, rtol=0)


def test_good_images_that_are_no_templates_are_scored_as_they_are(
    good_images: list[np.ndarray],
) -> None:
    """Calibration leaves nothing out for an image of which no template is kept."""
    detector = fitted_with(good_images, sheets=3, selection="spaced")
    (found,) = detector.calibration_maps(good_images, [2], [-1])
    np.testing.assert_array_equal(found, detector.maps([good_images[2]]))


def test_one_template_cannot_be_left_out(good_images: list[np.ndarray]) -> None:
    """With a single sheet nothing would remain to match with, and the error says so."""
    one_sheet = fitted_with(good_images, sheets=1, selection="spaced", **RAW)
    for detector in (one_sheet, fitted_with(good_images[:1])):
        with pytest.raises(NoImagesError, match="needs at least 2"):
            list(detector.calibration_maps(good_images, [0], [0]))


def test_images_do_not_mix(good_images: list[np.ndarray]) -> None:
    """Each image of several gets the map that it gets alone, to the bit, in any order."""
    detector = fitted_with(good_images[:4])
    together = detector.maps(good_images[6:9])
    alone = [detector.maps([image])[0] for image in good_images[6:9]]
    np.testing.assert_array_equal(together, np.stack(alone))
    np.testing.assert_array_equal(detector.maps(good_images[8:5:-1]), together[::-1])


def test_the_order_of_good_images_does_not_matter(good_images: list[np.ndarray]) -> None:
    """Whole sheets in another order give the same maps but for rounding."""
    one = fitted_with(good_images[:4], sheets=None)
    other = fitted_with(good_images[3::-1], sheets=None)
    found, wanted = (made.maps(good_images[8:9]) for made in (other, one))
    np.testing.assert_allclose(found, wanted, atol=1e-5, rtol=0)


def test_time_is_told_by_stage(good_images: list[np.ndarray]) -> None:
    """Features and matching are timed apart."""
    laps = Laps()
    fitted_with(good_images[:2]).maps(good_images[:1], laps)
    assert set(laps.spent) == {"features", "matching"}


@pytest.mark.parametrize("selection", ["spaced", "kcenter"])
def test_added_then_removed_is_what_was_before(
    selection: str, good_images: list[np.ndarray]
) -> None:
    """A hot update makes another detector, which knows the new parts until they go again."""
    detector = fitted_with(good_images[:5], sheets=3, selection=selection, **RAW)
    probes, before = good_images[7:9], detector.maps(good_images[7:9])
    first = detector.templates
    more = detector.added(detector.sheets_of(good_images, [7, 8]), 2)
    assert more.templates == first + 2
    assert float(np.abs(more.maps(probes)).max()) < 10 * CLOSE < float(before.max())
    np.testing.assert_array_equal(detector.maps(probes), before)
    back = more.removed([first, first + 1])
    assert back.templates == first
    np.testing.assert_array_equal(back.maps(probes), before)
    for name, values in detector.state()["templates"].items():
        np.testing.assert_array_equal(back.state()["templates"][name], values)


def test_the_last_template_cannot_be_removed(good_images: list[np.ndarray]) -> None:
    """A detector without templates could match nothing."""
    detector = fitted_with(good_images[:2], selection="spaced")
    with pytest.raises(ParameterError, match="last template cannot be removed"):
        detector.removed([0, 1])
    assert detector.removed([1]).templates == 1


@pytest.mark.parametrize("positions", [[4], [-1], [0, 9], [1, 1]])
@pytest.mark.parametrize("selection", ["spaced", "kcenter"])
def test_templates_that_are_not_there_cannot_be_removed(
    selection: str, positions: list[int], good_images: list[np.ndarray]
) -> None:
    """A number beyond the templates, or one told twice, is refused: none goes unseen."""
    detector = fitted_with(good_images[:4], sheets=3, selection=selection)
    with pytest.raises(ParameterError, match="cannot be removed: there are"):
        detector.removed(positions)


def test_sheets_that_do_not_fit_are_refused(good_images: list[np.ndarray]) -> None:
    """A level that is missing, or too few sheets, are told before anything changes."""
    detector = fitted_with(good_images[:3])
    sheets = detector.sheets_of(good_images, [5, 6])
    with pytest.raises(BundleError, match="do not fit the levels"):
        detector.added({name: sheets[name] for name in ("level1", "level2")}, 2)
    with pytest.raises(BundleError, match="do not fit the levels"):
        detector.added(sheets, 3)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"selection": "spaced", "precision": "float16"},
        {"windows": "global", "components": 4},
        {"levels": (2,), "augment": ("flip-h",)},
    ],
    ids=["prototypes", "float16", "location-free", "augmented"],
)
@pytest.mark.parametrize("memory", [None, 1])
def test_what_is_kept_brings_every_bit_back(
    settings: dict, memory: int | None, good_images: list[np.ndarray]
) -> None:
    """Maps, those with a template left out, and updates are equal after a bundle."""
    made = fitted_with(good_images[:5], sheets=3, **settings)
    assert made.normalisation_ is not None
    again = restored(made, memory)
    probe = good_images[8:9]
    np.testing.assert_array_equal(again.maps(probe), made.maps(probe))
    one, other = (next(d.calibration_maps(good_images, [0], [0])) for d in (again, made))
    np.testing.assert_array_equal(one, other)
    one, other = (d.added(d.sheets_of(good_images, [6]), 1) for d in (again, made))
    np.testing.assert_array_equal(one.maps(probe), other.maps(probe))
    assert again.parameters() == made.parameters()
    assert again.whole() is again


def test_what_it_is_made_of(good_images: list[np.ndarray]) -> None:
    """The records tell backbone and levels; before `fit` there is nothing to tell."""
    made = fitted_with(good_images[:2])
    assert isinstance(made.backbone_record, BackboneRecord)
    assert (made.backbone_record.name, made.backbone_record.levels) == ("small", [1, 2, 3])
    record, files = made.graphs()
    assert record is not None
    assert set(record.parts.values()) == set(files)
    assert (record.height, record.width) == made.hw == (64, 64)
    assert (made.learned(), made.decisions()) == ({}, {})
    for ask in (lambda d: d.backbone_record, lambda d: d.state(), lambda d: d.hw):
        with pytest.raises(NotFittedError, match="call fit with good images first"):
            ask(HETMM())


def test_another_size_is_refused(good_images: list[np.ndarray]) -> None:
    """An image that is not of the graphs' size is told both shapes."""
    with pytest.raises(ImageArrayError, match=r"take images of shape \[64, 64, 3\], not \[64, 60"):
        fitted_with(good_images[:2]).maps([good_images[0][:, :60]])


def test_no_images_are_refused() -> None:
    """Without a good image there is nothing to match with."""
    with pytest.raises(NoImagesError, match="0 good images are too few"):
        HETMM().fit([])


@pytest.mark.parametrize("shape", [(64, 96), (48, 80)])
def test_views_need_not_be_square(shape: tuple[int, int]) -> None:
    """Height and width keep their places from the image to the map."""
    rng = np.random.default_rng(0)
    images = [cv2.GaussianBlur(rng.random((*shape, 3), np.float32), (0, 0), 3) for _ in range(4)]
    detector = fitted_with(images[:3], sheets=None, sigma=0.0, **RAW)
    assert float(np.abs(detector.maps(images[:1])).max()) < 10 * CLOSE
    flawed = images[0].copy()
    flawed[32:40, 8:16] = (1, 0, 1)
    (found,) = detector.maps([flawed])
    assert found.shape == shape
    y, x = np.unravel_index(found.argmax(), shape)
    assert 24 <= y < 48
    assert 0 <= x < 24


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_half_precision(precision: str, good_images: list[np.ndarray], tmp_path: Path) -> None:
    """Half precision scores nearly as float32, halves the sheets, and survives saving exactly."""
    image, fast = good_images[4], {"sheets": 4, "backbone": "filterbank", "levels": (2,)}
    others = [*good_images[:4], *good_images[5:]]
    exact = Inspector(HETMM(**fast), size=64, device="cpu").fit(others)
    half = Inspector(HETMM(**fast, precision=precision), size=64, device="cpu").fit(others)
    assert half.inspect(image).score == pytest.approx(exact.inspect(image).score, rel=0.05)
    sheets = [i.detector.state()["templates"]["level2"] for i in (exact, half)]
    assert sheets[1].dtype == precision
    assert sheets[1].size == sheets[0].size
    half.save(tmp_path / "half.blemish")
    loaded = Inspector.load(tmp_path / "half.blemish", device="cpu")
    found, wanted = loaded.inspect(image).anomaly_map, half.inspect(image).anomaly_map
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["efficientnet_lite0", "resnet18.tv_in1k"])
def test_bottle(backbone: str, shared: Path, request: pytest.FixtureRequest) -> None:
    """On MVTec AD's bottle every defective image scores above every good one, with 10 sheets."""
    if backbone.startswith("resnet"):
        assert isinstance(request.getfixturevalue("weight_store"), WeightStore)
    root = shared / "data" / "mvtec_256" / "bottle"
    good = sorted((root / "train" / "good").glob("*"))[:10]
    if not good:
        pytest.skip("the shared folder has no MVTec bottle")
    inspector = Inspector(HETMM(backbone=backbone), size=256, device="cpu").fit(good)
    score = {
        kind: [inspector.inspect(p).score for p in sorted((root / "test" / kind).iterdir())[:3]]
        for kind in ("good", "broken_large", "broken_small", "contamination")
    }
    worst_good = max(score.pop("good"))
    assert all(value > worst_good for values in score.values() for value in values)


@pytest.mark.parametrize(
    "options", [{"selection": "spaced"}, {"selection": "kcenter"}, {"sheets": None}], ids=str
)
def test_templates_taken_anew_from_their_images(
    good_images: list[np.ndarray], options: dict[str, object]
) -> None:
    """By the same graph they are what they were, to the bit; by another each is that graph's."""
    made = fitted_with(good_images[:6], **{"sheets": 4, **options})
    images = [good_images[position] for position in made.templates_]
    again = made.relearned(images)
    before, after = made.state()["templates"], again.state()["templates"]
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    swapped = made.relearned(images[::-1])
    assert not np.array_equal(swapped.state()["templates"]["level1"], before["level1"])
