"""`blemish serve` as a process: what it says, what it refuses, and how it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from station.conftest import png
from station.kills import free_port

START = "from blemish.cli import main; main()"
HERE = Path(__file__).parent


@contextmanager
def serving(bundles: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running station and its address."""
    port = free_port()
    command = [sys.executable, "-c", START, "serve", str(bundles), "--port", str(port)]
    process = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            assert process.poll() is None, process.stderr
            try:
                httpx.get(f"{address}/healthz")
                break
            except httpx.TransportError:
                time.sleep(0.05)
        yield process, address
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_and_ends_cleanly(bundles: Path, cli: Any, number: signal.Signals) -> None:
    """It serves and ends cleanly."""
    given = cli("token", "give", bundles, "otto")
    token = given.stdout.strip()
    assert cli("token", "list", bundles).stdout.startswith("otto\toperator\t")
    with serving(bundles, "--name", "line-7") as (process, address):
        answer = httpx.post(
            f"{address}/api/v1/inspections", files={"image": png(1)}, data={"inspector": "board"},
            headers={"Authorization": f"Bearer {token}"}, timeout=60,
        )  # fmt: skip
        assert answer.json()["station"] == "line-7"
        ready = httpx.get(f"{address}/readyz")
        assert (ready.status_code, ready.json()["inspectors"]) == (200, ["board"])
        assert 'blemish_inspections_total{inspector="board"' in httpx.get(f"{address}/metrics").text
        process.send_signal(number)
        assert process.wait(20) == 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    assert cli("token", "revoke", bundles, "otto").status == 0
    assert "taken away" in cli("token", "list", bundles).stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--host", "0.0.0.0"], "nobody has a token yet; give one first: blemish token give"),
        (["--db", "mysql://a@b/c"], "neither SQLite nor PostgreSQL"),
        (["--db", "nonsense"], "this is no database URL"),
        (["--db", "sqlite://"], "a database in memory would be lost"),
        (["--port", "70000"], "port: "),
        (["--name", "a b"], "name: "),
    ],
)
def test_what_cannot_be_served_is_said_in_a_sentence(
    bundles: Path, cli: Any, options: list[str], said: str
) -> None:
    """What cannot be served is said in a sentence."""
    outcome = cli("serve", bundles, *options)
    assert outcome.status == 2
    assert said in outcome.stderr
    assert outcome.stderr.count("\n") <= 1


def test_a_folder_without_a_bundle_says_how_to_make_one(tmp_path: Path, cli: Any) -> None:
    """A folder without a bundle says how to make one."""
    outcome = cli("serve", tmp_path)
    assert outcome.status == 2
    assert "holds no bundle that can be used; make one there: blemish fit" in outcome.stderr
    (tmp_path / "bad.blemish").mkdir()
    (tmp_path / "bad.blemish" / "manifest.json").write_text("{}")
    assert "is not the manifest of a Blemish bundle" in cli("serve", tmp_path).stderr
    assert "is not a folder" in cli("serve", tmp_path / "none").stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("port = 'many'", "station.toml: port: "),
        ("[limits]\nworkers = 0", "station.toml: limits.workers: "),
        ("colour = 'red'", "station.toml: colour: "),
        ("bundles = '/'", "this is the folder the file lies in"),
        ("= 1", "cannot be read"),
        ("[[sinks]]\nkind = 'csv'\nname = 'a'\npath = 'x'\n" * 2, "two sinks are called 'a'"),
        ("[[sinks]]\nkind = 'fax'\nname = 'a'", "station.toml: sinks.0: "),
    ],
)
def test_a_wrong_setting_is_named_with_its_place(
    bundles: Path, cli: Any, text: str, said: str
) -> None:
    """A wrong setting is named with its place."""
    (bundles / "station.toml").write_text(text)
    outcome = cli("serve", bundles)
    assert outcome.status == 2
    assert said in outcome.stderr


def test_a_port_that_is_taken_is_named(bundles: Path, cli: Any) -> None:
    """A port that is taken is named."""
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        outcome = cli("serve", bundles, "--port", port)
    assert outcome.status == 2
    assert f"--port {port}: this address cannot be had" in outcome.stderr


@pytest.mark.slow
def test_what_was_acknowledged_survives_being_killed() -> None:
    """What was acknowledged survives being killed."""
    command = [sys.executable, str(HERE / "kills.py"), "--kills", "3", "--seed", "5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    assert found["wrong"] == []
    assert found["acknowledged"] >= 4
