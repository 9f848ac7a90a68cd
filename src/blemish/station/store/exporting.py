"""Exports of inspections as CSV or Parquet, oldest first, some rows at a time however many."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from blemish.station.store.filters import Filter, conditions
from blemish.station.store.opening import Database
from blemish.station.store.tables import DecisionRow, InspectionRow, VersionRow

if TYPE_CHECKING:
    import pyarrow  # type: ignore[import-untyped]

# What a spreadsheet takes for a formula at the beginning of a cell; an apostrophe before it shows
# it as text (OWASP, CSV injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001 - wide ones too
_ROWS = 2000  # that are read in one transaction
_GROUP = 10_000  # rows of one row group of Parquet; SQLite takes three times as many values

# Columns in the order of both files: text, whole, real, time, or structured (JSON in text).
COLUMNS: dict[str, str] = {
    "id": "text", "recorded_at": "time", "station": "text", "source": "text", "inspector": "text",
    "version": "whole", "bundle_sha256": "text", "threshold_id": "whole", "part_id": "text",
    "correlation_id": "text", "image": "text", "image_sha256": "text", "width": "whole",
    "height": "whole", "score": "real", "p_value": "real", "threshold": "real",
    "review_threshold": "real", "verdict": "text", "reason": "text", "regions": "structured",
    "brightness": "real", "sharpness": "real", "residual": "real", "latency_ms": "real",
    "timings": "structured", "metadata": "structured", "error_code": "text",
    "error_message": "text", "decision": "text", "decided_by": "text", "decided_at": "time",
    "decision_note": "text",
}  # fmt: skip
_DECISION = ("decision", "decided_by", "decided_at", "decision_note")
_OF_INSPECTION = [name for name in COLUMNS if name not in (*_DECISION, "bundle_sha256")]
_ATTRIBUTES = {"metadata": "extra"}  # columns whose attribute has another name


def write_csv(database: Database, wanted: Filter, file: BinaryIO) -> int:
    """Write the wanted inspections as CSV into a binary file; returns how many."""
    return _write(csv_chunks(database, wanted), file)


def write_parquet(database: Database, wanted: Filter, file: BinaryIO) -> int:
    """Write the wanted inspections as Parquet into a binary file; returns how many."""
    return _write(parquet_chunks(database, wanted), file)


def csv_chunks(database: Database, wanted: Filter) -> Iterator[tuple[bytes, int]]:
    """CSV (RFC 4180, UTF-8) piece by piece, each with the number of its inspections.

    Times are ISO 8601, structured values JSON. Text that a spreadsheet would take for a formula
    gets an apostrophe in front.
    """
    last = _newest(database)
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    yield text.getvalue().encode(), 0
    kinds = list(COLUMNS.values())
    for rows in _batches(database, wanted, last, _ROWS):
        text.seek(0)
        text.truncate()
        for row in rows:
            writer.writerow(map(_cell, row, kinds))
        yield text.getvalue().encode(), len(rows)


def parquet_chunks(database: Database, wanted: Filter) -> Iterator[tuple[bytes, int]]:
    """A Parquet file piece by piece, a row group each, with the number of its inspections.

    Structured values are JSON in text.
    """
    import pyarrow as arrow
    import pyarrow.parquet as parquet  # type: ignore[import-untyped]

    last = _newest(database)
    schema, buffer = _schema(), _Buffer()
    with parquet.ParquetWriter(buffer, schema, compression="zstd") as writer:
        for rows in _batches(database, wanted, last, _GROUP):
            columns = zip(*rows, strict=True)
            arrays = [
                arrow.array(map(_plain, column), field.type)
                for column, field in zip(columns, schema, strict=True)
            ]
            writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))
            yield buffer.taken(), len(rows)
    yield buffer.taken(), 0


class _Buffer(io.RawIOBase):
    """What the Parquet writer has written since it was last taken; it never seeks."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Any) -> int:
        """Keep some bytes until they are taken."""
        self._parts.append(bytes(data))
        self._written += len(self._parts[-1])
        return len(self._parts[-1])

    def tell(self) -> int:
        """How many bytes were written in all."""
        return self._written

    def taken(self) -> bytes:
        """What came since the last time."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


def _write(chunks: Iterator[tuple[bytes, int]], file: BinaryIO) -> int:
    count = 0
    for data, rows in chunks:
        file.write(data)
        count += rows
    return count


def _newest(database: Database) -> str | None:
    """Where an export ends, though parts keep coming."""
    with database.reading() as session:
        return session.scalar(select(func.max(InspectionRow.id)))


def _batches(
    database: Database, wanted: Filter, last: str | None, size: int
) -> Iterator[list[tuple[Any, ...]]]:
    """The rows up to `last`, values in the order of COLUMNS; each batch is one read.

    So no read holds up the write-ahead log for long, and memory is that of one batch.
    """
    row = InspectionRow
    chosen = [getattr(row, _ATTRIBUTES.get(name, name)) for name in _OF_INSPECTION]
    query = conditions(
        select(*chosen, VersionRow.bundle_sha256).join(VersionRow, VersionRow.id == row.version_id),
        wanted,
    )
    if last is None:
        return
    after = ""
    while True:
        page = query.where(row.id > after, row.id <= last).order_by(row.id).limit(size)
        with database.reading() as session:
            found = list(session.execute(page))
            decisions = _decisions(session, [one[0] for one in found])
        if found:
            yield [_in_order(tuple(one), decisions.get(one[0])) for one in found]
        if len(found) < size:
            return
        after = found[-1][0]


def _decisions(session: Session, keys: Sequence[str]) -> dict[str, DecisionRow]:
    """The newest decision of each inspection that has one."""
    query = select(DecisionRow).where(DecisionRow.inspection_id.in_(keys)).order_by(DecisionRow.id)
    return {decision.inspection_id: decision for decision in session.scalars(query)}


def _in_order(values: tuple[Any, ...], decision: DecisionRow | None) -> tuple[Any, ...]:
    told: dict[str, Any] = dict(zip([*_OF_INSPECTION, "bundle_sha256"], values, strict=True))
    if decision is not None:
        told |= {
            "decision": decision.decision, "decided_by": decision.by,
            "decided_at": decision.decided_at, "decision_note": decision.note,
        }  # fmt: skip
    return tuple(told.get(name) for name in COLUMNS)


def _plain(value: Any) -> Any:
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return value


def _cell(value: Any, kind: str) -> Any:
    if value is None:
        return ""
    if kind == "time":
        return value.isoformat(timespec="milliseconds")
    if kind == "text":
        return "'" + value if value.startswith(_FORMULA) else value
    return _plain(value)


def _schema() -> pyarrow.Schema:
    import pyarrow as arrow

    types = {
        "text": arrow.string(), "structured": arrow.string(), "whole": arrow.int64(),
        "real": arrow.float64(), "time": arrow.timestamp("us", tz="UTC"),
    }  # fmt: skip
    return arrow.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
