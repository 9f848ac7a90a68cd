"""Encrypted brokers and web servers: an authority that is known is trusted, another one is not."""

from __future__ import annotations

import gc
import shutil
import subprocess
from pathlib import Path

import pytest
from hook import Hook, real_hook  # noqa: F401 - a fixture
from line_tools import PASS, deliveries, encoded, eventually, health, running
from mosquitto import Mosquitto, real_broker  # noqa: F401 - a fixture

from blemish.station.inspecting import Part


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate of this machine that signs itself, its key beside it."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    file = tmp_path / "here.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext",
         "subjectAltName=IP:127.0.0.1", "-keyout", file.with_suffix(".key"), "-out", file],
        check=True, capture_output=True,
    )  # fmt: skip
    return file


# After a failed handshake paho leaves the socket to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("is_known", [True, False])
def test_a_brokers_certificate_is_verified(
    broker: Mosquitto,
    certificate: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_known: bool,
) -> None:
    """Connected where SSL_CERT_FILE names the authority; else nothing is sent, and why is told."""
    broker.stop()
    key = certificate.with_suffix(".key")
    broker.more = f"certfile {certificate}\nkeyfile {key}"
    broker.start()
    if is_known:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    told = {"kind": "mqtt", "name": "plant", "broker": {**broker.settings, "tls": True}}
    with running(tmp_path, sinks=(told,)) as station:
        station.inspecting.inspect(Part("board", encoded(PASS)))
        if is_known:
            eventually(lambda: deliveries(station)[0].state == "sent")
        else:
            eventually(
                lambda: "certificate verify failed" in health(station, "plant").last_error.lower()
                .replace("_", " ")
            )  # fmt: skip
            assert deliveries(station)[0].state == "waiting"
    gc.collect()


@pytest.mark.parametrize("is_known", [True, False])
def test_a_web_servers_certificate_is_verified(
    hook: Hook,
    certificate: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_known: bool,
) -> None:
    """The same for webhooks: no result goes to a server that is not who it says."""
    hook.stop()
    hook.certificate = certificate
    hook.start()
    if is_known:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    told = {"kind": "webhook", "name": "mes", "url": hook.url}
    with running(tmp_path, sinks=(told,)) as station:
        station.inspecting.inspect(Part("board", encoded(PASS)))
        if is_known:
            eventually(lambda: deliveries(station)[0].state == "sent")
        else:
            eventually(
                lambda: "CERTIFICATE_VERIFY_FAILED" in (health(station, "mes").last_error or "")
            )
            assert not hook.requests
            assert deliveries(station)[0].state == "waiting"
