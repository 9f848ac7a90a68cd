"""Parts are sent, judged as `inspect` does, put on record once, found again, and exported."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from blemish.imaging import read_image
from blemish.station.api import create_app
from blemish.station.core import Station
from station.conftest import png

API = "/api/v1"


def send(who: TestClient, data: bytes, *, key: str | None = None, **form: Any) -> Any:
    """Post one part."""
    headers = {} if key is None else {"Idempotency-Key": key}
    form = {"inspector": "board", **form}
    files = {"image": ("part.png", data, "image/png")}
    return who.post(f"{API}/inspections", data=form, files=files, headers=headers)


def count(station: Station) -> int:
    """Count."""
    from blemish.station.store import Filter
    from blemish.station.store.inspections import listed

    return len(listed(station.database, Filter(), limit=500).inspections)


def test_a_part_gets_what_inspect_prints(operator: TestClient, station: Station) -> None:
    """A part gets what inspect prints."""
    data = png(6, "stain")
    answer = send(operator, data, part_id="A-17", metadata='{"shift": 2}')
    assert answer.status_code == 201
    found = answer.json()
    expected = station.shelf.get("board").inspector.inspect(data).to_dict()
    for name in ("score", "p_value", "threshold", "verdict", "reason", "regions", "version"):
        assert found[name] == expected[name], name
    assert found["verdict"] == "fail"
    assert (found["part_id"], found["correlation_id"]) == ("A-17", "A-17")
    assert found["metadata"] == {"shift": 2}
    assert found["image"] == "part.png"
    assert answer.headers["location"] == f"{API}/inspections/{found['id']}"
    again = operator.get(answer.headers["location"])
    assert again.json() == found


def test_its_overlay_map_and_image_can_be_fetched(operator: TestClient, station: Station) -> None:
    """Its overlay map and image can be fetched."""
    data = png(6, "stain")
    found = send(operator, data).json()
    overlay = operator.get(found["overlay_url"])
    assert overlay.headers["content-type"] == "image/png"
    assert read_image(overlay.content).shape == read_image(data).shape
    calm = operator.get(found["overlay_url"], params={"opacity": 0})
    assert calm.content != overlay.content
    anomaly_map = np.load(io.BytesIO(operator.get(found["map_url"]).content))
    expected = station.shelf.get("board").inspector.inspect(data).anomaly_map
    assert np.array_equal(anomaly_map, expected)
    image = operator.get(f"{API}/inspections/{found['id']}/image")
    assert image.content == data
    assert image.headers["content-disposition"].startswith("attachment")


def test_an_unreadable_image_is_on_record_as_an_error(operator: TestClient) -> None:
    """An unreadable image is on record as an error."""
    answer = send(operator, b"no image at all", part_id="B-1")
    assert answer.status_code == 201
    found = answer.json()
    assert found["verdict"] == "error"
    assert found["error"]["code"] == "image_format"
    assert found["score"] is None
    listed = operator.get(f"{API}/inspections", params={"verdict": "error"}).json()
    assert [one["id"] for one in listed["inspections"]] == [found["id"]]


def test_a_fault_of_ours_is_an_error_on_record(
    operator: TestClient, station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of ours is an error on record, and the next part goes on."""
    inspector = station.shelf.get("board").inspector
    with monkeypatch.context() as broken:
        broken.setattr(inspector, "inspect", lambda image: 1 / 0)
        found = send(operator, png(1)).json()
    assert (found["verdict"], found["error"]["code"]) == ("error", "internal")
    assert found["error"]["message"] == "Blemish failed (ZeroDivisionError); see the log"
    assert send(operator, png(1)).json()["verdict"] == "pass"


def test_the_same_key_records_a_part_once(operator: TestClient, station: Station) -> None:
    """The same key records a part once."""
    data = png(2)
    first = send(operator, data, key="k1", part_id="C-1")
    second = send(operator, data, key="k1", part_id="C-1")
    assert first.json() == second.json()
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert count(station) == 1


def test_the_same_key_at_the_same_moment_records_a_part_once(
    operator: TestClient, station: Station
) -> None:
    """The same key at the same moment records a part once."""
    data = png(2)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: send(operator, data, key="k2"), range(6)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert count(station) == 1


@pytest.mark.parametrize("changed", [{"part_id": "other"}, {"metadata": '{"a": 1}'}, {"image": 3}])
def test_a_key_used_for_another_request_is_refused(
    operator: TestClient, changed: dict[str, Any]
) -> None:
    """A key used for another request is refused."""
    assert send(operator, png(2), key="k3", part_id="D-1").status_code == 201
    form = {"part_id": "D-1", **{k: v for k, v in changed.items() if k != "image"}}
    answer = send(operator, png(changed.get("image", 2)), key="k3", **form)
    assert answer.status_code == 422
    assert answer.json()["code"] == "reused_key"


def test_keys_are_each_persons_own(person: Any, operator: TestClient, station: Station) -> None:
    """Keys are each persons own."""
    other = person("olga", "operator")
    send(operator, png(2), key="k4")
    assert "idempotency-replayed" not in send(other, png(2), key="k4").headers
    assert count(station) == 2


def test_a_batch_is_its_parts_in_order_and_can_be_repeated(
    operator: TestClient, station: Station
) -> None:
    """A batch is its parts in order and can be repeated."""
    images = [png(1), b"broken", png(6, "stain")]
    files = [("images", (f"{i}.png", data, "image/png")) for i, data in enumerate(images)]
    form = {"inspector": "board", "part_ids": json.dumps(["E-1", None, "E-3"])}
    answers = [
        operator.post(
            f"{API}/inspections/batch", data=form, files=files, headers={"Idempotency-Key": "b1"}
        )
        for _ in range(2)
    ]
    found = answers[0].json()["inspections"]
    assert [one["verdict"] for one in found] == ["pass", "error", "fail"]
    assert [one["part_id"] for one in found] == ["E-1", None, "E-3"]
    assert answers[1].json() == answers[0].json()
    assert count(station) == 3


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"inspector": "bottle"}, "there is no inspector 'bottle' at this station; it has board"),
        ({"metadata": "{"}, "metadata: this is not JSON"),
        ({"metadata": "[1]"}, "metadata: give a JSON object"),
        ({"metadata": '{"a": NaN}'}, "metadata: this is not JSON"),
        ({"part_id": "a\x00b"}, "part_id"),
        ({"part_id": "a" * 256}, "part_id"),
        ({"metadata": '{"a": "\\u0000"}'}, "what no database keeps"),
    ],
)
def test_what_is_wrong_is_a_problem_and_not_on_record(
    operator: TestClient, station: Station, form: dict[str, str], said: str
) -> None:
    """What is wrong is a problem and not on record."""
    answer = send(operator, png(1), **form)
    assert answer.status_code in {404, 422}
    assert answer.headers["content-type"] == "application/problem+json"
    found = answer.json()
    assert said in found["detail"]
    assert found["status"] == answer.status_code
    assert found["type"] == f"urn:blemish:problem:{found['code']}"
    assert found["instance"] == f"{API}/inspections"
    assert count(station) == 0


def test_too_large_a_request_is_refused_told_or_not(operator: TestClient, station: Station) -> None:
    """Too large a request is refused told or not."""
    limit = int(station.settings.limits.upload_mib * 2**20) + 2**20
    told = operator.post(f"{API}/inspections", content=b"a" * (limit + 1))

    def chunks() -> Any:
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        for _ in range(limit // 2**20 + 1):
            yield b"a" * 2**20

    counted = operator.post(
        f"{API}/inspections", content=chunks(),
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )  # fmt: skip
    for answer in (told, counted):
        assert answer.status_code == 413
        assert answer.json()["code"] == "too_large"
    assert count(station) == 0


def test_a_request_that_does_not_come_on_is_ended(station: Station) -> None:
    """A request that does not come on is ended."""
    limits = station.settings.limits.model_copy(update={"timeout_s": 0.05})
    station.settings = station.settings.model_copy(update={"limits": limits})
    app = create_app(station, manage=False)
    token = station.people.give("otto", "operator")
    scope = {
        "type": "http", "method": "POST", "path": f"{API}/inspections", "query_string": b"",
        "headers": [
            (b"host", b"127.0.0.1"), (b"authorization", f"Bearer {token}".encode()),
            (b"content-type", b"multipart/form-data; boundary=x"), (b"content-length", b"1000"),
        ],
    }  # fmt: skip
    sent: list[Any] = []
    pieces = iter([{"type": "http.request", "body": b"--x\r\n", "more_body": True}])

    async def receive() -> Any:
        for piece in pieces:
            return piece
        await asyncio.sleep(30)
        return {"type": "http.disconnect"}

    async def send_on(message: Any) -> None:
        sent.append(message)

    asyncio.run(asyncio.wait_for(app(scope, receive, send_on), 20))
    assert sent[0]["status"] == 408
    assert json.loads(sent[1]["body"])["code"] == "too_slow"


def test_what_cannot_be_queued_is_told_to_come_again(
    operator: TestClient, station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be queued is told to come again."""
    limits = station.settings.limits
    inspector, gate = station.shelf.get("board").inspector, threading.Event()
    inspect = inspector.inspect

    def slow(image: Any) -> Any:
        assert gate.wait(20)
        return inspect(image)

    monkeypatch.setattr(inspector, "inspect", slow)
    places = limits.workers + limits.queue
    with ThreadPoolExecutor(places) as pool:
        sent = [pool.submit(send, operator, png(i), key=f"q{i}") for i in range(places)]
        while station.inspecting.waiting < places:
            assert not any(one.done() for one in sent)
        refused = send(operator, png(99), key="q99")
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        gate.set()
        assert {one.result().status_code for one in sent} == {201}
    assert send(operator, png(99), key="q99").status_code == 201
    assert count(station) == places + 1


def test_who_waits_too_long_can_ask_again(
    person: Any, station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits too long can ask again."""
    quick = station.settings.limits.model_copy(update={"timeout_s": 0.05})
    station.settings = station.settings.model_copy(update={"limits": quick})
    inspector, gate = station.shelf.get("board").inspector, threading.Event()
    inspect = inspector.inspect
    monkeypatch.setattr(inspector, "inspect", lambda image: (gate.wait(20), inspect(image))[1])
    who = person("otto", "operator")
    late = send(who, png(5), key="l1")
    assert (late.status_code, late.json()["code"]) == (503, "late")
    gate.set()
    for _ in range(100):
        if (again := send(who, png(5), key="l1")).status_code == 201:
            break
    assert again.headers["idempotency-replayed"] == "true"
    assert count(station) == 1


def test_filters_and_the_cursor_leave_out_nothing_and_double_nothing(
    operator: TestClient,
) -> None:
    """Filters and the cursor leave out nothing and double nothing."""
    for seed in range(7):
        send(operator, png(seed, "stain" if seed % 6 == 0 else None), part_id=f"F-{seed}")
    found: list[str] = []
    cursor = None
    while True:
        params = {"limit": 3, **({} if cursor is None else {"cursor": cursor})}
        page = operator.get(f"{API}/inspections", params=params).json()
        found += [one["part_id"] for one in page["inspections"]]
        cursor = page["next"]
        if cursor is None:
            break
        send(operator, png(50), part_id="later")  # comes in front, so it moves nothing
    assert found == [f"F-{seed}" for seed in range(6, -1, -1)]

    def parts(**params: Any) -> list[str]:
        page = operator.get(f"{API}/inspections", params=params).json()
        return [one["part_id"] for one in page["inspections"] if one["part_id"] != "later"]

    assert parts(verdict="fail") == ["F-6", "F-0"]
    assert parts(part_id="F-2") == ["F-2"]
    assert parts(inspector="other") == []
    assert parts(since="2999-01-01T00:00:00Z") == []
    assert len(parts(until="2999-01-01T00:00:00Z")) == 7
    threshold = 0.9
    above = operator.get(f"{API}/inspections", params={"min_score": threshold}).json()
    assert all(one["score"] >= threshold for one in above["inspections"])


def test_what_fits_is_exported_as_csv_and_parquet(operator: TestClient) -> None:
    """What fits is exported as CSV and Parquet."""
    import csv

    import pyarrow.parquet as parquet

    for seed in (0, 1, 6):
        send(operator, png(seed, None if seed == 1 else "stain"), part_id=f"=G-{seed}")
    failed = operator.get(f"{API}/inspections", params={"verdict": "fail"}).json()["inspections"]
    operator.post(f"{API}/inspections/{failed[0]['id']}/decisions", json={"decision": "pass"})
    text = operator.get(f"{API}/inspections.csv", params={"verdict": "fail"})
    assert text.headers["content-disposition"] == 'attachment; filename="inspections.csv"'
    rows = list(csv.DictReader(io.StringIO(text.text)))
    assert {row["part_id"] for row in rows} == {"'=G-0", "'=G-6"}  # no formula for a spreadsheet
    assert sorted(row["decision"] for row in rows) == ["", "pass"]
    data = operator.get(f"{API}/inspections.parquet").content
    table = parquet.read_table(io.BytesIO(data)).to_pylist()
    assert {row["part_id"] for row in table} == {"=G-0", "=G-1", "=G-6"}


def test_counts_alarms_and_dead_letters_are_told(
    operator: TestClient, engineer: TestClient, station: Station
) -> None:
    """Counts, alarms and dead letters are told."""
    from blemish.station.store import new_id, now
    from blemish.station.store.tables import AlarmRow, DeliveryRow

    found = [send(operator, png(seed)).json() for seed in range(3)]
    told = operator.get(f"{API}/statistics", params={"inspector": "board"}).json()
    assert sum(step["parts"] for step in told["steps"]) == 3
    assert sum(step["verdicts"]["pass"] for step in told["steps"]) == 3
    assert told["latency_ms"]["parts"] == 3
    alarm, letter = new_id(), new_id()
    with station.database.writing() as session:
        session.add(
            AlarmRow(
                id=alarm, station="line-1", inspector="board", measure="brightness",
                message="brightness fell", evidence={"now": 0.4}, raised_at=now(),
            )
        )  # fmt: skip
        session.add(
            DeliveryRow(
                id=letter, inspection_id=found[0]["id"], station="line-1", sink="mes",
                state="dead", tries=12, next_try=now(), last_error="404", ended_at=now(),
            )
        )  # fmt: skip
    assert operator.get(f"{API}/alarms", params={"open": True}).json()[0]["seen_by"] is None
    assert operator.post(f"{API}/alarms/{alarm}/seen").json()["seen_by"] == "otto"
    assert engineer.post(f"{API}/alarms/{alarm}/seen").json()["seen_by"] == "otto"
    dead = operator.get(f"{API}/deliveries/dead").json()
    assert [(one["id"], one["last_error"]) for one in dead] == [(letter, "404")]
    assert operator.post(f"{API}/deliveries/{letter}/resend").status_code == 403
    assert engineer.post(f"{API}/deliveries/{letter}/resend").status_code == 202
    assert engineer.post(f"{API}/deliveries/{letter}/resend").status_code == 409
    assert operator.get(f"{API}/deliveries/dead").json() == []
