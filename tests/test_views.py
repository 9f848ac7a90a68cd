"""Aligned, masked and padded views in an inspector: fitted, judged, saved, updated, exported."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from blemish.detectors import HETMM
from blemish.imaging import View, read_raster
from blemish.inspector import Inspector
from common import SIZE, Outcome, picture

# Distances as they are, for what is asked is how much of them shows, not how unusual it is.
RAW: dict[str, Any] = {"windows": "manual", "normalise": False, "statistic": "max"}
RATE = 0.1


def turned(image: np.ndarray, degrees: float, shift: tuple[float, float] = (0, 0)) -> np.ndarray:
    """A part turned about its middle and moved; what enters is the border's colour."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    matrix[:, 2] += shift
    moved = cv2.warpAffine(
        image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.clip(moved, 0, 1).astype(np.float32)


def part(seed: int, flaw: bool = False) -> np.ndarray:
    """A lopsided dark part on a light ground, 96 pixels square."""
    rng = np.random.default_rng(seed)
    image = np.full((96, 96, 3), 0.9, np.float32)
    cv2.rectangle(image, (28, 36), (68, 60), (0.2, 0.3, 0.6), -1)
    cv2.circle(image, (34, 42), 5, (0.9, 0.8, 0.2), -1)
    cv2.rectangle(image, (58, 52), (64, 57), (0.7, 0.1, 0.1), -1)
    if flaw:
        cv2.circle(image, (50, 46), 4, (0.1, 0.9, 0.2), -1)
    return np.clip(image + rng.normal(0, 0.01, image.shape), 0, 1).astype(np.float32)


@pytest.fixture(scope="module")
def aligned() -> Inspector:
    """Parts at any angle, learned with rigid alignment and calibrated."""
    rng = np.random.default_rng(5)
    good = [turned(part(seed), rng.uniform(0, 360), rng.uniform(-5, 5, 2)) for seed in range(14)]
    made = Inspector(HETMM(sheets=None), size=SIZE, align="rigid", device="cpu")
    return made.fit(good).calibrate(false_alarm_rate=RATE)


@pytest.mark.parametrize("degrees", [0, 67, 180, 300])
def test_a_part_is_judged_at_any_angle(aligned: Inspector, degrees: float) -> None:
    """A flaw turns with its part: it scores far above a good one, and its box lies on it."""
    good, bad = (aligned.inspect(turned(part(50, flaw), degrees)) for flaw in (False, True))
    assert bad.verdict == "fail"
    assert bad.score > 1.5 * good.score
    wanted = cv2.getRotationMatrix2D((47.5, 47.5), degrees, 1.0) @ np.array([50, 46, 1])
    x, y, width, height = bad.regions[0].box
    assert x - 3 <= wanted[0] <= x + width + 3
    assert y - 3 <= wanted[1] <= y + height + 3
    row, column = np.unravel_index(bad.image_map.argmax(), bad.image_map.shape)
    assert np.hypot(column - wanted[0], row - wanted[1]) < 10


def test_what_cannot_be_aligned_goes_to_review(aligned: Inspector) -> None:
    """Another thing in the picture is never passed: the verdict is review, with the reason."""
    result = aligned.inspect(np.random.default_rng(0).random((96, 96, 3), np.float32))
    assert result.verdict == "review"
    assert result.reason is not None
    assert "align" in result.reason
    assert result.to_dict()["reason"] == result.reason


def test_the_view_is_kept_updated_and_exported(aligned: Inspector, tmp_path: Path) -> None:
    """The bundle, its update and its export see a part as the inspector does."""
    aligned.save(tmp_path / "part")
    probe = turned(part(60, flaw=True), 123, (4, -3))
    wanted = aligned.inspect(probe)
    again = Inspector.load(tmp_path / "part", device="cpu")
    assert again.view == aligned.view
    assert again.inspect(probe).score == wanted.score
    again.export(tmp_path / "line")
    line = Inspector.load(tmp_path / "line")
    found = line.inspect(probe)
    assert found.score == pytest.approx(wanted.score, abs=1e-5)
    assert [r.box for r in found.regions] == [r.box for r in wanted.regions]
    for made in (again, line):
        made.update(add=[turned(part(61), 40)])
        made.calibrate(false_alarm_rate=RATE)  # from the pictures kept, where each one counts
    assert again.calibration is not None
    assert line.calibration is not None
    np.testing.assert_allclose(line.calibration.scores, again.calibration.scores, atol=1e-5)
    # Scores of good parts come from the kept pictures just as from the images themselves.
    fresh = Inspector.load(tmp_path / "part", device="cpu")
    assert fresh.calibration == aligned.calibration


@pytest.mark.parametrize("how", ["ignore", "roi"])
def test_what_does_not_count_is_not_judged(how: str, tmp_path: Path) -> None:
    """A flaw in an ignored area, or outside the region of interest, hardly changes the score."""
    left, right = ([[x, 0], [x + 48, 0], [x + 48, 96], [x, 96]] for x in (0, 48))
    area = right if how == "ignore" else left
    file = tmp_path / "area.json"
    file.write_text(json.dumps({"polygons": [area], "image": [96, 96]}))
    made = Inspector(HETMM(sheets=None, **RAW), size=2 * SIZE, device="cpu", **{how: file})
    made.fit([part(seed) for seed in range(12)]).calibrate(false_alarm_rate=RATE)
    hidden, seen = part(40), part(40)
    hidden[44:54, 84:94] = (1, 0, 1)
    seen[10:26, 10:26] = (1, 0, 1)
    plain = made.inspect(part(40))
    # Features of the coarsest level see a little across the border.
    assert made.inspect(hidden).score < 1.03 * plain.score
    assert made.inspect(seen).score > 1.3 * plain.score
    assert not made.inspect(hidden).anomaly_map[:, SIZE:].any()


def test_padding_keeps_the_ratio_and_never_counts() -> None:
    """A wide image is padded, its boxes lie in its own pixels, and padding is no part of a map."""
    good = [part(seed)[24:72] for seed in range(12)]
    made = Inspector(HETMM(sheets=None), size=SIZE, aspect="pad", device="cpu")
    made.fit(good).calibrate(false_alarm_rate=RATE)
    result = made.inspect(part(50, flaw=True)[24:72])
    assert result.verdict == "fail"
    x, y, width, height = result.regions[0].box
    assert x <= 50 <= x + width
    assert y <= 22 <= y + height
    assert result.image_map.shape == (48, 96)
    assert not result.anomaly_map[: SIZE // 5].any()


def test_auto_says_what_it_chose(cli: Callable[..., Outcome], tmp_path: Path) -> None:
    """`fit --align auto` on parts that lie anyhow chooses to turn them, and tells the figures."""
    rng = np.random.default_rng(3)
    (tmp_path / "good").mkdir()
    for seed in range(12):
        image = turned(part(seed), rng.uniform(0, 360))
        name = str(tmp_path / "good" / f"{seed}.png")
        cv2.imwrite(name, np.rint(image[..., ::-1] * 255).astype(np.uint8))
    done = cli(
        "fit", tmp_path / "good", "-o", tmp_path / "part", "--align", "auto", "--size", SIZE,
        "--device", "cpu",
    )  # fmt: skip
    assert done.status == 0, done.stderr
    assert "align      rigid (grey levels" in done.stderr
    assert Inspector.load(tmp_path / "part").view.align == "rigid"


def test_an_unknown_motion_is_refused(cli: Callable[..., Outcome], tmp_path: Path) -> None:
    """A word that is no motion is one sentence and status 2."""
    (tmp_path / "good").mkdir()
    cv2.imwrite(str(tmp_path / "good" / "0.png"), (picture(0) * 255).astype(np.uint8))
    done = cli("fit", tmp_path / "good", "-o", tmp_path / "part", "--align", "sideways")
    assert done.status == 2
    assert "align is 'sideways'" in done.stderr


def saved(folder: Path, images: list[np.ndarray]) -> Path:
    """A folder of these pictures as PNG."""
    folder.mkdir()
    for number, image in enumerate(images):
        name = str(folder / f"{number}.png")
        cv2.imwrite(name, np.rint(image[..., ::-1] * 255).astype(np.uint8))
    return folder


def test_parts_are_laid_onto_the_golden_image(cli: Callable[..., Outcome], tmp_path: Path) -> None:
    """`fit --golden` draws areas on that image and turns parts as it lies; the bundle keeps it."""
    rng = np.random.default_rng(4)
    lying = [turned(part(seed), rng.uniform(0, 360)) for seed in range(12)]
    good = saved(tmp_path / "good", lying)
    golden = saved(tmp_path / "golden", [part(77)]) / "0.png"
    area = tmp_path / "area.json"
    area.write_text(json.dumps({"polygons": [[[0, 0], [48, 0], [48, 96], [0, 96]]]}))
    done = cli(
        "fit", good, "-o", tmp_path / "part", "--golden", golden, "--align", "rigid",
        "--roi", area, "--size", 2 * SIZE, "--device", "cpu", "--windows", "manual",
        "--set", "normalise=false", "--set", "statistic=max",
    )  # fmt: skip
    assert done.status == 0, done.stderr
    made = Inspector.load(tmp_path / "part")
    assert made.view.golden is not None
    onto = View(2 * SIZE).apply(read_raster(golden))
    np.testing.assert_array_equal(made.view.golden.picture / np.float32(255), onto)
    left, right = part(50), part(50)
    left[44:54, 12:22] = right[44:54, 74:84] = (1, 0, 1)
    for degrees in (0, 140):  # however the part lies, the golden image's right half does not count
        seen, hidden, plain = (
            made.inspect(turned(image, degrees)).score for image in (left, right, part(50))
        )
        assert hidden < 1.25 * plain < 1.7 * plain < seen


@pytest.mark.parametrize(
    ("golden", "options", "said"),
    [
        ("golden/0.png", (), "what parts are laid onto"),
        ("none.png", ("--align", "rigid"), "none.png"),
        ("golden/1.png", ("--align", "rigid"), "cannot be aligned with the golden image"),
        ("golden/2.png", ("--align", "rigid"), "one even grey"),
    ],
)
def test_a_golden_image_that_is_of_no_use_is_refused(
    cli: Callable[..., Outcome], tmp_path: Path, golden: str, options: tuple[str, ...], said: str
) -> None:
    """One that nothing asks for, is not there, or shows something else: one sentence, no bundle."""
    good = saved(tmp_path / "good", [part(seed) for seed in range(6)])
    noise = np.random.default_rng(0).random((96, 96, 3), np.float32)
    saved(tmp_path / "golden", [part(77), noise, np.full((96, 96, 3), 0.5, np.float32)])
    done = cli(
        "fit", good, "-o", tmp_path / "part", "--golden", tmp_path / golden, *options,
        "--size", SIZE, "--device", "cpu",
    )  # fmt: skip
    assert done.status == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "part").exists()


def test_an_array_may_be_the_golden_image() -> None:
    """The API takes what `inspect` takes, and asks it anew at every fit."""
    golden = part(77)
    made = Inspector(HETMM(sheets=4), size=96, device="cpu", align="translation", golden=golden)
    for _ in range(2):
        made.fit([part(seed) for seed in range(6)])
        assert made.view.golden is not None
        np.testing.assert_allclose(made.view.golden.picture / 255, golden, atol=0.003)


def drawn(
    cli: Callable[..., Outcome], folder: Path, made: Inspector, image: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A picture's RGB bytes and the overlay that `inspect --out` writes of it."""
    made.save(folder / "part")
    good = saved(folder / "line", [image])
    done = cli("inspect", folder / "part", good, "--out", folder / "out")
    assert done.status in (0, 1), done.stderr
    pictures = (cv2.imread(str(folder / name / "0.png")) for name in ("line", "out"))
    plain, overlaid = (picture[..., ::-1] for picture in pictures)
    return plain, overlaid


def test_overlays_are_darker_where_nothing_counts(
    cli: Callable[..., Outcome], tmp_path: Path
) -> None:
    """`inspect --out` shows the region of interest: beside it the image is at half its light."""
    roi = [[[0, 0], [48, 0], [48, 96], [0, 96]]]
    made = Inspector(HETMM(sheets=None, **RAW), size=SIZE, device="cpu", roi=roi)
    made.fit([part(seed) for seed in range(12)]).calibrate(false_alarm_rate=RATE)
    flawed = part(40)
    flawed[44:54, 84:94] = (1, 0, 1)
    plain, overlaid = drawn(cli, tmp_path, made, flawed)
    np.testing.assert_array_equal(overlaid[:, 51:], plain[:, 51:] // 2)
    assert overlaid[:, :45].mean() > 0.7 * plain[:, :45].mean()  # warm in places, but not dark
    assert (overlaid[:, 47] != plain[:, 47]).any()  # the border


def test_the_area_that_counts_is_drawn_where_the_part_lies(aligned: Inspector) -> None:
    """Of a turned part the area turns with it; where all of an image counts there is none."""
    whole = Inspector(HETMM(sheets=2), size=SIZE, device="cpu").fit([part(0), part(1)])
    assert whole.inspect(part(2)).image_counted is None
    for degrees in (0, 45):
        result = aligned.inspect(turned(part(50), degrees, (20, 0)))
        assert result.counted is not None
        assert result.image_counted is not None
        assert result.image_counted.shape == (96, 96)
        # Its centre of mass is that of the part's place, not that of the image.
        across = np.indices((96, 96))[1][result.image_counted].mean()
        assert across > 50
        assert not result.image_map[~result.image_counted].max() > 0.5 * result.image_map.max()


def test_padded_images_count_everywhere() -> None:
    """Padding is beyond the image, so that its overlay has no dark part, at no size."""
    for height, width in ((48, 96), (96, 31)):
        images = [part(seed)[:height, :width] for seed in range(3)]
        made = Inspector(HETMM(sheets=2), size=SIZE, aspect="pad", device="cpu").fit(images)
        result = made.inspect(images[2])
        assert result.counted is not None
        assert result.image_counted is None
