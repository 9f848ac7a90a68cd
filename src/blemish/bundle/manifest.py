"""The manifest: what a bundle is, in JSON that a person can read; docs/bundle.md describes it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, JsonValue, StringConstraints, ValidationError, model_validator

from blemish.bundle.checking import check
from blemish.bundle.graphs import GraphsRecord
from blemish.bundle.records import Record
from blemish.bundle.strict_json import LARGEST, read_json
from blemish.errors import BundleError

# Those before 5 scored by other settings, or held what PyTorch ran: they are made anew.
FORMAT = 5
NAME = "manifest.json"
VECTORS = "vectors"  # the part with test vectors of an export
VIEW = "view"  # the part with what the view has learned
MEASUREMENT = "measurement"  # parts with how good parts vary: this name, or with "-" and a version
VERSIONS = "versions"  # the folder of all versions' manifests
PICTURES = "pictures"  # parts of this name, and those that begin with it and "-"

Kind = Literal["fit", "update", "calibrate", "rollback", "export"]

# A name in the folder, never a way out of it, on any system.
_NAME = r"^[A-Za-z0-9]([A-Za-z0-9._\-]*[A-Za-z0-9_\-])?$"
FileName = Annotated[str, StringConstraints(pattern=_NAME, max_length=200)]
# A part's file begins with the part's name and, where that has one, ends in its suffix.
PartName = Annotated[str, StringConstraints(pattern=_NAME, max_length=100)]


class FileRecord(Record):
    """One file of the bundle: its name there, sha256 and size."""

    file: FileName
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class BackboneRecord(Record):
    """The network behind the features and the checksum of the weights it was loaded from."""

    name: str
    levels: list[int]
    taps: str
    weights_sha256: str | None


class CalibrationRecord(Record):
    """The good parts' scores (and their maps' maxima), the promise, and the thresholds it gives.

    `promise` is how `false_alarm_rate` and `review_rate` are kept: on `average` over calibration
    sets, with a `confidence`, or `none` for a threshold set by hand, which has no rate.
    """

    scores: tuple[float, ...]
    peaks: tuple[float, ...]
    method: str
    false_alarm_rate: float | None = Field(gt=0, lt=1)
    threshold: float
    region_threshold: float
    promise: Literal["average", "confidence", "none"] = "average"
    confidence: float | None = Field(default=None, gt=0, lt=1)
    review_rate: float | None = Field(default=None, gt=0, lt=1)
    review_threshold: float | None = None
    region_review_threshold: float | None = None

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if (self.promise == "none") != (self.false_alarm_rate is None):
            raise ValueError("a threshold has a rate, or was set by hand and promises none")
        if (self.promise == "confidence") != (self.confidence is not None):
            raise ValueError("a confidence belongs to the promise of that name")
        if (self.review_threshold is None) != (self.region_review_threshold is None):
            raise ValueError("a review threshold has a counterpart for regions")
        if self.review_threshold is not None and self.review_threshold > self.threshold:
            raise ValueError("the review threshold lies above the threshold")
        return self


class BandRecord(Record):
    """Synthetic defects from `low` to less than `high` pixels: how many, and how many passed."""

    low: float
    high: float
    trials: int = Field(ge=0)
    passed: int = Field(ge=0)


class DetectionRecord(Record):
    """What synthetic defects were found, at the `threshold` and in the `version` it was asked of.

    `smallest`: the size in pixels of the view, `side` wide, that is found with 90 % probability, by
    contrast (None: none is). `kinds` have [trials, passed], `places` the share found around each
    cell of the view.
    """

    version: int = Field(ge=1)
    threshold: float
    side: int = Field(ge=1)
    parts: int = Field(ge=1)
    trials: int = Field(ge=1)
    smallest: dict[str, float | None]
    bands: tuple[BandRecord, ...]
    kinds: dict[str, tuple[int, int]]
    places: tuple[tuple[float, ...], ...]


class RuleRecord(Record):
    """What was asked of the thresholds beside the false-alarm rate; `threshold`: set by hand."""

    confidence: float | None = Field(default=None, gt=0, lt=1)
    review_rate: float | None = Field(default=None, gt=0, lt=1)
    threshold: float | None = None
    review_threshold: float | None = None


class TemplateRecord(Record):
    """One image that was learned from.

    `id` is the start of the sha256 of its viewed pixels; where the view aligns, of its own.
    `added` (ISO time), `by`, `note` and `version` tell when, by whom, why and in which version.
    """

    id: str
    source: str
    added: str = ""
    by: str = ""
    note: str = ""
    version: int = Field(default=1, ge=1)


class ChangeRecord(Record):
    """What made a version: its kind, who and why; ids of templates that came and went.

    `restored` is the version whose content a rollback brought back.
    """

    kind: Kind = "fit"
    by: str = ""
    note: str = ""
    added: list[str] = Field(default_factory=list)
    removed: list[str] = Field(default_factory=list)
    restored: int | None = Field(default=None, ge=1)


class StepRecord(Record):
    """One change of the template set since it was last written whole, in the order of doing.

    `part` holds the sheets of `samples` added images (None: none); `removed` are the positions
    that then went, counted before any of them is gone.
    """

    part: str | None = None
    samples: int = Field(default=0, ge=0)
    removed: list[int] = Field(default_factory=list)


class TrainingRecord(Record):
    """What was learned from: where, how many images, with which seed, in how many seconds."""

    source: str
    images: int = Field(ge=0)
    seed: int
    seconds: float = Field(ge=0)


class Manifest(Record):
    """Everything about one version of a bundle except its tensors.

    `parent` is the file of the version before, under `versions/`. `good` are the ids of the images
    that calibration scores; `false_alarm_rate` and `rule` what was asked for, kept also when it
    could not be promised: with the pictures they allow a calibration after each update.
    """

    format: int = Field(default=FORMAT, ge=1)
    name: str
    version: int = Field(ge=1, lt=10**9)
    created: str
    parent: FileName | None = None
    change: ChangeRecord = Field(default_factory=ChangeRecord)
    method: str
    parameters: dict[str, JsonValue]
    learned: dict[str, JsonValue] = Field(default_factory=dict)
    view: dict[str, JsonValue]
    bit_depth: int | None = Field(ge=8, le=16)
    backbone: BackboneRecord
    training: TrainingRecord
    calibration: CalibrationRecord | None
    false_alarm_rate: float | None = Field(default=None, gt=0, lt=1)
    rule: RuleRecord = Field(default_factory=RuleRecord)
    detection: DetectionRecord | None = None
    good: list[str] = Field(default_factory=list)
    templates: list[TemplateRecord]
    steps: list[StepRecord] = Field(default_factory=list, max_length=1024)
    software: dict[str, str]
    graphs: GraphsRecord | None = None
    files: dict[PartName, FileRecord] = Field(default_factory=dict)

    @property
    def whole_templates(self) -> int:
        """How many templates there were before `steps`."""
        return len(self.templates) - sum(s.samples - len(s.removed) for s in self.steps)

    @property
    def state_parts(self) -> list[str]:
        """The parts whose tensors are the whole detector as it was before `steps`."""
        others = {step.part for step in self.steps} | {VECTORS, VIEW}
        tensors = [name for name in self.files if not suffix_of(name)]  # others are graphs
        return [name for name in tensors if name not in others and not is_pictures(name)]

    @property
    def measurement_part(self) -> str | None:
        """The part with how good parts vary, as of this version; None: nothing was measured."""
        return newest_measurement(self.files)

    @property
    def picture_parts(self) -> list[str]:
        """The parts that hold viewed pixels of good images."""
        return [name for name in self.files if is_pictures(name)]

    def to_json(self) -> bytes:
        """The manifest with a checksum over itself, so that a changed manifest is noticed too."""
        body = self.model_dump(mode="json")
        data = (json.dumps({**body, "sha256": _digest(body)}, indent=2) + "\n").encode()
        if len(data) > LARGEST:
            raise BundleError(
                f"the manifest of version {self.version} would have {len(data)} bytes, more than "
                f"the {LARGEST} that are read again; learn from fewer images"
            )
        return data

    @classmethod
    def from_json(cls, data: bytes, where: str) -> Manifest:
        """Read and check a manifest; `where` names it in errors."""
        try:
            body = read_json(data)
        except ValueError as error:
            raise BundleError(f"{where} is damaged: {error}") from error
        if not isinstance(body, dict) or "format" not in body:
            raise BundleError(f"{where} is not the manifest of a Blemish bundle")
        if isinstance(body["format"], int) and body["format"] > FORMAT:
            raise BundleError(
                f"{where} has format {body['format']}, newer than this Blemish reads ({FORMAT}); "
                "upgrade with: pip install -U blemish"
            )
        if isinstance(body["format"], int) and body["format"] < FORMAT:
            raise BundleError(
                f"{where} has format {body['format']}, of an earlier Blemish; this one reads "
                f"{FORMAT}: make the bundle anew from its good images, with: blemish fit GOOD_DIR "
                "-o PART.blemish"
            )
        if body.pop("sha256", None) != _digest(body):
            raise BundleError(
                f"{where} was changed after it was written (its checksum does not match); "
                "restore it, or make the bundle again"
            )
        try:
            manifest = cls.model_validate(body)
            check(manifest)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise BundleError(f"{where} is not valid: {field}: {first['msg']}") from error
        except ValueError as error:
            raise BundleError(f"{where} is not valid: {error}") from error
        return manifest


def suffix_of(part: str) -> str:
    """The suffix of a part that is no tensors but a file of another kind (`match.onnx`), or ""."""
    return Path(part).suffix


def is_pictures(part: str) -> bool:
    """Whether a part holds pictures."""
    return part == PICTURES or part.startswith(f"{PICTURES}-")


def newest_measurement(parts: Iterable[str]) -> str | None:
    """The part among these that was measured last: each version's replaces the one before."""
    found = [part for part in parts if part.partition("-")[0] == MEASUREMENT]
    return max(found, key=lambda part: int(part.partition("-")[2] or 0), default=None)


def is_manifest(path: Path) -> bool:
    """Whether `path` is a Blemish manifest, perhaps changed: its folder may be written over."""
    try:
        body = read_json(read_small(path))
    except (OSError, ValueError):
        return False
    return isinstance(body, dict) and {"format", "method", "files"} <= body.keys()


def _digest(body: dict[str, Any]) -> str:
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def read_small(path: Path) -> bytes:
    """The bytes of a file, of one too large for a manifest only so many that this shows."""
    with path.open("rb") as file:
        return file.read(LARGEST + 1)
