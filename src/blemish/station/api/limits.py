"""ASGI middleware: the size of requests, and headers that keep browsers careful."""

from __future__ import annotations

from asyncio import wait_for
from collections.abc import Callable, Sequence

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blemish.station.api import problems
from blemish.station.api.problems import TooLargeError, TooSlowError, of_error

# Everything comes from the station itself: it works with the network cable out. Scripts and styles
# are files, so that no text of a part can become either.
POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class CarefulHeaders:
    """Adds HEADERS to every response that has none of its own."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, sending)


class KnownHost:
    """Refuses requests for another host: a page elsewhere whose name was made to lead here."""

    def __init__(self, app: ASGIApp, hosts: Sequence[str]) -> None:
        self.app, self.hosts = app, {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http":
            request = Request(scope)
            told = request.headers.get("host", "").lower()
            host = told.rpartition(":")[0] if told.rpartition(":")[2].isdigit() else told
            if host not in self.hosts:
                detail = (
                    f"this station does not answer to the name '{told[:80]}'; use its address, or "
                    "add the name to hosts in station.toml"
                )
                await problems.problem(request, 421, "unknown_host", detail)(scope, receive, send)
                return
        await self.app(scope, receive, send)


class LimitedBody:
    """Refuses requests of more than `limit(scope)` bytes, told or counted while they come.

    And those of which nothing has come for `patience` seconds before their end.
    """

    def __init__(self, app: ASGIApp, limit: Callable[[Scope], int], patience: float) -> None:
        self.app, self.limit, self.patience = app, limit, patience

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit, seen, ended, begun = self.limit(scope), 0, False, False
        request = Request(scope)
        problem: TooLargeError | TooSlowError | None = None
        too_large = TooLargeError(
            f"the request has more than {limit / 2**20:g} MiB; send smaller images, or raise "
            "limits.upload_mib in station.toml"
        )
        told = request.headers.get("content-length", "")
        if told.isdigit() and int(told) > limit:
            await of_error(request, too_large)(scope, receive, send)
            return

        async def reading() -> Message:
            nonlocal seen, ended, problem
            if ended:  # what comes now is that the other side has gone
                return await receive()
            try:
                message = await wait_for(receive(), self.patience)
            except TimeoutError as error:
                problem = TooSlowError(
                    f"nothing of the request came for {self.patience:g} s; send it again"
                )
                raise problem from error
            seen += len(message.get("body", b""))
            ended = not message.get("more_body", False)
            if seen > limit:
                problem = too_large
                raise problem
            return message

        async def sending(message: Message) -> None:
            # Who reads the body makes an error of its own of ours; ours is the one that is told.
            nonlocal begun
            if problem is None:
                begun = True
                await send(message)

        try:
            await self.app(scope, reading, sending)
        except (TooLargeError, TooSlowError):
            if begun:
                raise
        if problem is not None and not begun:
            await of_error(request, problem)(scope, receive, send)
