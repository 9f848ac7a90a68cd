"""A folder as a source: each file once on record, whatever happens in between."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from line_tools import (
    FAIL,
    PASS,
    REVIEW,
    Redness,
    encoded,
    eventually,
    health,
    part_of,
    recorded,
    running,
)

from blemish.station.errors import StoreUnreachableError
from blemish.station.store import Database

SOURCE: dict[str, Any] = {
    "kind": "folder", "name": "press", "inspector": "board", "path": "in", "settle_s": 0,
}  # fmt: skip


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """The folder that is watched."""
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def drop(inbox: Path, name: str, data: bytes) -> Path:
    """Put a whole file there at once, as a good camera does."""
    hidden = inbox / f".{name}"
    hidden.write_bytes(data)
    os.replace(hidden, inbox / name)
    return inbox / name


def test_files_are_recorded_with_their_bytes_and_verdicts(inbox: Path) -> None:
    """What is recorded is the file: its name, its bytes, its source, and the verdict of each."""
    with running(inbox.parent, sources=(SOURCE,)) as station:
        for name, red in (("a.png", PASS), ("b.png", REVIEW), ("c.png", FAIL)):
            drop(inbox, name, encoded(red))
            eventually(lambda name=name: any(row.image.endswith(name) for row in recorded(station)))
        rows = recorded(station)
        assert [row.verdict for row in rows] == ["pass", "review", "fail"]
        assert {row.source for row in rows} == {"press"}
        assert [station.pictures.image(row.image_sha256) for row in rows] == [
            encoded(PASS), encoded(REVIEW), encoded(FAIL),
        ]  # fmt: skip
        assert health(station, "press").state == "running"
        eventually(lambda: health(station, "press").counts["recorded"] == 3)
    assert health(station, "press").state == "stopped"


def test_a_restart_records_nothing_twice_and_reads_nothing_twice(inbox: Path) -> None:
    """Files from before a restart are known by path, time and size, and are not inspected again."""
    for number in range(5):
        drop(inbox, f"{number}.png", encoded(PASS, number))
    with running(inbox.parent, sources=(SOURCE,)) as station:
        eventually(lambda: len(recorded(station)) == 5)
    again = Redness()
    with running(inbox.parent, again, sources=(SOURCE,)) as station:
        drop(inbox, "new.png", encoded(PASS, 9))
        eventually(lambda: len(recorded(station)) == 6)
        eventually(lambda: health(station, "press").counts["repeated"] == 5)
    assert again.calls == 1


def test_a_name_that_is_used_again_is_another_part(inbox: Path) -> None:
    """The same name with another time is a new part; the same picture under two names is two."""
    with running(inbox.parent, sources=(SOURCE,)) as station:
        drop(inbox, "a.png", encoded(PASS))
        eventually(lambda: len(recorded(station)) == 1)
        drop(inbox, "a.png", encoded(PASS))
        eventually(lambda: len(recorded(station)) == 2)
        drop(inbox, "b.png", encoded(PASS))
        eventually(lambda: len(recorded(station)) == 3)


@pytest.mark.parametrize("data", [b"", b"not an image", encoded(PASS)[:60]])
def test_a_file_that_is_no_image_is_on_record_as_an_error(inbox: Path, data: bytes) -> None:
    """It is waited for, then recorded once with verdict `error`, its bytes kept; others go on."""
    with running(inbox.parent, sources=(SOURCE,)) as station:
        part_of(station, "press")._watched._ledger.timeout = 0.2
        drop(inbox, "a.png", data)
        drop(inbox, "b.png", encoded(PASS))
        eventually(lambda: len(recorded(station)) == 2)
        found = {Path(row.image or "").name: row for row in recorded(station)}
        assert found["a.png"].verdict == "error"
        assert found["a.png"].error_message
        assert "a.png" in found["a.png"].extra["problem"]
        assert station.pictures.image(found["a.png"].image_sha256) == data
        assert found["b.png"].verdict == "pass"
        eventually(lambda: health(station, "press").counts["errors"] == 1)
    with running(inbox.parent, sources=(SOURCE,)) as station:
        part_of(station, "press")._watched._ledger.timeout = 0.2
        eventually(lambda: health(station, "press").counts["repeated"] == 2)
        assert len(recorded(station)) == 2


def test_a_name_that_is_no_text_is_recorded(inbox: Path) -> None:
    """Bytes that are not UTF-8 are written out, and a line break stays what it is."""
    names = [b"\xff\xfe.png", b"two\nlines.png", "prüf.png".encode()]
    with running(inbox.parent, sources=(SOURCE,)) as station:
        for number, name in enumerate(names):
            hidden = os.fsencode(inbox) + b"/.part"
            Path(os.fsdecode(hidden)).write_bytes(encoded(PASS, number))
            os.replace(hidden, os.fsencode(inbox) + b"/" + name)
        eventually(lambda: len(recorded(station)) == 3)
        found = {os.path.basename(row.image or "") for row in recorded(station)}
    assert found == {"\\xff\\xfe.png", "two\nlines.png", "prüf.png"}


def test_a_folder_that_is_gone_is_waited_for(tmp_path: Path) -> None:
    """Not there at the start, then there, then away, then back: it says so, and nothing is lost."""
    with running(tmp_path, sources=(SOURCE,)) as station:
        eventually(lambda: health(station, "press").state == "retrying")
        assert str(tmp_path / "in") in health(station, "press").last_error
        (tmp_path / "in").mkdir()
        drop(tmp_path / "in", "a.png", encoded(PASS))
        eventually(lambda: len(recorded(station)) == 1)
        (tmp_path / "in").rename(tmp_path / "away")
        eventually(lambda: health(station, "press").state == "retrying")
        drop(tmp_path / "away", "b.png", encoded(FAIL))
        (tmp_path / "away").rename(tmp_path / "in")
        eventually(lambda: len(recorded(station)) == 2)
        assert health(station, "press").state == "running"


def test_nothing_is_skipped_while_the_database_is_away(
    inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same part is tried again until it is recorded; then the next ones, each once."""
    away = [True]
    writing, reading = Database.writing, Database.reading

    def refusing(method: Any) -> Any:
        def call(self: Database) -> Any:
            if away[0]:
                raise StoreUnreachableError("the database does not answer; start it")
            return method(self)

        return call

    with running(inbox.parent, sources=(SOURCE,)) as station:
        monkeypatch.setattr(Database, "writing", refusing(writing))
        monkeypatch.setattr(Database, "reading", refusing(reading))
        for number in range(4):
            drop(inbox, f"{number}.png", encoded(PASS, number))
        eventually(lambda: health(station, "press").counts["retries"] >= 2)
        assert health(station, "press").state == "retrying"
        assert health(station, "press").last_error == "the database does not answer; start it"
        away[0] = False
        eventually(lambda: health(station, "press").counts["recorded"] == 4)
        assert len(recorded(station)) == 4
        assert health(station, "press").state == "running"


def test_an_inspector_that_is_not_there_yet_is_waited_for(inbox: Path) -> None:
    """The source says which one is missing, stops when asked to, and begins once it is there."""
    told = {**SOURCE, "inspector": "wheel"}
    drop(inbox, "a.png", encoded(PASS))
    with running(inbox.parent, sources=(told,)) as station:
        eventually(lambda: "'wheel'" in (health(station, "press").last_error or ""))
        assert health(station, "press").state == "retrying"
        assert not recorded(station)
    with running(inbox.parent, sources=(SOURCE,)) as station:
        eventually(lambda: len(recorded(station)) == 1)


def test_a_slow_inspection_slows_the_source_down(inbox: Path) -> None:
    """One part is asked for at a time, so that other senders keep their places."""
    slow = Redness()
    slow.seconds = 0.05
    for number in range(8):
        drop(inbox, f"{number}.png", encoded(PASS, number))
    with running(inbox.parent, slow, sources=(SOURCE,)) as station:
        most = 0
        while len(recorded(station)) < 8:
            most = max(most, station.inspecting.waiting)
            time.sleep(0.005)
    assert most == 1


def test_files_from_before_can_be_left_alone(inbox: Path) -> None:
    """With `existing = false` what is there at the start is not taken."""
    drop(inbox, "old.png", encoded(FAIL))
    with running(inbox.parent, sources=({**SOURCE, "existing": False},)) as station:
        eventually(lambda: part_of(station, "press")._watched._begun_looking)
        drop(inbox, "new.png", encoded(PASS))
        eventually(lambda: recorded(station))
        assert [row.verdict for row in recorded(station)] == ["pass"]
