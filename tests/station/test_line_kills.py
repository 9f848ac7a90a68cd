"""A station killed again and again, its broker and web server gone in between: nothing is lost."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hook import Hook, real_hook  # noqa: F401 - a fixture
from line_tools import PASS, deliveries, encoded, eventually, made, recorded
from mosquitto import Mosquitto, Person, real_broker  # noqa: F401 - a fixture
from paho.mqtt.packettypes import PacketTypes

from blemish.station.mqtt import properties

HERE = Path(__file__).parent
KILLS = 5


class Process:
    """A station in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it and wait until its sources and sinks are."""
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "line_process.py"), str(self.folder)],
            stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])},
        )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "started\n"

    def kill(self) -> None:
        """As a power cut would."""
        if self._process is not None:
            assert self._process.stdout is not None
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()
            self._process = None


def told(broker: Mosquitto, hook: Hook) -> dict[str, Any]:
    """Every kind of source and sink at once."""
    return {
        "sources": [
            {"kind": "mqtt", "name": "gate", "inspector": "board", "topic": "line/images",
             "broker": broker.settings},
            {"kind": "folder", "name": "press", "inspector": "board", "path": "in", "settle_s": 0},
        ],
        "sinks": [
            {"kind": "mqtt", "name": "plant", "broker": broker.settings},
            {"kind": "webhook", "name": "mes", "url": hook.url},
            {"kind": "csv", "name": "list", "path": "out"},
            {"kind": "digital", "name": "plc", "inspector": "board", "path": "level"},
        ],
    }  # fmt: skip


def feed(folder: Path, person: Person, sent: list[str], done: threading.Event) -> None:
    """Send parts by MQTT with and without an id, and by folder; `sent` gets their checksums."""
    while not done.wait(0.2):
        number = len(sent)
        data = encoded(PASS, number)
        if number % 3 == 0:
            (folder / "in" / f".{number}").write_bytes(data)
            os.replace(folder / "in" / f".{number}", folder / "in" / f"{number}.png")
        else:
            name = {"CorrelationData": f"c-{number}".encode()} if number % 3 == 1 else {}
            person.publish("line/images", data, properties(PacketTypes.PUBLISH, **name))
        sent.append(hashlib.sha256(data).hexdigest())


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Process]:
    """A process that does not outlive the test."""
    found = Process(tmp_path)
    yield found
    found.kill()


@pytest.mark.slow
def test_every_part_once_on_record_and_every_result_delivered(
    broker: Mosquitto, hook: Hook, station: Process, tmp_path: Path
) -> None:
    """Five kills while parts come in, the broker and the web server stopped and started.

    Each part is once in the store, each result at least once at the broker and the web server,
    and exactly once in the CSV.
    """
    (tmp_path / "in").mkdir()
    (tmp_path / "told.json").write_text(json.dumps(told(broker, hook)))
    chance = random.Random(7)
    watching = Person(broker, "blemish/results/#")
    station.start()
    eventually(lambda: (tmp_path / "station" / "sources" / "gate.json").exists())
    time.sleep(0.3)  # the broker has the subscription, and keeps what comes from now on
    sent: list[str] = []
    done = threading.Event()
    feeder = threading.Thread(target=feed, args=(tmp_path, Person(broker), sent, done), daemon=True)
    feeder.start()
    for number in range(KILLS):
        time.sleep(chance.uniform(0.05, 0.6))
        if number == 1:
            hook.stop()
        if number == 2:
            broker.stop()
            time.sleep(0.2)
            broker.start()
        if number == 3:
            hook.start()
        station.kill()
        station.start()
    done.set()
    feeder.join()
    assert len(sent) > 5 * KILLS
    reader = made(tmp_path)  # only to read
    eventually(lambda: len(recorded(reader)) >= len(sent), lambda: len(recorded(reader)))
    eventually(
        lambda: {row.state for row in deliveries(reader)} == {"sent"},
        lambda: Counter((row.sink, row.state) for row in deliveries(reader)),
    )
    station.kill()
    rows = recorded(reader)
    assert sorted(row.image_sha256 for row in rows) == sorted(sent)
    ids = {row.id for row in rows}
    assert Counter(row.sink for row in deliveries(reader)) == dict.fromkeys(
        ("plant", "mes", "list"), len(sent)
    )
    eventually(lambda: {json.loads(one.payload)["id"] for one in watching.seen} == ids)
    assert {request.headers["Webhook-Id"] for request in hook.requests} == ids
    lines: list[str] = []
    for file in (tmp_path / "out").iterdir():
        with file.open(newline="") as opened:
            lines += [line["id"] for line in csv.DictReader(opened, strict=True)]
    assert sorted(lines) == sorted(ids)
    watching.leave()
    reader.stop()
