"""The watch over drift: looks at the last parts of each inspector, raises alarms and ends them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from sqlalchemy import Select, select

from blemish.errors import BlemishError
from blemish.imaging import measured
from blemish.inspector import Inspector
from blemish.station.drift.measures import (
    CALIBRATION,
    CAMERA,
    FEWEST,
    FIRST_PARTS,
    Finding,
    Reference,
    References,
    Window,
    look,
)
from blemish.station.drift.ranks import rejected
from blemish.station.parts import Every, PartHealth
from blemish.station.settings import DriftSettings
from blemish.station.shelf import Held, Shelf
from blemish.station.store import Database, new_id, now
from blemish.station.store.tables import AlarmRow, DecisionRow, InspectionRow

MOST_PICTURES = 300  # of a calibration set that are measured: once a version, evenly chosen
_MEASURES = ("score", "p_value", *CAMERA)


@dataclass
class _Known:
    """What is kept of an inspector's present version between two looks."""

    bundle: str
    references: References | None = None  # None: not asked for yet
    whole: bool = False  # whether they can still become more
    newest: str | None = None


@dataclass
class DriftWatch:
    """Compares the last `settings.window` parts that this station saw with each calibration set.

    All tests of one look share `settings.false_alarm_rate`. An alarm is raised once, lasts as long
    as its measure is away, and ends when a full window has come since it last was. A part of the
    station (`part`); `look` may be called by hand.
    """

    database: Database
    shelf: Shelf
    settings: DriftSettings
    station: str
    _known: dict[str, _Known] = field(default_factory=dict)

    def part(self) -> Every:
        """Looks every `settings.every_s` while the station runs."""
        return _Watching(self)

    def look(self) -> None:
        """One look at all inspectors of which parts have come since the last one.

        Raises what one of them could not be looked at for, after the others were.
        """
        looked: list[tuple[Held, Window, Finding]] = []
        problem: BlemishError | None = None
        for held in self.shelf.held:
            try:
                window = self._window_of(held)
                if window is not None:
                    references = self._references_of(held, window)
                    looked += [(held, window, finding) for finding in look(window, references)]
            except BlemishError as error:
                problem = error
        away = rejected(
            [finding.p_value for _, _, finding in looked], self.settings.false_alarm_rate
        )
        for (held, window, finding), is_away in zip(looked, away, strict=True):
            self._told(held.name, window, finding, is_away and finding.large)
        if problem is not None:
            raise problem

    def open_alarms(self) -> list[AlarmRow]:
        """This station's alarms that have not ended, oldest first."""
        query = select(AlarmRow).where(
            AlarmRow.ended_at.is_(None), AlarmRow.station == self.station
        )
        with self.database.reading() as session:
            return list(session.scalars(query.order_by(AlarmRow.id)))

    # Reading --------------------------------------------------------------------------------

    def _window_of(self, held: Held) -> Window | None:
        """The last parts of an inspector's present version; None: too few, or none is new."""
        known = self._known.get(held.name)
        if known is None or known.bundle != held.live.bundle_sha256:
            known = self._known[held.name] = _Known(held.live.bundle_sha256)
        key = InspectionRow.id
        with self.database.reading() as session:
            newest = session.scalar(self._parts(held, key).order_by(key.desc()).limit(1))
        if newest is None or newest == known.newest:
            return None
        window = self._read(held, newest_first=True)
        if len(window.ids) < self.settings.window:
            return None
        known.newest = newest
        return window

    def _parts(self, held: Held, *columns: Any) -> Select[Any]:
        row = InspectionRow
        return select(*columns).where(
            row.station == self.station,
            row.inspector == held.name,
            row.version == held.live.version,
            row.score.is_not(None),
        )

    def _read(self, held: Held, *, newest_first: bool) -> Window:
        row = InspectionRow
        columns = [getattr(row, name) for name in _MEASURES]
        order = row.id.desc() if newest_first else row.id
        parts = self._parts(held, row.id, row.verdict, *columns).order_by(order)
        part = parts.limit(self.settings.window).subquery()
        query = (
            select(part, DecisionRow.decision)
            .join(DecisionRow, DecisionRow.inspection_id == part.c.id, isouter=True)
            .order_by(part.c.id, DecisionRow.id)
        )
        with self.database.reading() as session:
            found = list({one.id: one for one in session.execute(query)}.values())
        return Window(
            ids=tuple(one.id for one in found),
            values={
                name: np.array([getattr(one, name) for one in found], np.float64)
                for name in _MEASURES
            },
            passed=np.array(
                [one.verdict in ("pass", "review") and one.decision != "fail" for one in found],
                np.bool_,
            ),
        )

    def _references_of(self, held: Held, window: Window) -> References:
        """What the calibration has, and for what it lacks the version's first parts."""
        known = self._known[held.name]
        if known.references is None:
            known.references = calibration_references(held.inspector)
        references = known.references
        missing = [name for name in ("score", *CAMERA) if name not in references.by_measure]
        if not missing or known.whole:
            return references
        first = self._read(held, newest_first=False)
        if first.ids[-1] >= window.ids[0]:
            return references  # a window must not be compared with itself
        source = FIRST_PARTS.format(parts=len(first.ids), version=held.live.version)
        values = {name: first.of(name) for name in missing}
        more = {
            name: Reference(found, source) for name, found in values.items() if len(found) >= FEWEST
        }
        known.references = replace(references, by_measure={**references.by_measure, **more})
        known.whole = True
        return known.references

    # Telling --------------------------------------------------------------------------------

    def _told(self, inspector: str, window: Window, finding: Finding, away: bool) -> None:
        """Raise an alarm, let it last, or end it."""
        query = select(AlarmRow).where(
            AlarmRow.inspector == inspector,
            AlarmRow.station == self.station,
            AlarmRow.measure == finding.measure,
            AlarmRow.ended_at.is_(None),
        )
        with self.database.reading() as session:
            known = session.scalar(query)
        evidence = finding.evidence | {"last_part": window.ids[-1]}
        if known is None and not away:
            return
        with self.database.writing() as session:
            if known is None:
                session.add(
                    AlarmRow(
                        id=new_id(), station=self.station, inspector=inspector,
                        measure=finding.measure, message=finding.message, evidence=evidence,
                        raised_at=now(),
                    )
                )  # fmt: skip
                return
            known = session.get_one(AlarmRow, known.id)
            if away:
                known.evidence = {**known.evidence, "last_part": window.ids[-1]}
            elif window.ids[0] > known.evidence["last_part"]:
                known.ended_at = now()


class _Watching(Every):
    def __init__(self, watch: DriftWatch) -> None:
        self._watch = watch
        super().__init__("drift", watch.settings.every_s, watch.look)

    def health(self) -> list[PartHealth]:
        """Whether the last look went well, and how many alarms there are."""
        try:
            alarms = len(self._watch.open_alarms())
        except BlemishError:
            return super().health()
        return [
            replace(entry, counts=entry.counts | {"alarms": alarms}) for entry in super().health()
        ]


def calibration_references(inspector: Inspector) -> References:
    """What the good parts of an inspector's calibration were like: scores, and their pictures.

    Pictures, where the bundle holds them, have been aligned: they tell no residual.
    """
    found: dict[str, Reference] = {}
    calibration = inspector.calibration
    scores = np.array(() if calibration is None else calibration.scores, np.float64)
    if len(scores) >= FEWEST:
        found["score"] = Reference(scores, CALIBRATION)
    pictures = _measured_pictures(inspector)
    if len(pictures) >= FEWEST:
        for name in ("brightness", "sharpness"):
            values = np.array([one[name] for one in pictures], np.float64)
            found[name] = Reference(values, CALIBRATION)
    return References(found, scores)


def _measured_pictures(inspector: Inspector) -> list[dict[str, float]]:
    snapshot = inspector.snapshot()
    kept = [key for key in snapshot.manifest.good if key in snapshot.pictures]
    if len(kept) > MOST_PICTURES:
        kept = [kept[index] for index in np.linspace(0, len(kept) - 1, MOST_PICTURES).astype(int)]
    found = []
    for key in kept:
        pixels, inside = snapshot.pictures[key], snapshot.pictures.inside(key)
        fits = inside is not None and inside.shape == pixels.shape[:2]
        found.append(measured(pixels, inside if fits else None))
    return found
