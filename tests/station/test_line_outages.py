"""Broker and database stopped and started in the middle of a run; two stations on one database."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from line_tools import (
    PASS,
    Redness,
    deliveries,
    encoded,
    eventually,
    health,
    recorded,
    running,
)
from mosquitto import Mosquitto, Person, real_broker  # noqa: F401 - a fixture
from paho.mqtt.packettypes import PacketTypes

from blemish.station.mqtt import properties
from blemish.station.sinks import delivering
from blemish.station.sources import intake
from station.postgres import Postgres


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between tries are short."""
    monkeypatch.setattr(delivering, "pause_after", lambda failures: 0.1)
    monkeypatch.setattr(intake, "pause_after", lambda failures, longest: min(failures, 1) * 0.1)


@pytest.fixture
def url(postgres: Postgres) -> Iterator[str]:
    """An empty database of PostgreSQL."""
    found = postgres.create()
    yield found
    postgres.drop(found)


def source(broker: Mosquitto, topic: str = "line/images") -> dict[str, Any]:
    """Parts from the broker."""
    return {
        "kind": "mqtt", "name": "gate", "inspector": "board", "topic": topic,
        "broker": broker.settings,
    }  # fmt: skip


def publish(person: Person, number: int) -> str:
    """Send a part; returns its checksum."""
    data = encoded(PASS, number)
    named = properties(PacketTypes.PUBLISH, CorrelationData=f"c-{number}".encode())
    person.publish("line/images", data, named)
    return hashlib.sha256(data).hexdigest()


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["stopped", "crashed"])
def test_everything_arrives_once_though_broker_and_database_go(
    broker: Mosquitto, postgres: Postgres, url: str, tmp_path: Path, how: signal.Signals
) -> None:
    """Parts by MQTT and folder go on coming meanwhile; each is on record once, and delivered."""
    (tmp_path / "in").mkdir()
    folder = {"kind": "folder", "name": "press", "inspector": "board", "path": "in", "settle_s": 0}
    sinks = (
        {"kind": "mqtt", "name": "plant", "broker": broker.settings},
        {"kind": "csv", "name": "list", "path": "out"},
    )
    told = {"db": url, "sources": (source(broker), folder), "sinks": sinks}
    watching = Person(broker, "blemish/results/#")
    sent: list[str] = []
    with running(tmp_path, **told) as station:
        eventually(lambda: health(station, "gate").state == "running")
        person = Person(broker)
        for number in range(80):
            if number == 20:
                postgres.stop(how)
            if number == 35:
                postgres.start()
            if number == 50:
                broker.stop()
                time.sleep(0.2)
                broker.start()
            if number % 2:
                sent.append(publish(person, number))
            else:
                data = encoded(PASS, number)
                (tmp_path / "in" / ".part").write_bytes(data)
                os.replace(tmp_path / "in" / ".part", tmp_path / "in" / f"{number}.png")
                sent.append(hashlib.sha256(data).hexdigest())
            time.sleep(0.01)
            if number == 34:  # of what came in that time nothing could be recorded
                eventually(lambda: health(station, "press").state == "retrying")
                eventually(lambda: health(station, "gate").state == "retrying")
                assert "does not answer" in health(station, "press").last_error
        eventually(lambda: len(recorded(station)) >= len(sent), lambda: station.health())
        eventually(
            lambda: {row.state for row in deliveries(station)} == {"sent"}, lambda: station.health()
        )
        rows = recorded(station)
        assert sorted(row.image_sha256 for row in rows) == sorted(sent)
        ids = {row.id for row in rows}
        eventually(lambda: {json.loads(one.payload)["id"] for one in watching.seen} == ids)
        assert {entry.state for entry in station.health()} == {"running"}
    lines = b"".join(file.read_bytes() for file in (tmp_path / "out").iterdir()).decode()
    found = [line.partition(",")[0] for line in lines.splitlines() if not line.startswith("id,")]
    assert sorted(found) == sorted(ids)


def test_two_stations_share_a_topic_and_a_database(
    broker: Mosquitto, url: str, tmp_path: Path
) -> None:
    """Each part is judged by one of them, on record once, and delivered by the one that did."""
    shared = source(broker, "$share/line/line/images")
    names = ("line-1", "line-2")
    told = [
        {
            "name": name, "db": url, "sources": (shared,),
            "sinks": ({"kind": "csv", "name": "list", "path": f"out-{name}"},),
        }
        for name in names
    ]  # fmt: skip
    inspector = Redness()
    inspector.seconds = 0.01
    with (
        running(tmp_path, inspector, **told[0]) as one,
        running(tmp_path, inspector, **told[1]) as other,
    ):
        for station in (one, other):
            eventually(lambda station=station: health(station, "gate").state == "running")
        person = Person(broker)
        sent = [publish(person, number) for number in range(40)]
        sent += [publish(person, 100), publish(person, 100)][:1]  # sent twice, whoever gets it
        eventually(lambda: len(recorded(one)) >= 41)
        eventually(lambda: {row.state for row in deliveries(one)} == {"sent"})
        eventually(
            lambda: (
                sum(
                    health(station, "gate").counts[what]
                    for station in (one, other)
                    for what in ("recorded", "repeated")
                )
                == 42
            )
        )
        rows = recorded(one)
        assert sorted(row.image_sha256 for row in rows) == sorted(sent)
        shares = Counter(row.station for row in rows)
        assert set(shares) == set(names)
        person.leave()
    for name in names:
        lines = next((tmp_path / f"out-{name}").iterdir()).read_bytes().decode().splitlines()
        ids = [line.partition(",")[0] for line in lines[1:]]
        assert sorted(ids) == sorted(row.id for row in rows if row.station == name)
