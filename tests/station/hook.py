"""A web server that takes results: well, slowly, with errors, or not at all."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from mosquitto import free_port


@dataclass(frozen=True)
class Request:
    """What was posted."""

    path: str
    headers: dict[str, str]
    body: bytes


class Hook:
    """Answers with `status`, or what `answer` says of the body; `requests` are all that came."""

    def __init__(self) -> None:
        self.port = free_port()
        self.requests: list[Request] = []
        self.status: int = 204
        self.answer: Any = None
        self.headers: dict[str, str] = {}
        self.hang = threading.Event()
        self.hang.set()
        self.certificate: Path | None = None
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        scheme = "http" if self.certificate is None else "https"
        return f"{scheme}://127.0.0.1:{self.port}/results"

    def start(self) -> None:
        """Listen."""
        hook = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.requests.append(Request(self.path, dict(self.headers), body))
                hook.hang.wait(30)
                status = hook.status if hook.answer is None else hook.answer(body)
                self.send_response(status)
                for name, value in hook.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        if self.certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate, self.certificate.with_suffix(".key"))
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Listen no more: connections are refused."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


@pytest.fixture(name="hook")
def real_hook() -> Iterator[Hook]:
    """A web server of this test alone, started."""
    found = Hook()
    found.start()
    yield found
    found.hang.set()
    found.stop()
