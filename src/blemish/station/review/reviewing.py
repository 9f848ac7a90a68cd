"""Decisions, candidates and changes: each is put on record with who and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from blemish.errors import ParameterError
from blemish.imaging import read_samples
from blemish.inspector import Inspector
from blemish.station.errors import ConflictError, NotAllowedError, RefusedError, UnknownError
from blemish.station.people import Person
from blemish.station.review import regression
from blemish.station.review.regression import Rejudged
from blemish.station.store import Judged, new_id, now
from blemish.station.store.inspections import find
from blemish.station.store.tables import CandidateRow, ChangeRow, DecisionRow, RegressionRow
from blemish.verdict import Rule

if TYPE_CHECKING:
    from blemish.station.core import Station


@dataclass(frozen=True)
class Changing:
    """A change of an inspector: by whom and why, who proposed it, and whether it must go live.

    With `force` it goes live though the regression set is judged worse.
    """

    kind: str
    person: Person
    note: str = ""
    proposed_by: str | None = None
    force: bool = False


class Reviewing:
    """What people say of parts, and the changes that follow.

    Raises NotAllowedError for somebody whose role is too low, UnknownError for what is not there.
    """

    def __init__(self, station: Station) -> None:
        self._station = station
        self._database = station.database

    # Parts ----------------------------------------------------------------------------------

    def decide(self, key: str, decision: str, person: Person, note: str = "") -> DecisionRow:
        """Say that a part is good (`pass`) or bad (`fail`), whatever its verdict was."""
        person.check("operator")
        if decision not in {"pass", "fail"}:
            raise ParameterError(f"'{decision}' is no decision; give pass or fail")
        find(self._database, key)
        row = DecisionRow(
            id=new_id(), inspection_id=key, decision=decision, by=person.name, note=note,
            decided_at=now(),
        )  # fmt: skip
        with self._database.writing() as session:
            session.add(row)
        return row

    def missed(self, key: str, person: Person, note: str = "") -> RegressionRow:
        """A defect was let through: the part fails, and no new version may do worse on it."""
        return self._must_be(key, "fail", person, note)

    def false_alarm(self, key: str, person: Person, note: str = "") -> RegressionRow:
        """A good part was stopped: it passes, and no new version may do worse on it."""
        return self._must_be(key, "pass", person, note)

    def propose(self, key: str, person: Person, note: str = "") -> CandidateRow:
        """A good part that a second person may make a template; it is decided to pass."""
        person.check("operator")
        judged = find(self._database, key)
        self._image_of(judged)
        row = CandidateRow(
            id=new_id(), inspection_id=key, inspector=judged.row.inspector, state="waiting",
            proposed_by=person.name, proposed_at=now(), note=note, answer="",
        )  # fmt: skip
        try:
            with self._database.writing() as session:
                session.add(row)
        except IntegrityError as error:
            raise ConflictError("this part waits for a second person already") from error
        self._decide_once(judged, "pass", person, note)
        return row

    # Candidates -----------------------------------------------------------------------------

    def candidates(
        self, state: str | None = None, inspector: str | None = None
    ) -> list[CandidateRow]:
        """Proposed parts: those that wait oldest first, others newest first."""
        query = select(CandidateRow)
        if state is not None:
            query = query.filter_by(state=state)
        if inspector is not None:
            query = query.filter_by(inspector=inspector)
        order = CandidateRow.id if state == "waiting" else CandidateRow.id.desc()
        with self._database.reading() as session:
            return list(session.scalars(query.order_by(order).limit(500)))

    def candidate(self, key: str) -> CandidateRow:
        """One candidate; raises UnknownError."""
        with self._database.reading() as session:
            row = session.get(CandidateRow, key)
        if row is None:
            raise UnknownError(f"there is no candidate '{key}'")
        return row

    def approve(
        self, key: str, person: Person, note: str = "", *, force: bool = False
    ) -> ChangeRow:
        """Make a candidate a template of a new version, which goes live.

        It takes another person than who proposed it. Raises ConflictError for one that is decided,
        RefusedError where the regression set is judged worse.
        """
        person.check("engineer")
        candidate = self._waiting(key)
        if candidate.proposed_by == person.name:
            raise NotAllowedError(
                f"{person.name} has proposed this part; another person has to approve it"
            )
        path = self._image_of(find(self._database, candidate.inspection_id))
        why = f"candidate {key}" + (f": {note or candidate.note}" if note or candidate.note else "")
        changing = Changing("update", person, why, candidate.proposed_by, force)

        def learn(inspector: Inspector) -> list[str]:
            return list(inspector.update(add=[path], by=person.name, note=why).notes)

        change = self._change(candidate.inspector, changing, learn)
        self._close(key, "approved", person, note, change.after)
        return change

    def reject(self, key: str, person: Person, note: str = "") -> CandidateRow:
        """Leave a candidate out; an engineer, or who proposed it."""
        candidate = self._waiting(key)
        if candidate.proposed_by != person.name:
            person.check("engineer")
        self._close(key, "rejected", person, note, None)
        return self.candidate(key)

    # Inspectors -----------------------------------------------------------------------------

    def set_thresholds(
        self, inspector: str, rule: Rule, person: Person, note: str = "", *, force: bool = False
    ) -> ChangeRow:
        """Set the thresholds by a promise or by hand; no template changes."""
        person.check("engineer")

        def set_by(copy: Inspector) -> list[str]:
            if rule.threshold is not None:
                copy.set_threshold(
                    rule.threshold, review=rule.review_threshold, by=person.name, note=note
                )
            else:
                copy.calibrate(
                    false_alarm_rate=rule.false_alarm_rate or 0.01, confidence=rule.confidence,
                    review_rate=rule.review_rate, review_threshold=rule.review_threshold,
                    by=person.name, note=note,
                )  # fmt: skip
            return []

        kind = "threshold" if rule.threshold is not None else "calibrate"
        return self._change(inspector, Changing(kind, person, note, force=force), set_by)

    def update(
        self,
        inspector: str,
        person: Person,
        *,
        add: Sequence[bytes] = (),
        remove: Sequence[str] = (),
        note: str = "",
        force: bool = False,
    ) -> ChangeRow:
        """Learn images and forget templates: a new version, which goes live."""
        person.check("engineer")
        if not add and not remove:
            raise ParameterError("give images to add, or ids of templates to remove")
        for data in add:
            read_samples(data)  # says what is wrong with it before it is kept
        pictures = self._station.pictures
        paths = [pictures.image_path(pictures.put_image(data)) for data in add]

        def learn(copy: Inspector) -> list[str]:
            found = copy.update(add=paths or None, remove=remove, by=person.name, note=note)
            return [*found.notes, *(f"It was a template already: {one}" for one in found.skipped)]

        return self._change(inspector, Changing("update", person, note, force=force), learn)

    def roll_back(
        self, inspector: str, version: int, person: Person, note: str = "", *, force: bool = False
    ) -> ChangeRow:
        """Bring an older version back, as a new one."""
        person.check("engineer")

        def restore(copy: Inspector) -> list[str]:
            copy.rollback(version, by=person.name, note=note)
            return []

        return self._change(inspector, Changing("rollback", person, note, force=force), restore)

    def regression(self, inspector: str) -> list[RegressionRow]:
        """The regression set of an inspector."""
        return regression.parts_of(self._database, inspector)

    def forget_regression(self, key: str, person: Person) -> None:
        """Take a part out of its regression set."""
        person.check("engineer")
        regression.remove(self._database, key, person)

    def changes(self, inspector: str | None = None, limit: int = 100) -> list[ChangeRow]:
        """What was changed through stations, or refused, newest first."""
        query = select(ChangeRow)
        if inspector is not None:
            query = query.filter_by(inspector=inspector)
        with self._database.reading() as session:
            return list(session.scalars(query.order_by(ChangeRow.id.desc()).limit(limit)))

    # How a change is made -------------------------------------------------------------------

    def _change(
        self, name: str, changing: Changing, action: Callable[[Inspector], list[str]]
    ) -> ChangeRow:
        """Change a copy, judge the regression set by it, and only then let it go live."""
        held = self._station.shelf.get(name)
        found: list[Rejudged] = []
        notes: list[str] = []
        after = held.live.version
        try:
            with self._station.shelf.changing(name) as copy:
                before = copy.version
                notes = action(copy)
                parts = self.regression(name)
                found = regression.rejudge(parts, self._station.pictures, held.inspector, copy)
                after = copy.version
                worse = [one for one in found if one.outcome == "worse"]
                if worse and not changing.force:
                    raise RefusedError(_told(worse))
                if worse and not changing.note.strip():
                    raise ParameterError("say in the note why it is to go live all the same")
        except RefusedError:
            self._on_record(name, changing, "refused", held.live.version, None, found, notes)
            raise
        return self._on_record(name, changing, "live", before, after, found, notes)

    def _on_record(
        self,
        name: str,
        changing: Changing,
        outcome: str,
        before: int,
        after: int | None,
        found: list[Rejudged],
        notes: list[str],
    ) -> ChangeRow:
        report: dict[str, Any] = {"regression": [one.to_dict() for one in found], "notes": notes}
        row = ChangeRow(
            id=new_id(), inspector=name, station=self._station.settings.name, kind=changing.kind,
            outcome=outcome, before=before, after=after, by=changing.person.name,
            proposed_by=changing.proposed_by, note=changing.note, report=report, changed_at=now(),
        )  # fmt: skip
        with self._database.writing() as session:
            session.add(row)
        return row

    def _waiting(self, key: str) -> CandidateRow:
        candidate = self.candidate(key)
        if candidate.state != "waiting":
            raise ConflictError(
                f"this candidate was {candidate.state} by {candidate.decided_by} already"
            )
        return candidate

    def _close(self, key: str, state: str, person: Person, note: str, version: int | None) -> None:
        with self._database.writing() as session:
            done = session.execute(
                update(CandidateRow)
                .filter_by(id=key, state="waiting")
                .values(
                    state=state, decided_by=person.name, decided_at=now(), answer=note,
                    version=version,
                )
            )  # fmt: skip
        if not done.rowcount:  # type: ignore[attr-defined]
            raise ConflictError("somebody else has decided this candidate just now")

    def _must_be(self, key: str, expected: str, person: Person, note: str) -> RegressionRow:
        person.check("operator")
        judged = find(self._database, key)
        self._image_of(judged)
        row = regression.add(self._database, judged.row, expected, person, note)
        self._decide_once(judged, expected, person, note)
        return row

    def _decide_once(self, judged: Judged, decision: str, person: Person, note: str) -> None:
        if judged.decision is None or judged.decision.decision != decision:
            self.decide(judged.row.id, decision, person, note)

    def _image_of(self, judged: Judged) -> Path:
        if judged.row.verdict == "error":
            raise ParameterError(
                "the image of this part cannot be read: nothing can be learned of it"
            )
        self._station.pictures.image(judged.row.image_sha256)
        return self._station.pictures.image_path(judged.row.image_sha256)


def _told(worse: list[Rejudged]) -> str:
    first = worse[0]
    should = "fail" if first.part.expected == "fail" else "pass"
    others = f" and {len(worse) - 1} more" if len(worse) > 1 else ""
    return (
        f"the new version would judge {len(worse)} of the regression set worse: part "
        f"{first.part.inspection_id}, which should {should}, went from {first.before} to "
        f"{first.after}{others}; it did not go live. Look at these parts, or force it with a reason"
    )
