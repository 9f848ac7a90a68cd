"""The inspector: learning from any source, the promise, and results however an image is given."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from blemish.bundle import Manifest, read_manifest
from blemish.bundle.manifest import NAME
from blemish.demo.parts import DEFECTS
from blemish.detectors import HETMM
from blemish.detectors.hetmm.templates import TemplateSet
from blemish.detectors.hetmm.vectors import MemoryVectors, ScratchVectors
from blemish.errors import (
    BundleError,
    CalibrationError,
    ImageError,
    ImageSizeError,
    ImageTruncatedError,
    NotFittedError,
    ParameterError,
)
from blemish.inspector import Inspector
from blemish.streams import WatchedFolder, inspect_stream
from blemish.verdict import Rule, parts_needed

SIZE = 64
RAW: dict[str, Any] = {"windows": "manual", "normalise": False, "statistic": "max"}


def inspector(settings: dict[str, Any] | None = None, **options: object) -> Inspector:
    """An unfitted inspector, all good images templates."""
    detector = HETMM(sheets=None, **(settings or {}))
    return Inspector(detector, size=SIZE, device="cpu", **options)


def pixels(path: Path) -> np.ndarray:
    """A file as RGB uint8, closed again."""
    with Image.open(path) as image:
        return np.array(image)


@pytest.fixture(scope="module")
def good(parts: Path) -> Path:
    """The folder of good made-up parts."""
    return parts / "train" / "good"


def few(good: Path, count: int = 6) -> list[Path]:
    """The first good images."""
    return sorted(good.iterdir())[:count]


def test_every_source_learns_the_same(good: Path, parts: Path) -> None:
    """Folder, paths, arrays, one array [N, H, W, 3] and a category give one result."""
    paths = sorted(good.iterdir())
    arrays = [pixels(path) for path in paths]
    probe = parts / "test" / "good" / "000.png"
    sources = [good, str(good), paths, arrays, np.stack(arrays), SimpleNamespace(train=paths)]
    found = [inspector().fit(source) for source in sources]
    assert len({one.inspect(probe).score for one in found}) == 1
    assert len({tuple(t.id for t in one.templates) for one in found}) == 1
    assert [one.training.images for one in found] == [len(paths)] * len(sources)
    assert found[0].templates[0].source == str(paths[0])
    assert found[3].templates[0].source == "array 0"


def large_jpeg(path: Path, made: np.ndarray, width: int, height: int) -> Path:
    """A made-up part as a JPEG of a camera with many more pixels than the view."""
    Image.fromarray(made).resize((width, height), Image.Resampling.BICUBIC).save(path, quality=95)
    return path


def test_large_jpegs_are_learned_and_inspected_by_the_same_pixels(
    good: Path, tmp_path: Path
) -> None:
    """Read at a reduced scale, with one id and one score however given, and boxes in the image."""
    paths = [
        large_jpeg(tmp_path / f"{at}.jpg", pixels(path), 1000, 800)
        for at, path in enumerate(few(good))
    ]
    made = inspector(RAW).fit(paths).calibrate(false_alarm_rate=0.2)
    assert made.raster(paths[0]).scale == 4
    # A template sees itself, so its distance is none at all.
    data = paths[0].read_bytes()
    for source in (paths[0], data, io.BytesIO(data), made.raster(paths[0])):
        assert made.inspect(source).score == pytest.approx(0, abs=1e-6)
    assert made.fit([*paths, data]).training.images == len(paths)
    made.calibrate(false_alarm_rate=0.2)
    flawed = pixels(few(good)[0])
    side = flawed.shape[0]
    flawed[side // 2 : side // 2 + side // 8, side // 4 : side // 4 + side // 8] = (255, 0, 255)
    result = made.inspect(large_jpeg(tmp_path / "flawed.jpg", flawed, 1000, 800))
    assert result.image_size == (800, 1000)
    x, y, width, height = max(result.regions, key=lambda region: region.peak).box
    assert x <= 312 <= x + width
    assert y <= 450 <= y + height
    assert (width, height) < (700, 600)


def test_streams_see_large_jpegs_as_inspect_does(good: Path, tmp_path: Path) -> None:
    """Paths and a watched folder are read at the inspector's scale, without being told."""
    paths = [
        large_jpeg(tmp_path / f"{at}.jpg", pixels(path), 1000, 800)
        for at, path in enumerate(few(good))
    ]
    made = inspector().fit(paths[:4])
    expected = {str(path): made.inspect(path).score for path in paths}
    with inspect_stream(made.inspect, paths) as stream:
        parts = list(stream)
    with inspect_stream(made.inspect, WatchedFolder(tmp_path, settle=0)) as stream:
        parts += [next(stream) for _ in paths]
    assert {part.image.scale for part in parts} == {4}
    for part in parts:
        assert part.result.score == expected[part.frame.name]
        assert part.result.image_size == (800, 1000)


def test_broken_images_are_named_before_the_work(good: Path, tmp_path: Path) -> None:
    """One broken image raises its own error, several one that names them; nothing is learned."""
    paths = few(good)
    (tmp_path / "cut.png").write_bytes(paths[0].read_bytes()[:500])
    (tmp_path / "text.png").write_text("no image")
    made = inspector()
    with pytest.raises(ImageTruncatedError, match=r"cut\.png"):
        made.fit([*paths, tmp_path / "cut.png"])
    with pytest.raises(ImageError, match=r"2 of 8 images.*cut\.png.*text\.png"):
        made.fit([*paths, tmp_path / "cut.png", tmp_path / "text.png"])
    with pytest.raises(NotFittedError):
        made.inspect(paths[0])


def test_leave_one_out_is_a_bank_without_that_sheet(good: Path) -> None:
    """Each template's calibration score is that of matching it with all the other sheets."""
    made = inspector(RAW).fit(few(good)).calibrate(false_alarm_rate=0.2)
    detector = made.detector
    assert isinstance(detector, HETMM)
    images = [made.view.apply(pixels(p) / np.float32(255)) for p in few(good)]
    expected = []
    for left_out in range(len(images)):
        rest = [index for index in range(len(images)) if index != left_out]
        alone = detector.removed([left_out])
        assert alone.templates == len(rest)
        expected.append(alone.score(alone.maps([images[left_out]])[0]))
    assert made.calibration is not None
    assert made.calibration.method == "leave-one-out"
    np.testing.assert_allclose(made.calibration.scores, sorted(expected), rtol=1e-5)
    assert made.calibration.peaks == made.calibration.scores


def test_own_images_are_recognised(good: Path, tmp_path: Path, fitted: Inspector) -> None:
    """Calibrating on the folder of fit, or a copy of it, after loading, leaves each one out too."""
    fitted.save(tmp_path / "b.blemish")
    loaded = Inspector.load(tmp_path / "b.blemish", device="cpu")
    loaded.calibrate(good, false_alarm_rate=0.05)
    assert loaded.calibration is not None
    assert fitted.calibration is not None
    assert loaded.calibration.method == "leave-one-out"
    np.testing.assert_allclose(
        loaded.calibration.scores, fitted.calibration.scores, rtol=1e-5, atol=1e-6
    )


def test_held_out_parts(good: Path, parts: Path) -> None:
    """Good parts that were not learned from are scored as any image would be."""
    made = inspector().fit(few(good))
    made.calibrate(parts / "test" / "good", false_alarm_rate=0.25)
    assert made.calibration is not None
    assert made.calibration.method == "held-out"
    scores = sorted(made.inspect(p).score for p in (parts / "test" / "good").iterdir())
    np.testing.assert_allclose(made.calibration.scores, scores, rtol=1e-5)


def test_refusal_says_how_many_and_changes_nothing(good: Path, fitted: Inspector) -> None:
    """A rate that cannot be promised is refused with the number needed; the old one stays."""
    made = inspector().fit(few(good)).calibrate(false_alarm_rate=0.2)
    before = made.calibration
    with pytest.raises(CalibrationError, match="from 6 good parts: it needs 99") as caught:
        made.calibrate(false_alarm_rate=0.01)
    assert caught.value.needed == parts_needed(0.01)
    assert made.calibration is before


def test_another_rate_after_loading(bundle: Path, fitted: Inspector) -> None:
    """A loaded inspector recalibrates from the scores it kept, without any image."""
    loaded = Inspector.load(bundle, device="cpu")
    assert loaded.calibration == fitted.calibration
    loaded.calibrate(false_alarm_rate=0.5)
    assert loaded.calibration is not None
    assert fitted.calibration is not None
    assert loaded.calibration == fitted.calibration.under(Rule(0.5))


def test_loaded_without_calibration(good: Path, tmp_path: Path) -> None:
    """The pictures in the bundle calibrate it as the images would have; without them, it asks."""
    made = inspector().fit(few(good))
    made.save(tmp_path / "b")
    loaded = Inspector.load(tmp_path / "b", device="cpu")
    assert loaded.inspect(few(good)[0]).verdict == "review"
    loaded.calibrate(false_alarm_rate=0.2)
    assert loaded.calibration == made.calibrate(false_alarm_rate=0.2).calibration
    inspector(keep_pictures=False).fit(few(good)).save(tmp_path / "c")
    bare = Inspector.load(tmp_path / "c", device="cpu")
    with pytest.raises(CalibrationError, match="kept no calibration scores"):
        bare.calibrate()


def test_fitting_again_drops_the_old_promise(good: Path) -> None:
    """A threshold belongs to the templates it was made with."""
    made = inspector().fit(few(good)).calibrate(false_alarm_rate=0.2)
    assert made.fit(few(good, 5)).calibration is None
    assert made.inspect(few(good)[0]).verdict == "review"


def test_however_an_image_is_given(fitted: Inspector, parts: Path) -> None:
    """Path, text, bytes, stream and array give equal results; only paths are named."""
    path = parts / "test" / DEFECTS[0] / "000.png"
    array = pixels(path)
    given = [path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes()), array]
    results = [fitted.inspect(image) for image in given]
    for result in results[1:]:
        assert result.score == results[0].score
        assert result.regions == results[0].regions
        np.testing.assert_array_equal(result.anomaly_map, results[0].anomaly_map)
    assert [r.image for r in results] == [str(path), str(path), None, None, None]
    assert results[0].image_size == (SIZE, SIZE)


def test_result_agrees_with_itself(fitted: Inspector, parts: Path) -> None:
    """Score, threshold, p-value, verdict and regions of every test image tell one story."""
    results = [fitted.inspect(path) for path in sorted(parts.glob("test/*/*.png"))]
    for result in results:
        assert result.p_value is not None
        assert result.threshold is not None
        assert result.score == float(result.anomaly_map.max())
        fails = result.score > result.threshold
        assert (result.verdict == "fail") == fails == (result.p_value <= 0.05)
        assert bool(result.regions) == fails
        assert result.anomaly_map.shape == (SIZE, SIZE)
        if fails:
            assert result.regions[0].peak == result.score
    assert len(results) == 9


def test_regions_are_in_the_images_own_pixels(fitted: Inspector, parts: Path) -> None:
    """A part photographed at three times the width has its region three times as wide."""
    image = pixels(parts / "test" / "good" / "000.png").copy()
    image[16:32, 40:56] = (255, 0, 255)
    wide = image.repeat(4, axis=0).repeat(3, axis=1)
    (region, *_) = fitted.inspect(wide).regions
    x, y, width, height = region.box
    assert x <= 3 * 48 <= x + width
    assert y <= 4 * 24 <= y + height
    assert width <= 3 * SIZE
    assert height <= 4 * SIZE


def test_bit_depth_is_kept(good: Path, tmp_path: Path) -> None:
    """A 12-bit camera is declared once: the bundle remembers, and wrong depths are errors."""
    arrays = [pixels(p).astype(np.uint16) * 16 for p in few(good)]
    made = inspector(bit_depth=12).fit(arrays)
    made.save(tmp_path / "b.blemish")
    loaded = Inspector.load(tmp_path / "b.blemish", device="cpu")
    assert (loaded.bit_depth, read_manifest(tmp_path / "b.blemish").bit_depth) == (12, 12)
    assert loaded.inspect(arrays[0]).score == made.inspect(arrays[0]).score
    assert loaded.inspect(arrays[0]).score < 1e-3
    with pytest.raises(ImageError, match="bit_depth"):
        loaded.inspect(np.full((SIZE, SIZE, 3), 5000, np.uint16))


def kinds(made: Inspector) -> set[type]:
    """Where the levels' templates lie."""
    assert isinstance(made.detector, HETMM)
    return {type(each.vectors) for each in made.detector.sets_ if isinstance(each, TemplateSet)}


def test_loaded_under_a_memory_limit(good: Path, parts: Path, tmp_path: Path) -> None:
    """A limit given on loading moves the templates to a scratch file; no bit of a map changes."""
    bundle = tmp_path / "large.blemish"
    large = HETMM(sheets=None, backbone="filterbank", preset="paper")
    Inspector(large, size=SIZE, device="cpu").fit(good).save(bundle)
    probe = parts / "test" / "good" / "000.png"
    free, limited = Inspector.load(bundle), Inspector.load(bundle, memory=1)
    assert kinds(free) == {MemoryVectors}
    assert ScratchVectors in kinds(limited)
    expected, found = free.inspect(probe), limited.inspect(probe)
    assert np.array_equal(found.anomaly_map, expected.anomaly_map)
    limited.update(add=[probe], recalibrate=False)
    limited.save(bundle)
    limited.rollback(1)
    assert ScratchVectors in kinds(limited)
    assert np.array_equal(limited.inspect(probe).anomaly_map, expected.anomaly_map)
    assert read_manifest(bundle).parameters["memory"] is None


def test_a_memory_limit_where_there_are_no_sheets(bundle: Path) -> None:
    """A method that keeps no sheets refuses the limit, in one sentence."""
    manifest = read_manifest(bundle).model_copy(update={"method": "tfanet"})
    (bundle / NAME).write_bytes(manifest.to_json())
    with pytest.raises(ParameterError, match=r"tfanet, as in .* leave the limit out"):
        Inspector.load(bundle, memory=1)


def test_template_pictures(good: Path, bundle: Path, tmp_path: Path) -> None:
    """Templates' pictures come by position, as the detector sees them; None without pictures."""
    loaded = Inspector.load(bundle)
    at = loaded.template_pictures()
    assert at is not None
    path = Path(loaded.templates[3].source)
    assert np.array_equal(at(3), np.rint(loaded.view.apply(loaded.read(path)) * 255))
    inspector(keep_pictures=False).fit(few(good)).save(tmp_path / "bare")
    assert Inspector.load(tmp_path / "bare").template_pictures() is None


def test_names_and_versions(bundle: Path, tmp_path: Path, parts: Path) -> None:
    """A bundle is called by its folder, also after it was moved, and counts from version 1."""
    assert (read_manifest(bundle).name, read_manifest(bundle).version) == ("board", 1)
    bundle.rename(tmp_path / "line 7.blemish")
    loaded = Inspector.load(tmp_path / "line 7.blemish", device="cpu")
    result = loaded.inspect(parts / "test" / "good" / "000.png")
    assert (result.inspector, result.version) == ("line 7", 1)


def test_manifest_says_what_it_was_made_with(bundle: Path, good: Path) -> None:
    """Backbone, seed, sizes, sources and software are on record."""
    manifest = read_manifest(bundle)
    assert manifest.backbone.name == "filterbank"
    assert manifest.view == {"size": SIZE, "resample": "bilinear"}
    assert (manifest.training.images, manifest.training.seed) == (20, 0)
    assert manifest.training.source == str(good)
    assert len(manifest.templates) == 20
    assert {"blemish", "python", "onnxruntime", "numpy"} <= manifest.software.keys()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"method": "crystal ball"}, "the method 'crystal ball'.*pip install -U blemish"),
        ({"parameters": {"colour": "red"}}, "colour.*pip install -U blemish"),
        ({"view": {"size": 64, "lens": "wide"}}, "'lens'"),
    ],
)
def test_bundles_of_another_blemish(bundle: Path, change: dict, said: str) -> None:
    """A sound manifest that names what this version lacks asks for an upgrade."""
    manifest = read_manifest(bundle).model_copy(update=change)
    (bundle / NAME).write_bytes(Manifest.to_json(manifest))
    with pytest.raises((BundleError, ParameterError), match=said):
        Inspector.load(bundle, device="cpu")


def test_a_bundle_without_a_part_says_so(bundle: Path) -> None:
    """A manifest that lists no templates is refused by name, not by a KeyError."""
    manifest = read_manifest(bundle)
    files = {k: v for k, v in manifest.files.items() if k != "templates"}
    (bundle / NAME).write_bytes(manifest.model_copy(update={"files": files}).to_json())
    with pytest.raises(BundleError, match="has no 'templates'"):
        Inspector.load(bundle, device="cpu")


def test_nothing_before_fit(tmp_path: Path) -> None:
    """Inspecting, calibrating and saving before learning are one clear error each."""
    for ask in (
        lambda made: made.inspect(np.zeros((8, 8, 3), np.uint8)),
        lambda made: made.calibrate(),
        lambda made: made.save(tmp_path / "b"),
        lambda made: made.training,
    ):
        with pytest.raises(NotFittedError, match="call fit or"):
            ask(inspector())
    assert list(tmp_path.iterdir()) == []


def test_devices(good: Path) -> None:
    """auto and cpu are the processor; nonsense is refused before anything is kept."""
    for device in ("auto", "cpu"):
        Inspector(HETMM(sheets=2), size=SIZE, device=device).fit(few(good))
    with pytest.raises(ParameterError, match="give auto, cpu, cuda or cuda:N"):
        Inspector(HETMM(sheets=2), size=SIZE, device="abacus").fit(few(good))


def test_max_pixels_holds_for_learning_and_inspecting(good_images: list[np.ndarray]) -> None:
    """An image above the limit is refused, when learning and when inspecting."""
    with pytest.raises(ImageError, match="max_pixels"):
        Inspector(HETMM(sheets=2), size=SIZE, device="cpu", max_pixels=99).fit(good_images)
    fitted = Inspector(HETMM(sheets=2), size=SIZE, device="cpu").fit(good_images[:3])
    fitted.max_pixels = 99
    with pytest.raises(ImageSizeError, match="max_pixels"):
        fitted.inspect(good_images[0])


def test_a_score_that_is_no_number_is_an_error(parts: Path) -> None:
    """Learned numbers that were damaged in memory or signed again give no verdict at all."""
    made = inspector(RAW).fit(few(parts / "train" / "good"))
    assert isinstance(made.detector, HETMM)
    for each in made.detector.sets_:
        assert isinstance(each, TemplateSet)
        assert isinstance(each.vectors, MemoryVectors)
        each.vectors.values.fill(np.nan)
    with pytest.raises(BundleError, match="the score of this image is nan"):
        made.inspect(parts / "train" / "good" / "000.png")
