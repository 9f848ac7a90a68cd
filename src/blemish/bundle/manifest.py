"""The manifest: what a bundle is, in JSON that a person can read; docs/bundle.md describes it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from blemish.errors import BundleError

FORMAT = 1
NAME = "manifest.json"


class _Record(BaseModel):
    # An unknown key in a manifest means another format or a slip; neither may pass in silence.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class FileRecord(_Record):
    """One file of the bundle: its name there, sha256 and size."""

    file: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._\-]*$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class BackboneRecord(_Record):
    """The network behind the features and the checksum of the weights it was loaded from."""

    name: str
    levels: list[int]
    taps: str
    weights_sha256: str | None


class CalibrationRecord(_Record):
    """The good parts' scores (and their maps' maxima), the promise, and the thresholds it gives."""

    scores: tuple[float, ...]
    peaks: tuple[float, ...]
    method: str
    false_alarm_rate: float = Field(gt=0, lt=1)
    threshold: float
    region_threshold: float


class TemplateRecord(_Record):
    """One image that was learned from: `id` is the start of the sha256 of its viewed pixels."""

    id: str
    source: str


class TrainingRecord(_Record):
    """What was learned from: where, how many images, with which seed, in how many seconds."""

    source: str
    images: int
    seed: int
    seconds: float


class Manifest(_Record):
    """Everything about one version of a bundle except its tensors."""

    format: int = FORMAT
    name: str
    version: int = Field(ge=1)
    created: str
    method: str
    parameters: dict[str, JsonValue]
    view: dict[str, JsonValue]
    bit_depth: int | None
    backbone: BackboneRecord
    training: TrainingRecord
    calibration: CalibrationRecord | None
    templates: list[TemplateRecord]
    software: dict[str, str]
    files: dict[str, FileRecord] = Field(default_factory=dict)

    def to_json(self) -> bytes:
        """The manifest with a checksum over itself, so that a changed manifest is noticed too."""
        body = self.model_dump(mode="json")
        return (json.dumps({**body, "sha256": _digest(body)}, indent=2) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes, where: str) -> Manifest:
        """Read and check a manifest; `where` names it in errors."""
        try:
            body: Any = json.loads(data)
        except ValueError as error:
            raise BundleError(f"{where} is damaged: it is not readable JSON") from error
        if not isinstance(body, dict) or "format" not in body:
            raise BundleError(f"{where} is not the manifest of a Blemish bundle")
        if isinstance(body["format"], int) and body["format"] > FORMAT:
            raise BundleError(
                f"{where} has format {body['format']}, newer than this Blemish reads ({FORMAT}); "
                "upgrade with: pip install -U blemish"
            )
        if body.pop("sha256", None) != _digest(body):
            raise BundleError(
                f"{where} was changed after it was written (its checksum does not match); "
                "restore it, or make the bundle again"
            )
        try:
            return cls.model_validate(body)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise BundleError(f"{where} is not valid: {field}: {first['msg']}") from error


def is_manifest(path: Path) -> bool:
    """Whether `path` is a Blemish manifest, perhaps changed: its folder may be written over."""
    try:
        body = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(body, dict) and {"format", "method", "files"} <= body.keys()


def _digest(body: dict[str, Any]) -> str:
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()
