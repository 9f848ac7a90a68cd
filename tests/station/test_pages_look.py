"""Every page as people see it: accessible, on a phone, in both themes, and never fooled by text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from demo_station import PEOPLE, Quiet, board, raise_alarm, send
from PIL import Image
from playwright.sync_api import Browser
from screenshots import paths, take
from served import Seat, chromium, served

from blemish.inspector import Inspector
from blemish.station.core import Station
from blemish.station.inspecting import Part
from blemish.station.parts import PartHealth
from blemish.station.people import Person
from blemish.station.settings import read_settings
from blemish.station.store import new_id, now
from blemish.station.store.tables import DeliveryRow
from blemish.verdict import Rule

SIZE = 64
HOSTILE = """<script>window.fooled=1</script>"'><img src=x onerror="window.fooled=1">{{7*7}}"""
# Enough of the details: the API has dozens of the same kind.
OPEN = "[...document.querySelectorAll('details')].slice(0, 12).forEach(one => one.open = true)"
PAGES = (
    "/", "/inspections", "/inspections/{part}", "/inspections/{hostile}", "/inspections/{error}",
    "/review", "/candidates", "/inspectors", "/inspectors/board", "/inspectors/board/threshold",
    "/trends", "/health", "/people", "/docs", "/sign-in", "/nowhere",
)  # fmt: skip


@dataclass
class Shop:
    """A served station with something on every page."""

    station: Station
    address: str
    browser: Browser
    token: str
    keys: dict[str, str]

    def seat(self, **look: object) -> Seat:
        """A window of the admin, who may see everything."""
        return Seat(self.browser, self.address, **look).sign_in(self.station, self.token)


@pytest.fixture(scope="module")
def shop(fitted: Inspector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Parts of every verdict, proposals, alarms, dead letters, and names that mean harm."""
    folder = tmp_path_factory.mktemp("shop")
    name = fitted.name
    fitted.save(folder / "board.blemish")
    fitted.name = name
    station = Station(read_settings(folder, name="line-3", port=0))
    tokens = {one: station.people.give(one, role) for one, role in PEOPLE.items()}
    rule = Rule(threshold=0.6, review_threshold=0.5)
    station.reviewing.set_thresholds("board", rule, Person("Grace", "engineer"), HOSTILE)
    rows = [send(station, board(500 + index, size=SIZE), f"G-{index}") for index in range(8)]
    failed = send(station, board(602, "missing", SIZE), "B-1")
    hostile = station.inspecting.inspect(
        Part("board", board(603, size=SIZE), part_id=HOSTILE, image=HOSTILE,
             metadata={HOSTILE: HOSTILE, "nested": {"<b>": ["</script>"]}})
    )[0].row  # fmt: skip
    error = station.inspecting.inspect(Part("board", b"no image", image=HOSTILE))[0].row
    ada, grace = Person("Ada", "operator"), Person("Grace", "engineer")
    station.reviewing.propose(rows[0].id, ada, HOSTILE)
    station.reviewing.reject(station.reviewing.propose(rows[1].id, ada).id, grace, HOSTILE)
    station.reviewing.missed(failed.id, ada, HOSTILE)
    station.reviewing.decide(hostile.id, "pass", ada, HOSTILE)
    raise_alarm(station)
    with station.database.writing() as session:
        session.add(
            DeliveryRow(
                id=new_id(), inspection_id=failed.id, station="line-3", sink="mes", state="dead",
                tries=12, next_try=now(), last_error=HOSTILE, ended_at=now(),
            )
        )  # fmt: skip
    troubles = PartHealth("sink", "mes", "retrying", HOSTILE, {"sent": 7})
    station.parts.append(Quiet(troubles, PartHealth("source", "camera-1", "failed", "no camera")))
    keys = {"part": failed.id, "hostile": hostile.id, "error": error.id}
    with served(station) as address, chromium() as browser:
        yield Shop(station, address, browser, tokens["Root"], keys)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious_on_any_page(shop: Shop, theme: str) -> None:
    """Nothing serious or critical, in light and in dark, with every detail opened."""
    seat = shop.seat(color_scheme=theme)
    axe, found = Axe(), []
    for path in PAGES:
        seat.page.goto(path.format(**shop.keys))
        seat.page.evaluate(OPEN)
        for one in axe.run(seat.page).response["violations"]:
            if one["impact"] in {"serious", "critical"}:
                found.append((path, one["id"], one["nodes"][0]["html"][:200]))
    assert not found
    seat.forgive("404")
    seat.close()


def test_no_page_scrolls_sideways_on_a_phone(shop: Shop) -> None:
    """At 360 px the page fits; what is wider scrolls by itself."""
    seat = shop.seat(viewport={"width": 360, "height": 740})
    wide = []
    for path in PAGES:
        seat.page.goto(path.format(**shop.keys))
        seat.page.evaluate(OPEN)
        over = seat.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        if over > 0:
            wide.append((path, over))
    assert not wide
    seat.forgive("404")
    seat.close()


def test_text_of_parts_and_people_is_only_ever_text(shop: Shop) -> None:
    """Names, notes, metadata and errors with markup are shown as they are, and run nothing."""
    seat = shop.seat()
    seen = 0
    for path in PAGES:
        seat.page.goto(path.format(**shop.keys))
        seat.page.wait_for_timeout(50)
        assert seat.page.evaluate("window.fooled") is None, path
        assert not seat.page.locator("img[src=x]").count(), path
        seen += HOSTILE in (seat.page.locator("body").text_content() or "")
    assert seen >= 7, "the live view, list, part, templates, inspector, health, an error"
    seat.forgive("404")
    seat.close()


def test_pages_work_without_scripts(shop: Shop) -> None:
    """Reviewing and deciding are forms: a browser that runs no script can do them."""
    seat = shop.seat(java_script_enabled=False)
    seat.page.goto("/review")
    action = seat.page.locator("form.deciding").get_attribute("action") or ""
    seat.page.get_by_role("button", name="Pass").click()
    assert seat.page.url.startswith(shop.address + "/review")
    after = seat.page.locator("form.deciding").get_attribute("action")
    assert after != action
    seat.page.goto(f"/inspections/{shop.keys['part']}")
    seat.page.get_by_role("button", name="Bad", exact=True).click()
    assert "Your decision is on record: fail." in (seat.page.locator("main").text_content() or "")
    seat.close()


def test_every_page_is_photographed(shop: Shop, tmp_path: Path) -> None:
    """The script behind docs/station looks at each page, and none is blank."""
    taken = take(shop.station, shop.address, shop.browser, shop.token, tmp_path, ["light"])
    assert {path.stem.removesuffix("-light") for path in taken} == set(paths(shop.station))
    for path in taken:
        with Image.open(path) as image:
            assert len(image.convert("L").getcolors() or ()) > 32, path.name


def test_everything_can_be_reached_with_the_tab_key(shop: Shop) -> None:
    """From the address bar the tab key leads to the content and every button of the review."""
    seat = shop.seat()
    seat.page.goto("/review")
    seat.page.locator(".skip").focus()
    reached = set()
    for _ in range(60):
        seat.page.keyboard.press("Tab")
        reached.add(seat.page.evaluate("document.activeElement.value ?? ''"))
    assert {"pass", "fail", "skip", "propose", "missed", "false_alarm"} <= reached
    seat.close()
