"""Opening a database: tables as migrations make them, wrong addresses, servers that come and go."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from drafts import draft
from sqlalchemy import select, text
from sqlalchemy.pool import QueuePool
from test_store import count

from blemish.errors import ParameterError
from blemish.station.errors import StoreError, StoreUnreachableError
from blemish.station.store import Database, Filter, record
from blemish.station.store.inspections import listed
from blemish.station.store.tables import InspectionRow, Table
from station.postgres import Postgres


def test_migrations_make_the_tables(database_url: str) -> None:
    """Tables, columns, types, indexes and keys: Alembic finds no difference; twice is once."""
    database = Database(database_url)
    database.migrate()
    database.migrate()
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Table.metadata) == []
    database.close()


@pytest.mark.parametrize("name", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_any_name_of_postgresql_will_do(postgres: Postgres, name: str) -> None:
    """The driver is the one that is installed."""
    database = Database(postgres.url("postgres").replace("postgresql", name, 1))
    database.check()
    database.close()


def test_the_comparison_sees_a_missing_index(database: Database) -> None:
    """So that the test above can fail."""
    with database.writing() as session:
        session.execute(text("DROP INDEX ix_inspections_map"))
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert len(compare_metadata(context, Table.metadata)) == 1


def test_a_store_of_a_newer_version_is_refused(database: Database) -> None:
    """In a sentence that says what to do; nothing is changed."""
    with database.writing() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match=r"another version of Blemish .* up to \d+; upgrade with"):
        database.migrate()


def test_two_stations_migrate_at_once(database_url: str) -> None:
    """One makes the tables, the others wait and find them; all are usable."""
    stations = [Database(database_url) for _ in range(4)]
    failures: list[Exception] = []
    barrier = threading.Barrier(len(stations))

    def begin(station: Database) -> None:
        barrier.wait()
        try:
            station.migrate()
            record(station, draft())
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=begin, args=(station,)) for station in stations]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert count(stations[0], InspectionRow) == 4
    for station in stations:
        station.close()


def test_processes_share_one_sqlite_file(tmp_path: Path) -> None:
    """Two stations that start together on a file that is not there write into the same one."""
    url = f"sqlite:///{tmp_path / 'station.db'}"
    program = (
        "import sys; from drafts import draft; from blemish.station.store import Database, record\n"
        f"database = Database({url!r}); database.migrate()\n"
        "for _ in range(20): record(database, draft())"
    )
    paths = os.pathsep.join([*sys.path, str(Path(__file__).parent)])
    environment = os.environ | {"PYTHONPATH": paths}
    running = [
        subprocess.Popen([sys.executable, "-W", "error", "-c", program], env=environment)
        for _ in range(2)
    ]
    assert [process.wait(60) for process in running] == [0, 0]
    database = Database(url)
    assert count(database, InspectionRow) == 40
    database.close()


# Wrong addresses -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("station.db", "no database URL"),
        ("", "no database URL"),
        ("sqlite://", "in memory would be lost"),
        ("sqlite:///:memory:", "in memory would be lost"),
        ("sqlite:///file::memory:?uri=true", "in memory would be lost"),
        ("mysql://root@localhost/x", "neither SQLite nor PostgreSQL"),
        ("oracle://root:secret@localhost/x", "neither SQLite nor PostgreSQL"),
        ("nonsense://x", "neither SQLite nor PostgreSQL"),
        ("postgresql://u:secret@h:port/x", "no database URL"),
    ],
)
def test_what_is_no_address_of_a_database_is_refused(url: str, told: str) -> None:
    """With the two forms that are; a password is never repeated."""
    with pytest.raises(ParameterError, match=told) as caught:
        Database(url)
    assert "sqlite:///FILE" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_password_is_not_in_what_is_told() -> None:
    """Nor in `where`; nobody listens on the port."""
    database = Database("postgresql://ada:secret@127.0.0.1:1/x")
    with pytest.raises(StoreUnreachableError, match="does not answer") as caught:
        database.check()
    assert "secret" not in str(caught.value) + database.where


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    """It is left as it was."""
    file = tmp_path / "photo.png"
    file.write_bytes(b"\x89PNG" * 1000)
    database = Database(f"sqlite:///{file}")
    with pytest.raises(StoreError, match=r"cannot be read .*bring back a backup"):
        database.migrate()
    database.close()
    assert file.read_bytes() == b"\x89PNG" * 1000


def test_another_programs_database_is_left_alone(database_url: str) -> None:
    """One that has a table of a name of ours already."""
    database = Database(database_url)
    with database.engine.execution_options(writes=True).begin() as connection:
        connection.execute(text("CREATE TABLE tokens (x INTEGER)"))
    with pytest.raises(StoreError, match="give a database of its own"):
        database.migrate()
    with database.engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM tokens")) == 0
    database.close()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """A file lies where the folder should be."""
    (tmp_path / "data").write_text("")
    with pytest.raises(StoreError, match="cannot be made"):
        Database(f"sqlite:///{tmp_path / 'data' / 'station.db'}")


def test_a_sqlite_file_that_cannot_be_written_is_told(database: Database) -> None:
    """As by a full disk: the part is not acknowledged, and the next one is recorded again."""
    if database.name != "sqlite":
        pytest.skip("SQLite only")
    with database.writing() as session:
        session.execute(text("PRAGMA max_page_count = 1"))  # the smallest that it can be now
    with pytest.raises(StoreUnreachableError, match=r"database or disk is full.*look at its disk"):
        record(database, draft(extra={"a": "x" * 1_000_000}))
    database.engine.dispose()
    before = count(database, InspectionRow)
    record(database, draft())
    assert count(database, InspectionRow) == before + 1


def test_a_database_that_is_asked_too_much_says_so(database: Database) -> None:
    """Rather than wait for a connection for ever."""
    pool = QueuePool(database.engine.pool._creator, pool_size=1, max_overflow=0, timeout=0.05)
    database.engine.pool = pool
    with database.reading() as session:
        session.execute(text("SELECT 1"))
        with pytest.raises(StoreUnreachableError, match="all connections are in use"):
            database.check()
    pool.dispose()


# Servers that come and go --------------------------------------------------------------------


@pytest.mark.parametrize("how", ["stopped", "crashed"])
def test_a_server_that_goes_and_comes_back_loses_nothing(how: str) -> None:
    """What was acknowledged is there afterwards, what was not is told, and the store works again.

    Four threads record without pause; the server goes in the middle and comes back.
    """
    server = Postgres(durable=True)
    server.start()
    database = Database(server.create())
    database.migrate()
    acknowledged: list[str] = []
    refused: list[BaseException] = []
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            try:
                acknowledged.append(record(database, draft())[0].row.id)
            except BaseException as error:
                refused.append(error)
                done.wait(0.01)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(acknowledged) > 20)
    server.stop(signal.SIGINT if how == "stopped" else signal.SIGQUIT)
    wait_for(lambda: len(refused) > 8)
    with pytest.raises(StoreUnreachableError, match="start it"):
        database.check()
    server.start()
    again = len(acknowledged)
    wait_for(lambda: len(acknowledged) > again + 20)
    done.set()
    for thread in threads:
        thread.join()
    with database.reading() as session:
        there = set(session.scalars(select(InspectionRow.id)))
    assert set(acknowledged) <= there
    assert len(acknowledged) == len(set(acknowledged))
    assert {type(error) for error in refused} == {StoreUnreachableError}
    assert listed(database, Filter(), limit=1).inspections
    database.close()
    server.close()


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Until it is so; fails after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to this"
        time.sleep(0.005)
