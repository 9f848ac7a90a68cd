"""The HETMM detector: its sheets, leaving one out, its options, and a real part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from blemish.hetmm.matching import mutual_match
from blemish.hetmm.selection import whole_sheets
from blemish.maps import enlarge

from blemish.backbones import WeightStore
from blemish.detectors import HETMM, parse_settings, to_batch
from blemish.errors import NoImagesError, ParameterError
from blemish.inspector import Inspector


@pytest.mark.parametrize(
    ("count", "sheets", "chosen"),
    [
        (5, None, [0, 1, 2, 3, 4]),
        (5, 9, [0, 1, 2, 3, 4]),
        (9, 3, [0, 4, 8]),
        (10, 2, [0, 9]),
        (7, 1, [0]),
    ],
)
def test_evenly_spaced(count: int, sheets: int | None, chosen: list[int]) -> None:
    """Templates are spread over all good images, ends included, none twice."""
    assert whole_sheets(count, sheets) == chosen


def test_evenly_spaced_never_repeats() -> None:
    """However many of however many, no image is a template twice."""
    for count in range(1, 40):
        for sheets in range(1, count + 1):
            assert len(set(whole_sheets(count, sheets))) == sheets


def test_map_is_the_weighted_sum_of_levels(good_images: list[np.ndarray]) -> None:
    """S = sum_l lambda_l (alpha_l F_l + (1 - alpha_l) B_l), each level enlarged and smoothed."""
    detector = HETMM(
        sheets=4, alpha=(0.2, 0.5, 1.0), level_weights=(1.0, 0.25, 2.0), forward=(5, 3, 1)
    ).fit(good_images)
    batch = to_batch(good_images[7:9], "cpu")
    expected = torch.zeros(2, 64, 64)
    for index, features in enumerate(detector.features(batch)):
        there, back = mutual_match(
            features,
            detector.banks_[index],
            forward=detector.forward[index],
            backward=detector.backward[index],
        )
        alpha = detector.alpha[index]
        level = enlarge(alpha * there + (1 - alpha) * back, (64, 64), 4.0)
        expected += detector.level_weights[index] * level
    maps = detector.anomaly_maps(batch)
    torch.testing.assert_close(maps, expected)
    assert torch.equal(detector.scores(maps), maps.flatten(1).amax(1))


def test_features_are_unit_vectors(good_images: list[np.ndarray]) -> None:
    """Every stored and queried vector has length one, so products are cosines."""
    detector = HETMM(sheets=2).fit(good_images)
    for features in detector.features(to_batch(good_images[:2], "cpu")):
        lengths = features.norm(dim=1)
        torch.testing.assert_close(lengths, torch.ones_like(lengths))


def test_a_template_scores_nothing_and_left_out_something(good_images: list[np.ndarray]) -> None:
    """A template's map is zero among all sheets and positive once its own is left out."""
    detector = HETMM(sheets=None).fit(good_images)
    batch = to_batch(good_images[:3], "cpu")
    assert float(detector.anomaly_maps(batch).abs().max()) < 1e-4
    left_out = torch.cat(list(detector.calibration_maps(good_images, [0, 1, 2], [0, 1, 2])))
    assert bool((left_out.amax((1, 2)) > 0.01).all())


def test_leaving_out_equals_never_having_seen_it(good_images: list[np.ndarray]) -> None:
    """A left-out sheet's map is that of a set without it (the features being the same)."""
    detector = HETMM(sheets=None, backbone="random:resnet18").fit(good_images[:5])
    (left_out,) = detector.calibration_maps(good_images, [2], [2])
    rest = [image for index, image in enumerate(good_images[:5]) if index != 2]
    without = HETMM(sheets=None, backbone="random:resnet18").fit(rest)
    expected = without.anomaly_maps(to_batch([good_images[2]], "cpu"))
    torch.testing.assert_close(left_out, expected, atol=1e-5, rtol=1e-5)


def test_one_template_cannot_be_left_out(good_images: list[np.ndarray]) -> None:
    """With a single sheet nothing would remain to match with, and the error says so."""
    detector = HETMM(sheets=1).fit(good_images)
    with pytest.raises(NoImagesError, match="needs at least 2"):
        list(detector.calibration_maps(good_images, [0], [0]))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision(precision: str, good_images: list[np.ndarray], tmp_path: Path) -> None:
    """Half precision scores nearly as float32, halves the sheets, and survives saving exactly."""
    image = good_images[4]  # not among the four templates
    exact = Inspector(HETMM(sheets=4), size=64, device="cpu").fit(good_images)
    half = Inspector(HETMM(sheets=4, precision=precision), size=64, device="cpu").fit(good_images)
    assert half.inspect(image).score == pytest.approx(exact.inspect(image).score, rel=0.05)
    sheets = [i.detector.state()["templates"]["level1"].nbytes for i in (exact, half)]
    assert sheets[1] * 2 == sheets[0]
    half.save(tmp_path / "half.blemish")
    loaded = Inspector.load(tmp_path / "half.blemish", device="cpu")
    np.testing.assert_array_equal(
        loaded.inspect(image).anomaly_map, half.inspect(image).anomaly_map
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"forward": (13, 9)}, "forward has 2 values for 3 levels"),
        ({"levels": (1, 2)}, "forward has 3 values for 2 levels"),
        ({"alpha": (0.5, 0.5, 1.5)}, "each value lies between 0 and 1"),
        ({"sheets": 0}, "sheets is 0; it must be at least 1"),
        ({"sigma": -1.0}, "sigma must be at least 0"),
        ({"batch_size": 0}, "batch_size at least 1"),
        ({"precision": "double"}, "precision is 'double'"),
        ({"forward": (13, 8, 7)}, "the forward window is 8"),
        ({"backward": (3, -1, 3)}, "the backward window is -1"),
        ({"forward": (0, 0, 0), "backward": (0, 0, 0)}, "all levels are off"),
        ({"memory": 0}, "memory is 0 MiB"),
        ({"taps": "none"}, "taps is 'none'"),
    ],
)
def test_bad_options_are_refused_before_any_work(options: dict, said: str) -> None:
    """What cannot work is said by fit, before an image is touched."""

    class Untouchable(list):
        def __len__(self) -> int:
            return 5

        def __getitem__(self, index: object) -> object:
            raise AssertionError("an image was read")

    with pytest.raises(ParameterError, match=said):
        HETMM(**options).fit(Untouchable())


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("sheets=7", 7),
        ("sheets=none", None),
        ("sheets=null", None),
        ("sigma=2.5", 2.5),
        ("level-weights=1,0.5,0.5", (1, 0.5, 0.5)),
        ("forward=[5, 3, 3]", [5, 3, 3]),
        ('taps="post"', "post"),
        (" taps = post ", "post"),
        ("backbone=a=b", "a=b"),
    ],
)
def test_settings_are_read(setting: str, value: object) -> None:
    """key=value takes JSON, bare words and comma lists, with dashes for underscores."""
    (found,) = parse_settings(HETMM, [setting]).values()
    assert found == value


def test_bad_settings() -> None:
    """No `=`, and a key the method does not have, are errors; the latter lists the keys."""
    with pytest.raises(ParameterError, match="write it as key=value"):
        parse_settings(HETMM, ["sheets"])
    with pytest.raises(ParameterError, match="has no 'colour'; it has sheets, "):
        parse_settings(HETMM, ["colour=red"])


@pytest.mark.parametrize(
    "setting",
    ["sheets=many", "forward=13", "sigma=[]", "forward=a,b,c", "backbone=3", "sheets=1.5"],
)
def test_settings_of_the_wrong_kind(setting: str) -> None:
    """A value that the option cannot take is refused by name, not somewhere deep inside."""
    with pytest.raises(ParameterError, match=f"--set {setting.partition('=')[0]}"):
        HETMM(**parse_settings(HETMM, [setting]))


@pytest.mark.real
@pytest.mark.slow
def test_bottle(shared: Path, weight_store: WeightStore) -> None:
    """On MVTec AD's bottle every defective image scores above every good one, with 10 sheets."""
    root = shared / "data" / "mvtec_256" / "bottle"
    good = sorted((root / "train" / "good").iterdir())[:10]
    if not good:
        pytest.skip("the shared folder has no MVTec bottle")
    inspector = Inspector(HETMM(backbone="resnet18.tv_in1k"), size=256, device="cpu").fit(good)
    score = {
        kind: [inspector.inspect(p).score for p in sorted((root / "test" / kind).iterdir())[:3]]
        for kind in ("good", "broken_large", "broken_small", "contamination")
    }
    worst_good = max(score.pop("good"))
    assert all(value > worst_good for values in score.values() for value in values)
