"""Who may do what: roles, tokens, browsers' sessions, and whom the station answers at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from blemish.errors import ParameterError
from blemish.station.api import create_app
from blemish.station.api.access import COOKIE
from blemish.station.core import Station
from blemish.station.errors import ConflictError, UnknownError
from blemish.station.people import ROLES
from blemish.station.serving import check_reach
from blemish.station.settings import read_settings
from station.conftest import HERE, png

API = "/api/v1"


def test_without_a_token_one_may_only_look(client: TestClient) -> None:
    """Without a token one may only look."""
    assert client.get(f"{API}/me").json() == {
        "name": "somebody at this machine", "role": "viewer", "signed_in": False
    }  # fmt: skip
    assert client.get(f"{API}/inspections").status_code == 200
    answer = client.post(f"{API}/inspections", data={"inspector": "board"}, files={"image": png(1)})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("role", ROLES)
def test_each_role_may_do_what_it_may(station: Station, role: str) -> None:
    """Each role may do what it may."""
    token = station.people.give("somebody", role)
    app = create_app(station, manage=False)
    who = TestClient(app, base_url=HERE, headers={"Authorization": f"Bearer {token}"})
    files = {"image": png(1)}
    sent = who.post(f"{API}/inspections", data={"inspector": "board"}, files=files)
    rolled = who.post(f"{API}/inspectors/board/thresholds", json={"threshold": 0.5})
    given = who.post(f"{API}/tokens", json={"name": "other", "role": "viewer"})
    rank = ROLES.index(role)  # type: ignore[arg-type]
    expected = [201 if rank >= 1 else 403, 200 if rank >= 2 else 403, 201 if rank >= 3 else 403]
    assert [sent.status_code, rolled.status_code, given.status_code] == expected


def test_a_token_that_was_taken_away_opens_nothing(station: Station, client: TestClient) -> None:
    """A token that was taken away opens nothing."""
    token = station.people.give("anna", "admin")
    session = station.people.sign_in(token)
    assert session is not None
    assert station.people.of_session(session) is not None
    station.people.take_away("anna")
    assert station.people.of_session(session) is None
    answer = client.get(f"{API}/me", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 401
    with pytest.raises(UnknownError):
        station.people.take_away("anna")
    assert station.people.give("anna", "viewer") != token
    with pytest.raises(ConflictError, match="has a token already"):
        station.people.give("anna", "viewer")


@pytest.mark.parametrize(("name", "role"), [("", "viewer"), ("a\n", "viewer"), ("anna", "king")])
def test_names_and_roles_are_checked(station: Station, name: str, role: str) -> None:
    """Names and roles are checked."""
    with pytest.raises(ParameterError):
        station.people.give(name, role)


def test_the_store_holds_no_secret(station: Station, bundles: Path) -> None:
    """The store holds no secret."""
    token = station.people.give("anna", "admin")
    session = station.people.sign_in(token)
    assert session is not None
    files = [path for path in (bundles / "station").rglob("*") if path.is_file()]
    assert files
    for path in files:
        data = path.read_bytes()
        assert token.encode() not in data
        assert session.encode() not in data


def test_a_session_ends(station: Station) -> None:
    """A session ends."""
    token = station.people.give("anna", "operator")
    first, second = station.people.sign_in(token), station.people.sign_in(token)
    assert first is not None
    assert second is not None
    station.people.sign_out(first)
    assert station.people.of_session(first) is None
    assert station.people.of_session(second) is not None
    station.people.session_hours = -1
    expired = station.people.sign_in(token)
    assert expired is not None
    assert station.people.of_session(expired) is None
    assert station.people.sign_in("blemish_wrong") is None


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": HERE, "Sec-Fetch-Site": "same-origin"}, 201),
        ({}, 201),  # not a browser
        ({"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_a_page_of_another_site_cannot_use_a_browsers_session(
    station: Station, client: TestClient, headers: dict[str, str], status: int
) -> None:
    """A page of another site cannot use a browsers session."""
    session = station.people.sign_in(station.people.give("otto", "operator"))
    files = {"image": png(1)}
    answer = client.post(
        f"{API}/inspections", data={"inspector": "board"}, files=files,
        headers={**headers, "Cookie": f"{COOKIE}={session}"},
    )  # fmt: skip
    assert answer.status_code == status


def test_another_hosts_name_is_not_answered(client: TestClient) -> None:
    """Another hosts name is not answered."""
    for host, status in [("127.0.0.1:8000", 200), ("LOCALHOST", 200), ("evil.example", 421)]:
        answer = client.get("/healthz", headers={"Host": host})
        assert answer.status_code == status, host
    assert answer.headers["content-type"] == "application/problem+json"


def test_beyond_this_machine_it_asks_for_a_token(bundles: Path) -> None:
    """Beyond this machine it asks for a token."""
    station = Station(read_settings(bundles, host="0.0.0.0", device="cpu"))
    with pytest.raises(ParameterError, match="nobody has a token yet; give one first"):
        check_reach(station)
    token = station.people.give("anna", "viewer")
    check_reach(station)
    with TestClient(create_app(station, manage=False), base_url="http://station") as who:
        assert who.get(f"{API}/inspections").status_code == 401
        assert who.get("/metrics").status_code == 401
        assert who.get("/healthz").status_code == 200
        header = {"Authorization": f"Bearer {token}"}
        assert who.get(f"{API}/inspections", headers=header).status_code == 200
    station.stop()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.9.1"])
def test_on_this_machine_it_does_not(bundles: Path, host: str) -> None:
    """On this machine it does not."""
    station = Station(read_settings(bundles, host=host, device="cpu"))
    check_reach(station)
    station.stop()
