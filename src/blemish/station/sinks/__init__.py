"""Where results go: MQTT, webhooks and CSV out of the outbox, and a level for a PLC."""

from __future__ import annotations

from blemish.station.inspecting import Inspecting
from blemish.station.mqtt import read_password
from blemish.station.settings import (
    CsvSink,
    DigitalSink,
    MqttSink,
    Settings,
    SinkSettings,
    WebhookSink,
)
from blemish.station.sinks.csv_files import CsvFiles
from blemish.station.sinks.delivering import Delivering
from blemish.station.sinks.digital import DigitalOutput
from blemish.station.sinks.outbox import counts, dead_letters, resend, resend_all
from blemish.station.sinks.publishing import Publisher
from blemish.station.sinks.sink import NotTakenError, Sink, SinkDownError
from blemish.station.sinks.webhook import Webhook
from blemish.station.store import Database

__all__ = [
    "make_sinks",
    "Delivering",
    "DigitalOutput",
    "Sink",
    "SinkDownError",
    "NotTakenError",
    "Webhook",
    "Publisher",
    "CsvFiles",
    "counts",
    "dead_letters",
    "resend",
    "resend_all",
]


def make_sinks(
    settings: Settings, database: Database, inspecting: Inspecting
) -> list[Delivering | DigitalOutput]:
    """The sinks of the settings, listening to the inspections and not started yet.

    Raises ParameterError for a secret, password or topic that cannot be used.
    """
    found = [_made(told, settings, database) for told in settings.sinks]
    outbox = [sink.sink.name for sink in found if isinstance(sink, Delivering)]
    inspecting.sinks = lambda inspector: outbox
    inspecting.listeners.extend(found)
    return found


def _made(told: SinkSettings, settings: Settings, database: Database) -> Delivering | DigitalOutput:
    if isinstance(told, DigitalSink):
        return DigitalOutput(told, settings.below(told.path))
    return Delivering(database, settings.name, _sink(told, settings))


def _sink(told: MqttSink | WebhookSink | CsvSink, settings: Settings) -> Sink:
    if isinstance(told, MqttSink):
        file = told.broker.password_file
        password = read_password(told.name, None if file is None else settings.below(file))
        return Publisher(told, settings.name, password)
    if isinstance(told, WebhookSink):
        secret = told.secret_file
        return Webhook(told, None if secret is None else settings.below(secret))
    return CsvFiles(told.name, settings.below(told.path), settings.name)
