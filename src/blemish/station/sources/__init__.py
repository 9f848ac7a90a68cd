"""Where parts come from beside the API: a folder, a camera, an MQTT topic."""

from __future__ import annotations

import re
from itertools import product

from paho.mqtt.client import topic_matches_sub

from blemish.errors import ParameterError
from blemish.station.inspecting import Inspecting
from blemish.station.mqtt import read_password
from blemish.station.settings import (
    CameraSource,
    FolderSource,
    MqttSink,
    MqttSource,
    Settings,
    SourceSettings,
)
from blemish.station.sinks.publishing import filled
from blemish.station.sources.camera import CameraIntake
from blemish.station.sources.folder import FolderIntake
from blemish.station.sources.intake import Intake
from blemish.station.sources.topic import TopicIntake

__all__ = ["make_sources", "Intake", "FolderIntake", "CameraIntake", "TopicIntake"]


def make_sources(settings: Settings, inspecting: Inspecting) -> list[Intake]:
    """The sources of the settings, not started yet.

    Raises ParameterError for a topic or a password that cannot be used, for two MQTT clients of
    one name, of which a broker would always throw out the other, and for results that would come
    back as parts.
    """
    _check_clients(settings)
    _check_circles(settings)
    return [_made(told, settings, inspecting) for told in settings.sources]


def _made(told: SourceSettings, settings: Settings, inspecting: Inspecting) -> Intake:
    if isinstance(told, FolderSource):
        return FolderIntake(
            told,
            settings.below(told.path),
            inspecting,
            max_pixels=settings.limits.max_pixels,
        )
    if isinstance(told, CameraSource):
        return CameraIntake(told, inspecting)
    file = told.broker.password_file
    return TopicIntake(
        told,
        inspecting,
        station=settings.name,
        password=read_password(told.name, None if file is None else settings.below(file)),
        memory=settings.folder / "sources" / f"{told.name}.json",
    )


def _check_clients(settings: Settings) -> None:
    seen = set()
    for told in (*settings.sources, *settings.sinks):
        broker = getattr(told, "broker", None)
        if broker is None or broker.client_id is None:
            continue
        client = (broker.host, broker.port, broker.client_id)
        if client in seen:
            raise ParameterError(
                f"'{told.name}': another source or sink has the client_id '{broker.client_id}' at "
                "this broker, too; give each its own"
            )
        seen.add(client)


def _check_circles(settings: Settings) -> None:
    sources = [told for told in settings.sources if isinstance(told, MqttSource)]
    sinks = [told for told in settings.sinks if isinstance(told, MqttSink)]
    for source, sink, inspector in product(sources, sinks, {one.inspector for one in sources}):
        if (source.broker.host, source.broker.port) != (sink.broker.host, sink.broker.port):
            continue
        told = {"station": settings.name, "inspector": inspector, "verdict": "error"}
        own = re.sub(r"^\$share/[^/]+/", "", source.topic)
        if topic_matches_sub(own, filled(sink.topic, told)):
            raise ParameterError(
                f"source '{source.name}': its topic '{source.topic}' takes what the sink "
                f"'{sink.name}' publishes, which would go round for ever; give them topics apart"
            )
