"""A station served on a free port of this machine, and Chromium to look at it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from blemish.station.api import create_app
from blemish.station.api.access import COOKIE
from blemish.station.core import Station

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@contextmanager
def served(station: Station) -> Iterator[str]:
    """The station's address while it is served by a thread of this process."""
    config = uvicorn.Config(create_app(station), port=0, log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert time.monotonic() < deadline, "the station did not start"
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser, or a skipped test where there is none."""
    if not CHROMIUM.exists():
        pytest.skip("there is no Chromium at /usr/bin/chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


class Seat:
    """One person at a browser: nothing may be asked of another host, no console may complain."""

    def __init__(self, browser: Browser, address: str, **look: object) -> None:
        self.address = address
        self.context: BrowserContext = browser.new_context(base_url=address, **look)
        self.elsewhere: list[str] = []
        self.complaints: list[str] = []
        self.context.route(lambda url: not url.startswith(address), self._elsewhere)
        self.page: Page = self.context.new_page()
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def sign_in(self, station: Station, token: str) -> Seat:
        """Begin a session without the form."""
        secret = station.people.sign_in(token)
        assert secret is not None
        self.context.add_cookies([{"name": COOKIE, "value": secret, "url": self.address}])
        return self

    def forgive(self, status: str) -> None:
        """A refusal with this status was asked for: the console may tell of it."""
        self.complaints = [one for one in self.complaints if status not in one]

    def close(self) -> None:
        """Leave, having asked nobody else and complained of nothing."""
        self.context.close()
        assert not self.elsewhere, f"asked elsewhere: {self.elsewhere}"
        assert not self.complaints, f"the console says: {self.complaints}"

    def _elsewhere(self, route: object) -> None:
        self.elsewhere.append(route.request.url)  # type: ignore[attr-defined]
        route.abort()  # type: ignore[attr-defined]

    def _said(self, message: object) -> None:
        if message.type in {"error", "warning"}:  # type: ignore[attr-defined]
            self.complaints.append(message.text)  # type: ignore[attr-defined]
