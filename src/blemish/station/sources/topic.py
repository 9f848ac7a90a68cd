"""Parts from an MQTT topic, acknowledged to the broker once they are on record."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple
from uuid import uuid4

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from blemish.errors import ParameterError
from blemish.imaging import atomic_write
from blemish.station.inspecting import Inspecting, Part
from blemish.station.mqtt import Link
from blemish.station.settings import MqttSource
from blemish.station.sources.intake import Intake, request_key
from blemish.station.sources.messages import Message, MessageError, read_message
from blemish.station.store import new_id

SESSION = 7 * 24 * 3600  # s that the broker keeps what comes while the station is down
AT_ONCE = 8  # messages that the broker sends before one is acknowledged: they lie in memory
MOST = 64  # messages in memory beyond which those of QoS 0 are dropped
_LOOK = 0.2  # s


class _Received(NamedTuple):
    """A message, which of our clients got it and when, and in which session of the broker."""

    client: Client
    message: MQTTMessage
    arrived: float
    session: str


class TopicIntake(Intake):
    """Messages of a topic: each part once on record, though the broker may send it again.

    A message is told by its correlation id, image and ids; one without a correlation id by the
    broker's session, the number it has there, and its image. `memory` is a file that keeps the
    session's name and topic. What is no message of a part goes on record as an error. Raises
    ParameterError for a topic that cannot be one.

    `counts`: `dropped` messages of QoS 0, which nobody waits for.
    """

    def __init__(
        self,
        settings: MqttSource,
        inspecting: Inspecting,
        *,
        station: str,
        password: str | None,
        memory: Path,
    ) -> None:
        super().__init__(settings.name, settings.inspector, inspecting)
        check_filter(settings.name, settings.topic)
        self.topic, self.memory = settings.topic, memory
        self._queue: SimpleQueue[_Received] = SimpleQueue()
        self._session = ""
        self._dropped = 0
        self._link = Link(
            settings.broker,
            client_id=settings.broker.client_id or f"blemish-{station}-source-{settings.name}",
            password=password,
            session=SESSION,
            at_once=AT_ONCE,
            connected=self._subscribe,
            prepare=self._prepare,
            received=self._receive,
        )

    def stop(self) -> None:
        """End after the part being recorded; the broker keeps what it was not thanked for."""
        super().stop()
        self._link.stop()

    def _begin(self) -> None:
        self._link.start()  # or else the broker would not keep anything for us

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                received = self._queue.get(timeout=_LOOK)
            except Empty:
                continue
            if self._take(self._part(received)) and received.client is self._link.client:
                # Never by another connection: the number may be another message's there.
                received.client.ack(received.message.mid, received.message.qos)

    def _source_trouble(self) -> str | None:
        return self._link.trouble

    def _source_counts(self) -> dict[str, int]:
        return {"dropped": self._dropped}

    def _part(self, received: _Received) -> Part:
        payload = bytes(received.message.payload)
        problem: dict[str, Any] = {}
        try:
            told = _message(received.message)
        except MessageError as error:
            told, problem = Message(payload), {"problem": str(error)}
        part = Part(
            self.inspector,
            told.image,
            source=self.name,
            image=_topic(received.message),
            part_id=told.part_id,
            correlation_id=told.correlation_id,
            metadata={**told.metadata, **problem},
            arrived=received.arrived,
        )
        return replace(part, request_key=self._key(received, part))

    def _key(self, received: _Received, part: Part) -> str:
        identity: tuple[object, ...] = ()
        if part.correlation_id is None:
            # Of QoS 0 each message is another one: it comes once or not at all.
            number = received.message.mid if received.message.qos else new_id()
            identity = (received.session, number)
        return request_key("mqtt", self.name, part.digest, *identity)

    # In the client's thread ----------------------------------------------------------------

    def _prepare(self, client: Client) -> None:
        client.on_subscribe = self._on_subscribe

    def _subscribe(self, client: Client, is_known: bool) -> bool:
        memory = self._remembered() if is_known else {}
        self._session = memory.get("session") or uuid4().hex
        told = {"session": self._session, "topic": self.topic}
        try:
            self.memory.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(self.memory, json.dumps(told).encode())
        except OSError as error:
            # Without it a part that comes again after a kill would be taken for a new one.
            self._link.told(f"{self.memory} cannot be written ({error.strerror}); make room")
            client.disconnect()
            return False
        if is_known:
            self._forget_what_comes_again()
        if memory.get("topic", self.topic) != self.topic:
            client.unsubscribe(memory["topic"])
        # A retained image would come, as a new one, whenever the broker had lost the session.
        options = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)
        client.subscribe(self.topic, options=options)
        return False  # all is well when the broker has confirmed it

    def _on_subscribe(
        self, client: Client, _: Any, __: int, reasons: list[ReasonCode], ___: Any
    ) -> None:
        if any(reason.is_failure for reason in reasons):
            self._link.told(
                f"the broker {self._link.where} refuses the topic '{self.topic}' "
                f"({reasons[0]}); look at its access rules"
            )
        else:
            self._link.told(None)

    def _receive(self, client: Client, message: MQTTMessage) -> None:
        if message.qos == 0 and self._queue.qsize() >= MOST:
            self._dropped += 1
            return
        self._queue.put(_Received(client, message, time.monotonic(), self._session))

    def _forget_what_comes_again(self) -> None:
        """Let go of a lost connection's messages, which the broker sends again."""
        kept = []
        while True:
            try:
                received = self._queue.get_nowait()
            except Empty:
                break
            if received.message.qos == 0:
                kept.append(received)
        for received in kept:
            self._queue.put(received)

    def _remembered(self) -> dict[str, str]:
        try:
            found = json.loads(self.memory.read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def check_filter(source: str, topic: str) -> None:
    """Raise ParameterError for a topic that cannot be subscribed to."""
    levels = topic.split("/")
    wild = [one for one in levels if "+" in one or "#" in one]
    if (
        not topic
        or "\0" in topic
        or any(one not in {"+", "#"} for one in wild)
        or "#" in levels[:-1]
        or (levels[0] == "$share" and (len(levels) < 3 or not levels[1] or levels[1] in wild))
    ):
        raise ParameterError(
            f"source '{source}': the topic '{topic}' cannot be subscribed to; give levels between "
            "slashes, of which + stands for any one and a last # for all that follow"
        )


def _message(message: MQTTMessage) -> Message:
    properties = message.properties
    correlation = getattr(properties, "CorrelationData", None)
    users = dict(getattr(properties, "UserProperty", ()))
    return read_message(
        bytes(message.payload),
        part_id=users.get("part_id"),
        correlation_id=users.get("correlation_id") if correlation is None else _text(correlation),
    )


def _text(data: bytes) -> str:
    """Correlation data as a name: text where it is that, else in hexadecimal."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return data.hex()
    return text if text.isprintable() else data.hex()


def _topic(message: MQTTMessage) -> str:
    try:
        return message.topic
    except UnicodeDecodeError:  # a broker should not have let it through
        return "topic that is not UTF-8"
