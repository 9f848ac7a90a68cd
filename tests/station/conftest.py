"""A station of made-up parts: its folder, itself, and people who ask it things."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra `station` is not installed")

from starlette.testclient import TestClient

from blemish.demo.parts import render
from blemish.imaging import encode_png
from blemish.inspector import Inspector
from blemish.station.api import create_app
from blemish.station.core import Station
from blemish.station.settings import read_settings

SIZE = 64
HERE = "http://127.0.0.1"


def png(seed: int, defect: str | None = None, *, size: int = SIZE) -> bytes:
    """A made-up part's picture."""
    return encode_png(np.ascontiguousarray(render(seed, defect, size=size).image))


@pytest.fixture
def bundles(fitted: Inspector, tmp_path: Path) -> Path:
    """A folder with one bundle, `board`."""
    name = fitted.name
    (tmp_path / "bundles").mkdir()
    fitted.save(tmp_path / "bundles" / "board.blemish")
    fitted.name = name
    return tmp_path / "bundles"


@pytest.fixture
def station(bundles: Path) -> Iterator[Station]:
    """A station of that folder, started."""
    with Station(read_settings(bundles, name="line-1", device="cpu")) as running:
        yield running


@pytest.fixture
def client(station: Station) -> Iterator[TestClient]:
    """Somebody without a token."""
    app = create_app(station, manage=False)
    with TestClient(app, base_url=HERE, raise_server_exceptions=False) as found:
        yield found


@pytest.fixture
def person(station: Station) -> Callable[[str, str], TestClient]:
    """`person(name, role)` asks with a token of their own."""

    def make(name: str, role: str) -> TestClient:
        token = station.people.give(name, role)
        app = create_app(station, manage=False)
        return TestClient(
            app, base_url=HERE, headers={"Authorization": f"Bearer {token}"},
            raise_server_exceptions=False,
        )  # fmt: skip

    return make


@pytest.fixture
def operator(person: Callable[[str, str], TestClient]) -> TestClient:
    """An operator, Otto."""
    return person("otto", "operator")


@pytest.fixture
def engineer(person: Callable[[str, str], TestClient]) -> TestClient:
    """An engineer, Ella."""
    return person("ella", "engineer")
