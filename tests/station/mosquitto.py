"""A real broker on a free port, which tests start, stop, freeze and kill."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes

from blemish.station.mqtt import properties

PROGRAM = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
CONFIG = """
listener {port} 127.0.0.1
allow_anonymous {anonymous}
persistence true
persistence_location {folder}/
autosave_on_changes true
autosave_interval 1
max_queued_messages 0
user root
{more}
"""


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


class Mosquitto:
    """Mosquitto with persistence; what was acknowledged survives `stop` and `start`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.anonymous, self.more = "true", ""

    @property
    def settings(self) -> dict[str, Any]:
        """The broker as station.toml names it."""
        return {"host": "127.0.0.1", "port": self.port}

    def start(self) -> None:
        """Start it and wait until it answers."""
        file = self.folder / "mosquitto.conf"
        file.write_text(
            CONFIG.format(
                port=self.port, folder=self.folder, anonymous=self.anonymous, more=self.more
            )
        )
        assert PROGRAM is not None
        self._process = subprocess.Popen(
            [PROGRAM, "-c", str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert self._process.poll() is None, "mosquitto ended at once"
                assert time.monotonic() < until, "mosquitto does not answer"
                time.sleep(0.02)

    def stop(self) -> None:
        """End it; it writes down what it holds."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            self._process.wait(20)
            self._process = None

    def freeze(self, frozen: bool = True) -> None:
        """Let it hang, with its connections open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP if frozen else signal.SIGCONT)


class Person:
    """Somebody else at the broker: publishes, and sees what is published; the broker knows them.

    What is published while they, or the broker, are away reaches them when they are back.
    """

    def __init__(self, broker: Mosquitto, topic: str | None = None) -> None:
        self.seen: list[MQTTMessage] = []
        self._ready = threading.Event()
        name = f"person-{id(self):x}"
        self._client = Client(
            CallbackAPIVersion.VERSION2, client_id=name, protocol=MQTTProtocolVersion.MQTTv5
        )
        self._client.reconnect_delay_set(1, 1)
        self._topic = topic
        self._client.on_connect = self._connected
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = lambda _, __, message: self.seen.append(message)
        self._client.connect(
            "127.0.0.1", broker.port, clean_start=False,
            properties=properties(PacketTypes.CONNECT, SessionExpiryInterval=600),
        )  # fmt: skip
        self._client.loop_start()
        assert self._ready.wait(20)

    def _connected(self, *_: Any) -> None:
        if self._topic is None:
            self._ready.set()
        else:
            self._client.subscribe(self._topic, qos=1)

    def publish(self, topic: str, payload: bytes, properties: Any = None, **more: Any) -> None:
        """Publish with QoS 1 and wait until the broker has it."""
        until = time.monotonic() + 20
        while not self._client.is_connected() and time.monotonic() < until:
            time.sleep(0.01)
        told = self._client.publish(topic, payload, properties=properties, **{"qos": 1} | more)
        told.wait_for_publish(20)
        assert told.is_published()

    def leave(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture(name="broker")
def real_broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker of this test alone; skips where Mosquitto is not installed."""
    if PROGRAM is None:
        pytest.skip("Mosquitto is not installed; apt-get install mosquitto")
    folder = tmp_path / "broker"
    folder.mkdir()
    found = Mosquitto(folder)
    found.start()
    yield found
    found.stop()
