"""Results published to an MQTT broker, and whether this station is online."""

from __future__ import annotations

import json
import re
import string
import threading
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from blemish.errors import ParameterError
from blemish.station.mqtt import Link, properties
from blemish.station.results import result_to_dict
from blemish.station.settings import MqttSink
from blemish.station.sinks.sink import NotTakenError, SinkDownError
from blemish.station.store import Judged

STATUS = "blemish/status/{station}"
ONLINE, OFFLINE = b"online", b"offline"
TRIES = 12  # that the broker, while connected, does not take one result
ACKNOWLEDGED = 10.0  # s that the broker may take for that
_FIELDS = {"station", "inspector", "verdict"}
# What no topic may have, and the slash, which would make two levels of one name.
_NOT_IN_A_LEVEL = re.compile(r"[+#/\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class Publisher:
    """One message a result with QoS 1; the broker's acknowledgement is what counts as taken.

    Raises ParameterError for a topic that cannot be one.
    """

    tries = TRIES

    def __init__(self, settings: MqttSink, station: str, password: str | None) -> None:
        self.name, self.topic = settings.name, settings.topic
        check_topic(settings.name, settings.topic)
        self.status_topic = STATUS.format(station=level(station))
        self._answers: dict[int, ReasonCode] = {}
        self._answered = threading.Condition()
        self._link = Link(
            settings.broker,
            client_id=settings.broker.client_id or f"blemish-{station}-sink-{settings.name}",
            password=password,
            connected=self._announce,
            prepare=self._prepare,
        )

    @property
    def trouble(self) -> str | None:
        """What is wrong with the connection."""
        return self._link.trouble

    def open(self) -> None:
        """Begin to connect."""
        self._link.start()

    def close(self) -> None:
        """Say that the station is offline, and disconnect."""
        client = self._link.client
        if client is not None:
            client.publish(self.status_topic, OFFLINE, qos=0, retain=True)
        self._link.stop()

    def send(self, judged: Judged, stopping: threading.Event) -> None:
        """Publish one result and wait until the broker has acknowledged it."""
        client = self._link.client
        if client is None:
            raise SinkDownError(self._link.trouble or "the broker has just gone")
        result = result_to_dict(judged)
        with self._answered:
            self._answers.clear()
        try:
            told = client.publish(
                filled(self.topic, result), json.dumps(result), qos=1, properties=_described(result)
            )
        except ValueError as error:  # a topic or a payload beyond what MQTT can carry
            raise NotTakenError(f"this result cannot be published ({error})", final=True) from error
        if told.rc not in (MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_AGAIN):
            raise SinkDownError(f"the connection to the broker {self._link.where} was lost")
        reason = self._answer(client, told.mid, stopping)
        if reason.is_failure:
            raise NotTakenError(
                f"the broker {self._link.where} refuses the result ({reason}); look at its access "
                "rules and limits"
            )

    def _answer(self, client: Client, mid: int, stopping: threading.Event) -> ReasonCode:
        waited = 0.0
        with self._answered:
            while mid not in self._answers:
                if stopping.is_set():
                    raise SinkDownError("the station is stopping")
                if self._link.client is not client or waited >= ACKNOWLEDGED:
                    # The client would send it again beside us when it is connected anew.
                    client.disconnect()
                    raise NotTakenError(
                        f"the broker {self._link.where} did not acknowledge the result within "
                        f"{ACKNOWLEDGED:g} s or closed the connection; look at its log"
                    )
                self._answered.wait(0.1)
                waited += 0.1
            return self._answers.pop(mid)

    def _prepare(self, client: Client) -> None:
        client.will_set(self.status_topic, OFFLINE, qos=1, retain=True)
        client.on_publish = self._on_publish

    def _announce(self, client: Client, _: bool) -> bool:
        client.publish(self.status_topic, ONLINE, qos=1, retain=True)
        return True

    def _on_publish(self, _: Client, __: Any, mid: int, reason: ReasonCode, ___: Any) -> None:
        with self._answered:
            self._answers[mid] = reason
            self._answered.notify_all()


def check_topic(sink: str, topic: str) -> None:
    """Raise ParameterError for a topic that results cannot be published on."""
    try:
        names = {name for _, name, _, _ in string.Formatter().parse(topic) if name is not None}
    except ValueError:
        names = {"{"}
    if names - _FIELDS or not topic or re.search("[+#\0]", topic):
        raise ParameterError(
            f"sink '{sink}': the topic '{topic}' cannot be published on; give one without + and "
            "#, in which {station}, {inspector} and {verdict} are filled in"
        )


def filled(topic: str, result: dict[str, Any]) -> str:
    """The topic of a result."""
    return topic.format(**{name: level(str(result[name])) for name in _FIELDS})


def level(name: str) -> str:
    """A name as one level of a topic: what a topic cannot have becomes an underscore."""
    return _NOT_IN_A_LEVEL.sub("_", name)


def _described(result: dict[str, Any]) -> Properties:
    told: dict[str, Any] = {"ContentType": "application/json", "PayloadFormatIndicator": 1}
    if result["correlation_id"] is not None:
        told["CorrelationData"] = result["correlation_id"].encode()
    return properties(PacketTypes.PUBLISH, **told)
