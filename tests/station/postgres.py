"""A real PostgreSQL server for tests: Debian's binaries, a free port of the loopback, a folder."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from itertools import count
from pathlib import Path

import psycopg

NOBODY_ELSE = "postgres"  # the server refuses to run as root


def programs() -> Path | None:
    """The newest installed server's programs; None where there is none."""
    on_path = shutil.which("initdb")
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: path.parts[4].zfill(4)
    )
    return found[-1].parent if found else Path(on_path).resolve().parent if on_path else None


class Postgres:
    """One server; `durable` leaves fsync on. `start` and `stop` may come again and again."""

    def __init__(self, *, durable: bool = False) -> None:
        found = programs()
        assert found is not None, "PostgreSQL is not installed"
        self._programs = found
        # pytest's own folders are closed to other users than the one who runs it.
        self.folder = Path(tempfile.mkdtemp(prefix="blemish-postgres-", dir="/tmp"))
        self.port = _free_port()
        self._names = count(1)
        self._process: subprocess.Popen[bytes] | None = None
        if os.getuid() == 0:
            shutil.chown(self.folder, NOBODY_ELSE, NOBODY_ELSE)
        subprocess.run(
            [
                *_as_nobody_else(), found / "initdb", "-D", self.folder / "data", "-U", "postgres",
                "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync",
            ],
            check=True, capture_output=True, cwd="/",
        )  # fmt: skip
        self._options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "fsync": "on" if durable else "off",
            "shared_buffers": "64MB",
            "max_connections": "200",
        }

    def start(self) -> None:
        """Start it and wait until it answers."""
        assert self._process is None
        told = [part for item in self._options.items() for part in ("-c", "=".join(item))]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                # It goes with this process, however that ends.
                [*_as_nobody_else("--pdeathsig", "INT"), self._programs / "postgres",
                 "-D", self.folder / "data", *told],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd="/",
            )  # fmt: skip
        for _ in range(400):
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=5).close()
                return
            except psycopg.OperationalError:
                assert self._process.poll() is None, (self.folder / "log").read_text()
                time.sleep(0.025)
        raise AssertionError((self.folder / "log").read_text())

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT breaks off what runs; SIGQUIT is a crash, after which it recovers."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(60)
            self._process = None

    def create(self) -> str:
        """A new empty database; returns its URL."""
        name = f"test_{next(self._names)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def copy(self, source: str, url: str) -> None:
        """Make a database the copy of another, which nobody uses."""
        self.drop(url)
        names = [one.rsplit("/", 1)[1] for one in (url, source)]
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {names[0]} TEMPLATE {names[1]} STRATEGY file_copy")

    def drop(self, url: str) -> None:
        """Take a database away, whoever still uses it."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {url.rsplit('/', 1)[1]} WITH (FORCE)")

    def url(self, name: str) -> str:
        """A database's URL."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def close(self) -> None:
        """Stop it and remove its folder."""
        self.stop()
        shutil.rmtree(self.folder)


def _as_nobody_else(*options: str) -> list[str]:
    if os.getuid() != 0:
        return ["setpriv", *options] if options else []
    return ["setpriv", f"--reuid={NOBODY_ELSE}", f"--regid={NOBODY_ELSE}", "--clear-groups",
            *options]  # fmt: skip


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port
