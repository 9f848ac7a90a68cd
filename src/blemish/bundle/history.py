"""The history of a bundle: what each version was, for people and programs to read."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any

from blemish.bundle.manifest import Manifest
from blemish.bundle.reading import read_manifest, read_versions


@dataclass(frozen=True)
class HistoryEntry:
    """One version: when, by whom, why and what; how many templates, which threshold at which rate.

    `added` and `removed` are ids of templates; `restored` is the version a rollback brought back.
    `promise` is `none` for a threshold set by hand, and None where there is no threshold.
    """

    version: int
    created: str
    kind: str
    by: str
    note: str
    added: tuple[str, ...]
    removed: tuple[str, ...]
    restored: int | None
    templates: int
    threshold: float | None
    false_alarm_rate: float | None
    review_threshold: float | None = None
    promise: str | None = None

    @classmethod
    def of(cls, manifest: Manifest) -> HistoryEntry:
        """The entry of a version's manifest."""
        change, calibration = manifest.change, manifest.calibration
        return cls(
            version=manifest.version,
            created=manifest.created,
            kind=change.kind,
            by=change.by,
            note=change.note,
            added=tuple(change.added),
            removed=tuple(change.removed),
            restored=change.restored,
            templates=len(manifest.templates),
            threshold=None if calibration is None else calibration.threshold,
            false_alarm_rate=None if calibration is None else calibration.false_alarm_rate,
            review_threshold=None if calibration is None else calibration.review_threshold,
            promise=None if calibration is None else calibration.promise,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def read_history(folder: str | os.PathLike[str]) -> tuple[HistoryEntry, ...]:
    """Every version of the bundle at `folder`, oldest first."""
    manifest = read_manifest(folder)
    found = [manifest, *read_versions(folder, manifest)]
    return tuple(HistoryEntry.of(version) for version in reversed(found))
