"""A connection to an MQTT broker that comes back by itself, for a source or a sink."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from blemish.errors import ParameterError
from blemish.station.pauses import pause_after
from blemish.station.settings import Broker

log = logging.getLogger("blemish.station")

KEEPALIVE = 20  # s: a broker that vanished is noticed after one and a half of that
ANSWER = 10.0  # s that a broker may take to accept a connection
LONGEST = 30.0  # s between two attempts to connect

Prepare: TypeAlias = Callable[[Client], None]
Connected: TypeAlias = Callable[[Client, bool], bool]
Received: TypeAlias = Callable[[Client, MQTTMessage], None]


class Link:
    """Keeps a client connected (MQTT 5), a new one each time: nothing of a lost one lives on.

    `connected` is told of each connection, and whether the broker remembered the session; unless
    it returns True, all is well only when it says so by `told(None)`. `prepare` may set a will,
    `received` gets messages, which it must acknowledge by `Client.ack`. With `session` seconds
    the broker keeps what comes while nobody is connected.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        client_id: str,
        password: str | None = None,
        session: int = 0,
        at_once: int | None = None,
        connected: Connected,
        prepare: Prepare = lambda client: None,
        received: Received = lambda client, message: None,
    ) -> None:
        self.broker, self.client_id, self.session = broker, client_id, session
        self.where = f"{broker.host}:{broker.port}"
        self._password, self._at_once = password, at_once
        self._connected, self._prepare, self._received = connected, prepare, received
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._client: Client | None = None
        self._was_connected = False  # by the present or the last attempt
        self.trouble: str | None = f"not connected to the broker {self.where} yet"

    @property
    def client(self) -> Client | None:
        """The client, while it is connected."""
        return self._client

    def start(self) -> None:
        """Begin to connect, in a thread."""
        self._thread = threading.Thread(
            target=self._run, name=f"blemish-mqtt-{self.client_id}", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Disconnect; the broker keeps the session as long as it was asked to."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(ANSWER)  # a name that is being looked up cannot be interrupted

    def told(self, trouble: str | None) -> None:
        """Something is wrong with the connection, or right again."""
        if trouble is not None and trouble != self.trouble:
            log.warning("%s", trouble)
        self.trouble = trouble

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            was_connected = self._once()
            failures = 0 if was_connected and time.monotonic() - began > LONGEST else failures + 1
            self._stopping.wait(pause_after(failures, longest=LONGEST))

    def _once(self) -> bool:
        """One connection from its beginning to its end; whether it came about."""
        client, self._was_connected = _Client(self.client_id), False
        try:
            self._set_up(client)
            client.connect(
                self.broker.host,
                self.broker.port,
                KEEPALIVE,
                clean_start=self.session == 0,
                properties=self._properties(),
            )
        except (OSError, ValueError) as error:
            self.told(
                f"the broker {self.where} cannot be reached ({_why(error)}); start it, or check "
                "its host, port and certificate"
            )
            return False
        client.loop_start()
        until = time.monotonic() + ANSWER
        while not client.over.wait(0.05) and not self._stopping.is_set():
            if not self._was_connected and time.monotonic() > until:
                self.told(f"the broker {self.where} does not answer; is it an MQTT 5 broker?")
                break
        self._client = None
        client.disconnect()
        client.loop_stop()
        if client.error is not None:
            self.told(f"the broker {self.where} sent what is not MQTT ({client.error})")
        return self._was_connected

    def _set_up(self, client: Client) -> None:
        if self.broker.tls:
            client.tls_set()
        if self.broker.username is not None:
            client.username_pw_set(self.broker.username, self._password)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = lambda client, _, message: self._received(client, message)
        self._prepare(client)

    def _properties(self) -> Properties:
        more = {} if self._at_once is None else {"ReceiveMaximum": self._at_once}
        return properties(PacketTypes.CONNECT, SessionExpiryInterval=self.session, **more)

    def _on_connect(
        self, client: Client, _: Any, flags: ConnectFlags, reason: ReasonCode, __: Any
    ) -> None:
        if reason.is_failure:
            self.told(
                f"the broker {self.where} refuses the connection ({reason}); check username, "
                "password_file and client_id"
            )
            return
        self._client, self._was_connected = client, True
        if self._connected(client, flags.session_present):
            self.told(None)

    def _on_disconnect(self, _: Client, __: Any, ___: Any, reason: ReasonCode, ____: Any) -> None:
        if not self._stopping.is_set() and self._client is not None:
            self.told(f"the connection to the broker {self.where} was lost ({reason})")
        self._client = None


class _Client(Client):
    """A client that tells when its thread is over, however that came about."""

    def __init__(self, client_id: str) -> None:
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            manual_ack=True,
            reconnect_on_failure=False,
        )
        self.over = threading.Event()
        self.error: str | None = None

    def loop_forever(
        self, timeout: float = 1.0, retry_first_connection: bool = False
    ) -> MQTTErrorCode:
        """What paho's thread runs."""
        try:
            return super().loop_forever(timeout, retry_first_connection)
        except Exception as error:  # whatever a broken broker makes of paho's reading
            self.error = f"{type(error).__name__}: {error}"
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        finally:
            self.over.set()


def properties(packet: int, **values: Any) -> Properties:
    """Properties of MQTT 5 for a kind of packet."""
    make: Any = Properties  # paho has no types here
    found: Properties = make(packet)
    for name, value in values.items():
        setattr(found, name, value)
    return found


def read_password(name: str, file: Path | None) -> str | None:
    """A broker's password from a file; raises ParameterError where that is not there."""
    if file is None:
        return None
    try:
        return file.read_text("utf-8").strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ParameterError(
            f"'{name}': the password file {file} cannot be read ({why}); make it, readable for "
            "this user alone"
        ) from error


def _why(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
