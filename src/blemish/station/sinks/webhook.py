"""Results posted to a URL as JSON, signed as the Standard Webhooks specification says."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import threading
import time
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx

from blemish.errors import ParameterError
from blemish.station.results import result_to_dict
from blemish.station.settings import WebhookSink
from blemish.station.sinks.sink import NotTakenError, SinkDownError
from blemish.station.store import Judged

_PREFIX = "whsec_"  # of a secret in base64
_LATER = {408, 425, 429}  # answers of the 4xx that mean: not now
_ANSWER = 65_536  # bytes of an answer that are read, so that the connection can be used again


class Webhook:
    """One POST a result; 2xx is the only answer that counts as taken, redirects are not followed.

    Raises ParameterError for a URL or a secret that cannot be used.
    """

    trouble = None  # known only by sending

    def __init__(self, settings: WebhookSink, secret_file: Path | None) -> None:
        self.name, self.tries = settings.name, settings.tries
        self.timeout = settings.timeout_s
        self.secret = None if secret_file is None else read_secret(settings.name, secret_file)
        try:
            self.url = httpx.URL(settings.url)
        except httpx.InvalidURL as error:
            raise ParameterError(
                f"sink '{settings.name}': the url cannot be used ({error}); give https://HOST/PATH"
            ) from error
        if not self.url.host:
            raise ParameterError(
                f"sink '{settings.name}': the url names no host; give https://HOST/PATH"
            )
        self._client: httpx.Client | None = None

    def open(self) -> None:
        """Connects when there is something to send."""
        self._client = httpx.Client(timeout=self.timeout, follow_redirects=False)

    def close(self) -> None:
        """Let go of the connection."""
        if self._client is not None:
            self._client.close()

    def send(self, judged: Judged, stopping: threading.Event) -> None:
        """Post one result and wait for the answer."""
        assert self._client is not None
        body = json.dumps(result_to_dict(judged), separators=(",", ":")).encode()
        headers = {"Content-Type": "application/json", "User-Agent": "blemish"}
        headers |= signed(judged.row.id, int(time.time()), body, self.secret)
        try:
            with self._client.stream("POST", self.url, content=body, headers=headers) as response:
                self._read(response)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            raise SinkDownError(
                f"{self.url.host} cannot be reached ({_told(error)}); start it, or check the url"
            ) from error
        except httpx.HTTPError as error:
            # It may be this result that breaks the other side.
            raise NotTakenError(
                f"{self.url.host} gave no answer within {self.timeout:g} s or broke off "
                f"({_told(error)}); look at its log"
            ) from error
        if not response.is_success:
            raise self._refusal(response)

    def _read(self, response: httpx.Response) -> None:
        read, until = 0, time.monotonic() + self.timeout
        for piece in response.iter_raw():
            read += len(piece)
            if read > _ANSWER or time.monotonic() > until:
                return  # the status is what counts

    def _refusal(self, response: httpx.Response) -> NotTakenError:
        status = response.status_code
        return NotTakenError(
            f"{self.url.host} answered {status} {response.reason_phrase}".rstrip()
            + "; look at its log, then send the dead letters again",
            final=400 <= status < 500 and status not in _LATER,
            retry_after=retry_after(response.headers.get("Retry-After", "")),
        )


def signed(key: str, timestamp: int, body: bytes, secret: bytes | None) -> dict[str, str]:
    """The headers `Webhook-Id`, `Webhook-Timestamp` and, with a secret, `Webhook-Signature`."""
    headers = {"Webhook-Id": key, "Webhook-Timestamp": str(timestamp)}
    if secret is not None:
        content = f"{key}.{timestamp}.".encode() + body
        digest = hmac.new(secret, content, hashlib.sha256).digest()
        headers["Webhook-Signature"] = "v1," + base64.b64encode(digest).decode()
    return headers


def read_secret(sink: str, file: Path) -> bytes:
    """The secret in a file: base64 after `whsec_`, else the text itself; raises ParameterError."""
    try:
        text = file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ParameterError(
            f"sink '{sink}': the secret file {file} cannot be read ({why}); make it, for example "
            "with: openssl rand -hex 32"
        ) from error
    if not text.removeprefix(_PREFIX):
        raise ParameterError(
            f"sink '{sink}': the secret file {file} is empty; fill it, for example with: openssl "
            "rand -hex 32"
        )
    if not text.startswith(_PREFIX):
        return text.encode()
    try:
        return base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except binascii.Error as error:
        raise ParameterError(
            f"sink '{sink}': what follows {_PREFIX} in {file} is not base64; copy it again"
        ) from error


def retry_after(value: str) -> float:
    """Seconds of a Retry-After header, which may also be a date; 0 where it is neither."""
    if value.strip().isdecimal() and len(value) < 10:
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _told(error: httpx.HTTPError) -> str:
    return str(error) or type(error).__name__
