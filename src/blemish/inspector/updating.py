"""Hot update: templates come and go by id, and the threshold follows; the version before stays.

Nothing here changes anything: each function gives the next version from the present one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any

from blemish.bundle import (
    MEASUREMENT,
    PICTURES,
    ChangeRecord,
    Content,
    Kind,
    Manifest,
    StepRecord,
    TemplateRecord,
    Tensors,
    pack,
)
from blemish.detectors import Detector, Inside
from blemish.errors import CalibrationError, NoImagesError, ParameterError
from blemish.imaging import ImageSequence, Progress, silent
from blemish.inspector.calibrating import ID, calibrate, own_templates
from blemish.inspector.pictures import Chosen, Pictures
from blemish.inspector.snapshot import (
    Snapshot,
    Version,
    calibration_record,
    recorded_rule,
    rule_record,
)
from blemish.verdict import Calibration, Rule

SHORTEST = 4  # hexadecimal digits of an id that may stand for it
# So many changes are replayed on loading; then the template set is written whole again.
MOST_STEPS = 32
NO_PICTURES = (
    "It has no threshold: the pictures of the good parts were not kept. Give good parts to "
    "calibrate on; until then every verdict is review."
)
_BATCH = 8


@dataclass(frozen=True)
class Update:
    """What an update did.

    `skipped` are the sources that were templates already; `notes` say what a person must know;
    `seconds` went to `features` of the added images, to the `templates`, to `measuring` how good
    parts vary, and to `calibration`.
    """

    version: int
    added: tuple[TemplateRecord, ...] = ()
    removed: tuple[TemplateRecord, ...] = ()
    skipped: tuple[str, ...] = ()
    calibration: Calibration | None = None
    notes: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Who:
    """Who makes a version, and why."""

    by: str = ""
    note: str = ""


def updated(
    now: Snapshot,
    images: ImageSequence | None,
    remove: Sequence[str],
    who: Who,
    *,
    progress: Progress = silent,
) -> tuple[Snapshot, Update]:
    """The next version, not calibrated yet, with `images` learned and the ids `remove` gone.

    Pictures that are templates already are skipped; with nothing left to do, `now` comes back.
    """
    manifest = now.manifest
    if not now.detector.updates:
        raise ParameterError(now.detector.no_update())
    digests = [] if images is None else [found[:ID] for found in images.digests(progress)]
    fresh, skipped = _fresh(digests, manifest.templates)
    gone = sorted({find_template(manifest.templates, key) for key in remove})
    names = () if images is None else tuple(images.name(index) for index in skipped)
    if not fresh and not gone:
        return now, Update(manifest.version, skipped=names, calibration=now.calibration)

    seconds: dict[str, float] = {}
    started = time.perf_counter()
    sheets: Tensors = {}
    if images is not None and fresh:
        sheets = now.detector.sheets_of(images, fresh, progress)
    seconds["features"] = time.perf_counter() - started
    started = time.perf_counter()
    detector = now.detector.added(sheets, len(fresh)) if fresh else now.detector
    detector = detector.removed(gone) if gone else detector
    seconds["templates"] = time.perf_counter() - started
    number, time_now = manifest.version + 1, timestamp()
    added = tuple(
        TemplateRecord(
            id=digests[index], source=images.name(index), added=time_now, version=number,
            by=who.by, note=who.note,
        )
        for index in fresh
        if images is not None
    )  # fmt: skip
    templates = [*manifest.templates, *added]
    removed = tuple(templates[index] for index in gone)
    lost = {template.id for template in removed}
    step = StepRecord(part=f"added-{number}" if fresh else None, samples=len(fresh), removed=gone)
    pictures = now.pictures
    if images is not None and fresh:
        pictures = pictures.having([digests[i] for i in fresh], _Chosen(images, fresh))
    ids = [template.id for template in added]
    change = ChangeRecord(
        kind="update", by=who.by, note=who.note, added=ids,
        removed=[template.id for template in removed],
    )  # fmt: skip
    following = manifest.model_copy(
        update={
            "version": number,
            "created": time_now,
            "parent": None,
            "change": change,
            "templates": [template for template in templates if template.id not in lost],
            "good": [key for key in dict.fromkeys([*manifest.good, *ids]) if key not in lost],
            "calibration": None,
            "steps": [*manifest.steps, step],
            "files": {
                part: record
                for part, record in manifest.files.items()
                if part.partition("-")[0] != MEASUREMENT
            },
        }
    )
    contents: dict[str, Content] = {}
    if fresh:
        contents[f"added-{number}"] = _packed(sheets)
        if keeps_pictures(now.version):
            contents[f"{PICTURES}-{number}"] = picture_content(pictures, ids)
    started = time.perf_counter()
    detector = _measured(detector, following.templates, pictures, gone)
    seconds["measuring"] = time.perf_counter() - started
    started = time.perf_counter()
    measurement = detector.measurement()
    if measurement:
        contents[f"{MEASUREMENT}-{number}"] = _packed(measurement)
    earlier = {
        part: content
        for part, content in now.version.contents.items()
        if part.partition("-")[0] != MEASUREMENT
    }
    version = Version(following, now.version.base, {**earlier, **contents})
    if len(following.steps) > MOST_STEPS:
        version, detector = _written_whole(version, detector)
    seconds["templates"] += time.perf_counter() - started
    snapshot = Snapshot(version, detector, None, pictures)
    return snapshot, Update(number, added, removed, names, seconds=seconds)


def recalibrated(
    now: Snapshot, before: Snapshot, rate: float | None, progress: Progress = silent
) -> tuple[Snapshot, tuple[str, ...]]:
    """`now` with the thresholds that its good images give, and what a person must know about them.

    Without a `rate` what was asked of `before` is kept: the same promise, or the threshold set by
    hand. Where that cannot be done, the version has no threshold.
    """
    rule = asked_rule(before, rate)
    if rule is None:
        return now, ("It has no threshold, as before: every verdict is review until calibrated.",)
    if not _pictures_at_hand(now):
        found, note = _unscored(before, rule, NO_PICTURES)
        return with_calibration(now, found, rule), (note,)
    # A review threshold set by hand may not fit the new scores, which is no reason to lose both.
    first = rule if rule.promise == "none" else replace(rule, review_threshold=None)
    try:
        scores = scored(now, first, progress)
    except (CalibrationError, NoImagesError) as error:
        if rate is not None:
            raise
        told = f"It has no threshold: {error} Until then every verdict is review."
        found, note = _unscored(before, rule, told)
        return with_calibration(now, found, rule), (note,)
    try:
        found, notes = scores.under(rule), _by_hand(scores)
    except ParameterError as error:
        if rate is not None:
            raise
        found, notes = scores, (f"It has no review threshold: {error}.",)
    return with_calibration(now, found, rule), notes


def asked_rule(now: Snapshot, rate: float | None) -> Rule | None:
    """What was asked of the thresholds last, at another `rate` if one is given."""
    rule = recorded_rule(now.manifest)
    if rate is None:
        return rule
    return Rule(false_alarm_rate=rate) if rule is None else rule.at(rate)


def scored(now: Snapshot, rule: Rule, progress: Progress = silent) -> Calibration:
    """The calibration by `rule` on the version's good images, each left out of the templates."""
    if not _pictures_at_hand(now):
        raise CalibrationError(
            "This inspector kept no calibration scores; give a folder of good parts"
        )
    good = now.manifest.good
    own = own_templates(good, now.manifest.templates)
    return calibrate(now.detector, Chosen(now.pictures, good), own, rule, progress)


def _unscored(before: Snapshot, rule: Rule, note: str) -> tuple[Calibration | None, str]:
    """What is left where the good images cannot be scored: a threshold set by hand, or nothing."""
    kept = before.calibration
    if rule.promise != "none" or kept is None:
        return None, note
    return replace(kept, scores=(), peaks=()), (
        f"Its threshold {kept.threshold:.4g} was set by hand and is kept; without scores of good "
        "parts there are no p-values. Give good parts to calibrate on."
    )


def _by_hand(found: Calibration) -> tuple[str, ...]:
    if found.promise != "none":
        return ()
    note = (
        f"Its threshold {found.threshold:.4g} was set by hand and is kept: it rejects "
        f"{found.rejected} of {len(found.scores)} good parts, and nothing is promised."
    )
    return (note,)


def with_calibration(now: Snapshot, calibration: Calibration | None, rule: Rule | None) -> Snapshot:
    """A snapshot with another calibration, of which `rule` was asked."""
    changes = {"calibration": calibration_record(calibration), **rule_record(rule)}
    manifest = now.manifest.model_copy(update=changes)
    return replace(now, version=replace(now.version, manifest=manifest), calibration=calibration)


def with_good(now: Snapshot, images: ImageSequence, ids: Sequence[str]) -> Snapshot:
    """A snapshot whose calibration scores `images`, which have `ids`."""
    manifest, version = now.manifest, now.version
    templates = [template.id for template in manifest.templates]
    pictures = now.pictures.having(ids, images)
    contents = dict(version.contents)
    if keeps_pictures(version):
        first = PICTURES in contents  # what `fit` was shown is not written yet
        known = set() if first else {*manifest.good, *templates}
        missing = [key for key in dict.fromkeys([*templates, *ids]) if key not in known]
        part = PICTURES if first else f"{PICTURES}-{manifest.version}"
        if first or missing:
            contents[part] = picture_content(pictures, missing)
    manifest = manifest.model_copy(update={"good": list(ids)})
    return replace(
        now, version=replace(version, manifest=manifest, contents=contents), pictures=pictures
    )


def next_version(
    now: Snapshot, content: Manifest, kind: Kind, who: Who, *, restored: int | None = None
) -> Manifest:
    """A manifest of the next version number with what `content` holds."""
    change = ChangeRecord(kind=kind, by=who.by, note=who.note, restored=restored)
    return content.model_copy(
        update={
            "version": now.manifest.version + 1,
            "created": timestamp(),
            "change": change,
            "parent": None,
        }
    )


def find_template(templates: Sequence[TemplateRecord], key: str) -> int:
    """The position of the template whose id is or begins with `key`; raises ParameterError."""
    asked = key.strip().lower()
    if len(asked) < SHORTEST:
        raise ParameterError(
            f"'{key}' is too short to name a template; give {SHORTEST} characters of its id or more"
        )
    found = [index for index, record in enumerate(templates) if record.id.startswith(asked)]
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(templates[index].id for index in found[:4])
        raise ParameterError(
            f"'{key}' could be {len(found)} templates ({ids}); give more of the id"
        )
    near = get_close_matches(asked, [record.id for record in templates], n=3, cutoff=0.3)
    meant = f"; did you mean {' or '.join(near)}?" if near else ""
    raise ParameterError(
        f"there is no template '{key}' among the {len(templates)} there are{meant}"
    )


def keeps_pictures(version: Version) -> bool:
    """Whether a version's bundle holds pictures, or will."""
    return bool(version.manifest.picture_parts) or any(
        part == PICTURES or part.startswith(f"{PICTURES}-") for part in version.contents
    )


def picture_content(pictures: Pictures, ids: Sequence[str]) -> Content:
    """The file that holds the pictures `ids`, made when it is written."""
    return lambda: pack(pictures.encoded(ids))


def timestamp() -> str:
    """Now, as ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _pictures_at_hand(now: Snapshot) -> bool:
    good = now.manifest.good
    return bool(good) and all(key in now.pictures for key in good)


class _Chosen(Sequence[Any]):
    """The images at `positions` of a longer sequence."""

    def __init__(self, images: ImageSequence, positions: Sequence[int]) -> None:
        self._images, self._positions = images, positions

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, index: Any) -> Any:
        return self._images[self._positions[index]]

    def inside(self, index: int) -> Inside:
        """Which pixels of an image's map count; None: all."""
        return self._images.inside(self._positions[index])


def _fresh(
    digests: Sequence[str], templates: Sequence[TemplateRecord]
) -> tuple[list[int], list[int]]:
    """Positions of the pictures that are new, each once, and of the others."""
    known = {template.id for template in templates}
    fresh: list[int] = []
    others: list[int] = []
    for index, key in enumerate(digests):
        (others if key in known else fresh).append(index)
        known.add(key)
    return fresh, others


def _measured(
    detector: Detector,
    templates: Sequence[TemplateRecord],
    pictures: Pictures,
    gone: Sequence[int],
) -> Detector:
    """The detector with how good parts vary measured anew: templates that come or go change it.

    Without their pictures it stays what it was.
    """
    own = detector.wanted_to_measure()
    ids = [templates[index].id for index in own]
    if not all(key in pictures for key in ids):
        return detector.renumbered(gone)
    return detector.measured(Chosen(pictures, ids), own)


def _packed(sheets: Tensors) -> Content:
    return lambda: pack(sheets)


def _written_whole(version: Version, detector: Detector) -> tuple[Version, Detector]:
    """The version with its template set as one file, and the detector as loading gives it."""
    manifest = version.manifest
    steps = {step.part for step in manifest.steps}
    whole = detector.whole()
    files = {
        part: record
        for part, record in manifest.files.items()
        if part not in steps and part not in manifest.state_parts
    }
    contents = {
        part: made
        for part, made in version.contents.items()
        if part not in steps and part.partition("-")[0] != MEASUREMENT
    }
    manifest = manifest.model_copy(update={"steps": [], "files": files})
    return Version(manifest, whole, contents), whole
