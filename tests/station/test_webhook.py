"""Webhooks with a real server: signed, in order, tried again, dead letters kept."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from datetime import timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from hook import Hook, real_hook  # noqa: F401 - a fixture
from line_tools import PASS, deliveries, encoded, eventually, health, made, recorded, running

from blemish.errors import ParameterError
from blemish.station.core import Station
from blemish.station.errors import ConflictError, UnknownError
from blemish.station.inspecting import Part
from blemish.station.results import result_to_dict
from blemish.station.sinks import dead_letters, delivering, resend, resend_all
from blemish.station.sinks.webhook import retry_after
from blemish.station.store import now
from blemish.station.store.inspections import find


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between tries are a tenth of what they are."""
    whole = delivering.pause_after
    monkeypatch.setattr(delivering, "pause_after", lambda failures: whole(failures) / 20)
    monkeypatch.setattr(delivering, "IDLE", 0.05)
    monkeypatch.setattr(delivering, "COUNT", 0.01)


def sink(hook: Hook, **more: Any) -> dict[str, Any]:
    """The sink as station.toml has it."""
    return {"kind": "webhook", "name": "mes", "url": hook.url} | more


def send(station: Station, count: int = 1, first: int = 0) -> list[str]:
    """Inspect parts; returns their ids."""
    return [
        station.inspecting.inspect(
            Part("board", encoded(PASS, number), correlation_id=f"c-{number}")
        )[0].row.id
        for number in range(first, first + count)
    ]


def ids(hook: Hook) -> list[str]:
    """The ids that were posted, in order."""
    return [request.headers["Webhook-Id"] for request in hook.requests]


def states(station: Station) -> list[str]:
    """The states of all deliveries, oldest first."""
    return [row.state for row in deliveries(station)]


@pytest.mark.parametrize("secret", ["plain text ", "whsec_" + base64.b64encode(b"key").decode()])
def test_results_are_posted_signed_and_in_order(hook: Hook, tmp_path: Path, secret: str) -> None:
    """The body is the result; the signature is HMAC-SHA256 of id, time and body."""
    (tmp_path / "secret").write_text(secret + "\n")
    key = b"key" if secret.startswith("whsec_") else secret.strip().encode()
    with running(tmp_path, sinks=(sink(hook, secret_file="secret"),)) as station:
        sent = send(station, 5)
        eventually(lambda: states(station) == ["sent"] * 5)
        assert ids(hook) == sent
        request = hook.requests[0]
        assert json.loads(request.body) == result_to_dict(find(station.database, sent[0]))
        assert request.headers["Content-Type"] == "application/json"
        told = request.headers["Webhook-Timestamp"]
        assert abs(int(told) - time.time()) < 60
        digest = hmac.new(key, f"{sent[0]}.{told}.".encode() + request.body, hashlib.sha256)
        expected = "v1," + base64.b64encode(digest.digest()).decode()
        assert request.headers["Webhook-Signature"] == expected
        eventually(lambda: health(station, "mes").counts["waiting"] == 0)
        eventually(lambda: health(station, "mes").counts["sent"] == 5)
        assert health(station, "mes").state == "running"


def test_without_a_secret_nothing_is_signed(hook: Hook, tmp_path: Path) -> None:
    """No header claims a signature that is none."""
    with running(tmp_path, sinks=(sink(hook),)) as station:
        send(station)
        eventually(lambda: hook.requests)
    assert "Webhook-Signature" not in hook.requests[0].headers


def test_a_sink_that_was_down_catches_up_in_order(
    hook: Hook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused connections are counted against no result, however many there are."""
    hook.stop()
    with running(tmp_path, sinks=(sink(hook, tries=1),)) as station:
        sent = send(station, 40)
        eventually(lambda: "cannot be reached" in (health(station, "mes").last_error or ""))
        assert health(station, "mes").state == "retrying"
        eventually(lambda: part_failures(station) >= 3)
        assert states(station) == ["waiting"] * 40
        monkeypatch.setattr(delivering, "pause_after", lambda failures: 2.0)
        failures = part_failures(station)
        eventually(lambda: part_failures(station) > failures)
        sent += send(station, 2, first=40)
        eventually(lambda: health(station, "mes").counts["waiting"] == 42)
        assert part_failures(station) == failures + 1  # counted without another try
        assert "refused" in (deliveries(station)[0].last_error or "")
        hook.start()
        eventually(lambda: states(station) == ["sent"] * 42)
        assert ids(hook) == sent
        assert health(station, "mes").last_error is None


def part_failures(station: Station) -> int:
    """Tries in a row that have failed."""
    return next(one for one in station.parts if hasattr(one, "sink"))._failures  # type: ignore[attr-defined,no-any-return]


def test_what_was_not_sent_before_a_restart_is_sent_after_it(hook: Hook, tmp_path: Path) -> None:
    """The outbox is in the database, so a station that stopped begins where it was."""
    hook.stop()
    with running(tmp_path, sinks=(sink(hook),)) as station:
        sent = send(station, 3)
    hook.start()
    with running(tmp_path, sinks=(sink(hook),)) as station:
        eventually(lambda: states(station) == ["sent"] * 3)
    assert ids(hook) == sent


def test_errors_are_tried_again_then_a_dead_letter(hook: Hook, tmp_path: Path) -> None:
    """After `tries` answers of 500 the next result has its turn; the dead one can be sent again."""
    bad: list[str] = []
    hook.answer = lambda body: 500 if json.loads(body)["id"] in bad else 200
    with running(tmp_path, sinks=(sink(hook, tries=3),)) as station:
        send(station)
        eventually(lambda: states(station) == ["sent"])
        hook.hang.clear()
        sent = send(station, 2, first=1)
        bad.append(sent[0])
        hook.hang.set()
        eventually(lambda: states(station) == ["sent", "dead", "sent"])
        assert ids(hook)[1:] == [sent[0]] * 3 + [sent[1]]
        (letter,) = dead_letters(station.database, sink="mes")
        assert (letter.inspection_id, letter.tries) == (sent[0], 3)
        assert "500" in (letter.last_error or "")
        eventually(lambda: health(station, "mes").counts["dead"] == 1)
        bad.clear()
        resend(station.database, letter.id)
        eventually(lambda: states(station) == ["sent"] * 3)
        assert ids(hook)[-1] == sent[0]


@pytest.mark.parametrize(
    ("status", "is_final"),
    [(400, True), (404, True), (408, False), (425, False), (429, False), (503, False),
     (307, False)],
)  # fmt: skip
def test_which_answers_are_final(hook: Hook, tmp_path: Path, status: int, is_final: bool) -> None:
    """A 4xx will not change; busy, too early and the server's errors may. No redirect is taken."""
    hook.status = status
    hook.headers["Location"] = f"http://127.0.0.1:{hook.port}/elsewhere"
    with running(tmp_path, sinks=(sink(hook, tries=2),)) as station:
        send(station)
        eventually(lambda: states(station) == ["dead"])
    assert len(hook.requests) == (1 if is_final else 2)
    assert {request.path for request in hook.requests} == {"/results"}


def test_a_refused_result_does_not_hold_up_the_others(hook: Hook, tmp_path: Path) -> None:
    """One that is refused for good is passed over at once."""
    hook.answer = lambda body: 422 if json.loads(body)["correlation_id"] == "c-1" else 200
    with running(tmp_path, sinks=(sink(hook),)) as station:
        send(station, 3)
        eventually(lambda: states(station) == ["sent", "dead", "sent"])


def test_retry_after_is_kept(hook: Hook, tmp_path: Path) -> None:
    """A server that asks for a second of rest has it."""
    hook.answer = lambda body: 429 if len(hook.requests) == 1 else 200
    hook.headers["Retry-After"] = "1"
    with running(tmp_path, sinks=(sink(hook),)) as station:
        send(station)
        eventually(lambda: hook.requests)
        began = time.monotonic()
        eventually(lambda: states(station) == ["sent"])
        assert time.monotonic() - began > 0.8


def test_a_server_that_hangs_is_left_alone_and_counted(hook: Hook, tmp_path: Path) -> None:
    """No answer within the timeout is a try: a result that breaks a server is dead in the end."""
    hook.hang.clear()
    with running(tmp_path, sinks=(sink(hook, timeout_s=0.1, tries=2),)) as station:
        send(station)
        eventually(lambda: states(station) == ["dead"])
        assert "no answer within 0.1 s" in (deliveries(station)[0].last_error or "")


def test_all_dead_letters_can_be_sent_again(hook: Hook, tmp_path: Path) -> None:
    """Of one sink, and of one station, and only dead ones."""
    hook.status = 401
    with running(tmp_path, sinks=(sink(hook),)) as station:
        sent = send(station, 3)
        eventually(lambda: states(station) == ["dead"] * 3)
        newest = dead_letters(station.database, limit=2)
        assert [one.inspection_id for one in newest] == sent[:0:-1]
        older = dead_letters(station.database, after=newest[-1].id)
        assert [one.inspection_id for one in older] == sent[:1]
        assert resend_all(station.database, "other") == 0
        assert resend_all(station.database, "mes", station="line-2") == 0
        hook.status = 200
        assert resend_all(station.database, "mes", station="line-1") == 3
        eventually(lambda: states(station) == ["sent"] * 3)
        with pytest.raises(ConflictError, match="is sent"):
            resend(station.database, deliveries(station)[0].id)
        with pytest.raises(UnknownError, match="no delivery"):
            resend(station.database, "nothing")


def test_rows_of_another_station_are_not_ours(hook: Hook, tmp_path: Path) -> None:
    """Two stations on one database each deliver what they have recorded."""
    hook.stop()
    with running(tmp_path, sinks=(sink(hook),)) as station:
        send(station, 2)
    hook.start()
    other = made(tmp_path, sinks=(sink(hook),))
    next(one for one in other.parts if hasattr(one, "sink")).station = "line-2"  # type: ignore[attr-defined]
    with other:
        time.sleep(0.3)
        assert states(other) == ["waiting"] * 2
    assert not hook.requests
    assert len(recorded(other)) == 2


def test_the_database_going_away_only_costs_time(
    hook: Hook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was sent and could not be noted is noted later, and not sent again."""
    away = [True]
    settle = delivering.outbox.settle

    def unsettled(database: Any, keys: Any) -> None:
        if away[0]:
            raise OSError("away")
        settle(database, keys)

    monkeypatch.setattr(delivering.outbox, "settle", unsettled)
    with running(tmp_path, sinks=(sink(hook),)) as station:
        sent = send(station, 2)
        eventually(lambda: health(station, "mes").last_error == "OSError: away")
        time.sleep(0.1)
        away[0] = False
        eventually(lambda: states(station) == ["sent"] * 2)
    assert ids(hook) == sent


@pytest.mark.parametrize(
    ("text", "told"),
    [(None, "cannot be read"), ("", "is empty"), ("whsec_", "is empty"), ("whsec_?", "not base64")],
)
def test_a_secret_that_is_none_is_one_sentence(tmp_path: Path, text: str | None, told: str) -> None:
    """The station does not start without its secret: nothing goes out unsigned."""
    if text is not None:
        (tmp_path / "secret").write_text(text)
    one = {"kind": "webhook", "name": "mes", "url": "http://127.0.0.1:9/", "secret_file": "secret"}
    with pytest.raises(ParameterError, match=told):
        made(tmp_path, sinks=(one,))


@pytest.mark.parametrize("url", ["http://", "https:///path", "http://[::1", "http://a:b:c/"])
def test_a_url_that_is_none_is_one_sentence(tmp_path: Path, url: str) -> None:
    """A url without a host, or that cannot be read, is told at the start."""
    with pytest.raises(ParameterError, match="sink 'mes'"):
        made(tmp_path, sinks=({"kind": "webhook", "name": "mes", "url": url},))


def test_retry_after_may_be_a_date_or_nonsense() -> None:
    """Seconds, a date, and what is neither."""
    soon = format_datetime(now() + timedelta(seconds=30), usegmt=True)
    assert retry_after("120") == 120
    assert 25 < retry_after(soon) <= 30
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert [retry_after(one) for one in ("", "soon", "-1", "9" * 400, "²")] == [0] * 5
