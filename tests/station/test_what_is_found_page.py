"""The station shows what an inspector finds: a picture and two lines, or nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra `station` is not installed")

from starlette.testclient import TestClient

from blemish import HETMM, Inspector
from blemish.imaging import read_image
from blemish.station.api import create_app
from blemish.station.core import Station
from blemish.station.settings import read_settings

SIDE = 48


def parts(count: int) -> list[np.ndarray]:
    """Plates on a dark ground."""
    generator = np.random.default_rng(0)
    images = np.full((count, SIDE, SIDE, 3), 0.2, np.float32)
    images[:, 10:38, 10:38] = 0.7
    images += 0.01 * generator.standard_normal(images.shape).astype(np.float32)
    return list(images.clip(0, 1))


def test_the_page_and_the_picture(tmp_path: Path) -> None:
    """The page has the words and the picture of what `fit` asked, where it asked."""
    asked = Inspector(HETMM(backbone="filterbank", sheets=8), size=SIDE).fit(parts(24))
    asked.calibrate(false_alarm_rate=0.05)
    found = asked.study_detection(trials=36)
    asked.save(tmp_path / "asked.blemish")
    plain = Inspector(HETMM(backbone="filterbank", sheets=8), size=SIDE).fit(parts(20))
    plain.calibrate(false_alarm_rate=0.05).save(tmp_path / "plain.blemish")
    with Station(read_settings(tmp_path, name="line-1", device="cpu")) as station:
        app = create_app(station, manage=False)
        with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
            picture = client.get("/api/v1/inspectors/asked/detection.png")
            assert picture.headers["content-type"] == "image/png"
            assert read_image(picture.content).shape[1] == 512
            page = client.get("/inspectors/asked").text
            assert "What it finds" in page
            assert found.summary[1] in page
            missing = client.get("/api/v1/inspectors/plain/detection.png")
            assert missing.status_code == 404
            assert "was not asked" in missing.json()["detail"]
            assert "What it finds" not in client.get("/inspectors/plain").text
