"""The outbox: results on their way to sinks, written with the inspections, in the database."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, text, update
from sqlalchemy.sql.elements import ColumnElement

from blemish.station.errors import ConflictError, UnknownError
from blemish.station.store import Database, Judged, now
from blemish.station.store.inspections import several
from blemish.station.store.tables import DeliveryRow

# Written out: with a bound value the database could not tell that its index of these will do.
_WAITING = text("deliveries.state = 'waiting'")
_LONGEST_ERROR = 500  # characters that are kept of what went wrong


@dataclass(frozen=True)
class Delivery:
    """A result that has not reached its sink yet."""

    id: str
    judged: Judged
    tries: int
    next_try: datetime
    last_error: str | None = None


def waiting(database: Database, station: str, sink: str, limit: int) -> list[Delivery]:
    """The oldest deliveries that a station has for a sink."""
    query = (
        select(DeliveryRow)
        .where(_WAITING, DeliveryRow.sink == sink, DeliveryRow.station == station)
        .order_by(DeliveryRow.id)
        .limit(limit)
    )
    with database.reading() as session:
        rows = list(session.scalars(query))
    judged = several(database, {row.inspection_id for row in rows})
    return [
        Delivery(row.id, judged[row.inspection_id], row.tries, row.next_try, row.last_error)
        for row in rows
        if row.inspection_id in judged
    ]


def settle(database: Database, keys: Iterable[str]) -> None:
    """These have reached their sink."""
    sent = {"state": "sent", "tries": DeliveryRow.tries + 1, "last_error": None, "ended_at": now()}
    with database.writing() as session:
        session.execute(update(DeliveryRow).where(DeliveryRow.id.in_(list(keys))).values(sent))


def put_off(database: Database, delivery: Delivery, error: str, until: datetime | None) -> None:
    """The sink did not take this one: try again at `until`; None makes it a dead letter."""
    values = {"tries": delivery.tries + 1, "last_error": _storable(error)} | (
        {"state": "dead", "ended_at": now()} if until is None else {"next_try": until}
    )
    with database.writing() as session:
        session.execute(update(DeliveryRow).where(DeliveryRow.id == delivery.id).values(values))


def note(database: Database, delivery: Delivery, error: str) -> None:
    """Keep why this one still waits, where no try is counted against it."""
    values = {"last_error": _storable(error)}
    with database.writing() as session:
        session.execute(update(DeliveryRow).where(DeliveryRow.id == delivery.id).values(values))


def counts(database: Database, station: str, sink: str) -> dict[str, int]:
    """How many of a station's deliveries to a sink wait, and how many are dead."""
    ours = (DeliveryRow.sink == sink, DeliveryRow.station == station)
    with database.reading() as session:
        found = {}
        for name, state in (("waiting", _WAITING), ("dead", DeliveryRow.state == "dead")):
            query = select(func.count()).select_from(DeliveryRow).where(state, *ours)
            found[name] = session.scalar(query) or 0
    return found


# Dead letters ---------------------------------------------------------------------------


def dead_letters(
    database: Database, *, sink: str | None = None, limit: int = 50, after: str | None = None
) -> list[DeliveryRow]:
    """Deliveries that were given up, newest first; `after` is the id of the last one had before."""
    query = select(DeliveryRow).where(DeliveryRow.state == "dead")
    if sink is not None:
        query = query.where(DeliveryRow.sink == sink)
    if after is not None:
        query = query.where(DeliveryRow.id < after)
    with database.reading() as session:
        return list(session.scalars(query.order_by(DeliveryRow.id.desc()).limit(limit)))


def resend(database: Database, delivery_id: str) -> None:
    """Send a dead letter again; raises UnknownError, or ConflictError where it is not dead."""
    with database.writing() as session:
        row = session.get(DeliveryRow, delivery_id)
        if row is None:
            raise UnknownError(f"there is no delivery '{delivery_id[:80]}' in this store")
        if row.state != "dead":
            raise ConflictError(
                f"the delivery '{delivery_id}' is {row.state}, and only a dead one can be sent "
                "again; wait for its next try, or send it again once it is dead"
            )
        session.execute(update(DeliveryRow).where(DeliveryRow.id == delivery_id).values(_afresh()))


def resend_all(database: Database, sink: str, *, station: str | None = None) -> int:
    """Send all dead letters of a sink again, of one station or of all; returns how many."""
    dead: list[ColumnElement[bool]] = [DeliveryRow.state == "dead", DeliveryRow.sink == sink]
    if station is not None:
        dead.append(DeliveryRow.station == station)
    with database.writing() as session:
        found = session.scalar(select(func.count()).select_from(DeliveryRow).where(*dead)) or 0
        session.execute(update(DeliveryRow).where(*dead).values(_afresh()))
    return found


def _afresh() -> dict[str, object]:
    return {"state": "waiting", "tries": 0, "next_try": now(), "ended_at": None}


def _storable(error: str) -> str:
    return error.replace("\0", "")[:_LONGEST_ERROR]
