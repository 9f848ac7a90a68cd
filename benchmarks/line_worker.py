"""What a line PC does, in an environment without PyTorch: load a bundle, inspect, leave figures.

    python line_worker.py BUNDLE OUT_DIR IMAGE…

Writes OUT_DIR/result.json (times, memory, verdicts) and OUT_DIR/maps.npy [N, H, W]. Imports only
what the line floor has.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

started = time.perf_counter()

from blemish import Inspector  # noqa: E402  # its import is what is timed

imported = time.perf_counter()

WARM_UP = 5


def main() -> None:
    bundle, out, images = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
    inspector = Inspector.load(bundle)
    loaded = time.perf_counter()
    inspector.inspect(images[0])
    first = time.perf_counter()
    import numpy as np

    for image in images[:WARM_UP]:
        inspector.inspect(image)
    results, latencies, stages = [], [], []
    for image in images:
        begun = time.perf_counter()
        result = inspector.inspect(image)
        latencies.append(1e3 * (time.perf_counter() - begun))
        stages.append(dict(result.timings))
        results.append(result)
    out.mkdir(parents=True, exist_ok=True)
    np.save(out / "maps.npy", np.stack([result.anomaly_map for result in results]))
    (out / "result.json").write_text(
        json.dumps(
            {
                "import_seconds": imported - started,
                "load_seconds": loaded - imported,
                "first_verdict_seconds": first - started,
                "peak_rss_mb": memory("VmHWM"),
                "resident_mb": memory("VmRSS"),
                "modules": sorted(
                    name for name in ("torch", "timm", "sklearn") if name in sys.modules
                ),
                "latencies_ms": latencies,
                "stages_ms": {
                    name: float(np.median([found.get(name, 0.0) for found in stages]))
                    for name in stages[0]
                },
                "scores": [result.score for result in results],
                "verdicts": [result.verdict for result in results],
                "threshold": results[0].threshold,
            }
        )
    )


def memory(key: str) -> float | None:
    """A line of Linux's account of this process, in MB; None elsewhere."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    for line in status.read_text().splitlines():
        if line.startswith(f"{key}:"):
            return round(int(line.split()[1]) * 1024 / 1e6, 1)
    return None


if __name__ == "__main__":
    main()
