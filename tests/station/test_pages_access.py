"""The pages without a browser: who may do what, signing in, errors, and files that are ours."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from demo_station import PEOPLE, board, send
from starlette.testclient import TestClient

from blemish.inspector import Inspector
from blemish.station import pages
from blemish.station.api import create_app
from blemish.station.api.access import COOKIE
from blemish.station.core import Station
from blemish.station.pages import signing
from blemish.station.people import Person
from blemish.station.settings import read_settings
from blemish.station.store import new_id, now
from blemish.station.store.inspections import find
from blemish.station.store.tables import AlarmRow, DeliveryRow

HERE = Path(pages.__file__).parent
LOOKING = {"accept": "text/html"}
ADA = Person("Ada", "operator")


class Place:
    """A station, its application, and windows on it."""

    def __init__(self, station: Station, tokens: dict[str, str], part: str) -> None:
        self.station, self.tokens, self.part = station, tokens, part
        self.app = create_app(station, manage=False)

    def window(self, name: str | None = None) -> TestClient:
        """A browser of somebody, who follows no redirect by itself."""
        client = TestClient(
            self.app, base_url="http://127.0.0.1", headers=LOOKING | {"origin": "http://127.0.0.1"},
            follow_redirects=False, raise_server_exceptions=False,
        )  # fmt: skip
        if name is not None:
            client.cookies.set(COOKIE, self.station.people.sign_in(self.tokens[name]) or "")
        return client


@pytest.fixture(scope="module")
def place(fitted: Inspector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A station with one part."""
    folder = tmp_path_factory.mktemp("place")
    name = fitted.name
    fitted.save(folder / "board.blemish")
    fitted.name = name
    station = Station(read_settings(folder, name="line-3", port=0))
    tokens = {one: station.people.give(one, role) for one, role in PEOPLE.items()}
    part = send(station, board(601, "missing", 64), "P-1").id
    yield Place(station, tokens, part)
    station.stop()


@pytest.mark.parametrize(
    ("who", "path", "status"),
    [
        (None, "/", 200),
        (None, "/people", 303),
        ("Ada", "/people", 403),
        ("Grace", "/people", 403),
        ("Root", "/people", 200),
    ],
)
def test_pages_are_for_those_who_may(place: Place, who: str | None, path: str, status: int) -> None:
    """Who may not is sent to sign in, or told so on a page."""
    answer = place.window(who).get(path)
    assert answer.status_code == status
    if status == 303:
        assert answer.headers["location"] == "/sign-in?next=%2Fpeople"
    else:
        assert answer.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize(
    ("who", "path", "body", "status"),
    [
        (None, "/inspections/{part}/said", {"what": "pass"}, 303),
        ("Ada", "/inspections/{part}/said", {"what": "sing"}, 422),
        ("Ada", "/inspectors/board/rollback", {"version": 1}, 403),
        ("Ada", "/inspectors/board/threshold", {"mode": "hand", "threshold": 1}, 403),
        ("Ada", "/deliveries/resend", {}, 403),
        ("Grace", "/people", {"name": "Eve", "role": "admin"}, 403),
        ("Grace", "/people/revoke", {"name": "Root"}, 403),
        ("Grace", "/inspectors/board/threshold", {"mode": "hand", "threshold": "high"}, 422),
        ("Grace", "/inspectors/nowhere/rollback", {"version": 1}, 404),
    ],
)
def test_what_one_may_not_do_is_refused_on_a_page(
    place: Place, who: str | None, path: str, body: dict[str, str], status: int
) -> None:
    """Hidden buttons are not what protects: the roles are asked for each change."""
    answer = place.window(who).post(path.format(part=place.part), data=body)
    assert answer.status_code == status
    if status == 303:
        assert answer.headers["location"].startswith("/sign-in")
    else:
        assert "<h1>" in answer.text
    assert find(place.station.database, place.part).decision is None


def test_viewers_see_no_buttons_that_are_not_theirs(place: Place) -> None:
    """Somebody without a token reads how to get one, where others find buttons."""
    without, with_token = place.window(), place.window("Ada")
    path = f"/inspections/{place.part}"
    assert 'name="what"' not in without.get(path).text
    assert "/sign-in?next=" in without.get(path).text
    assert 'name="what"' in with_token.get(path).text
    assert "Save as version" not in with_token.get("/inspectors/board/threshold").text
    assert "Save as version" in place.window("Grace").get("/inspectors/board/threshold").text


def test_signing_in_and_out(place: Place) -> None:
    """The cookie is out of reach of scripts and other sites, and dies with the session."""
    window = place.window()
    answer = window.post("/sign-in", data={"token": place.tokens["Ada"], "next": "/review"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/review")
    cookie = answer.headers["set-cookie"].lower()
    assert all(word in cookie for word in ("httponly", "samesite=strict", "path=/"))
    assert "secure" not in cookie, "over plain http a browser would not send it back"
    assert "Ada" in window.get("/").text
    secret = window.cookies[COOKIE]
    assert window.post("/sign-out").headers["location"] == "/sign-in?done=signed_out"
    assert place.station.people.of_session(secret) is None


def test_the_cookie_is_secure_over_https(place: Place) -> None:
    """A browser never sends it in the clear."""
    window = TestClient(place.app, base_url="https://127.0.0.1", follow_redirects=False)
    answer = window.post(
        "/sign-in", data={"token": place.tokens["Ada"]}, headers={"origin": "https://127.0.0.1"}
    )
    assert "secure" in answer.headers["set-cookie"].lower()


@pytest.mark.parametrize(
    "elsewhere", ["//evil.example", "https://evil.example", "/\\evil.example", "/a\nb", "evil"]
)
def test_signing_in_leads_nowhere_else(place: Place, elsewhere: str) -> None:
    """A link to the sign-in page cannot lead to another site after it."""
    body = {"token": place.tokens["Ada"], "next": elsewhere}
    assert place.window().post("/sign-in", data=body).headers["location"] == "/"
    assert 'name="next" value="/"' in place.window().get("/sign-in", params=body).text


def test_wrong_tokens_are_told_and_slowed_down(place: Place) -> None:
    """After some wrong tokens even the right one has to wait; time lets it in again."""
    place.app.state.attempts = attempts = signing.Attempts()
    window = place.window()
    for _ in range(signing.TRIES):
        answer = window.post("/sign-in", data={"token": "blemish_guess"})
        assert answer.status_code == 401
        assert "not known here" in answer.text
    answer = window.post("/sign-in", data={"token": place.tokens["Ada"]})
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 1
    for times in attempts._failed.values():
        times.extend(time - signing.WITHIN for time in list(times))
    assert window.post("/sign-in", data={"token": place.tokens["Ada"]}).status_code == 303


@pytest.mark.parametrize("path", ["/sign-in", "/sign-out", "/inspections/{part}/said"])
def test_a_page_of_another_site_changes_nothing(place: Place, path: str) -> None:
    """A form elsewhere that posts here is refused, cookie or not."""
    window = place.window("Ada")
    body = {"token": place.tokens["Ada"], "what": "pass"}
    answer = window.post(
        path.format(part=place.part), data=body, headers={"origin": "http://evil.example"}
    )
    assert answer.status_code == 403
    assert "another site" in answer.text
    assert find(place.station.database, place.part).decision is None


def test_errors_are_pages_for_people_and_problems_for_programs(place: Place) -> None:
    """The same sentence, as HTML, as a piece of a page, or as a problem."""
    window = place.window()
    path = "/inspectors/nowhere"
    page = window.get(path)
    piece = window.get(path, headers={"HX-Request": "true"})
    program = window.get(path, headers={"accept": "application/json"})
    api = window.get(f"/api/v1{path}")
    assert {one.status_code for one in (page, piece, program, api)} == {404}
    assert "<html" in page.text
    assert "<html" not in piece.text
    assert piece.headers["HX-Retarget"] == "#notice"
    assert program.json()["code"] == api.json()["code"] == "unknown"
    assert api.headers["content-type"] == "application/problem+json"
    for one in (page, piece):
        assert "there is no inspector" in one.text


@pytest.mark.parametrize("path", ["/nowhere", "/inspections/half-an-id", "/inspections/a/b/c"])
def test_an_address_that_leads_nowhere_is_told_in_words(place: Place, path: str) -> None:
    """No pattern of ids, no bare status: a sentence, and a way on."""
    answer = place.window().get(path)
    assert answer.status_code == 404
    assert "There is no page at this address" in answer.text


@pytest.mark.parametrize(
    ("asked", "word"),
    [
        ("min_score=high", "not a number"), ("since=yesterday", "2026-01-31"),
        ("decision=maybe", "none of"), ("min_score=nan", "too large"), ("cursor=x", "cursor"),
        ("max_score=1e400", "too large"),
    ],
)  # fmt: skip
def test_a_filter_that_means_nothing_is_told(place: Place, asked: str, word: str) -> None:
    """A page with the sentence, not an empty list."""
    answer = place.window().get(f"/inspections?{asked}")
    assert answer.status_code == 422
    assert word in answer.text


def test_filters_find_parts_and_lead_to_their_files(place: Place) -> None:
    """Empty fields ask for nothing; the links to the files ask for the same parts."""
    window = place.window()
    today = now().date().isoformat()
    answer = window.get(
        f"/inspections?inspector=board&verdict=&decision=open&part_id=P-1&since={today}&min_score=0.1"
    )
    assert f"/inspections/{place.part}" in answer.text
    link = re.search(r'href="(/api/v1/inspections\.csv\?[^"]+)"', answer.text)
    assert link is not None
    for part in (
        "inspector=board",
        "part_id=P-1",
        "decided=false",
        f"since={today}T00",
        "min_score=0.1",
    ):
        assert part in link[1]
    assert "No part is like this" in window.get("/inspections?part_id=nobody").text


def test_an_operator_has_seen_an_alarm(place: Place) -> None:
    """The first who has seen it is put on record, and nobody after."""
    key = new_id()
    with place.station.database.writing() as session:
        session.add(
            AlarmRow(
                id=key, station="line-3", inspector="board", measure="score", message="it moved",
                evidence={}, raised_at=now(),
            )
        )  # fmt: skip
    assert "it moved" in place.window().get("/").text
    assert place.window("Ada").post(f"/alarms/{key}/seen").status_code == 303
    place.window("Grace").post(f"/alarms/{key}/seen")
    with place.station.database.reading() as session:
        row = session.get(AlarmRow, key)
    assert row is not None
    assert row.seen_by == "Ada"
    assert "it moved" not in place.window().get("/").text


def test_dead_letters_are_sent_again_by_an_engineer(place: Place) -> None:
    """They wait again, from their first try; those that were sent stay sent."""
    states = {"dead": new_id(), "sent": new_id()}
    with place.station.database.writing() as session:
        for state, key in states.items():
            session.add(
                DeliveryRow(
                    id=key, inspection_id=place.part, station="line-3", sink="mes", state=state,
                    tries=12, next_try=now(), last_error="refused", ended_at=now(),
                )
            )  # fmt: skip
    grace = place.window("Grace")
    assert grace.post("/deliveries/resend", data={"id": states["dead"]}).status_code == 303
    assert grace.post("/deliveries/resend", data={"id": states["sent"]}).status_code == 409
    with place.station.database.reading() as session:
        rows = {state: session.get_one(DeliveryRow, key) for state, key in states.items()}
    assert (rows["dead"].state, rows["dead"].tries) == ("waiting", 0)
    assert rows["sent"].state == "sent"


def test_an_admin_gives_a_token_and_takes_it_away(place: Place) -> None:
    """The token is shown once; whoever had it is signed out."""
    root = place.window("Root")
    shown = root.post("/people", data={"name": "Eve <b>", "role": "viewer"})
    found = re.search(r"blemish_[\w-]+", shown.text)
    assert found is not None
    assert "Eve &lt;b&gt;" in shown.text
    assert found[0] not in root.get("/people").text
    secret = place.station.people.sign_in(found[0])
    assert secret is not None
    root.post("/people/revoke", data={"name": "Eve <b>"})
    assert place.station.people.of_session(secret) is None


def test_pictures_are_there_and_what_is_gone_is_drawn_so(place: Place) -> None:
    """A part, its heat, its region beside the template; a placeholder for what is not kept."""
    window = place.window()
    regions = find(place.station.database, place.part).row.regions
    paths = ["picture.jpg", "picture.jpg?size=large&heat=true"]
    if regions and regions[0]["template"]:
        paths += ["regions/0/part.jpg", "regions/0/template.jpg"]
    answers = [window.get(f"/inspections/{place.part}/{path}") for path in paths]
    assert {one.headers["content-type"] for one in answers} == {"image/jpeg"}
    assert len({one.content for one in answers}) == len(paths)
    for path in ("regions/99/part.jpg", "regions/0/nothing.jpg"):
        gone = window.get(f"/inspections/{place.part}/{path}")
        assert gone.headers["content-type"] in {"image/svg+xml", "text/html; charset=utf-8"}
    assert window.get(f"/inspections/{new_id()}/picture.jpg").text.startswith("<svg")


def test_a_store_that_fails_gives_a_page_too(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page of an error asks nothing of the store that has failed."""
    from blemish.station.errors import StoreUnreachableError
    from blemish.station.store import Database

    def gone(self: Database) -> None:
        raise StoreUnreachableError("the database does not answer; start it")

    monkeypatch.setattr(Database, "reading", gone)
    answer = place.window().get("/inspections")
    assert answer.status_code == 503
    assert "does not answer; start it" in answer.text
    assert answer.headers["retry-after"]


def test_vendored_files_are_what_their_makers_published() -> None:
    """The notice names each file of others with its licence, and their checksums hold."""
    folder = HERE / "static" / "vendor"
    notice = (folder / "NOTICE.md").read_text()
    rows = re.findall(r"^\| (\S+\.(?:js|css)) \|[^|]+\| .*\((\S+)\) \| (\w{64}) \|$", notice, re.M)
    assert {row[0] for row in rows} == {
        path.name for path in folder.iterdir() if path.suffix in {".js", ".css"}
    }
    for name, licence, digest in rows:
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
        assert (folder / licence).stat().st_size > 100


def test_pages_obey_a_policy_without_inline_scripts_or_styles(place: Place) -> None:
    """Scripts and styles are files of the station; nothing comes from elsewhere or is evaluated."""
    page = place.window().get("/").text
    settings = re.search(r"<meta name=\"htmx-config\" content='(.*?)'", page)
    assert settings is not None
    # htmx has an eval, and would run scripts in what it swaps in; no page needs either.
    for name in ("allowEval", "allowScriptTags"):
        assert json.loads(settings[1])[name] is False
    policy = place.window().get("/").headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    for template in (HERE / "templates").iterdir():
        text = template.read_text()
        assert not re.search(r"\sstyle=|\son[a-z]+=|<style|<script(?![^>]*\bsrc=)", text), template
        assert not re.search(r"(?:src|href)=\"(?:https?:)?//", text), template
        assert "|safe" not in text, template


def test_static_files_are_kept_and_pages_are_not(place: Place) -> None:
    """What changes only with its address is kept for good; what people see is not kept at all."""
    window = place.window()
    home = window.get("/")
    assert home.headers["cache-control"] == "no-store"
    sheet = re.search(r"/static/station\.css\?v=\w+", home.text)
    assert sheet is not None
    assert "immutable" in window.get(sheet[0]).headers["cache-control"]
    assert "no-cache" in window.get("/static/station.css").headers["cache-control"]
    assert window.get("/static/../pages/__init__.py").status_code == 404
