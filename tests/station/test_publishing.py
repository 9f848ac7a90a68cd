"""Results published to a real broker: acknowledged, in order, also over its restarts."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from line_tools import (
    FAIL,
    PASS,
    Redness,
    deliveries,
    encoded,
    eventually,
    health,
    made,
    part_of,
    running,
    shelve,
)
from mosquitto import Mosquitto, Person, free_port, real_broker  # noqa: F401 - a fixture

from blemish.errors import ParameterError
from blemish.station.core import Station
from blemish.station.inspecting import Part
from blemish.station.results import result_to_dict
from blemish.station.sinks import delivering, publishing
from blemish.station.store.inspections import find


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between tries are a tenth of what they are."""
    whole = delivering.pause_after
    monkeypatch.setattr(delivering, "pause_after", lambda failures: min(whole(failures) / 10, 0.2))


def sink(broker: Mosquitto, **more: Any) -> dict[str, Any]:
    """The sink as station.toml has it."""
    return {"kind": "mqtt", "name": "plant", "broker": broker.settings} | more


def send(station: Station, red: int, number: int = 0, inspector: str = "board") -> str:
    """Inspect a part; returns its id."""
    part = Part(inspector, encoded(red, number), correlation_id=f"c-{number}")
    return station.inspecting.inspect(part)[0].row.id


def results(person: Person) -> list[dict[str, Any]]:
    """The results that somebody has seen, in order."""
    found = [one for one in list(person.seen) if one.topic.startswith("blemish/results")]
    return [json.loads(one.payload) for one in found]


def test_results_are_published_with_their_ids(broker: Mosquitto, tmp_path: Path) -> None:
    """The payload is the result; correlation data and content type are MQTT 5's."""
    person = Person(broker, "blemish/results/#")
    with running(tmp_path, sinks=(sink(broker),)) as station:
        sent = [send(station, red, number) for number, red in enumerate((PASS, FAIL))]
        eventually(lambda: len(person.seen) == 2, lambda: health(station, "plant"))
        first = person.seen[0]
        assert first.topic == "blemish/results/line-1/board"
        assert first.qos == 1
        assert not first.retain
        assert first.properties.CorrelationData == b"c-0"
        assert first.properties.ContentType == "application/json"
        assert [one["id"] for one in results(person)] == sent
        assert results(person)[1] == result_to_dict(find(station.database, sent[1]))
        eventually(lambda: {row.state for row in deliveries(station)} == {"sent"})
        assert health(station, "plant").state == "running"
    person.leave()


def test_the_topic_is_filled_in_and_made_safe(broker: Mosquitto, tmp_path: Path) -> None:
    """Names that no topic may have become underscores; a verdict can be a level."""
    person = Person(broker, "#")
    told = sink(broker, topic="q/{verdict}/{inspector}")
    with running(tmp_path, sinks=(told,)) as station:
        shelve(station, Redness(), "a+b/c#")
        send(station, FAIL, inspector="a+b/c#")
        eventually(lambda: "q/fail/a_b_c_" in [one.topic for one in person.seen])
    person.leave()


def test_online_and_offline_are_retained(broker: Mosquitto, tmp_path: Path) -> None:
    """Online while it is connected, offline after a stop, and by the will after a kill."""

    def status() -> list[bytes]:
        late = Person(broker, "blemish/status/line-1")
        time.sleep(0.05)
        late.leave()
        return [bytes(one.payload) for one in late.seen]

    with running(tmp_path, sinks=(sink(broker),)):
        eventually(lambda: status() == [b"online"])
    eventually(lambda: status() == [b"offline"])
    with running(tmp_path, sinks=(sink(broker),)) as station:
        eventually(lambda: status() == [b"online"])
        client = part_of(station, "plant").sink._link.client
        client.socket().shutdown(2)  # as when the process is killed
        eventually(lambda: status() == [b"offline"])
        eventually(lambda: status() == [b"online"])


def test_a_broker_that_stops_and_starts_gets_everything_in_order(
    broker: Mosquitto, tmp_path: Path
) -> None:
    """Each result at least once while the broker goes twice in the middle of the run."""
    person = Person(broker, "blemish/results/#")
    sent: list[str] = []
    with running(tmp_path, sinks=(sink(broker),)) as station:
        for number in range(60):
            if number in {20, 40}:
                broker.stop()
            if number in {30, 50}:
                broker.start()
            sent.append(send(station, PASS, number))
        eventually(
            lambda: {row.state for row in deliveries(station)} == {"sent"},
            lambda: health(station, "plant"),
        )
        eventually(lambda: {one["id"] for one in results(person)} >= set(sent))
        once = list(dict.fromkeys(one["id"] for one in results(person)))
        assert once == sent
        assert health(station, "plant").state == "running"
    person.leave()


def test_what_is_not_acknowledged_is_not_sent(
    broker: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that hangs has not taken it; it is published again once it answers."""
    monkeypatch.setattr(publishing, "ACKNOWLEDGED", 0.3)
    person = Person(broker, "blemish/results/#")
    with running(tmp_path, sinks=(sink(broker),)) as station:
        eventually(lambda: health(station, "plant").state == "running")
        broker.freeze()
        key = send(station, PASS)
        eventually(lambda: "did not acknowledge" in (deliveries(station)[0].last_error or ""))
        assert deliveries(station)[0].state == "waiting"
        broker.freeze(False)
        eventually(lambda: deliveries(station)[0].state == "sent")
        assert key in [one["id"] for one in results(person)]
    person.leave()


def test_a_result_that_the_broker_refuses_does_not_hold_up_the_others(
    broker: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its access rules forbid is a dead letter after some tries; the next one arrives."""
    monkeypatch.setattr(publishing.Publisher, "tries", 2)
    broker.stop()
    (broker.folder / "rules").write_text("topic readwrite blemish/status/#\ntopic write ok/pass\n")
    broker.more = f"acl_file {broker.folder}/rules"
    broker.start()
    with running(tmp_path, sinks=(sink(broker, topic="ok/{verdict}"),)) as station:
        send(station, FAIL)
        send(station, PASS)
        eventually(lambda: [row.state for row in deliveries(station)] == ["dead", "sent"])
        assert "Not authorized" in (deliveries(station)[0].last_error or "")


def test_a_station_stops_although_the_broker_hangs(broker: Mosquitto, tmp_path: Path) -> None:
    """The result that is being sent stays in the outbox."""
    with running(tmp_path, sinks=(sink(broker),)) as station:
        eventually(lambda: health(station, "plant").state == "running")
        broker.freeze()
        send(station, PASS)
        time.sleep(0.1)
        began = time.monotonic()
    assert time.monotonic() - began < 12
    assert deliveries(station)[0].state == "waiting"
    assert deliveries(station)[0].tries == 0


def test_what_is_no_broker_is_told(tmp_path: Path) -> None:
    """A port where something else answers: one sentence, no dead thread."""
    import socket

    port = free_port()
    server = socket.create_server(("127.0.0.1", port))

    def answer() -> None:
        while True:
            try:
                other, _ = server.accept()
            except OSError:
                return
            other.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 3)
            other.close()

    threading.Thread(target=answer, daemon=True).start()
    told = {"kind": "mqtt", "name": "plant", "broker": {"host": "127.0.0.1", "port": port}}
    with running(tmp_path, sinks=(told,)) as station:
        send(station, PASS)
        time.sleep(0.8)
        assert health(station, "plant").state == "retrying"
        assert str(port) in health(station, "plant").last_error
        assert part_of(station, "plant").sink._link._thread.is_alive()
    server.close()


@pytest.mark.parametrize("topic", ["a/#", "a/+", "{line}", "{station", "", "{0}", "{station.x}"])
def test_a_topic_that_is_none_is_one_sentence(tmp_path: Path, topic: str) -> None:
    """It is told at the start, with what can be filled in."""
    told = {"kind": "mqtt", "name": "plant", "topic": topic, "broker": {"host": "127.0.0.1"}}
    with pytest.raises(ParameterError, match="sink 'plant': the topic"):
        made(tmp_path, sinks=(told,))
