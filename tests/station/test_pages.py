"""The pages in a real browser: reviewing, approving, rolling back, thresholds, the live view."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from demo_station import PEOPLE, board, send
from playwright.sync_api import Browser, Page, expect
from served import Seat, chromium, served

from blemish.inspector import Inspector
from blemish.station.core import Station
from blemish.station.people import Person
from blemish.station.settings import read_settings
from blemish.station.store import Filter
from blemish.station.store.inspections import count_awaiting, find, listed
from blemish.verdict import Rule

SIZE = 64
WORST = 0.86  # above all good boards of this size
GRACE = Person("Grace", "engineer")


@dataclass
class Line:
    """A served station, its browser, and who has which token."""

    station: Station
    address: str
    browser: Browser
    tokens: dict[str, str]

    def seat(self, name: str | None = None, **look: object) -> Seat:
        """A browser window, signed in as one of PEOPLE."""
        seat = Seat(self.browser, self.address, **look)
        return seat if name is None else seat.sign_in(self.station, self.tokens[name])

    def judge_by(self, threshold: float, review: float | None) -> None:
        """Set the thresholds, whatever the regression set says of them."""
        rule = Rule(threshold=threshold, review_threshold=review)
        self.station.reviewing.set_thresholds("board", rule, GRACE, force=True)

    @property
    def version(self) -> int:
        """The live version of the board."""
        return self.station.shelf.get("board").live.version


@pytest.fixture(scope="module")
def line(fitted: Inspector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    """Good parts of which all went to review, two that failed, and a regression set of two.

    Version 2 sends all parts but the worst to review, version 1 passes them.
    """
    folder = tmp_path_factory.mktemp("line")
    name = fitted.name
    fitted.save(folder / "board.blemish")
    fitted.name = name
    station = Station(read_settings(folder, name="line-3", port=0))
    tokens = {one: station.people.give(one, role) for one, role in PEOPLE.items()}
    rule = Rule(threshold=WORST, review_threshold=0.1)
    station.reviewing.set_thresholds("board", rule, GRACE)
    rows = [send(station, board(500 + index, size=SIZE), f"G-{index}") for index in range(16)]
    station.reviewing.missed(rows[0].id, GRACE)
    station.reviewing.false_alarm(rows[1].id, GRACE)
    for index in range(2):
        send(station, board(601 + index, "missing", SIZE), f"B-{index}")
    with served(station) as address, chromium() as browser:
        yield Line(station, address, browser, tokens)


def shown(page: Page) -> str:
    """The id of the part under review."""
    action = page.locator("form.deciding").get_attribute("action")
    assert action is not None
    return action.rsplit("/", 1)[-1]


def press(page: Page, key: str) -> str:
    """Press a key and wait for the part that follows; returns the one before."""
    before = shown(page)
    page.keyboard.press(key)
    expect(page.locator(f"form.deciding[action='/review/{before}']")).to_have_count(0)
    return before


def test_an_operator_reviews_ten_parts_by_keyboard(line: Line) -> None:
    """Each key says what it says, the next part comes without a reload, and the count goes down."""
    seat = line.seat("Ada")
    page = seat.page
    page.goto("/review")
    page.evaluate("window.loadedOnce = true")
    before = count_awaiting(line.station.database)
    nearness = []
    said: dict[str, str] = {}
    for key, decision in zip("pfppfpfgma", "pfppfpfpfp", strict=True):
        nearness.append(find(line.station.database, shown(page)).row.nearness or 0.0)
        said[press(page, key)] = {"p": "pass", "f": "fail"}[decision]
    assert nearness == sorted(nearness), "the nearest to the threshold come first"
    for key, decision in said.items():
        newest = find(line.station.database, key).decision
        assert newest is not None
        assert (newest.decision, newest.by) == (decision, "Ada")
    assert count_awaiting(line.station.database) == before - 10
    expect(page.locator(".left")).to_have_text(str(before - 10))
    assert page.evaluate("window.loadedOnce")
    assert len(line.station.reviewing.candidates("waiting")) == 1
    assert len(line.station.reviewing.regression("board")) == 4
    seat.close()


def test_next_puts_a_part_off_and_u_brings_the_last_one_back(line: Line) -> None:
    """`n` records nothing; after `u` another decision counts, and both stay on record."""
    seat = line.seat("Ada")
    page = seat.page
    page.goto("/review")
    put_off = press(page, "n")
    assert find(line.station.database, put_off).decision is None
    decided = press(page, "p")
    page.keyboard.press("u")
    expect(page.locator(f"form.deciding[action='/review/{decided}']")).to_be_visible()
    expect(page.get_by_text("You said: pass")).to_be_visible()
    press(page, "f")
    newest = find(line.station.database, decided).decision
    assert newest is not None
    assert newest.decision == "fail"
    assert shown(page) != put_off, "what was put off does not come again yet"
    page.goto(f"/inspections/{decided}")
    expect(page.locator(".said .badge")).to_have_text(["fail", "pass"])
    seat.close()


def test_keys_do_nothing_while_somebody_writes(line: Line) -> None:
    """A note with a `p` in it decides nothing."""
    seat = line.seat("Ada")
    part = listed(line.station.database, Filter(verdict="fail"), limit=1).inspections[0].row
    seat.page.goto(f"/inspections/{part.id}")
    seat.page.get_by_label("Note").click()
    seat.page.keyboard.type("pffh")
    expect(seat.page.get_by_label("Note")).to_have_value("pffh")
    assert find(line.station.database, part.id).decision is None
    seat.close()


def test_a_second_person_approves_and_the_new_version_is_live(line: Line) -> None:
    """Whoever proposed it cannot; another engineer can; the next part is judged by it, live."""
    line.judge_by(WORST, 0.1)
    key = listed(line.station.database, Filter(part_id="G-15")).inspections[0].row.id
    for waiting in line.station.reviewing.candidates("waiting"):
        line.station.reviewing.reject(waiting.id, GRACE)
    mine = line.station.reviewing.propose(key, Person("Ada", "operator"))
    failed = listed(line.station.database, Filter(part_id="B-1")).inspections[0].row.id
    own = line.station.reviewing.propose(failed, GRACE)
    watching = line.seat()
    watching.page.goto("/")
    seat = line.seat("Grace")
    page = seat.page
    page.goto("/candidates")
    refused = page.locator(f"#c-{own.id}")
    expect(refused.get_by_role("button", name="Approve")).to_be_disabled()
    expect(refused.get_by_text("another person has to approve it")).to_be_visible()
    before = line.version
    card = page.locator(f"#c-{mine.id}")
    card.get_by_label("Note").fill("seen on the bench")
    card.get_by_role("button", name="Approve").click()
    expect(card.get_by_text(f"version {before + 1}")).to_be_visible(timeout=60_000)
    assert line.version == before + 1
    card.get_by_text("Regression report").click()
    expect(card.locator("tbody tr")).to_have_count(len(line.station.reviewing.regression("board")))
    send(line.station, board(700, size=SIZE), "after-approval")
    expect(watching.page.locator(".newest .what")).to_contain_text("after-approval")
    expect(watching.page.locator(".newest .what")).to_contain_text(f"v{before + 1}")
    line.station.reviewing.reject(own.id, GRACE)
    seat.close()
    watching.close()


def test_an_engineer_rolls_back(line: Line) -> None:
    """The page of the inspector asks once more, and the old version is live as a new one."""
    line.judge_by(WORST, 0.1)
    seat = line.seat("Linus")
    page = seat.page
    page.goto("/inspectors/board")
    before = line.version
    page.get_by_text("Roll back to version 1").click()
    page.locator("details[open]").get_by_label("Why").fill("lamp was changed")
    page.get_by_role("button", name="Roll back to 1").click()
    expect(page.locator("#notice")).to_contain_text("of the regression set worse")
    assert line.version == before, "version 1 lets a missed defect through"
    page.locator("details[open]").get_by_label("even if the regression set gets worse").check()
    page.get_by_role("button", name="Roll back to 1").click()
    expect(page.get_by_text("Rolled back: the new version is live.")).to_be_visible(timeout=30_000)
    expect(page.locator("#live-version")).to_have_text(str(before + 1))
    assert line.version == before + 1
    change = line.station.reviewing.changes("board", 1)[0]
    assert (change.kind, change.by, change.note) == ("rollback", "Linus", "lamp was changed")
    seat.forgive("409")
    seat.close()


def test_the_threshold_page_shows_what_would_change_and_saves(line: Line) -> None:
    """Moving the slider counts the verdicts that change; saving makes a version that judges so."""
    line.judge_by(WORST, None)
    seat = line.seat("Grace")
    page = seat.page
    page.goto("/inspectors/board/threshold")
    count = page.locator("#preview .big")
    expect(page.locator("canvas")).to_be_visible()
    page.get_by_label("Threshold, slider", exact=True).focus()
    page.keyboard.press("Home")  # everything fails
    parts = len(listed(line.station.database, Filter(), limit=99).inspections)
    failed = len(listed(line.station.database, Filter(verdict="fail"), limit=99).inspections)
    expect(count).to_have_text(str(parts - failed))
    expect(page.locator("#preview .tile").first).to_be_visible()
    before = line.version
    page.get_by_label("Why").fill("a try")
    page.get_by_role("button", name=re.compile("Save as version")).click()
    expect(page.locator("#notice")).to_contain_text("regression set", timeout=30_000)
    assert line.version == before, "a false alarm of the regression set would fail"
    page.get_by_label("Threshold", exact=True).fill("0.9")
    page.get_by_label("Review threshold", exact=True).fill("")
    expect(page.get_by_label("By hand")).to_be_checked()
    page.get_by_label("even if the regression set gets worse").check()
    page.get_by_role("button", name=re.compile("Save as version")).click()
    expect(page.get_by_text("The new thresholds are live.")).to_be_visible(timeout=30_000)
    live = line.station.shelf.get("board").live
    assert (live.version, live.thresholds.threshold) == (before + 1, 0.9)
    assert live.thresholds.review_threshold is None
    seat.forgive("409")
    seat.close()


def test_a_promise_that_cannot_be_kept_is_told_while_typing(line: Line) -> None:
    """So few good parts do not promise 1 %; what they can promise moves the sliders."""
    seat = line.seat("Grace")
    page = seat.page
    page.goto("/inspectors/board/threshold")
    rate = page.get_by_label("Good parts that fail, at most (%)")
    rate.fill("1")
    expect(page.locator("#preview")).to_contain_text("cannot be promised from")
    rate.fill("10")
    expect(page.locator("#preview")).to_contain_text("verdicts would change")
    calibration = line.station.shelf.get("board").inspector.calibration
    assert calibration is not None
    promised = calibration.under(Rule(false_alarm_rate=0.1)).threshold
    expect(page.get_by_label("Threshold", exact=True)).to_have_value(f"{promised:.6g}")
    seat.close()


def test_the_live_view_shows_new_parts_by_itself_until_it_is_paused(line: Line) -> None:
    """It asks each second, and not while it is paused."""
    seat = line.seat()
    page = seat.page
    page.goto("/")
    send(line.station, board(701, size=SIZE), "live-1")
    expect(page.locator(".newest .what")).to_contain_text("live-1")
    page.get_by_role("button", name="Pause").click()
    send(line.station, board(702, size=SIZE), "live-2")
    page.wait_for_timeout(1500)
    expect(page.locator(".newest .what")).to_contain_text("live-1")
    page.get_by_role("button", name="Go on").click()
    expect(page.locator(".newest .what")).to_contain_text("live-2")
    seat.close()


def test_heat_fades_with_the_slider_and_the_theme_is_kept(line: Line) -> None:
    """The slider's opacity and the theme outlast a reload."""
    failed = listed(line.station.database, Filter(verdict="fail"), limit=99).inspections[-1].row
    seat = line.seat(color_scheme="light")
    page = seat.page
    page.goto(f"/inspections/{failed.id}")
    page.locator("[data-heat]").fill("25")
    expect(page.locator(".heat")).to_have_css("opacity", "0.25")
    page.get_by_role("button", name="Light or dark").click()
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.reload()
    expect(page.locator(".heat")).to_have_css("opacity", "0.25")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    seat.close()


def test_screens_of_the_readme_exist() -> None:
    """The pictures that docs/pages.md shows are there, and small enough for a README."""
    folder = Path(__file__).parents[2] / "docs" / "station"
    shown = re.findall(r"\(station/([\w-]+\.jpg)\)", (folder.parent / "pages.md").read_text())
    assert shown
    for name in shown:
        assert (folder / name).stat().st_size < 150_000, name
