"""Serving a station over HTTP: what may be bound to, and a clean end."""

from __future__ import annotations

import gc
import logging
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from blemish.errors import ParameterError
from blemish.station.core import Station, is_loopback


def serve(station: Station) -> None:
    """Serve until Ctrl-C or SIGTERM; what was begun is finished and recorded.

    Raises ParameterError for an address that cannot be had, or that others could reach while
    nobody has a token.
    """
    import uvicorn

    from blemish.station.api import create_app

    settings = station.settings
    check_reach(station)
    listening = _bound(settings.host, settings.port)
    config = uvicorn.Config(
        create_app(station),
        log_config=None,
        access_log=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=int(settings.limits.timeout_s) + 1,
        server_header=False,
    )
    # What has been loaded stays: looking through it for garbage would hold up requests.
    gc.collect()
    gc.freeze()
    with listening, _signals_end_it():
        uvicorn.Server(config).run(sockets=[listening])


@contextmanager
def _signals_end_it() -> Iterator[None]:
    """Uvicorn raises the signal that ended it once more at its end; that is no failure here."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, lambda *_: None)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def check_reach(station: Station) -> None:
    """Raise ParameterError where others could reach a station that asks nobody who they are."""
    if not is_loopback(station.settings.host) and not station.people.any():
        raise ParameterError(
            f"--host {station.settings.host}: others could reach this station, and nobody has a "
            "token yet; give one first: blemish token give DIR_OF_BUNDLES NAME --role admin"
        )


def address(listening: tuple[str, int]) -> str:
    """Where a browser finds it."""
    host, port = listening
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/"


def _bound(host: str, port: int) -> socket.socket:
    name = host.strip("[]")
    try:
        family = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((name, port), family=family, backlog=128)
    except OSError as error:
        raise ParameterError(
            f"--host {host} --port {port}: this address cannot be had ({error.strerror or error}); "
            "is another station running there? Give another port, or 0 for any that is free"
        ) from error
    logging.getLogger("blemish.station").info(
        "listening on %s", address((host, listening.getsockname()[1]))
    )
    return listening
