"""Exports: every wanted inspection once, with what people said, safe for a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from typing import Any, BinaryIO

import pyarrow.parquet as parquet
import pytest
from drafts import draft
from test_store import decide, recorded

from blemish.station.store import Database, Filter, record
from blemish.station.store.exporting import COLUMNS, write_csv, write_parquet
from blemish.station.store.inspections import _written

ALL = Filter()


def as_csv(database: Database, wanted: Filter = ALL) -> list[dict[str, str]]:
    """The rows of an export as text."""
    file = io.BytesIO()
    count = write_csv(database, wanted, file)
    rows = list(csv.DictReader(io.StringIO(file.getvalue().decode(), newline="")))
    assert len(rows) == count
    return rows


def as_parquet(database: Database, wanted: Filter = ALL) -> list[dict[str, Any]]:
    """The rows of an export with their types."""
    file = io.BytesIO()
    count = write_parquet(database, wanted, file)
    found: list[dict[str, Any]] = parquet.read_table(io.BytesIO(file.getvalue())).to_pylist()
    assert len(found) == count
    return found


def test_both_files_say_what_is_on_record(database: Database) -> None:
    """Every column, with the newest decision and who made it; nothing is lost in a number."""
    made = draft(
        verdict="review", score=0.1 + 0.2, part_id='Ä "1",\n2', image="ü.png", width=3, height=2,
        regions=[{"box": [1, 2, 3, 4]}], extra={"shift": "früh"}, timings={"view": 1.5},
        reason="above",
    )  # fmt: skip
    record(database, made)
    decide(database, made.id, "fail")
    decide(database, made.id, "pass")
    (text,), (typed,) = as_csv(database), as_parquet(database)
    assert list(text) == list(typed) == list(COLUMNS)
    assert (text["id"], text["part_id"], text["decision"]) == (made.id, 'Ä "1",\n2', "pass")
    assert float(text["score"]) == typed["score"] == 0.1 + 0.2
    assert json.loads(text["regions"]) == json.loads(typed["regions"]) == [{"box": [1, 2, 3, 4]}]
    assert json.loads(typed["metadata"]) == {"shift": "früh"}
    assert (text["decided_by"], typed["decided_by"]) == ("Ada", "Ada")
    assert text["recorded_at"] == typed["recorded_at"].isoformat(timespec="milliseconds")
    assert (text["residual"], typed["residual"]) == ("", None)
    assert typed["bundle_sha256"] == made.live.bundle_sha256


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝"])  # noqa: RUF001
def test_no_text_is_a_formula_for_a_spreadsheet(database: Database, start: str) -> None:
    """What a sender wrote is shown, not run; numbers below zero stay numbers."""
    text = start + "HYPERLINK(A1)"
    recorded(database, image=text, score=-1.5)
    (row,) = as_csv(database)
    assert row["image"] == "'" + text
    assert row["score"] == "-1.5"
    assert as_parquet(database)[0]["image"] == text


def test_what_is_wanted_comes_oldest_first_and_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Across the borders of batches and row groups, by any filter."""
    monkeypatch.setattr("blemish.station.store.exporting._ROWS", 3)
    monkeypatch.setattr("blemish.station.store.exporting._GROUP", 4)
    keys = [recorded(database, verdict=("pass", "fail")[turn % 2]) for turn in range(12)]
    decide(database, keys[2], "fail")
    for wanted, expected in [
        (Filter(), keys),
        (Filter(verdict="fail"), keys[1::2]),
        (Filter(decision="fail"), keys[2:3]),
        (Filter(part_id="\0"), []),
    ]:
        assert [row["id"] for row in as_csv(database, wanted)] == expected
        assert [row["id"] for row in as_parquet(database, wanted)] == expected


def test_an_empty_export_has_a_header(database: Database) -> None:
    """And an empty Parquet file its columns."""
    file = io.BytesIO()
    assert write_csv(database, Filter(), file) == 0
    assert file.getvalue().decode().strip().split(",") == list(COLUMNS)
    file = io.BytesIO()
    assert write_parquet(database, Filter(), file) == 0
    assert parquet.read_schema(io.BytesIO(file.getvalue())).names == list(COLUMNS)


def test_an_export_ends_though_parts_keep_coming(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has what was there at its beginning."""
    monkeypatch.setattr("blemish.station.store.exporting._ROWS", 1)
    keys = [recorded(database) for _ in range(3)]

    class Busy(io.BytesIO):
        def write(self, data: Any) -> int:
            recorded(database)
            return super().write(data)

    file = Busy()
    assert write_csv(database, Filter(), file) == 3
    assert [line[:36] for line in file.getvalue().decode().splitlines()[1:]] == keys


@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_memory_does_not_grow_with_the_rows(
    database: Database, monkeypatch: pytest.MonkeyPatch, write: Any
) -> None:
    """Four times the rows (160) take no more than half as much memory again."""
    monkeypatch.setattr("blemish.station.store.exporting._ROWS", 20)
    monkeypatch.setattr("blemish.station.store.exporting._GROUP", 20)

    class Nowhere(io.RawIOBase):
        def write(self, data: Any) -> int:
            return len(data)

    def peak(rows: int) -> int:
        with database.writing() as session:
            for _ in range(rows):
                _written(session, draft(extra={"a": "x" * 20_000}))
        nowhere: BinaryIO = Nowhere()  # type: ignore[assignment]
        write(database, Filter(), nowhere)  # what is made once
        tracemalloc.start()
        write(database, Filter(), nowhere)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    few, many = peak(40), peak(120)
    assert many < 1.5 * few
