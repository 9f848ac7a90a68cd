"""What the pixel figures cost: seconds and memory for a category of 150 images at 1024x1024.

    OMP_NUM_THREADS=2 python benchmarks/metrics_cost.py [--json FILE] [--images 150] [--size 1024]

Made-up maps (smooth noise, higher on elliptic defects; a third of the images is good) are added
one at a time, as `blemish evaluate` does; then every figure is computed, over all and by type of
defect, sPRO among them. Making the maps is not counted. Each case runs in a process of its own,
so that its peak memory is its own; the interpreter and its libraries are in it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import resource
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from _record import write_result
from blemish.evaluation.metrics import LOCO_KINDS, PixelMetrics

RESULT = Path(__file__).parent / "results" / "metrics_cost.json"


@dataclasses.dataclass(frozen=True)
class Case:
    """How much of a defective image is defective, and how many scores there can be."""

    name: str
    share: float
    levels: int | None = None


CASES = (
    Case("few percent defective", 0.03),
    Case("half of each defective image", 0.5),
    Case("256 scores in all, many ties", 0.03, levels=256),
)


@dataclasses.dataclass(frozen=True)
class Defect:
    mask: np.ndarray
    saturation_area: float


def image(index: int, size: int, case: Case) -> tuple[np.ndarray, list[Defect]]:
    """One map [size, size] and its defects, none in every third image."""
    rng = np.random.default_rng(index)
    coarse = rng.standard_normal((size // 16, size // 16)).astype(np.float32)
    scores = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    scores += 0.1 * rng.standard_normal((size, size), dtype=np.float32)
    defects = []
    for _ in range(0 if index % 3 == 0 else 3):
        radius = size * np.sqrt(case.share / 3 / np.pi)
        centre, angle = rng.uniform(0.15, 0.85, 2) * size, float(rng.uniform(0, 180))
        canvas = np.zeros((size, size), np.uint8)
        box = (centre.tolist(), (2.6 * radius, 1.5 * radius), angle)
        cv2.ellipse(canvas, box, 1, -1)
        mask = canvas.astype(bool)
        defects.append(Defect(mask, max(1.0, float(rng.uniform(0.3, 1.0)) * mask.sum())))
        scores[mask] += 1.0
    if case.levels:
        scores = np.round(np.clip((scores + 4) / 8, 0, 1) * (case.levels - 1)).astype(np.float32)
    return scores, defects


def measure(case: Case, n_images: int, size: int) -> dict[str, Any]:
    """All figures of one case, with the seconds they took and the peak memory."""
    metrics, adding, busy = PixelMetrics(), 0.0, 0.0
    for index in range(n_images):
        scores, defects = image(index, size, case)
        started, busy = time.perf_counter(), busy - time.process_time()
        metrics.add(scores, defects=defects, label=int(bool(defects)), kind=LOCO_KINDS[index % 2])
        adding, busy = adding + time.perf_counter() - started, busy + time.process_time()
    started, busy = time.perf_counter(), busy - time.process_time()
    overall = metrics.compute()
    computing = time.perf_counter() - started
    kinds = {kind: metrics.compute([kind]) for kind in LOCO_KINDS}
    with_kinds, busy = time.perf_counter() - started, busy + time.process_time()
    return {
        "case": case.name,
        "images": n_images,
        "size": size,
        "add_seconds": round(adding, 2),
        "compute_seconds": round(computing, 2),
        "by_defect_seconds": round(with_kinds - computing, 2),
        "total_seconds": round(adding + with_kinds, 2),
        "processor_seconds": round(busy, 2),  # of it; less where others used the cores
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6, 1),
        "figures": dataclasses.asdict(overall),
        "spro_by_kind": {kind: scores.spro for kind, scores in kinds.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=150)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--json", type=Path, default=RESULT)
    options = parser.parse_args()

    rows = []
    for case in CASES:
        with multiprocessing.get_context("spawn").Pool(1) as fresh:
            rows.append(fresh.apply(measure, (case, options.images, options.size)))
        print(json.dumps(rows[-1], indent=2), flush=True)
    write_result(options.json, {"benchmark": "metrics_cost", "cases": rows}, seed=0)


if __name__ == "__main__":
    main()
