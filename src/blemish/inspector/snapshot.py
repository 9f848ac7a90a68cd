"""One version of an inspector as one immutable object, which is swapped by one assignment.

Whoever inspects reads it once and so sees the old version or the new one, never a mix.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from blemish.bundle import CalibrationRecord, Content, DetectionRecord, Manifest, RuleRecord
from blemish.detectors import Detector
from blemish.inspector.pictures import Pictures
from blemish.verdict import Calibration, Rule
from blemish.verdict.detection import Band, Detection


@dataclass(frozen=True)
class Version:
    """A version's manifest, and what of it no bundle holds yet.

    `base` is the detector whose state its `steps` build on (None: a bundle holds it); `contents`
    are its other files.
    """

    manifest: Manifest
    base: Detector | None = None
    contents: Mapping[str, Content] = field(default_factory=dict)


@dataclass(frozen=True)
class Snapshot:
    """A version that can inspect: its detector, calibration and good images beside its record."""

    version: Version
    detector: Detector
    calibration: Calibration | None
    pictures: Pictures

    @property
    def manifest(self) -> Manifest:
        """The version's record."""
        return self.version.manifest


def calibration_record(calibration: Calibration | None) -> CalibrationRecord | None:
    """A calibration as the manifest holds it."""
    return None if calibration is None else CalibrationRecord(**vars(calibration))


def recorded_calibration(record: CalibrationRecord | None) -> Calibration | None:
    """The calibration that a manifest holds."""
    return None if record is None else Calibration(**record.model_dump())


def rule_record(rule: Rule | None) -> dict[str, object]:
    """What was asked of the thresholds, as fields of the manifest."""
    if rule is None:
        return {"false_alarm_rate": None, "rule": RuleRecord()}
    asked = dict(vars(rule))
    return {"false_alarm_rate": asked.pop("false_alarm_rate"), "rule": RuleRecord(**asked)}


def recorded_rule(manifest: Manifest) -> Rule | None:
    """What a manifest says was asked of the thresholds; None where nothing ever was."""
    rate, asked = manifest.false_alarm_rate, manifest.rule
    if rate is None and asked.threshold is None:
        return None
    return Rule(false_alarm_rate=rate, **asked.model_dump())


def detection_record(detection: Detection | None) -> DetectionRecord | None:
    """What was found as the manifest holds it."""
    return None if detection is None else DetectionRecord(**detection.to_dict())


def recorded_detection(record: DetectionRecord | None) -> Detection | None:
    """What a manifest says was found."""
    if record is None:
        return None
    values = record.model_dump()
    return Detection(**{**values, "bands": tuple(Band(**band) for band in values["bands"])})
