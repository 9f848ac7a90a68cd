"""How the time of mutual matching grows with sheets, window and image size.

    python benchmarks/matching_scaling.py [--json benchmarks/results/matching_scaling.json]
        [--plot docs/matching_scaling.png] [--smoke]

A level of 64 channels and a quarter of the image's side (as a ResNet-18's first), unit vectors
drawn at random, float32, medians. Each series changes one thing and keeps the others at 60 sheets,
forward window 13 and 256 px; the grey line is growth in proportion to the multiplications, through
the middle.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from _record import write_result
from blemish.detectors.hetmm.matching import make_matcher, match_graph
from matching import drawn_query, drawn_set, level, milliseconds

CHANNELS, BACKWARD = 64, 3
SERIES = {
    "sheets": (15, 30, 60, 120, 240, 400),
    "window": (3, 5, 7, 9, 13, 17),
    "image": (128, 192, 256, 384, 512),
}
USUAL = {"sheets": 60, "window": 13, "image": 256}
PANEL, MARGIN = 420, 64  # px


def measure(sheets: int, window: int, image: int, repeats: int) -> dict[str, Any]:
    side = image // 4
    one = level((CHANNELS, side, side), window // 2, BACKWARD // 2)
    templates, query = drawn_set(one, sheets), drawn_query(one)
    matcher = make_matcher(match_graph())
    ms = milliseconds(lambda: templates.distances(matcher, query), repeats)
    multiplications = sheets * CHANNELS * side * side * max(window, BACKWARD) ** 2
    return {"ms": ms, "multiplications": multiplications}


def panel(name: str, rows: list[dict[str, Any]]) -> npt.NDArray[np.uint8]:
    """One series on logarithmic axes: measured points, and growth in proportion."""
    canvas = np.full((PANEL, PANEL, 3), 255, np.uint8)
    x = np.log([row[name] for row in rows])
    y = np.log([row["ms"] for row in rows])
    ideal = np.log([float(row["multiplications"]) for row in rows])
    middle = len(rows) // 2
    ideal += y[middle] - ideal[middle]
    low, high = min(y.min(), ideal.min()), max(y.max(), ideal.max())

    def place(values: npt.NDArray[Any], heights: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
        inner = PANEL - 2 * MARGIN
        across = MARGIN + inner * (values - x[0]) / max(x[-1] - x[0], 1e-9)
        up = PANEL - MARGIN - inner * (heights - low) / max(high - low, 1e-9)
        return np.stack([across, up], 1).round().astype(np.int32)

    points = place(x, y)
    cv2.polylines(canvas, [place(x, ideal)], False, (190, 190, 190), 2, cv2.LINE_AA)
    cv2.polylines(canvas, [points], False, (160, 80, 20), 2, cv2.LINE_AA)
    bottom = PANEL - MARGIN
    cv2.line(canvas, (MARGIN, bottom), (PANEL - MARGIN, bottom), (0, 0, 0), 1)
    cv2.line(canvas, (MARGIN, MARGIN), (MARGIN, bottom), (0, 0, 0), 1)
    for row, (across, up) in zip(rows, points.tolist(), strict=True):
        cv2.circle(canvas, (across, up), 4, (160, 80, 20), -1, cv2.LINE_AA)
        _write(canvas, f"{row['ms']:.0f}", (across - 12, up - 10), 0.4)
        _write(canvas, str(row[name]), (across - 10, bottom + 18), 0.4)
    label = {"sheets": "sheets", "window": "forward window, px", "image": "image side, px"}[name]
    _write(canvas, label, (MARGIN + 60, PANEL - 16), 0.5)
    _write(canvas, "ms a query, one level", (MARGIN, MARGIN - 26), 0.5)
    return canvas


def _write(canvas: npt.NDArray[np.uint8], text: str, at: tuple[int, int], size: float) -> None:
    cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, (0, 0, 0), 1, cv2.LINE_AA)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--json", type=Path, default=Path("benchmarks/results/matching_scaling.json")
    )
    parser.add_argument("--plot", type=Path, default=Path("docs/matching_scaling.png"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--smoke", action="store_true", help="two small points a series")
    given = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {}
    for name, values in SERIES.items():
        found[name] = []
        for value in values[:2] if given.smoke else values:
            point = {**USUAL, **({"sheets": 4} if given.smoke else {}), name: value}
            found[name].append({**point, **measure(**point, repeats=given.repeats)})
            print(json.dumps(found[name][-1]), flush=True)
    write_result(given.json, {"channels": CHANNELS, **found}, seed=0)
    picture = np.concatenate([panel(name, rows) for name, rows in found.items()], axis=1)
    cv2.imwrite(str(given.plot), picture)


if __name__ == "__main__":
    main()
