"""What an inspector cannot see: asked after `fit`, kept in the bundle, told by `blemish check`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from typer.testing import CliRunner

from blemish import HETMM, Inspector
from blemish.cli import app
from blemish.errors import CalibrationError
from blemish.imaging import encode_png, read_image
from blemish.inspector.detection import remedies, standing_out, study_detection

SIDE = 64
FAST = {"backbone": "filterbank", "sheets": 8}


def parts(count: int, *, odd: Sequence[int] = (), shift: int = 0) -> list[npt.NDArray[np.float32]]:
    """Good parts: a bright plate with a slot; the `odd` ones have another ground."""
    found = []
    for number in range(count):
        generator = np.random.default_rng(number)
        image = np.full((SIDE, SIDE, 3), 0.2, np.float32)
        by = generator.integers(-shift, shift + 1, 2) if shift else (0, 0)
        plate = np.s_[14 + by[0] : 50 + by[0], 14 + by[1] : 50 + by[1]]
        image[plate] = 0.7
        image[20 + by[0] : 44 + by[0], 28 + by[1] : 34 + by[1]] = 0.3
        if number in odd:  # each in a way of its own
            image[:: 3 + number % 5, :: 2 + number % 3] = 0.9
        image += 0.01 * generator.standard_normal((SIDE, SIDE, 3))
        found.append(image.clip(0, 1).astype(np.float32))
    return found


@pytest.fixture(scope="module")
def inspector() -> Inspector:
    """Fitted, calibrated, and asked what it finds."""
    made = Inspector(HETMM(**FAST), size=SIDE).fit(parts(24))
    made.calibrate(false_alarm_rate=0.05)
    made.study_detection(trials=90)
    return made


def test_large_defects_are_found_and_small_ones_less(inspector: Inspector) -> None:
    """Sizes reach from a few pixels to a quarter of the view."""
    found = inspector.detection
    assert found is not None
    assert found.trials == 90
    assert found.version == 1
    shares = [band.passed / band.trials for band in found.bands]
    assert shares[-1] < shares[0]
    assert found.bands[-1].high == pytest.approx(SIDE / 4)


def test_a_seed_can_be_repeated(inspector: Inspector) -> None:
    """The same seed gives the same answer, another seed another."""
    now = inspector.snapshot()
    own = study_detection(now, trials=45)
    again = study_detection(now, trials=45)
    assert own == again
    assert study_detection(now, trials=45, seed=1) != own


def test_the_bundle_keeps_it(inspector: Inspector, tmp_path: Path) -> None:
    """What was found lies in the bundle, with the version it was asked of."""
    inspector.save(tmp_path / "part.blemish")
    loaded = Inspector.load(tmp_path / "part.blemish")
    assert loaded.detection == inspector.detection
    # A version that follows says of which one it was asked.
    loaded.update(parts(25)[24:])
    assert loaded.version == 2
    assert loaded.detection is not None
    assert loaded.detection.version == 1
    # A saved version stays as it is: what is asked now is only told.
    kept = Inspector.load(tmp_path / "part.blemish")
    assert kept.study_detection(trials=20).trials == 20
    assert kept.detection == inspector.detection


def test_without_threshold_or_pictures_it_says_what_is_missing(tmp_path: Path) -> None:
    """One sentence for what cannot be asked."""
    made = Inspector(HETMM(**FAST), size=SIDE).fit(parts(8))
    with pytest.raises(CalibrationError, match="calibrate it"):
        made.study_detection()
    bare = Inspector(HETMM(**FAST), size=SIDE, keep_pictures=False).fit(parts(24))
    bare.calibrate(false_alarm_rate=0.05).save(tmp_path / "bare.blemish")
    with pytest.raises(CalibrationError, match="no-pictures"):
        Inspector.load(tmp_path / "bare.blemish").study_detection()
    tiled = Inspector(HETMM(**FAST), size=32, tile=40).fit(parts(24))
    tiled.calibrate(false_alarm_rate=0.05)
    with pytest.raises(CalibrationError, match="tiles"):
        tiled.study_detection()


def test_good_parts_that_are_none_are_named(tmp_path: Path) -> None:
    """Pictures that push the threshold up are named by their files."""
    folder = tmp_path / "good"
    folder.mkdir()
    for number, image in enumerate(parts(24, odd=(7, 19))):
        picture = np.rint(255 * image).astype(np.uint8)
        (folder / f"{number:02}.png").write_bytes(encode_png(picture))
    made = Inspector(HETMM(**FAST), size=SIDE).fit(folder).calibrate(false_alarm_rate=0.05)
    named = {Path(source).name for source, _ in standing_out(made.snapshot())}
    assert named == {"07.png", "19.png"}
    assert "07.png" in remedies(made.snapshot())[0]


def test_none_is_named_where_all_are_alike(inspector: Inspector) -> None:
    """No alarm without a reason."""
    assert standing_out(inspector.snapshot()) == []


def test_parts_that_lie_moved_are_told_to_be_aligned() -> None:
    """The remedy names the option that helps."""
    made = Inspector(HETMM(**FAST), size=SIDE).fit(parts(24, shift=6))
    made.calibrate(false_alarm_rate=0.05)
    assert any("--align auto" in each for each in remedies(made.snapshot()))


def test_fit_tells_and_check_shows(tmp_path: Path) -> None:
    """The two lines of fit; the words, picture and JSON of check."""
    folder, bundle = tmp_path / "good", tmp_path / "part.blemish"
    folder.mkdir()
    for number, image in enumerate(parts(24)):
        picture = np.rint(255 * image).astype(np.uint8)
        (folder / f"{number:02}.png").write_bytes(encode_png(picture))
    run = CliRunner().invoke
    options = ["--backbone", "filterbank", "--size", str(SIDE), "--false-alarm-rate", "0.05"]
    told = run(app, ["fit", str(folder), "-o", str(bundle), *options, "--defects", "90"])
    assert told.exit_code == 0, told.output
    assert "  finds      9 of 10 synthetic defects" in told.output
    assert "  passes     " in told.output
    picture = tmp_path / "check.png"
    shown = run(app, ["check", str(bundle), "-o", str(picture), "--json", "-"])
    assert shown.exit_code == 0, shown.output
    found = json.loads(shown.output)
    assert found["trials"] == 90
    assert set(found) >= {"smallest", "bands", "kinds", "places", "advice"}
    assert read_image(picture).shape[1] == 512
    again = run(app, ["check", str(bundle), "--again", "--defects", "27"])
    assert "27 synthetic defects on 24 good parts" in again.output
    refused = run(app, ["check", str(bundle), "-o", str(tmp_path / "check.txt")])
    assert refused.exit_code != 0
    silent = run(app, ["fit", str(folder), "-o", str(tmp_path / "b"), *options, "--defects", "0"])
    assert "finds" not in silent.output
