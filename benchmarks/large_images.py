"""Large images in tiles: the time and memory of 4000 x 3000 pixels.

    python benchmarks/large_images.py [--backbone efficientnet_lite0]
        [--width 4000] [--height 3000] [--tile 1024] [--good 6]

Made-up surfaces, each a file; HETMM learns all of them in tiles seen at 256 px, is saved, and a new
process inspects one with a scratch. Peak memory is each process's own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from _record import write_result
from blemish import HETMM, Inspector

HERE = Path(__file__).parent


def surface(width: int, height: int, seed: int, scratch: bool = False) -> np.ndarray:
    """A brushed plate with holes, uint8; a scratch of 400 px in its middle if asked."""
    rng = np.random.default_rng(seed)
    rows = cv2.GaussianBlur(rng.normal(150, 20, (height, 1)), (1, 9), 0)
    image = np.repeat(rows, width, axis=1) + rng.normal(0, 4, (height, width))
    plate = np.repeat(np.clip(image, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    for x in range(250, width, 500):
        for y in range(250, height, 500):
            cv2.circle(plate, (x, y), 60 + (x * y) % 40, (40, 40, 45), -1)
    if scratch:
        middle = (width // 2, height // 2 + 40)
        cv2.line(plate, middle, (middle[0] + 300, middle[1] + 60), (255, 250, 240), 9)
    return plate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--width", type=int, default=4000)
    parser.add_argument("--height", type=int, default=3000)
    parser.add_argument("--tile", type=int, default=1024)
    parser.add_argument("--good", type=int, default=6)
    parser.add_argument("--line", nargs=2, help=argparse.SUPPRESS)  # a bundle and an image
    parser.add_argument("--json", type=Path, default=HERE / "results" / "large_images.json")
    given = parser.parse_args()
    if given.line is not None:
        print(json.dumps(inspected(Inspector.load(given.line[0]), Path(given.line[1]))))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        good = [folder / f"{seed}.png" for seed in range(given.good)]
        for seed, path in enumerate(good):
            cv2.imwrite(str(path), surface(given.width, given.height, seed))
        probe = folder / "scratched.png"
        cv2.imwrite(str(probe), surface(given.width, given.height, 99, scratch=True))
        made = Inspector(HETMM(backbone=given.backbone, sheets=None), tile=given.tile, device="cpu")
        started, worked = time.perf_counter(), time.process_time()
        made.fit(good)
        fitted, worked = time.perf_counter() - started, time.process_time() - worked
        made.calibrate(false_alarm_rate=1 / (given.good + 1))
        peak = peak_rss_mb()
        made.save(folder / "line")
        command = [sys.executable, __file__, "--line", str(folder / "line"), str(probe)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    result = {
        "width": given.width,
        "height": given.height,
        "tile": given.tile,
        "tiles": len(made.view.tiling),  # type: ignore[union-attr]
        "backbone": given.backbone,
        "sheets": given.good,
        "fit_seconds": round(fitted, 1),
        "fit_cpu_seconds": round(worked, 1),  # of all cores, which others at work change little
        "load": round(os.getloadavg()[0], 1),  # above the number of cores: times are too long
        "fit_peak_rss_mb": peak,
        "line": json.loads(done.stdout.splitlines()[-1]),
    }
    print(json.dumps(result, indent=1))
    write_result(given.json, result, seed=0)


def inspected(made: Inspector, probe: Path) -> dict[str, Any]:
    """Verdict, worst box, seconds of the second look, and peak memory."""
    made.inspect(probe)
    started = time.perf_counter()
    found = made.inspect(probe)
    seconds = time.perf_counter() - started
    return {
        "verdict": found.verdict,
        "box": list(found.regions[0].box) if found.regions else None,
        "seconds": round(seconds, 2),
        "stages_ms": {name: round(value) for name, value in found.timings.items()},
        "peak_rss_mb": peak_rss_mb(),
    }


def peak_rss_mb() -> int | None:
    """The most memory this process has held, in MB; getrusage would tell its parent's, too."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    found = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return round(found[0] * 1024 / 1e6) if found else None


if __name__ == "__main__":
    main()
