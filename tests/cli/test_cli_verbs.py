"""fit, calibrate, weights, doctor and demo, as a person at a shell meets them."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish.bundle import read_manifest

SMALL = ("--size", 64, "--device", "cpu")


def test_fit_calibrates_and_saves(cli, parts: Path, tmp_path: Path) -> None:
    """fit leaves a calibrated bundle at the smallest rate it can promise, and a summary."""
    target = tmp_path / "board.blemish"
    outcome = cli("fit", parts / "train" / "good", "-o", target, *SMALL, "--json", "-")
    assert outcome.status == 0
    summary = json.loads(outcome.stdout)
    assert (summary["images"], summary["templates"], summary["size"]) == (20, 20, 64)
    assert summary["calibration"]["false_alarm_rate"] == pytest.approx(1 / 21)
    assert summary["calibration"]["parts"] == 20
    manifest = read_manifest(target)
    assert manifest.calibration is not None
    assert manifest.calibration.threshold == summary["calibration"]["threshold"]
    assert cli("inspect", target, parts / "train" / "good").status == 0


def test_fit_takes_its_options(cli, parts: Path, tmp_path: Path) -> None:
    """--sheets, --seed, --bit-depth and --set reach the bundle; --quiet says nothing."""
    target = tmp_path / "b"
    outcome = cli(
        "fit", parts / "train" / "good", "-o", target, *SMALL, "--sheets", 5, "--seed", 7,
        "--bit-depth", 12, "--set", "sigma=2", "--set", "forward=5,3,3", "--quiet",
    )  # fmt: skip
    assert (outcome.status, outcome.stdout, outcome.stderr) == (0, "", "")
    manifest = read_manifest(target)
    assert (manifest.training.seed, manifest.bit_depth, len(manifest.templates)) == (7, 12, 20)
    assert (manifest.parameters["sigma"], manifest.parameters["forward"]) == (2, [5, 3, 3])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--false-alarm-rate", "0.01"], "needs 99"),
        (["--false-alarm-rate", "2"], "must lie between 0 and 1"),
        (["--set", "colour=red"], "it has preset, sheets, "),
        (["--set", "sheets"], "write it as key=value"),
        (["--set", "forward=13"], "--set forward=13"),
        (["--set", "forward=4,3,3"], "the forward window is 4"),
        (["--method", "magic"], "must be one of hetmm"),
        (["--backbone", "resnet1800"], "'resnet1800' are not in the local store"),
        (["--backbone", "resnet18.tv_in1k"], "blemish weights fetch resnet18.tv_in1k"),
        (["--size", "4"], "give 8 to 8192"),
        (["--size", "8", "--backbone", "filterbank"], "at least 16"),
        (["--device", "abacus"], "give auto, cpu, cuda or cuda:N"),
        (["--bit-depth", "3"], "from 8 to 16"),
        (["--size", "many"], "--size"),
        (["--frobnicate"], "--frobnicate"),
        (["--json", "."], "this is a folder"),
    ],
)
def test_fit_refuses_in_one_sentence(
    cli, parts: Path, tmp_path: Path, options: list[str], said: str
) -> None:
    """What cannot work exits with 2, names the remedy, and leaves no bundle behind."""
    target = tmp_path / "b.blemish"
    outcome = cli("fit", parts / "train" / "good", "-o", target, "--device", "cpu", *options)
    assert outcome.status == 2
    assert said in " ".join(outcome.stderr.split())
    assert outcome.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_fit_refuses_folders(cli, parts: Path, tmp_path: Path) -> None:
    """A missing or empty folder of images, and a foreign target, are told apart."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    good = parts / "train" / "good"
    for arguments, said in (
        ((tmp_path / "none", "-o", tmp_path / "b"), "does not exist"),
        ((tmp_path / "mine", "-o", tmp_path / "b"), "holds no image"),
        ((good, "-o", tmp_path / "mine"), "other things in it"),
        ((good, "-o", tmp_path / "mine" / "notes.txt"), "is a file"),
        ((good, "-o", tmp_path / "no" / "where"), "does not exist"),
    ):
        outcome = cli("fit", *arguments, *SMALL)
        assert (outcome.status, said in outcome.stderr) == (2, True)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"


def test_calibrate(cli, bundle: Path, parts: Path) -> None:
    """calibrate makes a new version at the asked rate, or refuses and leaves the old one."""
    outcome = cli("calibrate", bundle, "--false-alarm-rate", 0.2, "--json", "-")
    assert outcome.status == 0
    assert json.loads(outcome.stdout) == {
        "bundle": str(bundle),
        "version": 2,
        "method": "leave-one-out",
        "parts": 20,
        "false_alarm_rate": 0.2,
        "threshold": read_manifest(bundle).calibration.threshold,
        "promise": "average",
        "confidence": None,
        "review_rate": None,
        "review_threshold": None,
        "rejected": 3,
        "reviewed": 0,
    }
    before = (bundle / "manifest.json").read_bytes()
    refused = cli("calibrate", bundle)
    assert (refused.status, "it needs 99" in refused.stderr) == (2, True)
    assert (bundle / "manifest.json").read_bytes() == before
    held_out = cli("calibrate", bundle, parts / "test" / "good", "--false-alarm-rate", 0.25)
    assert (held_out.status, "held-out scores of 4" in held_out.stderr) == (0, True)
    assert read_manifest(bundle).version == 3


def test_calibrate_with_confidence(cli, bundle: Path) -> None:
    """A tolerance limit says its confidence, or is refused with the number of parts it needs."""
    refused = cli("calibrate", bundle, "--confidence", 0.95)
    assert (refused.status, "from 20 good parts: it needs 299" in refused.stderr) == (2, True)
    options = ("--false-alarm-rate", 0.2, "--confidence", 0.95, "--review-rate", 0.5)
    outcome = cli("calibrate", bundle, *options)
    assert outcome.status == 0
    said = " ".join(outcome.stderr.split())
    assert "at most 0.2 of good parts like these are rejected with confidence 0.95" in said
    assert "at most 0.5 are not passed" in said
    assert read_manifest(bundle).calibration.promise == "confidence"


def test_calibrate_by_hand(cli, bundle: Path) -> None:
    """A number is taken as it is: the share of good parts it rejects is told, nothing promised."""
    scores = read_manifest(bundle).calibration.scores
    outcome = cli(
        "calibrate", bundle, "--threshold", scores[17], "--review-threshold", scores[9],
        "--by", "Ada", "--note", "audit",
    )  # fmt: skip
    assert outcome.status == 0
    said = " ".join(outcome.stderr.split())
    assert "set by hand, nothing is promised; it rejects 2 (10.0%) of these good parts" in said
    assert "where 8 (40.0%) of them lie" in said
    manifest = read_manifest(bundle)
    assert (manifest.version, manifest.change.kind, manifest.change.note) == (
        2,
        "calibrate",
        "audit",
    )
    assert manifest.calibration.scores == scores
    assert f"threshold {scores[17]:.4g} by hand Ada" in " ".join(
        cli("update", bundle, "--history").stdout.split()
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--threshold", 1, "--false-alarm-rate", 0.1], "give a false-alarm rate or a threshold"),
        (["--threshold", 1, "--confidence", 0.9], "goes with neither a confidence"),
        (["--threshold", 1, "--review-threshold", 2], "lies above the threshold 1"),
        (["--threshold", "nan"], "the threshold is nan"),
        (["--false-alarm-rate", 0], "it must lie between 0 and 1"),
        (["--false-alarm-rate", 0.2, "--review-rate", 0.1], "is below the false-alarm rate"),
        (["--review-rate", 0.1, "--review-threshold", 0.1], "not both"),
        (["--false-alarm-rate", 0.2, "--review-threshold", 1e6], "lies above the threshold"),
    ],
)
def test_calibrate_refuses_in_one_sentence(
    cli, bundle: Path, options: list[object], said: str
) -> None:
    """What contradicts itself exits with 2 and leaves the bundle as it was."""
    before = (bundle / "manifest.json").read_bytes()
    outcome = cli("calibrate", bundle, *options)
    assert outcome.status == 2
    assert said in " ".join(outcome.stderr.split())
    assert (bundle / "manifest.json").read_bytes() == before


def test_fit_with_confidence_and_review(cli, parts: Path, tmp_path: Path) -> None:
    """fit promises in the same words; without a rate the smallest there is with this confidence."""
    target, good = tmp_path / "b.blemish", parts / "train" / "good"
    outcome = cli(
        "fit", good, "-o", target, *SMALL, "--confidence", 0.9, "--review-rate", 0.2,
    )  # fmt: skip
    assert outcome.status == 0
    said = " ".join(outcome.stderr.split())
    assert "at most 0.109 of good parts like these are rejected with confidence 0.9" in said
    assert "For a rate of 0.01, show 230 good parts or more" in said
    found = read_manifest(target).calibration
    assert (found.confidence, found.review_rate) == (0.9, 0.2)
    early = cli("fit", good, "-o", tmp_path / "c", *SMALL, "--review-rate", 0.01)
    assert (early.status, "is below the false-alarm rate" in early.stderr) == (2, True)


def test_weights_of_an_empty_store(cli, tmp_path: Path) -> None:
    """An empty store lists nothing, verifies, and says what an import would need."""
    assert json.loads(cli("weights", "list", "--json").stdout) == []
    listed = cli("weights", "list")
    # One stream: beside another the sum could come anywhere, or on the end of a row.
    assert listed.stderr == ""
    *rows, total = listed.stdout.splitlines()
    names = [row.split()[0] for row in rows]
    assert names == [*(f"efficientnet_lite{size}" for size in range(3)), "filterbank"]
    assert rows[0].split()[1:] == ["embedded"]
    assert rows[-1].split()[1:] == ["needs", "no", "weights"]
    assert total == f"0 files in {tmp_path / 'no-weights'}"
    assert cli("weights", "verify").status == 0
    outcome = cli("weights", "import", tmp_path / "x.safetensors", "--as", "resnet18.tv_in1k")
    assert (outcome.status, "is not a file" in outcome.stderr) == (2, True)


@pytest.mark.real
def test_weights(cli, shared: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A real file is imported, listed and verified; once changed, verify exits with 2."""
    pytest.importorskip("timm")
    monkeypatch.setenv("BLEMISH_WEIGHTS", str(tmp_path / "store"))
    file = shared / "weights" / "resnet18_tv_in1k_layer1-3_fp16.safetensors"
    assert cli("weights", "import", file, "--as", "resnet18.tv_in1k").status == 0
    (record,) = json.loads(cli("weights", "list", "--json").stdout)
    assert (record["name"], record["source"]) == ("resnet18.tv_in1k", file.name)
    assert "ok" in cli("weights", "verify").stdout
    (tmp_path / "store" / "resnet18.tv_in1k.onnx").write_bytes(b"changed")
    outcome = cli("weights", "verify")
    assert (outcome.status, "has changed" in outcome.stdout) == (2, True)
    assert "1 of the weights cannot be used" in outcome.stderr


def test_doctor(cli) -> None:
    """doctor reports the machine as text and JSON, and fails for an extra nobody declared."""
    report = json.loads(cli("doctor", "--json").stdout)
    assert {"blemish", "python", "cpu", "extras", "gpu", "weights"} <= report.keys()
    there = find_spec("torch") is not None
    assert (report["extras"]["train"]["torch"] is not None) == there
    said = cli("doctor").stdout
    assert "for fit, inspect, calibrate" in said
    assert ("pip install 'blemish[train]'" in said) != there
    assert cli("doctor", "--extra", "train").status == (0 if there else 2)
    outcome = cli("doctor", "--extra", "magic")
    assert (outcome.status, "there is no such extra" in outcome.stderr) == (2, True)


@pytest.mark.slow
def test_demo_on_ones_own_folders(cli, parts: Path, tmp_path: Path) -> None:
    """demo learns from one's own good parts, leaves out what is broken, and leaves a page."""
    test = tmp_path / "test"
    test.mkdir()
    for index in range(2):
        image = Image.fromarray(np.full((64, 64, 3), 100 * index, np.uint8))
        image.save(test / f"{index}.png")
    (test / "broken.png").write_text("no image")
    out = tmp_path / "out"
    good = parts / "train" / "good"
    outcome = cli("demo", "--good", good, "--test", test, "--out", out, "--quiet")
    assert outcome.status == 0
    assert "2 of 2 parts were not passed" in outcome.stdout
    assert (out / "index.html").stat().st_size > 10_000
    assert read_manifest(out / "part.blemish").training.images == 20


def test_demo_refuses(cli, tmp_path: Path) -> None:
    """Half of one's own folders, and an --out that is a file, are one sentence each."""
    assert "go together" in cli("demo", "--good", tmp_path).stderr
    (tmp_path / "file").write_text("mine")
    outcome = cli("demo", "--out", tmp_path / "file")
    assert (outcome.status, "file" in outcome.stderr) == (2, True)
