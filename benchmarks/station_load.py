"""A station under load on this machine: parts a second, latency, memory; then twice that load.

    python benchmarks/station_load.py --root MVTEC_DIR [--seconds 300]

HETMM by its defaults, 256 px; `blemish serve` in a process of its own on
127.0.0.1, images of bottle's test folder sent by HTTP from this one. First as many as it takes, one
after another by `--clients`; then parts at twice that rate, whatever happens to them, each sent
again after a 429 until it is recorded. At the end the store must hold every part once.
Kept in benchmarks/results/station_load.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import httpx
import numpy as np

from _record import write_result
from blemish import HETMM, Inspector
from blemish.imaging import list_images
from blemish.station.people import People
from blemish.station.settings import read_settings
from blemish.station.store import Database, Filter
from blemish.station.store.inspections import listed

HERE = Path(__file__).parent
PORT = 8931
START = "from blemish.cli import main; main()"
MOST_SENDERS = 64


def main() -> None:
    given = arguments()
    with tempfile.TemporaryDirectory() as scratch:
        result = measured(given, Path(scratch))
    write_result(given.json, result, seed=0)
    print(json.dumps(result, indent=2))
    if result["wrong"]:
        raise SystemExit("parts are missing or doubled")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True, help="MVTec AD")
    parser.add_argument("--category", default="bottle")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--sheets", type=int, default=HETMM().config.sheets)
    parser.add_argument("--bundle", type=Path, help="such a bundle, made before")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--twice", type=float, default=60, help="seconds at twice the load")
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1, help="of the station")
    parser.add_argument("--note", default="", help="kept with the result")
    parser.add_argument("--json", type=Path, default=HERE / "results" / "station_load.json")
    return parser.parse_args()


def measured(given: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Both phases, and what the store holds after them."""
    folder = given.root / given.category
    if given.bundle is None:
        make_bundle(given, folder / "train" / "good", scratch)
    else:
        shutil.copytree(given.bundle, scratch / "part.blemish")
    images = [path.read_bytes() for path in list_images(folder / "test", recursive=True)]
    (scratch / "station.toml").write_text(f"[limits]\nworkers = {given.workers}\n")
    settings = read_settings(scratch, port=PORT, name="bench")
    database = Database(settings.database)
    database.migrate()
    token = People(database).give("feeder", "operator")
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            START,
            "serve",
            str(scratch),
            "--port",
            str(PORT),
            "--name",
            "bench",
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        sender = Sender(token, images)
        sender.wait_until_ready()
        memory = Memory(process.pid)
        steady = sustained(sender, memory, given.seconds, given.clients)
        double = overloaded(sender, memory, 2 * steady["parts_per_second"], given.twice)
        memory.stop()
    finally:
        process.terminate()
        process.wait(60)
    wrong = check(database, sender.acknowledged)
    return {
        "note": given.note, "category": given.category, "backbone": given.backbone,
        "sheets": given.sheets, "workers": given.workers, "clients": given.clients,
        "sustained": steady, "twice": double, "recorded": len(sender.acknowledged), "wrong": wrong,
    }  # fmt: skip


def make_bundle(given: argparse.Namespace, good: Path, scratch: Path) -> None:
    """What the station runs."""
    detector = HETMM(sheets=given.sheets, backbone=given.backbone)
    inspector = Inspector(detector, size=256).fit(good).calibrate(false_alarm_rate=0.05)
    inspector.save(scratch / "part.blemish")


class Sender:
    """Sends images by HTTP, counts the answers, and keeps what was acknowledged."""

    def __init__(self, token: str, images: list[bytes]) -> None:
        self.headers = {"Authorization": f"Bearer {token}"}
        self.images = images
        self.acknowledged: dict[str, str] = {}
        self.answers: Counter[int] = Counter()
        self._lock = threading.Lock()

    def wait_until_ready(self) -> None:
        """Wait for the station, and for its first inspection."""
        with self.client() as client:
            for _ in range(600):
                try:
                    if client.get("/readyz").status_code == 200:
                        break
                except httpx.TransportError:
                    pass
                time.sleep(0.1)
            for number in range(5):
                self.send(client, f"warm-{number}")

    def client(self) -> httpx.Client:
        """A connection of one's own."""
        return httpx.Client(
            base_url=f"http://127.0.0.1:{PORT}", headers=self.headers, timeout=60,
            trust_env=False,
        )  # fmt: skip

    def send(self, client: httpx.Client, part: str) -> tuple[int, float, float]:
        """Send one part: the status, seconds it took, and after how many to come again."""
        data = self.images[hash(part) % len(self.images)]
        started = time.perf_counter()
        answer = client.post(
            "/api/v1/inspections", headers={"Idempotency-Key": part},
            data={"inspector": "part", "part_id": part}, files={"image": data},
        )  # fmt: skip
        spent = time.perf_counter() - started
        with self._lock:
            self.answers[answer.status_code] += 1
            if answer.status_code == 201:
                self.acknowledged[part] = answer.json()["id"]
        return answer.status_code, spent, float(answer.headers.get("retry-after", 0))


def sustained(sender: Sender, memory: Memory, seconds: float, clients: int) -> dict[str, Any]:
    """As many as it takes: each client sends its next part when the last one is recorded."""
    sender.answers.clear()
    latencies: list[float] = []
    start = time.monotonic()
    memory.mark()

    def feed(number: int) -> None:
        with sender.client() as client:
            count = 0
            while time.monotonic() < start + seconds:
                status, spent, wait = sender.send(client, f"steady-{number}-{count}")
                if status == 201:
                    latencies.append(spent)
                    count += 1
                else:
                    time.sleep(wait)

    in_threads(feed, clients)
    spent = time.monotonic() - start
    return {
        "seconds": round(spent, 1), "parts": len(latencies),
        "parts_per_second": round(len(latencies) / spent, 2), **percentiles(latencies),
        "answers": answers(sender), "memory_mb": memory.since_mark(),
    }  # fmt: skip


def overloaded(sender: Sender, memory: Memory, rate: float, seconds: float) -> dict[str, Any]:
    """Parts come at `rate` whatever happens; what is refused is sent again when told to."""
    sender.answers.clear()
    due: Queue[tuple[float, str]] = Queue()
    count = int(rate * seconds)
    for number in range(count):
        due.put((number / rate, f"twice-{number}"))
    latencies: list[float] = []
    refused: set[str] = set()
    start = time.monotonic()
    memory.mark()

    def feed(_: int) -> None:
        with sender.client() as client:
            while True:
                try:
                    when, part = due.get_nowait()
                except Empty:
                    return
                time.sleep(max(0.0, start + when - time.monotonic()))
                while True:
                    status, spent, wait = sender.send(client, part)
                    if status == 201:
                        latencies.append(spent)
                        break
                    refused.add(part)
                    time.sleep(wait)

    in_threads(feed, MOST_SENDERS)
    spent = time.monotonic() - start
    return {
        "offered_per_second": round(rate, 2), "parts": count, "seconds": round(spent, 1),
        "refused_at_first": len(refused), "recorded": len(latencies), **percentiles(latencies),
        "answers": answers(sender), "memory_mb": memory.since_mark(),
    }  # fmt: skip


def in_threads(work: Any, count: int) -> None:
    """Do it in `count` threads and wait for them."""
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def percentiles(latencies: list[float]) -> dict[str, float]:
    """Milliseconds from sending a part to the answer that it is recorded."""
    found = np.percentile(latencies, [50, 95, 99])
    return {f"p{q}_ms": round(float(v) * 1e3, 1) for q, v in zip((50, 95, 99), found, strict=True)}


def answers(sender: Sender) -> dict[str, int]:
    """How often each status came."""
    return {str(status): count for status, count in sorted(sender.answers.items())}


class Memory:
    """Resident memory of a process, looked at each second."""

    def __init__(self, process: int) -> None:
        self.path = Path(f"/proc/{process}/statm")
        self._seen: list[float] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def mark(self) -> None:
        """Begin anew."""
        self._seen.clear()

    def since_mark(self) -> list[float]:
        """Means of the tenths of the time, in MB: whether it grows, and whether it stops."""
        parts = np.array_split(np.array(self._seen), min(10, len(self._seen)))
        return [round(float(part.mean()), 1) for part in parts]

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stopping.wait(1.0):
            pages = int(self.path.read_text().split()[1])
            self._seen.append(pages * 4096 / 1e6)


def check(database: Database, acknowledged: dict[str, str]) -> list[str]:
    """Parts that are missing or doubled in the store."""
    counts: Counter[str | None] = Counter()
    keys: dict[str | None, str] = {}
    cursor = None
    while True:
        page = listed(database, Filter(), limit=500, after=cursor)
        for one in page.inspections:
            counts[one.row.part_id] += 1
            keys[one.row.part_id] = one.row.id
        if (cursor := page.following) is None:
            break
    wrong = [f"{part} is there {count} times" for part, count in counts.items() if count > 1]
    wrong += [f"{part} is missing" for part, key in acknowledged.items() if keys.get(part) != key]
    return wrong


if __name__ == "__main__":
    main()
