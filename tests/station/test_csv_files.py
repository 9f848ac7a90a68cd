"""Results as CSV: a file a day, whole lines, none twice, nothing a spreadsheet would run."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from line_tools import PASS, deliveries, encoded, eventually, health, part_of, running

from blemish.station.inspecting import Part
from blemish.station.sinks import CsvFiles, SinkDownError, csv_files, delivering
from blemish.station.sinks.csv_files import COLUMNS, line
from blemish.station.store import Judged
from blemish.station.store.inspections import find
from blemish.station.store.tables import InspectionRow

SINK: dict[str, Any] = {"kind": "csv", "name": "list", "path": "out"}


def judged(number: int, day: int = 25, **more: Any) -> Judged:
    """An inspection as it would come out of the store."""
    values: dict[str, Any] = {
        "id": f"00000000-0000-7000-8000-{number:012d}", "station": "line-1", "source": "http",
        "recorded_at": datetime(2026, 11, day, 23, 59, tzinfo=UTC), "inspector": "board",
        "version": 1, "image_sha256": "0" * 64, "verdict": "pass", "regions": [], "extra": {},
        "timings": {}, "latency_ms": 1.5, "score": -0.25,
    }  # fmt: skip
    return Judged(InspectionRow(**values | more), "1" * 64)


def rows(path: Path) -> list[dict[str, str]]:
    """A file as a reader of CSV sees it."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, strict=True))


def written(folder: Path) -> CsvFiles:
    """The sink on a folder, as after a start."""
    return CsvFiles("list", folder, "line-1")


def test_each_result_is_a_line_in_the_file_of_its_day(tmp_path: Path) -> None:
    """The day is that of recording, in UTC; columns have the names of the JSON."""
    with running(tmp_path, sinks=(SINK,)) as station:
        sent = [
            station.inspecting.inspect(Part("board", encoded(PASS, number), part_id=f"p{number}"))
            for number in range(3)
        ]
        eventually(lambda: {row.state for row in deliveries(station)} == {"sent"})
        today = sent[0][0].row.recorded_at.date()
        (file,) = (tmp_path / "out").iterdir()
        assert file.name == f"line-1-list-{today}.csv"
        found = rows(file)
        assert [one["id"] for one in found] == [judged.row.id for judged, _ in sent]
        assert [one["part_id"] for one in found] == ["p0", "p1", "p2"]
        assert found[0]["verdict"] == "pass"
        assert float(found[0]["score"]) == pytest.approx(10, abs=0.01)
        assert tuple(found[0]) == COLUMNS
        row = find(station.database, found[0]["id"]).row
        assert found[0]["recorded_at"] == row.recorded_at.isoformat(timespec="milliseconds")
    sink = written(tmp_path)
    sink.send(judged(1, day=25), Event())
    sink.send(judged(2, day=26), Event())
    assert {path.name for path in tmp_path.glob("*.csv")} == {
        "line-1-list-2026-11-25.csv", "line-1-list-2026-11-26.csv",
    }  # fmt: skip


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"])
def test_a_spreadsheet_does_not_run_what_somebody_sent(tmp_path: Path, text: str) -> None:
    """A text that looks like a formula gets a quote before it; a negative number does not."""
    sink = written(tmp_path)
    sink.send(judged(1, part_id=text), Event())
    (found,) = rows(next(tmp_path.glob("*.csv")))
    assert found["part_id"] == "'" + text.replace("\r", "\n")
    assert found["score"] == "-0.25"


def test_commas_quotes_and_newlines_are_one_cell(tmp_path: Path) -> None:
    """What a reader of CSV gets is what was said, with every line break as one newline."""
    text = 'a,"b";c\r\nd\ne\rf\u2028g'
    sink = written(tmp_path)
    sink.send(judged(1, part_id=text, extra={"note": text}), Event())
    sink.send(judged(2, image="\udcff.png"), Event())
    first, second = rows(next(tmp_path.glob("*.csv")))
    assert first["part_id"] == 'a,"b";c\nd\ne\nf\u2028g'
    assert json.loads(first["metadata"]) == {"note": text}
    assert second["image"] == "\\udcff.png"


def test_an_error_is_a_line_as_well(tmp_path: Path) -> None:
    """Its code and sentence have columns; the score is empty."""
    sink = written(tmp_path)
    sink.send(
        judged(1, verdict="error", score=None, error_code="image", error_message="no, not it"),
        Event(),
    )
    (found,) = rows(next(tmp_path.glob("*.csv")))
    assert (found["error_code"], found["error_message"], found["score"]) == (
        "image", "no, not it", "",
    )  # fmt: skip


@pytest.mark.parametrize("left", range(0, 330, 11))
def test_a_line_that_was_cut_off_is_written_anew(tmp_path: Path, left: int) -> None:
    """Whatever a kill or a power cut left of the file: each result once, each line whole."""
    sink = written(tmp_path)
    for number in range(2):
        sink.send(judged(number, part_id="two\nlines, quoted"), Event())
    file = next(tmp_path.glob("*.csv"))
    whole = file.read_bytes()
    file.write_bytes(whole[:left])
    again = written(tmp_path)
    for number in range(2):
        again.send(judged(number, part_id="two\nlines, quoted"), Event())
    assert file.read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_zeros_that_a_power_cut_left_are_removed(tmp_path: Path) -> None:
    """Some file systems lengthen a file before they have its content."""
    sink = written(tmp_path)
    sink.send(judged(1), Event())
    file = next(tmp_path.glob("*.csv"))
    whole = file.read_bytes()
    file.write_bytes(whole + bytes(100))
    written(tmp_path).send(judged(1), Event())
    assert file.read_bytes() == whole


def test_a_line_that_was_written_and_not_noted_is_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A station killed between the line and the note of it finds the line at its next start."""
    settle = delivering.outbox.settle
    monkeypatch.setattr(delivering.outbox, "settle", lambda *_: 1 / 0)
    with running(tmp_path, sinks=(SINK,)) as station:
        for number in range(5):
            station.inspecting.inspect(Part("board", encoded(PASS, number)))
        eventually(lambda: "ZeroDivision" in (health(station, "list").last_error or ""))
    monkeypatch.setattr(delivering.outbox, "settle", settle)
    with running(tmp_path, sinks=(SINK,)) as station:
        eventually(lambda: {row.state for row in deliveries(station)} == {"sent"})
        sent = [row.inspection_id for row in deliveries(station)]
    (file,) = (tmp_path / "out").iterdir()
    assert [one["id"] for one in rows(file)] == sent


def test_another_programs_file_is_left_alone(tmp_path: Path) -> None:
    """A file with other columns stays as it is, and the results go beside it."""
    old = tmp_path / "line-1-list-2026-11-25.csv"
    old.write_text("id,verdict\r\n1,pass\r\n")
    sink = written(tmp_path)
    sink.send(judged(1), Event())
    sink.send(judged(2), Event())
    assert old.read_text() == "id,verdict\n1,pass\n"
    assert len(rows(tmp_path / "line-1-list-2026-11-25-2.csv")) == 2


def test_a_file_that_is_moved_away_begins_anew(tmp_path: Path) -> None:
    """Somebody takes the file of the morning: the next line has a header above it again."""
    sink = written(tmp_path)
    sink.send(judged(1), Event())
    file = next(tmp_path.glob("*.csv"))
    file.rename(tmp_path / "morning.txt")
    sink.send(judged(2), Event())
    assert [one["id"][-1] for one in rows(file)] == ["2"]


def test_only_the_tail_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long file costs a start no more than a short one, and its last lines are still known."""
    sink = written(tmp_path)
    for number in range(50):
        sink.send(judged(number), Event())
    monkeypatch.setattr(csv_files, "_TAIL", 1000)
    again = written(tmp_path)
    again.send(judged(49), Event())
    assert len(again._written) < 10
    assert len(rows(next(tmp_path.glob("*.csv")))) == 50


def test_a_long_day_costs_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the newest lines are remembered, and those are still not written twice."""
    monkeypatch.setattr(csv_files, "_REMEMBERED", 5)
    sink = written(tmp_path)
    for number in range(20):
        sink.send(judged(number), Event())
    sink.send(judged(19), Event())
    sink.send(judged(15), Event())
    assert len(sink._written) == 5
    assert len(rows(next(tmp_path.glob("*.csv")))) == 20


def test_a_full_disk_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a line is taken back, the sentence names the file, and nothing is a dead letter."""
    whole = csv_files.os.write
    full = [True]

    def write(descriptor: int, data: bytes) -> int:
        if full[0] and data.startswith(b"00000000"):
            whole(descriptor, data[:20])
            raise OSError(28, "No space left on device", "disk")
        return whole(descriptor, data)

    monkeypatch.setattr(csv_files.os, "write", write)
    sink = written(tmp_path)
    with pytest.raises(SinkDownError, match="disk cannot be written \\(No space left"):
        sink.send(judged(1), Event())
    full[0] = False
    sink.send(judged(1), Event())
    (found,) = rows(next(tmp_path.glob("*.csv")))
    assert found["id"] == judged(1).row.id


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """The health has the sentence, the results wait, and arrive when the folder can be written."""
    (tmp_path / "out").write_text("a file in its place")
    with running(tmp_path, sinks=(SINK,)) as station:
        station.inspecting.inspect(Part("board", encoded(PASS)))
        eventually(lambda: "cannot be written" in (health(station, "list").last_error or ""))
        assert deliveries(station)[0].state == "waiting"
        (tmp_path / "out").unlink()
        eventually(lambda: deliveries(station)[0].state == "sent")
        assert part_of(station, "list").health()[0].state == "running"


def test_columns_are_those_of_the_result(tmp_path: Path) -> None:
    """Each column is a value of the JSON object, or of its error."""
    record = line({name: f"<{name}>" for name in COLUMNS} | {
        "regions": [1], "metadata": {}, "error": {"code": "c", "message": "m"},
    })  # fmt: skip
    cells = next(csv.reader([record.decode()]))
    told = dict(zip(COLUMNS, cells, strict=True))
    assert told["error_code"] == "c"
    assert told["regions"] == "[1]"
    assert told["verdict"] == "<verdict>"


def test_a_day_does_not_end_at_midnight_here(tmp_path: Path) -> None:
    """Time zones do not move a result into another file."""
    sink = written(tmp_path)
    berlin = timezone(timedelta(hours=1))
    sink.send(judged(1, recorded_at=datetime(2026, 1, 1, 0, 59, tzinfo=berlin)), Event())
    assert next(tmp_path.glob("*.csv")).name == "line-1-list-2025-12-31.csv"


def test_a_station_without_sinks_keeps_no_outbox(tmp_path: Path) -> None:
    """A station without sinks writes no deliveries."""
    with running(tmp_path) as station:
        station.inspecting.inspect(Part("board", encoded(PASS)))
        assert deliveries(station) == []
