"""Thresholds of an inspector: promised with confidence, for review, by hand, and after updates."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blemish.bundle import read_manifest
from blemish.demo.parts import render
from blemish.detectors import HETMM
from blemish.errors import CalibrationError, ParameterError
from blemish.inspector import Inspector
from blemish.verdict import rounded_up
from common import Outcome

# The score is the map's maximum, so both have one threshold.
RAW: dict[str, Any] = {"windows": "manual", "normalise": False, "statistic": "max"}
SIZE = 32  # px: what is tested here does not depend on it


def picture(seed: int) -> np.ndarray:
    """One good made-up part [32, 32, 3], uint8."""
    return np.ascontiguousarray(render(seed, size=64).image[::2, ::2])


GOOD = [picture(seed) for seed in range(9)]
NEW = [picture(seed) for seed in range(50, 54)]
PROBE = picture(99)
PATCHED = PROBE.copy()
PATCHED[8:16, 8:16] = (255, 0, 255)


def inspector(keep_pictures: bool = True) -> Inspector:
    """An inspector of nine good parts, all of them templates, not calibrated."""
    made = Inspector(
        HETMM(sheets=None, **RAW), size=SIZE, device="cpu", keep_pictures=keep_pictures
    )
    return made.fit(GOOD)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle promising at most 0.3 with a confidence of 0.9, and 0.5 not passed."""
    folder = tmp_path_factory.mktemp("shelf") / "part.blemish"
    made = inspector().calibrate(false_alarm_rate=0.3, confidence=0.9, review_rate=0.5)
    made.save(folder)
    return folder


@pytest.fixture
def bundle(shelf: Path, tmp_path: Path) -> Path:
    """That bundle, to be changed at will."""
    return Path(shutil.copytree(shelf, tmp_path / "part.blemish"))


def load(folder: Path) -> Inspector:
    """The inspector of a bundle, on the CPU."""
    return Inspector.load(folder, device="cpu")


def test_a_promise_with_confidence_and_review(bundle: Path) -> None:
    """Saved and loaded, the limits are order statistics of the kept scores: the 9th and the 7th.

    Of nine parts none may exceed a limit for 0.3 with 0.9 (0.7^9 = 0.04, and 0.2 with one above),
    and two may for 0.5 (P(Binomial(9, 0.5) <= 2) = 0.09).
    """
    found = load(bundle).calibration
    assert found is not None
    assert (found.promise, found.confidence, found.review_rate) == ("confidence", 0.9, 0.5)
    limits = rounded_up([found.scores[8], found.scores[6]]).tolist()
    assert [found.threshold, found.review_threshold] == limits
    with pytest.raises(CalibrationError, match="it needs 299") as caught:
        load(bundle).calibrate(false_alarm_rate=0.01, confidence=0.95)
    assert caught.value.needed == 299


def test_a_threshold_by_hand_is_a_version_and_learns_nothing(bundle: Path) -> None:
    """It changes verdicts alone: scores and p-values stay, and going back brings the old one."""
    made = load(bundle)
    before, old = made.inspect(PATCHED), made.calibration
    made.set_threshold(
        before.score + 1, review=before.score - 0.01, by="Ada", note="too many rejects"
    )
    made.save(bundle)
    made = load(bundle)
    after = made.inspect(PATCHED)
    assert (before.verdict, after.verdict) == ("fail", "review")
    assert (after.score, after.p_value) == (before.score, before.p_value)
    assert (after.threshold, after.review_threshold) == (before.score + 1, before.score - 0.01)
    assert after.reason == "above the review threshold"
    assert after.regions[0].peak == after.score
    manifest = read_manifest(bundle)
    assert (manifest.version, manifest.change.kind, manifest.change.by) == (2, "calibrate", "Ada")
    assert manifest.calibration is not None
    assert (manifest.calibration.promise, manifest.calibration.false_alarm_rate) == ("none", None)
    entry = made.history[-1]
    assert (entry.promise, entry.review_threshold) == ("none", before.score - 0.01)
    assert made.rollback(1).calibration == old
    assert made.inspect(PATCHED).verdict == "fail"


@pytest.mark.parametrize("by_hand", [False, True])
def test_the_review_threshold_alone_leaves_the_rest(bundle: Path, by_hand: bool) -> None:
    """A new version in which nothing but where review begins is another, whatever was promised."""
    made = load(bundle)
    if by_hand:
        made.set_threshold(0.4)
    before = made.calibration
    assert before is not None
    made.set_review_threshold(0.01, by="Ada", note="more to see")
    made.save(bundle)
    made = load(bundle)
    found = made.calibration
    assert found is not None
    assert found == replace(
        before, review_rate=None, review_threshold=0.01, region_review_threshold=0.01
    )
    assert made.version == 2 + by_hand
    assert (made.history[-1].by, made.history[-1].note) == ("Ada", "more to see")
    # What is promised is asked again of new scores, and so is the number.
    renewed = made.update(add=NEW[:1]).calibration
    assert renewed is not None
    assert (renewed.promise, renewed.confidence) == (before.promise, before.confidence)
    assert renewed.review_threshold == 0.01
    with pytest.raises(ParameterError, match="lies above the threshold"):
        made.set_review_threshold(1e6)
    with pytest.raises(ParameterError, match="is nan; give a number"):
        made.set_review_threshold(float("nan"))
    with pytest.raises(CalibrationError, match="There is no threshold yet"):
        inspector().set_review_threshold(0.1)


def test_calibrate_with_a_review_threshold_alone(cli: Callable[..., Outcome], bundle: Path) -> None:
    """The command keeps the promise, and with another option beside it calibrates as before."""
    told = cli("calibrate", bundle, "--review-threshold", 0.01, "--json", "-")
    found = json.loads(told.stdout)
    assert (found["version"], found["promise"], found["false_alarm_rate"]) == (2, "confidence", 0.3)
    assert (found["confidence"], found["review_threshold"]) == (0.9, 0.01)
    told = cli("calibrate", bundle, "--review-threshold", 0.01, "--false-alarm-rate", 0.2)
    assert "at most 0.2 of good parts" in told.stderr
    told = cli("calibrate", bundle, "--review-threshold", 1e6)
    assert (told.status, len(told.stderr.splitlines())) == (2, 1)
    assert "lies above the threshold" in told.stderr
    assert load(bundle).version == 3


def test_contradictions_leave_everything_as_it_was(bundle: Path) -> None:
    """A review threshold above the threshold, by hand or promised, changes nothing."""
    made = load(bundle)
    with pytest.raises(ParameterError, match="lies above the threshold"):
        made.set_threshold(0.5, review=0.6)
    with pytest.raises(ParameterError, match="lies above the threshold"):
        made.calibrate(false_alarm_rate=0.3, review_threshold=1e6)
    with pytest.raises(ParameterError, match="is below the false-alarm rate"):
        made.calibrate(false_alarm_rate=0.3, review_rate=0.2)
    assert made.version == 1
    assert made.calibration == load(bundle).calibration


def test_a_threshold_by_hand_needs_scores_to_say_what_it_rejects(tmp_path: Path) -> None:
    """An inspector that was never calibrated scores what it kept, or asks for good parts."""
    made = inspector().set_threshold(0.4)
    assert made.version == 1
    assert made.calibration is not None
    assert len(made.calibration.scores) == 9
    assert made.calibration.rejected == sum(score > 0.4 for score in made.calibration.scores)
    inspector(keep_pictures=False).save(tmp_path / "b")
    bare = load(tmp_path / "b")
    with pytest.raises(CalibrationError, match="give a folder of good parts"):
        bare.set_threshold(0.4)
    bare.set_threshold(0.4, source=GOOD)
    assert bare.calibration is not None
    np.testing.assert_allclose(bare.calibration.scores, made.calibration.scores, rtol=1e-5)


def test_an_update_renews_the_same_promise(bundle: Path) -> None:
    """Rate, confidence and review rate are asked again of the new scores, and survive a gap."""
    made = load(bundle)
    made.update(add=NEW[:1])
    fresh = load(bundle).update(add=NEW[:1], false_alarm_rate=0.3).calibration
    assert made.calibration == fresh
    assert fresh is not None
    assert (fresh.confidence, fresh.review_rate, len(fresh.scores)) == (0.9, 0.5, 10)
    assert fresh.threshold == rounded_up(fresh.scores[-1])
    lost = made.update(remove=[record.id for record in made.templates[:5]])
    assert lost.calibration is None
    assert "cannot be promised with confidence 0.9 from 5 good parts" in lost.notes[0]
    made.save(bundle)
    found = load(bundle).update(add=[*GOOD[:4], *NEW[1:]]).calibration
    assert found is not None
    assert (found.false_alarm_rate, found.confidence, found.review_rate) == (0.3, 0.9, 0.5)


def test_an_update_at_another_rate_keeps_the_rest(bundle: Path) -> None:
    """An asked rate replaces the old one, with the same confidence, unless they contradict."""
    made = load(bundle)
    made.update(add=NEW[:1], false_alarm_rate=0.4)
    assert made.calibration is not None
    assert (made.calibration.false_alarm_rate, made.calibration.confidence) == (0.4, 0.9)
    with pytest.raises(ParameterError, match=r"is below the false-alarm rate 0\.6"):
        made.update(add=NEW[1:2], false_alarm_rate=0.6)
    assert (made.version, len(made.templates)) == (2, 10)


def test_an_update_keeps_a_threshold_set_by_hand(bundle: Path) -> None:
    """The number stays, the scores behind the p-values are new, and the notes say what it means."""
    made = load(bundle).set_threshold(0.05, review=0.01)
    before = made.calibration
    report = made.update(add=NEW[:1])
    found = report.calibration
    assert found is not None
    assert before is not None
    assert (found.threshold, found.review_threshold, found.promise) == (0.05, 0.01, "none")
    assert len(found.scores) == 10
    assert found.scores != before.scores
    (note,) = report.notes
    assert note.startswith("Its threshold 0.05 was set by hand and is kept: it rejects ")
    assert note.endswith(f"{found.rejected} of 10 good parts, and nothing is promised.")
    made.save(bundle)
    promised = load(bundle).update(add=NEW[1:2], false_alarm_rate=0.2).calibration
    assert promised is not None
    assert (promised.promise, promised.review_threshold) == ("average", 0.01)


def test_without_pictures_a_threshold_set_by_hand_is_kept_too(tmp_path: Path) -> None:
    """Then there are no p-values, which is said; the number can still be changed."""
    made = inspector(keep_pictures=False).calibrate(false_alarm_rate=0.2).set_threshold(0.3)
    made.save(tmp_path / "b")
    made = load(tmp_path / "b")
    report = made.update(add=NEW[:1])
    assert "0.3 was set by hand and is kept; without scores" in report.notes[0]
    made.save(tmp_path / "b")
    made = load(tmp_path / "b")
    result = made.inspect(PATCHED)
    assert (result.threshold, result.p_value) == (0.3, None)
    assert made.set_threshold(1e6).inspect(PATCHED).verdict == "pass"
    with pytest.raises(CalibrationError, match="give a folder of good parts"):
        made.calibrate(false_alarm_rate=0.2)


def test_a_review_threshold_that_no_longer_fits_is_dropped_aloud(bundle: Path) -> None:
    """The promise is renewed all the same, and what was asked for is not forgotten."""
    made = load(bundle).calibrate(false_alarm_rate=0.5)
    assert made.calibration is not None
    number = made.calibration.threshold
    made.calibrate(false_alarm_rate=0.5, review_threshold=number)
    twin = NEW[0].copy()
    twin[0, 0] ^= 1  # another picture, by which the first one is nearly matched without itself
    report = made.update(add=[NEW[0], twin], good=[NEW[0]])
    assert report.calibration is not None
    assert report.calibration.threshold < number
    assert report.calibration.review_threshold is None
    assert f"It has no review threshold: the review threshold {number:g} lies" in report.notes[0]
    assert made._fitted().manifest.rule.review_threshold == number


def test_regions_name_their_template(bundle: Path) -> None:
    """A failing part's regions name the good image they were compared with, by an id in use."""
    made = load(bundle).set_threshold(0.05)
    regions = made.inspect(PATCHED).regions
    assert regions
    ids = {record.id for record in made.templates}
    assert all(region.template in ids for region in regions[:5])
    assert all(region.template is None for region in regions[5:])
