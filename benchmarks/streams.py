"""What a watched folder costs: old files in it, and the time from a file's arrival to its result.

    python benchmarks/streams.py [--files 100000]

writes benchmarks/results/streams.json and prints docs/streams.md's figures. The inspection is a
stand-in that takes no time: what is measured is everything around it.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
import tracemalloc
from pathlib import Path

import cv2
import numpy as np

from _record import write_result
from blemish.imaging import encode_png
from blemish.streams import WatchedFolder, inspect_stream

RESULT = Path(__file__).parent / "results" / "streams.json"
PARTS = 40


def old_files(folder: Path, count: int) -> dict[str, float]:
    """Memory (Python's own, MB) and processor share of watching `count` files taken before."""
    data = encode_png(np.zeros((8, 8, 3), np.uint8))
    for number in range(count):
        (folder / f"part-{number:07d}.png").write_bytes(data)
    tracemalloc.start()
    source = WatchedFolder(folder, existing=False)
    thread = threading.Thread(target=lambda: list(source))
    thread.start()
    while not source.health.counts:
        time.sleep(0.05)
    kept = tracemalloc.get_traced_memory()[0] / 1e6
    tracemalloc.stop()
    time.sleep(1)
    before, began = time.process_time(), time.perf_counter()
    time.sleep(10)
    share = (time.process_time() - before) / (time.perf_counter() - began)
    source.close()
    thread.join()
    return {"files": count, "memory_mb": round(kept, 1), "processor_share": round(share, 3)}


def latency(folder: Path, settle: float, image: bytes) -> dict[str, float]:
    """Milliseconds from a file's rename into place to its result, for a file at a time."""
    arrived: dict[str, float] = {}
    took: list[float] = []
    source = WatchedFolder(folder, settle=settle, existing=False)
    with inspect_stream(lambda pixels: None, source) as stream:
        threading.Thread(target=bring, args=(folder, image, arrived, source), daemon=True).start()
        for part in stream:
            took.append((time.perf_counter() - arrived[part.frame.name]) * 1e3)
            if len(took) == PARTS:
                break
    read = stream.timings.summary()["read"].p50
    p50, p95 = np.percentile(took, [50, 95])
    return {
        "settle_s": settle,
        "p50_ms": round(float(p50), 1),
        "p95_ms": round(float(p95), 1),
        "read_p50_ms": round(read, 1),
    }


def bring(folder: Path, image: bytes, arrived: dict[str, float], source: WatchedFolder) -> None:
    """Rename one file after another into place, at uneven moments."""
    while not source.health.counts:
        time.sleep(0.01)
    for number in range(PARTS):
        time.sleep(0.2 + 0.013 * (number % 10))
        path = folder / f"{number}.png"
        path.with_suffix(".tmp").write_bytes(image)
        arrived[str(path)] = time.perf_counter()
        path.with_suffix(".tmp").rename(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    files = parser.parse_args().files
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(0, 255, (128, 128, 3), np.uint8), (1024, 1024))
    with tempfile.TemporaryDirectory() as folder:
        old = old_files(Path(folder), files)
    print(old)
    arrivals = []
    for settle in (0.0, 0.5):
        with tempfile.TemporaryDirectory() as folder:
            arrivals.append(latency(Path(folder), settle, encode_png(image)))
        print(arrivals[-1])
    write_result(RESULT, {"old_files": old, "latency": arrivals})


if __name__ == "__main__":
    main()
