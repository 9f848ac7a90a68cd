"""The TFA-Net detector: what `Inspector`, the bundle and the command line rely on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from blemish.bundle import read_manifest
from blemish.detectors import detector_class, parse_settings
from blemish.errors import BlemishError, CalibrationError, NotFittedError, ParameterError
from blemish.imaging.contact import contact_sheet
from blemish.inspector import Inspector
from blemish.train.tfanet import PRESETS, TFANet
from blemish.train.tfanet.explain import component_colours, heat_colours
from blemish.train.tfanet.presets import TFANetConfig
from blemish.train.tfanet.templates import farthest, held_out, medoid, split

SIZE = 64
TINY: dict[str, Any] = {
    "dim": 16,
    "depth": 1,
    "heads": 2,
    "fdrm_dim": 8,
    "fdrm_depth": 1,
    "fdrm_heads": 2,
    "grid": 16,
    "epochs": 2,
    "precision": "fp32",
}
COUNT = 12


def picture(seed: int) -> np.ndarray:
    """A grey part [64, 64, 3] with a bright square and noise."""
    draw = np.random.default_rng(seed)
    image = draw.normal(0.4, 0.02, (SIZE, SIZE, 3))
    image[16:48, 16:48] += 0.3
    return np.clip(image, 0, 1).astype(np.float32)


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    """Twelve good parts."""
    return [picture(seed) for seed in range(COUNT)]


@pytest.fixture(scope="module")
def trained(images: list[np.ndarray]) -> TFANet:
    """A tiny detector fitted on them; tests leave it as it is."""
    return TFANet(**TINY).fit(images)


def maps(detector: TFANet, image: np.ndarray) -> np.ndarray:
    """One image's map [1, H, W]."""
    return detector.maps([image])


@pytest.mark.parametrize(
    "options",
    [
        {"variant": "plain"},
        {"variant": "keep_input"},
        {"variant": "no_fdrm"},
        {"templates": 3, "template": "medoid"},
        {"template": 5},
        {"cache": False},
        {"mask_ratio": "random"},
        {"template_normalize": False, "score": "sum5", "image_score": "max"},
        {"inference_precision": "bf16"},
    ],
    ids=str,
)
def test_every_option_trains_and_scores(
    images: list[np.ndarray], options: dict[str, Any], tmp_path: Path
) -> None:
    """Variants, templates and masks give finite maps of the image's size, and survive a bundle."""
    inspector = Inspector(TFANet(**TINY, **options), size=SIZE, device="cpu")
    inspector.fit(np.stack(images)).save(tmp_path / "part.blemish")
    result = inspector.inspect(images[0])
    assert result.anomaly_map.shape == (SIZE, SIZE)
    assert np.isfinite(result.anomaly_map).all()
    assert result.score > 0
    loaded = Inspector.load(tmp_path / "part.blemish", device="cpu")
    assert loaded.inspect(images[0]).score == result.score


def test_training_makes_a_defect_worse_than_a_good_part(images: list[np.ndarray]) -> None:
    """A dark bar scores above every good part, and the map peaks within a patch of it."""
    longer = {**TINY, "dim": 64, "depth": 2, "fdrm_dim": 32, "epochs": 40, "lr": 3e-3}
    detector = TFANet(**longer, sigma=1.0).fit(images)
    bad = picture(50)
    bad[24:40, 28:32] = 0.0
    good = [float(detector.scores(maps(detector, picture(seed)))[0]) for seed in range(40, 46)]
    found = maps(detector, bad)
    assert float(detector.scores(found)[0]) > max(good)
    y, x = np.unravel_index(int(found[0].argmax()), (SIZE, SIZE))
    assert 24 - 16 <= y < 40 + 16  # a patch is 4 features of 4 pixels
    assert 28 - 16 <= x < 32 + 16


def test_scores_do_not_depend_on_the_batch(trained: TFANet, images: list[np.ndarray]) -> None:
    """An image scores the same alone and among others, up to rounding."""
    together = trained.maps(images[:5])
    alone = np.concatenate([maps(trained, image) for image in images[:5]])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-6)


def test_same_seed_same_maps(trained: TFANet, images: list[np.ndarray]) -> None:
    """Fitting again gives the same map to the bit; another seed does not."""
    again = TFANet(**TINY).fit(images)
    other = TFANet(**TINY).fit(images, seed=1)
    assert np.array_equal(maps(trained, images[0]), maps(again, images[0]))
    assert not np.array_equal(maps(trained, images[0]), maps(other, images[0]))


def test_an_option_seed_goes_before_the_argument(images: list[np.ndarray]) -> None:
    """`--set seed=1` wins over `--seed`, and the manifest says so."""
    detector = TFANet(**TINY, seed=1)
    assert detector.parameters()["seed"] == 1
    one = maps(detector.fit(images, seed=0), images[0])
    assert np.array_equal(one, maps(TFANet(**TINY).fit(images, seed=1), images[0]))


def test_fresh_and_cached_features_agree(images: list[np.ndarray]) -> None:
    """The float16 cache changes the result by no more than its rounding."""
    cached, fresh = (TFANet(**TINY, cache=cache).fit(images) for cache in (True, False))
    one, other = maps(cached, images[0]), maps(fresh, images[0])
    np.testing.assert_allclose(one, other, rtol=2e-2, atol=1e-3)


def test_a_cache_beyond_its_limit_goes_to_a_file_and_is_removed(
    images: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no memory to spare the result is the same, and no temporary file is left."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    on_disk = TFANet(**TINY, cache_mb=0).fit(images)
    assert list(tmp_path.iterdir()) == []
    in_memory = TFANet(**TINY).fit(images)
    assert np.array_equal(maps(on_disk, images[0]), maps(in_memory, images[0]))


def test_a_cache_that_fits_nowhere_is_refused(
    images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too little memory and disk is told before the work, with the ways out."""
    full = type("Usage", (), {"free": 0})
    monkeypatch.setattr("shutil.disk_usage", lambda _: full)
    with pytest.raises(ParameterError, match=r"cache_mb \(0\).*cache=false"):
        TFANet(**TINY, cache_mb=0).fit(images)


# Holding back and calibrating ----------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_split_is_a_partition(seed: int) -> None:
    """Training and held-out positions are all images once, and the template is trained on."""
    training, out = split(25, 0.2, seed, keep=7)
    assert sorted(training + out) == list(range(25))
    assert len(out) == held_out(25, 0.2) == 5
    assert 7 in training
    assert split(25, 0.2, seed, keep=7) == (training, out)


@pytest.mark.parametrize(("count", "share", "expected"), [(1, 0.9, 0), (2, 0.9, 1), (9, 0.0, 0)])
def test_one_image_is_always_left_to_train_on(count: int, share: float, expected: int) -> None:
    """However large the share, something is learned from."""
    assert held_out(count, share) == expected


def test_calibration_uses_the_held_out_images_alone(images: list[np.ndarray]) -> None:
    """As many calibration scores as `calibration_parts` promised, by the method held-out."""
    inspector = Inspector(TFANet(**TINY, calibration_share=0.5), size=SIZE, device="cpu")
    stack = np.stack(images)
    promised = inspector.calibration_parts(stack)
    inspector.fit(stack).calibrate(false_alarm_rate=0.2)
    assert inspector.calibration is not None
    assert len(inspector.calibration.scores) == promised == 6
    assert inspector.calibration.method == "held-out"
    assert len(inspector.templates) == 6


def test_nothing_held_back_refuses_to_calibrate(images: list[np.ndarray]) -> None:
    """calibration_share=0 trains on everything and calibrates on nothing, and says so."""
    inspector = Inspector(TFANet(**TINY, calibration_share=0), size=SIZE, device="cpu")
    inspector.fit(np.stack(images))
    assert len(inspector.templates) == COUNT
    with pytest.raises(CalibrationError, match="0 good parts"):
        inspector.calibrate(false_alarm_rate=0.1)
    others = np.stack([picture(seed) for seed in range(60, 70)])
    inspector.calibrate(others, false_alarm_rate=0.1)
    assert inspector.calibration is not None


def test_a_trained_image_is_refused_for_calibration(
    trained: TFANet, images: list[np.ndarray]
) -> None:
    """Scores of images learned from would promise too much."""
    with pytest.raises(ParameterError, match="trained on"):
        next(trained.calibration_maps(images, [0], [0]))


# Options -------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
def test_parameters_survive_json(preset: str) -> None:
    """What the manifest keeps rebuilds the same detector, every preset."""
    detector = TFANet(preset=preset, backbone="resnet18.tv_in1k", epochs=3)
    kept = json.loads(json.dumps(detector.parameters()))
    again = TFANet(**kept)
    assert again.config == detector.config
    assert json.loads(json.dumps(again.parameters())) == kept


def test_constructor_stores_unchanged_and_does_no_work() -> None:
    """The arguments are there as given, and missing weights are no concern yet."""
    detector = TFANet(preset="paper", backbone="nothing", epochs=3)
    assert (detector.preset, detector.backbone, detector.options) == (
        "paper",
        "nothing",
        {"epochs": 3},
    )
    assert repr(detector) == "TFANet(preset='paper', backbone='nothing', epochs=3)"


def test_every_option_can_be_set_on_the_command_line() -> None:
    """`--set` takes each field of TFANetConfig as its own default, written as text."""
    small = PRESETS["small"].to_dict()
    texts = [
        f"{name}={','.join(map(str, value)) if isinstance(value, tuple) else value}"
        for name, value in small.items()
    ]
    settings = parse_settings(TFANet, texts)
    assert set(settings) == set(small)
    assert TFANet(**settings).config == PRESETS["small"]


def test_unknown_options_are_refused_with_the_list() -> None:
    """A misspelt option is named beside those there are, from Python and from --set."""
    with pytest.raises(ParameterError, match=r"no option 'epoch'; it has .*epochs"):
        TFANet(epoch=3)
    with pytest.raises(ParameterError, match=r"no 'epoch'; it has .*epochs"):
        parse_settings(TFANet, ["epoch=3"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "huge"}, "no preset 'huge'"),
        ({"epochs": 0}, "'epochs' cannot be 0"),
        ({"calibration_share": 1.0}, "calibration_share is 1.0"),
        ({"template": COUNT}, "template is 12, but there are 12"),
        ({"template": "nowhere.png"}, "template is 'nowhere.png', which is no file"),
        ({"templates": 99}, "templates is 99, but only 10"),
        ({"feature_levels": (7,)}, "has the levels 0, 1, 2, 3"),
    ],
    ids=str,
)
def test_what_cannot_work_is_refused(
    images: list[np.ndarray], options: dict[str, Any], message: str
) -> None:
    """A wrong value gives one sentence that names it."""
    with pytest.raises(BlemishError, match=message):
        TFANet(**{**TINY, **options}).fit(images)


def test_unfitted_detector_says_so() -> None:
    """Maps before training are refused."""
    with pytest.raises(NotFittedError, match="not trained yet"):
        maps(TFANet(), picture(0))


def test_template_from_a_file(images: list[np.ndarray], tmp_path: Path) -> None:
    """A template given as a file is read in the same view; the first image so gives the same."""
    from blemish.imaging import encode_png

    path = tmp_path / "golden.png"
    path.write_bytes(encode_png(np.rint(images[0] * 255).astype(np.uint8)))
    rounded = [np.rint(images[0] * 255).astype(np.float32) / 255, *images[1:]]
    by_file = TFANet(**TINY, template=str(path), calibration_share=0).fit(rounded)
    by_index = TFANet(**TINY, template="first", calibration_share=0).fit(rounded)
    assert np.array_equal(maps(by_file, images[3]), maps(by_index, images[3]))


def test_medoid_is_nearest_to_all_and_others_are_far() -> None:
    """The medoid has the least sum of distances; further templates are each the farthest left."""
    line = torch.tensor([[0.0], [1.0], [2.0], [10.0], [11.0]])
    assert medoid(line) == 2  # sums of distances: 24, 21, 20, 28, 32
    assert farthest(line, line[2:3], 2) == [4, 0]
    same = torch.zeros(3, 1)
    assert sorted(farthest(same, same[:1], 3)) == [0, 1, 2]


def test_several_templates_are_different_training_images(images: list[np.ndarray]) -> None:
    """Three templates are three images, all of them trained on, the named one first."""
    detector = TFANet(**TINY, templates=3, template=4).fit(images)
    assert detector.template_positions_[0] == 4
    assert len(set(detector.template_positions_)) == 3
    assert set(detector.template_positions_) <= set(detector.templates_)


def test_a_run_resumes_from_its_folder(images: list[np.ndarray], tmp_path: Path) -> None:
    """With run_dir the second fit finds the first one's checkpoint and gives the same maps."""
    run = {**TINY, "run_dir": str(tmp_path / "run")}
    first = TFANet(**run).fit(images)
    said: list[tuple[str, int, int]] = []
    second = TFANet(**run).fit(images, progress=lambda *report: said.append(report))
    assert ("training", 6, 6) in said
    assert np.array_equal(maps(first, images[0]), maps(second, images[0]))
    with pytest.raises(ParameterError, match="belongs to another run"):
        TFANet(**run).fit(images[:-1])
    assert "run_dir" not in first.parameters()


def test_registered_with_the_inspector(images: list[np.ndarray], tmp_path: Path) -> None:
    """`tfanet` is a method of the inspector, and the manifest spells out every option."""
    assert detector_class("tfanet") is TFANet
    inspector = Inspector(TFANet(**TINY), size=SIZE, device="cpu").fit(np.stack(images))
    inspector.save(tmp_path / "part.blemish")
    manifest = read_manifest(tmp_path / "part.blemish")
    assert manifest.method == "tfanet"
    assert set(TFANetConfig().to_dict()) - {"seed"} <= set(manifest.parameters)
    assert manifest.parameters["calibration_share"] == 0.2


# Looking inside ------------------------------------------------------------------------------


def test_explain_gives_pictures_of_the_images_size(
    trained: TFANet, images: list[np.ndarray]
) -> None:
    """Each picture is RGB uint8 of the image's size; together they make one sheet."""
    pictures = trained.explain(images[0])
    assert list(pictures) == [
        "input",
        "features",
        "reconstruction",
        "error",
        "cosine",
        "anomaly",
        "attention",
    ]
    for each in pictures.values():
        assert each.shape == (SIZE, SIZE, 3)
        assert each.dtype == np.uint8
    sheet = contact_sheet(pictures)
    assert sheet.shape[1] == 7 * (SIZE + 8)


def test_explain_without_a_template_leaves_attention_out(images: list[np.ndarray]) -> None:
    """The plain variant has no template that could ask."""
    detector = TFANet(**TINY, variant="plain").fit(images)
    assert "attention" not in detector.explain(images[0])


def test_equal_features_have_equal_colours() -> None:
    """The projection is the reference's for both, so a perfect reconstruction looks the same."""
    features = torch.rand(8, 5, 5, generator=torch.Generator().manual_seed(0))
    one, two = component_colours(features, [features, features.clone()])
    assert np.array_equal(one, two)
    _, other = component_colours(features, [features, features.flip(1)])
    assert np.array_equal(other, one[::-1])


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_few_channels_still_have_colours(channels: int) -> None:
    """Fewer channels than colours repeat the last."""
    features = torch.rand(channels, 4, 4)
    (picture,) = component_colours(features, [features])
    assert picture.shape == (4, 4, 3)


def test_heat_runs_from_dark_to_bright() -> None:
    """The greatest value is the brightest, and a flat map is no error."""
    coloured = heat_colours(np.array([[0.0, 1.0]], np.float32)).sum(-1)
    assert coloured[0, 0] < coloured[0, 1]
    assert heat_colours(np.ones((2, 2), np.float32)).shape == (2, 2, 3)
