"""Opening the database: SQLite with a write-ahead log, or PostgreSQL, migrated before use."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import URL, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    DBAPIError,
    NoSuchModuleError,
    OperationalError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool

from blemish.errors import ParameterError
from blemish.station.errors import StoreError, StoreUnreachableError

MIGRATIONS = Path(__file__).parent / "migrations"
_WAIT_MS = 20_000  # that one writer of SQLite waits for another process
_MIGRATING = 0x626C656D697368  # the advisory lock under which one station migrates PostgreSQL
# A server that lost its power does not say so: after so long without a word it has gone.
_SERVER = {"connect_timeout": 5, "keepalives_idle": 10, "tcp_user_timeout": 20_000}


class Database:
    """A database that is there and of this version; `url` as SQLAlchemy writes it.

    SQLite is opened with a write-ahead log and full synchronisation: what is committed survives a
    power cut. Raises ParameterError for a URL that is none, StoreError otherwise.
    """

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        self.name = self.engine.dialect.name
        self._writing = RLock()  # SQLite has one writer: threads take turns rather than try again

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that only reads."""
        with self._told(), Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session that is committed at the end of the block, or not at all."""
        with self._told():
            if self.name != "sqlite":
                with Session(self.engine, expire_on_commit=False) as session, session.begin():
                    yield session
                return
            with (
                self._writing,
                Session(
                    self.engine.execution_options(writes=True), expire_on_commit=False
                ) as session,
                session.begin(),
            ):
                yield session

    def migrate(self) -> None:
        """Bring the tables to this version; raises StoreError for those of a newer one."""
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        with self._told(), self.engine.execution_options(writes=True).begin() as connection:
            if self.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATING})
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                known = ScriptDirectory.from_config(config).get_current_head()
                raise StoreError(
                    f"the database {self.where} was made by another version of Blemish than this "
                    f"one, which knows it up to {known}; upgrade with: pip install -U blemish"
                ) from error
            except (ProgrammingError, OperationalError) as error:
                if isinstance(error, OperationalError) and "already exists" not in str(error):
                    raise
                raise StoreError(
                    f"the tables of Blemish cannot be made in the database {self.where} "
                    f"({_first_line(error)}); give a database of its own, and a user who may "
                    "make tables there"
                ) from error

    def check(self) -> None:
        """Raise StoreUnreachableError unless it answers."""
        with self.reading() as session:
            session.execute(text("SELECT 1"))

    def close(self) -> None:
        """Let go of all connections."""
        self.engine.dispose()

    @property
    def where(self) -> str:
        """Its URL without the password."""
        return self.engine.url.render_as_string(hide_password=True)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What the driver says, as an error of ours."""
        try:
            yield
        except OperationalError as error:
            raise StoreUnreachableError(
                f"the database {self.where} does not answer ({_first_line(error)}); start it, or "
                "look at its disk and its address"
            ) from error
        except PoolTimeoutError as error:
            raise StoreUnreachableError(
                f"the database {self.where} is not keeping up: all connections are in use; look "
                "at its disk, or ask it for less"
            ) from error
        except DBAPIError as error:
            if error.connection_invalidated:
                raise StoreUnreachableError(
                    f"the database {self.where} has gone ({_first_line(error)}); start it again"
                ) from error
            if type(error) is DatabaseError:  # SQLite: not a database, or a damaged one
                raise StoreError(
                    f"the database {self.where} cannot be read ({_first_line(error)}); is it the "
                    "right file? if so, bring back a backup"
                ) from error
            raise


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        kind = parsed.get_backend_name()
        if kind == "sqlite":
            return _sqlite(parsed.set(drivername="sqlite"))
        if kind in {"postgres", "postgresql"}:
            return create_engine(
                parsed.set(drivername="postgresql+psycopg"),
                pool_pre_ping=True,
                pool_size=8,
                max_overflow=16,
                connect_args=_SERVER,
            )
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise ParameterError(
            "--db: this is no database URL; give sqlite:///FILE or postgresql://USER@HOST/NAME"
        ) from error
    raise ParameterError(
        f"--db {parsed.render_as_string()}: this is neither SQLite nor PostgreSQL; give "
        "sqlite:///FILE or postgresql://USER@HOST/NAME"
    )


def _sqlite(url: URL) -> Engine:
    if not url.database or ":memory:" in url.database:
        raise ParameterError("--db: a database in memory would be lost; give sqlite:///FILE")
    file = Path(url.database)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{file.parent} cannot be made ({error.strerror or error})") from error
    # The connection used last is used next: each has a cache of its own, and few are to fill.
    engine = create_engine(
        url, poolclass=QueuePool, pool_size=8, max_overflow=32, pool_use_lifo=True
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions begin as `_begin` says
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={_WAIT_MS}")
        _log_ahead(cursor)
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA cache_size=-32768")  # KiB
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        # A reader that turns writer could not wait for another one, so writers say so at once.
        writes = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _log_ahead(cursor: Any) -> None:
    """Turn the write-ahead log on, which SQLite does not wait for while another one opens."""
    until = time.monotonic() + _WAIT_MS / 1e3
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
        time.sleep(0.02)


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else "no reason given"
