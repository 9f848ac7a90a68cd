"""The page on sources and sinks is true: its settings make a station, its message is one."""

from __future__ import annotations

import base64
import json
import re
import tomllib
from pathlib import Path

from line_tools import encoded, made

from blemish.station.settings import FILE, read_settings
from blemish.station.sources.messages import read_message

PAGE = (Path(__file__).parents[2] / "docs" / "sources_and_sinks.md").read_text("utf-8")


def block(language: str) -> str:
    """The page's block of code in a language."""
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_settings_are_settings(tmp_path: Path) -> None:
    """Every source and sink of the page can be made, and the page has every kind and option."""
    (tmp_path / FILE).write_text(block("toml"))
    (tmp_path / "broker.password").write_text("secret")
    (tmp_path / "mes.secret").write_text("secret")
    settings = read_settings(tmp_path)
    station = made(tmp_path, sources=settings.sources, sinks=settings.sinks)
    names = {
        kind: [entry.name for entry in station.health() if entry.kind == kind]
        for kind in ("source", "sink")
    }
    assert names["sink"] == ["plant", "mes", "list", "plc"]
    assert names["source"] == ["press", "gate-camera", "gate"]
    told = tomllib.loads(block("toml"))
    for part, given in zip(
        (*settings.sources, *settings.sinks), (*told["sources"], *told["sinks"]), strict=True
    ):
        assert set(given) == set(type(part).model_fields)
    station.stop()


def test_the_message_is_one() -> None:
    """The page's JSON is read as it says."""
    told = json.loads(block("json"))
    told["image"] = base64.b64encode(encoded(1)).decode()
    message = read_message(json.dumps(told).encode())
    assert (message.part_id, message.correlation_id) == ("p-17", "c-17")
    assert message.metadata == {"press": 4}
    assert message.image == encoded(1)
