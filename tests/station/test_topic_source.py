"""An MQTT topic as a source, with a real broker: once on record, then acknowledged."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from line_tools import (
    FAIL,
    PASS,
    Redness,
    encoded,
    eventually,
    health,
    made,
    part_of,
    recorded,
    running,
    shelve,
)
from mosquitto import Mosquitto, Person, real_broker  # noqa: F401 - a fixture
from paho.mqtt.packettypes import PacketTypes

from blemish.errors import ParameterError
from blemish.station.errors import StoreError
from blemish.station.mqtt import properties
from blemish.station.sources.messages import MessageError, read_message

TOPIC = "line/images"


def source(broker: Mosquitto, **more: Any) -> dict[str, Any]:
    """The source as station.toml has it."""
    return {
        "kind": "mqtt", "name": "gate", "inspector": "board", "topic": TOPIC,
        "broker": broker.settings,
    } | more  # fmt: skip


def is_well(station: Any, name: str = "gate") -> bool:
    """Whether the source is connected and nothing is wrong."""
    return bool(health(station, name).state == "running")


def correlated(name: str, **users: str) -> Any:
    """Properties of a message: its correlation id, and what a user adds."""
    return properties(
        PacketTypes.PUBLISH, CorrelationData=name.encode(), UserProperty=list(users.items())
    )


def test_images_and_json_are_recorded_with_their_ids(broker: Mosquitto, tmp_path: Path) -> None:
    """Bytes with properties, and JSON with base64, both say which part it is."""
    with running(tmp_path, sources=(source(broker),)) as station:
        eventually(lambda: is_well(station), lambda: health(station, "gate"))
        person = Person(broker)
        person.publish(TOPIC, encoded(PASS), correlated("c-1", part_id="p-1"))
        told = {
            "image": base64.b64encode(encoded(FAIL)).decode(),
            "part_id": "p-2",
            "correlation_id": "c-2",
            "metadata": {"press": 4, "shift": "früh"},
        }
        person.publish(TOPIC, json.dumps(told).encode())
        eventually(lambda: len(recorded(station)) == 2)
        first, second = recorded(station)
        assert (first.part_id, first.correlation_id, first.verdict) == ("p-1", "c-1", "pass")
        assert (second.part_id, second.correlation_id, second.verdict) == ("p-2", "c-2", "fail")
        assert second.extra == {"press": 4, "shift": "früh"}
        assert first.source == "gate"
        assert first.image == TOPIC
        assert station.pictures.image(second.image_sha256) == encoded(FAIL)
        person.leave()


def test_what_came_while_the_station_was_down_arrives(broker: Mosquitto, tmp_path: Path) -> None:
    """The broker keeps it for the station, also while the broker itself is started again."""
    with running(tmp_path, sources=(source(broker),)) as station:
        eventually(lambda: is_well(station), lambda: health(station, "gate"))
    person = Person(broker)
    for number in range(5):
        person.publish(TOPIC, encoded(PASS, number))
    person.leave()
    broker.stop()
    broker.start()
    with running(tmp_path, sources=(source(broker),)) as station:
        eventually(lambda: len(recorded(station)) == 5, lambda: health(station, "gate"))
        assert health(station, "gate").counts["repeated"] == 0


def test_a_part_that_is_published_twice_is_recorded_once(broker: Mosquitto, tmp_path: Path) -> None:
    """The same correlation id with the same image is one part; without an id each is its own."""
    with running(tmp_path, sources=(source(broker),)) as station:
        eventually(lambda: is_well(station))
        person = Person(broker)
        for _ in range(3):
            person.publish(TOPIC, encoded(PASS), correlated("c-1"))
        person.publish(TOPIC, encoded(FAIL), correlated("c-1"))  # another picture of that part
        for _ in range(3):
            person.publish(TOPIC, encoded(PASS))
        for _ in range(2):
            person.publish(TOPIC, encoded(PASS), qos=0)
        eventually(
            lambda: sum(health(station, "gate").counts[k] for k in ("recorded", "repeated")) == 9
        )
        assert [row.correlation_id for row in recorded(station)] == ["c-1"] * 2 + [None] * 5
        person.leave()


def test_it_is_acknowledged_only_after_it_is_recorded(
    broker: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A station that stops in the middle of a part gets it again, and records it once."""

    def full(data: bytes) -> str:
        raise StoreError("the disk is full")

    with running(tmp_path, sources=(source(broker),)) as station:
        monkeypatch.setattr(station.pictures, "put_image", full)
        eventually(lambda: is_well(station))
        person = Person(broker)
        for number in range(12):  # more than come at once
            person.publish(TOPIC, encoded(PASS, number))
        eventually(lambda: health(station, "gate").counts["retries"] > 0)
        assert health(station, "gate").last_error == "the disk is full"
        person.leave()
    assert not recorded(station)
    with running(tmp_path, sources=(source(broker),)) as station:
        eventually(lambda: len(recorded(station)) == 12)


def test_a_redelivered_part_without_an_id_is_recorded_once(
    broker: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recorded but not acknowledged, as after a kill: it comes again and is known."""
    with made(tmp_path, sources=(source(broker),)) as station:
        eventually(lambda: is_well(station))
        link = part_of(station, "gate")._link
        monkeypatch.setattr(type(link), "client", property(lambda self: None))  # nobody to thank
        person = Person(broker)
        person.publish(TOPIC, encoded(PASS))
        person.publish(TOPIC, encoded(PASS))  # the same picture, another part
        eventually(lambda: len(recorded(station)) == 2)
        person.leave()
    monkeypatch.undo()
    with running(tmp_path, sources=(source(broker),)) as station:
        eventually(lambda: health(station, "gate").counts["repeated"] == 2)
        assert len(recorded(station)) == 2


def test_a_broker_that_is_down_comes_back(broker: Mosquitto, tmp_path: Path) -> None:
    """Down at the start, then there, then gone: the health says which broker, and why."""
    broker.stop()
    with running(tmp_path, sources=(source(broker),)) as station:
        eventually(lambda: "Connection refused" in (health(station, "gate").last_error or ""))
        assert f"127.0.0.1:{broker.port}" in health(station, "gate").last_error
        assert health(station, "gate").state == "retrying"
        broker.start()
        eventually(lambda: is_well(station))
        broker.stop()
        eventually(lambda: not is_well(station))
        broker.start()
        eventually(lambda: is_well(station))
        person = Person(broker)
        person.publish(TOPIC, encoded(PASS))
        eventually(lambda: len(recorded(station)) == 1)
        person.leave()


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        (b"", None),
        (b"no image", None),
        (b"{", "not JSON"),
        (b'{"image": 3}', "'image' in base64"),
        (b'{"picture": ""}', "'picture'"),
        (b'{"image": "", "part_id": "a\\nb"}', "part_id"),
        (b'{"image": "", "part_id": 7}', "part_id"),
    ],
)
def test_a_message_that_is_none_is_on_record_as_an_error(
    broker: Mosquitto,
    tmp_path: Path,
    payload: bytes,
    problem: str | None,
) -> None:
    """It does not hold up those behind it, and what was wrong with it can be read."""
    with running(tmp_path, sources=(source(broker),)) as station:
        eventually(lambda: is_well(station))
        person = Person(broker)
        person.publish(TOPIC, payload)
        person.publish(TOPIC, encoded(PASS))
        eventually(lambda: len(recorded(station)) == 2)
        first, second = recorded(station)
        assert (first.verdict, second.verdict) == ("error", "pass")
        assert (problem or "") in first.extra.get("problem", "")
        assert bool(problem) == ("problem" in first.extra)
        person.leave()


def test_a_retained_image_does_not_come_again(broker: Mosquitto, tmp_path: Path) -> None:
    """An image that was published as retained is not a new part at every start."""
    person = Person(broker)
    person.publish(TOPIC, encoded(PASS), retain=True)
    for _ in range(2):
        with running(tmp_path, sources=(source(broker),)) as station:
            eventually(lambda: is_well(station))
            person.publish(TOPIC, encoded(FAIL), correlated("c-1"))
            eventually(lambda: sum(health(station, "gate").counts.values()) == 1)
    assert len(recorded(station)) == 1
    person.leave()


def test_another_topic_is_unsubscribed(broker: Mosquitto, tmp_path: Path) -> None:
    """After the setting has changed, the old topic's images do not come any more."""
    with running(tmp_path, sources=(source(broker),)) as station:
        eventually(lambda: is_well(station))
    with running(tmp_path, sources=(source(broker, topic="line/other"),)) as station:
        eventually(lambda: is_well(station))
        person = Person(broker)
        person.publish(TOPIC, encoded(FAIL))
        person.publish("line/other", encoded(PASS))
        eventually(lambda: recorded(station))
        person.leave()
    assert [row.verdict for row in recorded(station)] == ["pass"]


def test_a_refused_login_is_told(broker: Mosquitto, tmp_path: Path) -> None:
    """A broker that wants a password says so, and so does the health."""
    broker.stop()
    broker.anonymous = "false"
    broker.start()
    with running(tmp_path, sources=(source(broker),)) as station:
        eventually(lambda: "Not authorized" in (health(station, "gate").last_error or ""))


def test_a_missing_password_file_is_one_sentence(tmp_path: Path) -> None:
    """The station does not start without it."""
    told = {"host": "127.0.0.1", "username": "ada", "password_file": "secret.txt"}
    with pytest.raises(ParameterError, match=r"'gate': the password file .*secret.txt cannot"):
        made(tmp_path, sources=({"kind": "mqtt", "name": "gate", "inspector": "board",
                                 "broker": told},))  # fmt: skip


def test_two_clients_of_one_name_are_refused(tmp_path: Path) -> None:
    """A broker would throw out one for the other, again and again."""
    told = {"host": "127.0.0.1", "client_id": "line"}
    both = {"kind": "mqtt", "name": "gate", "broker": told}
    with pytest.raises(ParameterError, match="client_id 'line'"):
        made(tmp_path, sources=({**both, "inspector": "board"},), sinks=(both,))


@pytest.mark.parametrize(
    "metadata",
    ['{"a": "\\u0000"}', '{"a": "\\ud800"}', '{"a": 1e999}', '{"a": NaN}', "[1]",
     '{"\\u0000": 1}', '{"a":' * 40 + "1" + "}" * 40, '{"a":' * 20000 + "1" + "}" * 20000],
)  # fmt: skip
def test_metadata_that_no_database_keeps_is_refused(metadata: str) -> None:
    """What would be an error of the database for ever is an error of the message."""
    payload = f'{{"image": "", "metadata": {metadata}}}'.encode()
    with pytest.raises(MessageError):
        read_message(payload)


def test_json_goes_before_properties() -> None:
    """A part id in the message is nearer to the part than one beside it."""
    told = read_message(b'{"image": "aGk=", "part_id": "in"}', part_id="out", correlation_id="c")
    assert (told.image, told.part_id, told.correlation_id) == (b"hi", "in", "c")


def test_a_missing_inspector_does_not_lose_what_is_published(
    broker: Mosquitto, tmp_path: Path
) -> None:
    """The broker keeps parts for a station whose bundle has not come yet."""
    with running(tmp_path, sources=(source(broker, inspector="wheel"),)) as station:
        eventually(lambda: part_of(station, "gate")._link.trouble is None)
        person = Person(broker)
        person.publish(TOPIC, encoded(PASS))
        eventually(lambda: "'wheel'" in (health(station, "gate").last_error or ""))
        shelve(station, Redness(), "wheel")
        eventually(lambda: len(recorded(station)) == 1)
        person.leave()


@pytest.mark.parametrize(
    "topic", ["", "a/#/b", "a+", "a/b#", "\0", "$share", "$share//a", "$share/+/a"]
)
def test_a_topic_that_is_none_is_one_sentence(tmp_path: Path, topic: str) -> None:
    """What paho or the broker would refuse later is told at the start."""
    told = {"kind": "mqtt", "name": "gate", "inspector": "board", "topic": topic}
    with pytest.raises(ParameterError, match="source 'gate': the topic"):
        made(tmp_path, sources=({**told, "broker": {"host": "127.0.0.1"}},))


@pytest.mark.parametrize("topic", ["a", "a/+/b", "+", "#", "a/#", "/a", "$share/line/a/#"])
def test_a_topic_that_is_one_is_subscribed_to(
    broker: Mosquitto, tmp_path: Path, topic: str
) -> None:
    """What is let through is what the broker takes."""
    with running(tmp_path, sources=(source(broker, topic=topic),)) as station:
        eventually(lambda: is_well(station), lambda: health(station, "gate"))


@pytest.mark.parametrize(
    ("topic", "port", "goes_round"),
    [("#", 1883, True), ("$share/a/blemish/#", 1883, True), ("blemish/+/line-1/board", 1883, True),
     ("blemish/results/line-2/#", 1883, False), ("#", 1884, False), ("images/#", 1883, False)],
)  # fmt: skip
def test_results_that_would_come_back_as_parts_are_refused(
    tmp_path: Path, topic: str, port: int, goes_round: bool
) -> None:
    """A topic that takes what a sink publishes at the same broker would never end."""
    one = {"kind": "mqtt", "name": "gate", "inspector": "board", "topic": topic,
           "broker": {"host": "127.0.0.1", "port": port}}  # fmt: skip
    sink = {"kind": "mqtt", "name": "plant", "broker": {"host": "127.0.0.1"}}
    if goes_round:
        with pytest.raises(ParameterError, match="go round for ever"):
            made(tmp_path, sources=(one,), sinks=(sink,))
    else:
        assert len(made(tmp_path, sources=(one,), sinks=(sink,)).parts) >= 3
