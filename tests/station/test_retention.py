"""Retention: what has had its time goes, what people need stays, also beside inspections."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drafts import draft
from sqlalchemy import func, select
from test_store import count, decide

from blemish.station.errors import StoreError, UnknownError
from blemish.station.keeping import Keeping
from blemish.station.settings import Retention
from blemish.station.store import Database, PictureStore, record
from blemish.station.store.retention import DAY, HOUR, Sweeper
from blemish.station.store.tables import (
    CandidateRow,
    DecisionRow,
    DeliveryRow,
    InspectionRow,
    RegressionRow,
    TallyRow,
)
from blemish.station.store.types import least_id, new_id, now

NOTHING = Retention(images_days=None, maps_days=None)


@pytest.fixture
def pictures(tmp_path: Path) -> PictureStore:
    """An empty folder of pictures."""
    return PictureStore(tmp_path / "pictures")


@pytest.fixture
def part(database: Database, pictures: PictureStore) -> Callable[..., str]:
    """Records a part with its image and map, `days` ago; returns the inspection's id."""
    made = 0

    def recorded(days: float = 0.0, *, size: int = 10, **values: Any) -> str:
        nonlocal made
        made += 1
        image = pictures.put_image(bytes(size) + str(made).encode())
        kept = pictures.put_map(np.full((2, 2), made, np.float32))
        moment = time.time() - days * DAY
        for path in (pictures.image_path(image), pictures.map_path(kept)):
            os.utime(path, (moment, moment))
        key = least_id(datetime.fromtimestamp(moment, UTC))
        given = {"id": key[:-4] + f"{made:04d}", "image_sha256": image, "map_sha256": kept}
        return record(database, draft(**given | values))[0].row.id

    return recorded


def has(database: Database, pictures: PictureStore, key: str) -> tuple[bool, bool]:
    """Whether an inspection's image and map are there."""
    with database.reading() as session:
        row = session.get_one(InspectionRow, key)
    assert row.map_sha256 is not None
    return (
        pictures.image_path(row.image_sha256).exists(), pictures.map_path(row.map_sha256).exists()
    )  # fmt: skip


def candidate(key: str, state: str) -> CandidateRow:
    """A part proposed as a template."""
    return CandidateRow(
        id=new_id(), inspection_id=key, inspector="board", state=state, proposed_by="Ada",
        proposed_at=now(), note="", answer="",
    )  # fmt: skip


def regression(key: str, *, removed: bool = False) -> RegressionRow:
    """A part whose verdict is known."""
    return RegressionRow(
        id=new_id(), inspector="board", inspection_id=key, image_sha256="", expected="fail",
        added_by="Ada", added_at=now(), note="", removed_at=now() if removed else None,
    )  # fmt: skip


def add(database: Database, *rows: Any) -> None:
    """Write rows."""
    with database.writing() as session:
        session.add_all(rows)


def test_pictures_and_maps_go_by_age(
    database: Database, pictures: PictureStore, part: Callable[..., str]
) -> None:
    """Each after its own days; the rows stay, and a page is told why the picture is gone."""
    ages = [0.0, 20.0, 40.0, 100.0]
    keys = [part(days) for days in ages]
    sweeper = Sweeper(database, pictures, Retention(images_days=90, maps_days=30))
    swept = sweeper.sweep()
    there = [has(database, pictures, key) for key in keys]
    assert there == [(True, True), (True, True), (True, False), (False, False)]
    assert (swept.images, swept.maps, swept.orphans, swept.rows) == (1, 2, 0, 0)
    assert swept.bytes > 0
    assert count(database, InspectionRow) == 4
    with database.reading() as session:
        gone = session.get_one(InspectionRow, keys[3]).image_sha256
    with pytest.raises(UnknownError, match=r"no longer kept \(\[retention\]"):
        pictures.image(gone)
    again = sweeper.sweep()
    assert (again.images, again.maps) == (0, 0)
    assert sweeper.total.maps == 2


def test_what_people_need_stays(
    database: Database, pictures: PictureStore, part: Callable[..., str]
) -> None:
    """Whatever its age: parts in review, candidates but rejected ones, the regression set."""
    kept = [part(400, verdict="review")]
    for state in ("waiting", "working", "approved"):
        kept.append(part(400))
        add(database, candidate(kept[-1], state))
    kept.append(part(400, verdict="fail"))
    add(database, regression(kept[-1]))
    gone = [part(400, verdict="review"), part(400), part(400), part(400)]
    decide(database, gone[0], "pass")
    add(database, candidate(gone[1], "rejected"), regression(gone[2], removed=True))
    rules = Retention(images_days=1, maps_days=1, images_gib=1e-9)
    Sweeper(database, pictures, rules).sweep()
    assert {has(database, pictures, key) for key in kept} == {(True, True)}
    assert {has(database, pictures, key) for key in gone} == {(False, False)}


def test_a_picture_of_two_parts_stays_as_long_as_one_needs_it(
    database: Database, pictures: PictureStore, part: Callable[..., str]
) -> None:
    """The same bytes lie once."""
    first = part(400)
    with database.reading() as session:
        row = session.get_one(InspectionRow, first)
    key = part(400, verdict="review", image_sha256=row.image_sha256, map_sha256=row.map_sha256)
    Sweeper(database, pictures, Retention(images_days=1, maps_days=1)).sweep()
    assert has(database, pictures, first) == (True, True)
    decide(database, key, "pass")
    Sweeper(database, pictures, Retention(images_days=1, maps_days=1)).sweep()
    assert has(database, pictures, first) == (False, False)


def test_too_many_images_go_oldest_first(
    database: Database, pictures: PictureStore, part: Callable[..., str]
) -> None:
    """Until the rest fits; a protected old one takes the room of a newer one."""
    size = 100_000
    keys = [part(days, size=size) for days in (9, 8, 7, 6, 5)]
    needed = part(10, size=size, verdict="review")
    rules = NOTHING.model_copy(update={"images_gib": 3.5 * size / 2**30})
    swept = Sweeper(database, pictures, rules).sweep()
    assert [has(database, pictures, key)[0] for key in keys] == [False, False, False, True, True]
    assert has(database, pictures, needed) == (True, True)
    assert (swept.images, swept.maps) == (3, 0)


def test_images_of_the_last_hour_stay_however_large(
    database: Database, pictures: PictureStore, part: Callable[..., str]
) -> None:
    """Their inspections may not be recorded yet."""
    new, old = part(0.5 * HOUR / DAY), part(2 * HOUR / DAY)
    Sweeper(database, pictures, NOTHING.model_copy(update={"images_gib": 1e-12})).sweep()
    assert has(database, pictures, new)[0]
    assert not has(database, pictures, old)[0]


def test_a_picture_asked_for_again_in_the_middle_of_a_sweep_stays(
    database: Database,
    pictures: PictureStore,
    part: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was listed as old, then a part with the same bytes came."""
    part(400, size=33)
    part(400)
    sweeper = Sweeper(database, pictures, Retention(images_days=1, maps_days=None))
    remove = sweeper._remove

    def asked_again(files: Any, found: Any) -> int:
        pictures.put_image(bytes(33) + b"1")
        return remove(files, found)

    monkeypatch.setattr(sweeper, "_remove", asked_again)
    assert sweeper.sweep().images == 1
    left = [path for path in pictures.folder.glob("images/*/*") if path.is_file()]
    assert [path.read_bytes() for path in left] == [bytes(33) + b"1"]


# What kills leave --------------------------------------------------------------------------


def test_what_a_kill_left_goes_after_a_day(
    database: Database, pictures: PictureStore, part: Callable[..., str]
) -> None:
    """Pictures without a row, and half-written files; younger ones may still get their row."""
    mine = part(3)
    paths = []
    for days in (0.5, 2):
        image = pictures.image_path(pictures.put_image(f"{days}".encode()))
        kept = pictures.map_path(pictures.put_map(np.full((1, 1), days, np.float32)))
        half = image.with_name(f".{image.name}.abcdefgh.tmp")
        half.write_bytes(b"half")
        for path in (image, kept, half):
            os.utime(path, (time.time() - days * DAY,) * 2)
        paths.append([image, kept, half])
    swept = Sweeper(database, pictures, NOTHING).sweep()
    assert [path.exists() for path in paths[0]] == [True, True, True]
    assert [path.exists() for path in paths[1]] == [False, False, False]
    assert swept.orphans == 3
    assert has(database, pictures, mine) == (True, True)


def test_another_databases_pictures_are_left_alone(
    database: Database, pictures: PictureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A station that was given an empty database by mistake does not empty the folder."""
    monkeypatch.setattr("blemish.station.store.retention._MOST_ORPHANS", 5)
    paths = [pictures.image_path(pictures.put_image(bytes([one]))) for one in range(10)]
    for path in paths:
        os.utime(path, (time.time() - 2 * DAY,) * 2)
    with pytest.raises(StoreError, match="is it the right one"):
        Sweeper(database, pictures, NOTHING).sweep()
    assert all(path.exists() for path in paths)


# Rows --------------------------------------------------------------------------------------


def test_rows_go_by_age_with_what_belongs_to_them(
    database: Database,
    pictures: PictureStore,
    part: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Decisions and sent deliveries go too; tallies stay; what somebody needs stays whole."""
    monkeypatch.setattr("blemish.station.store.retention.BATCH", 2)
    gone = [part(400, sinks=["plc"]) for _ in range(3)]
    decide(database, gone[0], "pass")
    with database.writing() as session:
        for delivery in session.scalars(select(DeliveryRow)):
            delivery.state = "sent"
    stay = [part(400, verdict="review"), part(400), part(400), part(400, sinks=["plc"]), part(1)]
    add(database, candidate(stay[1], "rejected"), regression(stay[2], removed=True))
    rules = NOTHING.model_copy(update={"rows_days": 30.0})
    swept = Sweeper(database, pictures, rules).sweep()
    with database.reading() as session:
        assert set(session.scalars(select(InspectionRow.id))) == set(stay)
        assert session.scalar(select(func.sum(TallyRow.parts))) == 8
    assert swept.rows == 3
    assert (count(database, DecisionRow), count(database, DeliveryRow)) == (0, 1)
    assert swept.orphans == 6  # the pictures that no row has any more


def test_inspections_go_on_beside_a_sweep(
    database: Database,
    pictures: PictureStore,
    part: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While old rows go batch by batch, new ones are written, and no new one is taken away."""
    monkeypatch.setattr("blemish.station.store.retention.BATCH", 4)
    for _ in range(40):
        part(400)
    before, new = count(database, InspectionRow), []
    rules = Retention(images_days=1, maps_days=1, rows_days=1)
    sweeping = threading.Thread(target=Sweeper(database, pictures, rules).sweep)
    sweeping.start()
    while sweeping.is_alive():
        new.append(part())
    sweeping.join()
    assert before == 40
    assert len(new) > 2
    with database.reading() as session:
        assert set(session.scalars(select(InspectionRow.id))) == set(new)
    assert all(has(database, pictures, key) == (True, True) for key in new)


def test_an_empty_station_has_nothing_to_sweep(database: Database, pictures: PictureStore) -> None:
    """Not even folders."""
    rules = Retention(images_days=1, maps_days=1, rows_days=1, images_gib=1)
    swept = Sweeper(database, pictures, rules).sweep()
    assert (swept.images, swept.maps, swept.rows, swept.orphans) == (0, 0, 0, 0)


def test_it_is_a_part_of_the_station_that_counts_and_ends_soon(
    database: Database,
    pictures: PictureStore,
    part: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stop does not wait for a sweep of very many files."""
    monkeypatch.setattr("blemish.station.store.retention.BATCH", 1)
    monkeypatch.setattr("blemish.station.store.retention._PAUSE", 0.2)
    for _ in range(50):
        part(400)
    rules = Retention(images_days=1, maps_days=None, every_s=0.01)
    keeping = Keeping(database, pictures, rules)
    keeping.start()
    end = time.monotonic() + 20
    while keeping.sweeper._halted.wait(0.01) or not pictures_left_fewer(pictures, 50):
        assert time.monotonic() < end
    assert keeping.health()[0].state == "running"
    keeping.stop()
    counts = keeping.health()[0].counts
    assert 0 < counts["images"] < 50
    assert keeping.health()[0].kind == "retention"


def pictures_left_fewer(pictures: PictureStore, number: int) -> bool:
    """Whether fewer images than this lie in the folder."""
    return len(list(pictures.folder.glob("images/*/*"))) < number
