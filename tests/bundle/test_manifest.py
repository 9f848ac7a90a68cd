"""The manifest: a round trip, and every kind of damage named."""

from __future__ import annotations

import json
from typing import Any

import pytest

from blemish.bundle import (
    BackboneRecord,
    CalibrationRecord,
    FileRecord,
    Manifest,
    RuleRecord,
    TemplateRecord,
    TrainingRecord,
)
from blemish.bundle.manifest import FORMAT, _digest
from blemish.errors import BundleError

MANIFEST = Manifest(
    name="board",
    version=3,
    created="2026-01-01T00:00:00+00:00",
    method="hetmm",
    parameters={"sheets": None, "forward": [13, 9, 7], "alpha": [0.1, 1 / 3]},
    view={"size": 64, "resample": "bilinear"},
    bit_depth=12,
    backbone=BackboneRecord(name="filterbank", levels=[1, 2], taps="pre", weights_sha256=None),
    training=TrainingRecord(source="gut/Teile", images=20, seed=1, seconds=0.5),
    calibration=CalibrationRecord(
        scores=(0.1, 0.2),
        peaks=(0.1, 0.2),
        method="held-out",
        false_alarm_rate=0.4,
        threshold=0.2,
        region_threshold=0.2,
    ),
    templates=[TemplateRecord(id="00ff", source="gut/ä.png")],
    software={"blemish": "0.1"},
    files={"templates": FileRecord(file="t-0.safetensors", sha256="0" * 64, bytes=1)},
)


def signed(**changes: Any) -> bytes:
    """The manifest's JSON with changes and a checksum that fits them."""
    body = {**MANIFEST.model_dump(mode="json"), **changes}
    return json.dumps({**body, "sha256": _digest(body)}).encode()


def test_round_trip() -> None:
    """What is written is what is read, floats to the last bit and names in any script."""
    assert Manifest.from_json(MANIFEST.to_json(), "m") == MANIFEST


@pytest.mark.parametrize("position", range(40, len(MANIFEST.to_json()) - 4, 97))
def test_any_changed_character_is_noticed(position: int) -> None:
    """A digit or letter changed by hand anywhere in the manifest is refused."""
    data = bytearray(MANIFEST.to_json())
    while not chr(data[position]).isalnum():
        position += 1
    data[position] = ord("7") if data[position] != ord("7") else ord("8")
    with pytest.raises(BundleError, match=r"^here/manifest\.json"):
        Manifest.from_json(bytes(data), "here/manifest.json")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_cut_manifest_is_damaged(share: float) -> None:
    """A manifest that ends too early is not readable JSON, and the message says so."""
    data = MANIFEST.to_json()
    with pytest.raises(BundleError, match="m is damaged"):
        Manifest.from_json(data[: int(share * len(data))], "m")


@pytest.mark.parametrize("data", [b"[]", b"3", b"{}", b'{"name": "a web page"}', b"\xff\xfe"])
def test_other_json_is_no_manifest(data: bytes) -> None:
    """JSON of another kind, and bytes that are not text, are refused."""
    with pytest.raises(BundleError, match=r"m is (not the manifest|damaged)"):
        Manifest.from_json(data, "m")


def test_a_newer_format_says_so() -> None:
    """A manifest of a later format asks for an upgrade, whatever else it holds."""
    data = json.dumps({"format": FORMAT + 1, "whatever": 1}).encode()
    with pytest.raises(BundleError, match=rf"format {FORMAT + 1}, newer .* pip install -U blemish"):
        Manifest.from_json(data, "m")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"colour": "red"}, "colour"),
        ({"version": 0}, "version"),
        ({"version": "later"}, "version"),
        ({"templates": [{"id": "1"}]}, "templates.0.source"),
        ({"backbone": None}, "backbone"),
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, Any], field: str) -> None:
    """Unknown keys and wrong values are refused with the field's name, checksum or not."""
    with pytest.raises(BundleError, match=rf"m is not valid: {field}:"):
        Manifest.from_json(signed(**changes), "m")


@pytest.mark.parametrize("file", ["../secret", "/etc/passwd", "a/b", "a\\b", "", ".hidden", "a\n"])
def test_file_names_stay_in_the_folder(file: str) -> None:
    """A manifest whose files would lie elsewhere is refused."""
    files = {"templates": {"file": file, "sha256": "0" * 64, "bytes": 1}}
    with pytest.raises(BundleError, match=r"files\.templates\.file"):
        Manifest.from_json(signed(files=files), "m")


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_thresholds_are_numbers(value: str) -> None:
    """A threshold that no score exceeds, or all do, is refused."""
    calibration = {**MANIFEST.model_dump()["calibration"], "threshold": float(value)}
    with pytest.raises(BundleError, match="m is damaged: it holds a number that is not finite"):
        Manifest.from_json(signed(calibration=calibration), "m")


NEW_IN_CALIBRATION = (
    "promise", "confidence", "review_rate", "review_threshold", "region_review_threshold",
)  # fmt: skip


def test_a_manifest_from_before_the_promises_had_kinds() -> None:
    """Without the newer keys a calibration is the promise on average that it was made for."""
    body = MANIFEST.model_dump(mode="json")
    del body["rule"]
    for key in NEW_IN_CALIBRATION:
        del body["calibration"][key]
    old = json.dumps({**body, "sha256": _digest(body)}).encode()
    assert Manifest.from_json(old, "m") == MANIFEST
    assert MANIFEST.calibration is not None
    assert (MANIFEST.calibration.promise, MANIFEST.rule) == ("average", RuleRecord())


BY_HAND = {"promise": "none", "false_alarm_rate": None}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"promise": "none"}, "set by hand"),
        ({"false_alarm_rate": None}, "set by hand"),
        ({"promise": "certain"}, "average"),
        ({"promise": "confidence"}, "a confidence belongs to"),
        ({"confidence": 0.9}, "a confidence belongs to"),
        ({"confidence": 1.0, "promise": "confidence"}, "less than 1"),
        ({**BY_HAND, "confidence": 0.9}, "a confidence belongs to"),
        ({"review_threshold": 0.1}, "a counterpart for regions"),
        ({"review_threshold": 0.3, "region_review_threshold": 0.3}, "lies above the threshold"),
    ],
)
def test_a_calibration_that_contradicts_itself_is_refused(
    changes: dict[str, Any], said: str
) -> None:
    """Thresholds in the wrong order and promises without their figures give no verdict."""
    calibration = {**MANIFEST.model_dump(mode="json")["calibration"], **changes}
    with pytest.raises(BundleError, match=rf"m is not valid: calibration.*{said}"):
        Manifest.from_json(signed(calibration=calibration), "m")


def test_a_threshold_set_by_hand_and_one_for_review_are_kept() -> None:
    """What the newer keys hold comes back as it was."""
    body = {
        **MANIFEST.model_dump(mode="json")["calibration"],
        **BY_HAND,
        "review_threshold": 0.15,
        "region_review_threshold": 0.15,
    }
    rule = {"threshold": 0.2, "review_threshold": 0.15}
    read = Manifest.from_json(signed(calibration=body, rule=rule), "m")
    assert read.calibration == CalibrationRecord(**body)
    assert read.rule == RuleRecord(threshold=0.2, review_threshold=0.15)
    assert Manifest.from_json(read.to_json(), "m") == read
