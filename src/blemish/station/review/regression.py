"""The regression set: parts of known verdict, judged again before each new version goes live."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import select

from blemish.errors import ImageError
from blemish.inspector import Inspector
from blemish.station.errors import ConflictError, RefusedError, UnknownError
from blemish.station.people import Person
from blemish.station.store import Database, PictureStore, new_id, now
from blemish.station.store.tables import InspectionRow, RegressionRow

Outcome = Literal["right", "mended", "still wrong", "worse"]


@dataclass(frozen=True)
class Rejudged:
    """What the version before and the new one made of a part that should `expected`."""

    part: RegressionRow
    before: str
    after: str

    @property
    def outcome(self) -> Outcome:
        """`worse` is what keeps a new version from going live."""
        right_before, right_after = (self._right(verdict) for verdict in (self.before, self.after))
        if right_after:
            return "right" if right_before else "mended"
        return "worse" if right_before else "still wrong"

    def _right(self, verdict: str) -> bool:
        # A missed defect is caught where a person looks at it, too; a good part is to pass.
        return (verdict == "pass") == (self.part.expected == "pass")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a change's report."""
        return {
            "id": self.part.id,
            "inspection_id": self.part.inspection_id,
            "expected": self.part.expected,
            "before": self.before,
            "after": self.after,
            "outcome": self.outcome,
        }


def add(
    database: Database, inspection: InspectionRow, expected: str, person: Person, note: str
) -> RegressionRow:
    """Put a part into its inspector's set; raises ConflictError where its image is in it."""
    row = RegressionRow(
        id=new_id(),
        inspector=inspection.inspector,
        inspection_id=inspection.id,
        image_sha256=inspection.image_sha256,
        expected=expected,
        added_by=person.name,
        added_at=now(),
        note=note,
    )
    with database.writing() as session:
        same = select(RegressionRow).filter_by(
            inspector=inspection.inspector, image_sha256=inspection.image_sha256, removed_at=None
        )
        if (known := session.scalar(same)) is not None:
            if known.expected == expected:
                return known
            raise ConflictError(
                f"this picture is in the regression set already, as one that should "
                f"{known.expected}; take it out first"
            )
        session.add(row)
    return row


def remove(database: Database, key: str, person: Person) -> None:
    """Take a part out of the set; it stays on record. Raises UnknownError."""
    with database.writing() as session:
        row = session.scalar(select(RegressionRow).filter_by(id=key, removed_at=None))
        if row is None:
            raise UnknownError(f"there is no part '{key}' in the regression set")
        row.removed_at, row.removed_by = now(), person.name


def parts_of(database: Database, inspector: str) -> list[RegressionRow]:
    """The set of an inspector, oldest first."""
    query = select(RegressionRow).filter_by(inspector=inspector, removed_at=None)
    with database.reading() as session:
        return list(session.scalars(query.order_by(RegressionRow.id)))


def rejudge(
    parts: Sequence[RegressionRow], pictures: PictureStore, before: Inspector, after: Inspector
) -> list[Rejudged]:
    """Each part as both versions judge it."""
    found = []
    for part in parts:
        try:
            data = pictures.image(part.image_sha256)
        except UnknownError as error:
            raise RefusedError(
                f"the picture of part {part.inspection_id} in the regression set is gone, so that "
                "no version can be proved on it; take the part out of the set, or restore it"
            ) from error
        found.append(Rejudged(part, _verdict(before, data), _verdict(after, data)))
    return found


def _verdict(inspector: Inspector, data: bytes) -> str:
    try:
        return inspector.inspect(data).verdict
    except ImageError:
        return "error"
