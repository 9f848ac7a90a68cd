"""A station is killed again and again under load; what it acknowledged is there, once.

    python tests/station/kills.py --kills 50

Clients send each part until it is acknowledged, with the same key. Prints one JSON object; exit
status 1 where something is missing, doubled or damaged.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import httpx
from sqlalchemy import func, select, text

from blemish.demo.parts import render
from blemish.detectors import HETMM
from blemish.imaging import encode_png
from blemish.inspector import Inspector
from blemish.station.core import Station
from blemish.station.people import People
from blemish.station.serving import serve
from blemish.station.settings import Settings, read_settings
from blemish.station.store import Database, PictureStore
from blemish.station.store.tables import InspectionRow, TallyRow

SIZE = 64
CLIENTS = 4
GIVE_UP = 60.0  # s


def main() -> int:
    """Kill, restart, and count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--db", help="a database's URL instead of SQLite")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = run(Path(folder), told.kills, random.Random(told.seed), told.db)
    print(json.dumps(found))
    return 0 if not found["wrong"] else 1


def run(folder: Path, kills: int, chance: random.Random, db: str | None = None) -> dict[str, Any]:
    """Kill a station `kills` times while parts are sent; what was found wrong at the end."""
    images = [encode_png(render(seed, size=SIZE).image) for seed in range(24)]
    bundle(folder / "board.blemish")
    settings = read_settings(folder, db=db, port=free_port(), name="line-1", device="cpu")
    database = Database(settings.database)
    database.migrate()
    token = People(database).give("feeder", "operator")
    database.close()
    clients = Clients(f"http://127.0.0.1:{settings.port}", token, images)
    started = time.monotonic()
    sending = [threading.Thread(target=clients.send_all, args=(n,)) for n in range(CLIENTS)]
    process = begin(settings)
    try:
        for one in sending:
            one.start()
        for _ in range(kills):
            clients.wait_for_one()
            time.sleep(chance.uniform(0.0, 0.4))
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            process = begin(settings)
        clients.wait_for_one()
    finally:
        clients.stopping.set()
        for one in sending:
            one.join()
        os.kill(process, signal.SIGTERM)
        _, status = os.waitpid(process, 0)
    found = check(settings, clients.acknowledged)
    if status:
        found["wrong"].append(f"the last one ended with status {status} at SIGTERM")
    return {
        "kills": kills, "acknowledged": len(clients.acknowledged), "tries": clients.tries,
        "seconds": round(time.monotonic() - started, 1), **found,
    }  # fmt: skip


def bundle(folder: Path) -> None:
    """A small inspector of made-up parts."""
    os.environ["BLEMISH_THREADS"] = "1"  # a pool of threads would not survive the forks
    cv2.setNumThreads(1)
    good = [render(seed, size=SIZE).image for seed in range(20)]
    inspector = Inspector(HETMM(sheets=None), size=SIZE, device="cpu").fit(good)
    inspector.calibrate(false_alarm_rate=0.05).save(folder)


def begin(settings: Settings) -> int:
    """A station in a process of its own, which begins with everything imported."""
    process = os.fork()
    if process:
        return process
    try:
        serve(Station(settings))
        os._exit(0)
    finally:
        os._exit(1)


class Clients:
    """Each sends parts, one after another, each until it is acknowledged."""

    def __init__(self, address: str, token: str, images: list[bytes]) -> None:
        self.address, self.token, self.images = address, token, images
        self.acknowledged: dict[str, str] = {}  # part id: inspection id
        self.tries = 0
        self.stopping = threading.Event()
        self._one = threading.Event()

    def wait_for_one(self) -> None:
        """Wait until the next part is acknowledged."""
        self._one.clear()
        if not self._one.wait(GIVE_UP):
            raise RuntimeError("no part was acknowledged within a minute")

    def send_all(self, number: int) -> None:
        """Send until told to stop."""
        count = 0
        while not self.stopping.is_set():
            self._send(f"{number}-{count}", self.images[count % len(self.images)])
            count += 1

    def _send(self, part: str, data: bytes) -> None:
        headers = {"Authorization": f"Bearer {self.token}", "Idempotency-Key": part}
        end = time.monotonic() + GIVE_UP
        while time.monotonic() < end:
            self.tries += 1
            try:
                answer = httpx.post(
                    f"{self.address}/api/v1/inspections", headers=headers, timeout=20,
                    data={"inspector": "board", "part_id": part}, files={"image": data},
                )  # fmt: skip
            except httpx.HTTPError:
                time.sleep(0.02)
                continue
            if answer.status_code == 201:
                self.acknowledged[part] = answer.json()["id"]
                self._one.set()
                return
            if answer.status_code not in {429, 503}:
                raise RuntimeError(f"{answer.status_code}: {answer.text}")
            time.sleep(0.02)


def check(settings: Settings, acknowledged: dict[str, str]) -> dict[str, Any]:
    """What is wrong with the store."""
    database, pictures = Database(settings.database), PictureStore(settings.folder)
    wrong: list[str] = []
    with database.reading() as session:
        rows = session.execute(
            select(InspectionRow.part_id, InspectionRow.id, InspectionRow.image_sha256)
        ).all()
        tallied = session.scalar(select(func.sum(TallyRow.parts)))
        if database.name == "sqlite":
            health = session.scalar(text("PRAGMA integrity_check"))
            if health != "ok":
                wrong.append(f"integrity: {health}")
    counts = Counter(row.part_id for row in rows)
    by_part = {row.part_id: row.id for row in rows}
    wrong += [f"{part} is there {n} times" for part, n in counts.items() if n > 1]
    wrong += [
        f"{part} is missing" for part, key in acknowledged.items() if by_part.get(part) != key
    ]
    if tallied != len(rows):
        wrong.append(f"{len(rows)} rows, and {tallied} counted")
    for key in {row.image_sha256 for row in rows}:
        if hashlib.sha256(pictures.image(key)).hexdigest() != key:
            wrong.append(f"the image {key} is damaged")
    database.close()
    return {"recorded": len(rows), "wrong": wrong}


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
