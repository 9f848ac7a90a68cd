"""Screenshots of every page: `python tests/station/screenshots.py FOLDER [BUNDLE]`.

Those that the docs show are copied to docs/station, too.

It fits an inspector on made-up boards, fills a station with some days of parts, and lets Chromium
look at it: light, dark, and on a phone. It takes some minutes.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser
from served import Seat, chromium, served

from blemish.station.core import Station
from blemish.station.people import Person
from blemish.station.store import Filter
from blemish.station.store.inspections import awaiting, listed

DOCS = Path(__file__).parents[2] / "docs" / "station"
SHOWN = (  # in README and docs/pages.md
    "live-light", "live-dark", "live-phone", "part-light", "review-light", "review-phone",
    "threshold-light", "trends-light",
)  # fmt: skip
QUALITIES = range(84, 50, -4)  # of JPEG, the first with which a file is small enough
LARGEST = 148_000  # bytes: a README shows several
WIDE = {"viewport": {"width": 1280, "height": 860}}
LOOKS: dict[str, dict[str, object]] = {
    "light": {**WIDE, "color_scheme": "light"},
    "dark": {**WIDE, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 800}, "color_scheme": "light"},
}


def paths(station: Station) -> dict[str, str]:
    """The pages by name; the part's page shows one that failed, with regions."""
    failed = listed(station.database, Filter(verdict="fail"), limit=50).inspections
    part = next((one.row.id for one in failed if one.row.regions), failed[0].row.id)
    return {
        "live": "/", "parts": "/inspections", "part": f"/inspections/{part}", "review": "/review",
        "templates": "/candidates", "inspectors": "/inspectors", "inspector": "/inspectors/board",
        "threshold": "/inspectors/board/threshold", "trends": "/trends", "health": "/health",
        "people": "/people", "docs": "/docs", "sign-in": "/sign-in",
    }  # fmt: skip


def take(
    station: Station, address: str, browser: Browser, token: str, folder: Path,
    looks: Iterable[str] = tuple(LOOKS),
) -> list[Path]:  # fmt: skip
    """Photograph every page in each look; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    taken = []
    for look in looks:
        seat = Seat(browser, address, **LOOKS[look]).sign_in(station, token)
        for name, path in paths(station).items():
            seat.page.goto(path)
            seat.page.wait_for_function(
                "[...document.images].every(one => one.loading === 'lazy' || one.complete)"
            )
            seat.page.wait_for_timeout(400)  # lazy pictures in sight, charts
            taken.append(_written(folder / f"{name}-{look}.jpg", seat.page.screenshot()))
        seat.close()
    return taken


def _written(path: Path, data: bytes) -> Path:
    with Image.open(BytesIO(data)) as image:
        for quality in QUALITIES:
            image.convert("RGB").save(path, quality=quality, subsampling=0, optimize=True)
            if path.stat().st_size <= LARGEST:
                break
    return path


def main(photos: Path, bundle: Path | None) -> None:
    """Make the station and photograph it into `photos`; a fitted `bundle` saves the fitting."""
    import shutil

    import demo_station

    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "bundles"
        folder.mkdir()
        if bundle is None:
            demo_station.fit_board(folder, good=60, size=256)
        else:
            shutil.copytree(bundle, folder / "board.blemish")
        station, tokens = demo_station.open_station(folder)
        demo_station.fill(station, size=256, parts=54)
        _talk(station)
        with served(station) as address, chromium() as browser:
            for path in take(station, address, browser, tokens["Root"], photos):
                print(path, path.stat().st_size // 1024, "KiB")
                if path.stem in SHOWN:
                    shutil.copy(path, DOCS)


def _talk(station: Station) -> None:
    """What people have said: proposals, one of them approved, a missed defect, an alarm."""
    import demo_station

    ada, grace, root = (
        Person(name, demo_station.PEOPLE[name]) for name in ("Ada", "Grace", "Root")
    )
    waiting = [one.row.id for one in awaiting(station.database, limit=8)]
    failed = listed(station.database, Filter(verdict="fail"), limit=2).inspections
    station.reviewing.missed(failed[-1].row.id, ada, "came back from the customer")
    first = station.reviewing.propose(waiting[-1], ada, "capacitors of the new supplier")
    station.reviewing.approve(first.id, grace, "seen on the bench")
    station.reviewing.propose(waiting[-2], ada, "a lighter board, still good")
    station.reviewing.propose(waiting[-3], root)
    demo_station.raise_alarm(station)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
