"""`blemish compare` on DeepPCB's pairs: annotated boxes hit and false regions, at one threshold.

    BLEMISH_WEIGHTS=... python benchmarks/deeppcb.py DEEPPCB_DIR \
        [--backbone efficientnet_lite0 resnet18.tv_in1k filterbank] \
        [--limit 30] [--json benchmarks/results/deeppcb.json]

An annotated box is hit when the centre of a region's box lies in it; a region whose centre lies in
no annotated box is false, so a region that joins two defects counts against us twice. The threshold
was chosen on the first 24 pairs (sorted by name) by hits - 0.1 false regions a pair; figures are of
the other pairs. Finished pairs are kept beside the JSON file, so a run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from _record import write_result
from blemish.compare import Comparer
from blemish.imaging import Seen
from blemish.verdict import Region, find_regions

TYPES = {1: "open", 2: "short", 3: "mousebite", 4: "spur", 5: "copper", 6: "pin-hole"}
CHOSEN_ON = 24  # pairs
BACKBONES = ["efficientnet_lite0", "resnet18.tv_in1k", "filterbank"]
THRESHOLDS = [round(float(value), 2) for value in np.arange(0.30, 1.31, 0.05)]

Box = tuple[int, int, int, int, int]  # x1, y1, x2, y2, type


def pairs(root: Path) -> list[tuple[Path, Path, list[Box]]]:
    """(image, golden image, annotated boxes), sorted by the image's name."""
    found = []
    for image in sorted(root.rglob("*_test.jpg"), key=lambda path: path.name):
        name = image.name.removesuffix("_test.jpg")
        text = image.parent.with_name(f"{image.parent.name}_not") / f"{name}.txt"
        rows = [line.replace(",", " ").split() for line in text.read_text().splitlines()]
        boxes = [(int(a), int(b), int(c), int(d), int(e)) for a, b, c, d, e in rows]
        found.append((image, image.with_name(f"{name}_temp.jpg"), boxes))
    return found


def count(regions: Iterable[Region], boxes: list[Box]) -> dict[str, Any]:
    """Which boxes are hit, and how many regions are false."""
    hit = [False] * len(boxes)
    false = 0
    for region in regions:
        x, y, w, h = region.box
        centre_x, centre_y = x + w / 2, y + h / 2
        inside = [a <= centre_x <= c and b <= centre_y <= d for a, b, c, d, _ in boxes]
        hit = [was or now for was, now in zip(hit, inside, strict=True)]
        false += not any(inside)
    return {"hit": hit, "false": false}


def compare(image: Path, golden: Path, boxes: list[Box], backbone: str) -> dict[str, Any]:
    """One pair at every threshold."""
    comparer = Comparer(golden, backbone=backbone, device="cpu")
    started = time.process_time()
    result = comparer.compare(image)
    seconds = time.process_time() - started
    assert result.image_size is not None
    counted = {}
    for threshold in [comparer.threshold, *THRESHOLDS]:
        regions = find_regions(
            result.anomaly_map,
            threshold,
            place=Seen.whole(comparer.inspector.view.size, result.image_size),
        )
        counted[f"{threshold:.2f}"] = count(regions, boxes)
    return {
        "image": image.name,
        "types": [TYPES[box[-1]] for box in boxes],
        "default_threshold": comparer.threshold,
        "settings": {
            "size": comparer.inspector.view.size,
            **comparer.inspector.detector.parameters(),
        },
        "seconds": seconds,
        "at": counted,
    }


def figures(rows: list[dict[str, Any]], threshold: float) -> dict[str, Any]:
    """Share of boxes hit, altogether and by type, and false regions a pair."""
    at = [row["at"][f"{threshold:.2f}"] for row in rows]
    flat = [
        (kind, hit)
        for row, each in zip(rows, at, strict=True)
        for kind, hit in zip(row["types"], each["hit"], strict=True)
    ]
    by_type = {}
    for kind in TYPES.values():
        hits = [hit for found, hit in flat if found == kind]
        by_type[kind] = {"boxes": len(hits), "hit": sum(hits) / len(hits) if hits else None}
    return {
        "threshold": threshold,
        "pairs": len(rows),
        "boxes": len(flat),
        "boxes_hit": sum(hit for _, hit in flat) / len(flat) if flat else None,
        "false_regions_per_pair": sum(each["false"] for each in at) / len(rows) if rows else None,
        "by_type": by_type,
    }


def run(root: Path, backbone: str, kept: Path, limit: int | None) -> dict[str, Any]:
    """All pairs; each is written to `kept` as soon as it is done."""
    done: dict[str, Any] = {}
    if kept.is_file():
        done = {row["image"]: row for row in map(json.loads, kept.read_text().splitlines())}
    rows = []
    for image, golden, boxes in pairs(root)[:limit]:
        if image.name not in done:
            done[image.name] = compare(image, golden, boxes, backbone)
            with kept.open("a") as file:
                file.write(json.dumps(done[image.name]) + "\n")
        rows.append(done[image.name])
    first, rest = rows[:CHOSEN_ON], rows[CHOSEN_ON:]
    threshold = rows[0]["default_threshold"]
    return {
        "backbone": backbone,
        "settings": rows[0]["settings"],
        "processor_seconds_per_comparison": float(np.median([row["seconds"] for row in rows])),
        "chosen_on": [figures(first, each) for each in THRESHOLDS],
        "result": figures(rest, threshold),
        "curve": [figures(rest, each) for each in THRESHOLDS],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--backbone", nargs="*", default=BACKBONES)
    parser.add_argument("--limit", type=int, help=f"try it on so many pairs, above {CHOSEN_ON}")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/deeppcb.json"))
    arguments = parser.parse_args()
    results = {}
    for backbone in arguments.backbone:
        kept = arguments.json.with_suffix(f".{backbone}.jsonl")
        results[backbone] = run(arguments.root, backbone, kept, arguments.limit)
        shown = results[backbone]["result"]
        print(
            f"{backbone}: {100 * shown['boxes_hit']:.1f} % of {shown['boxes']} boxes hit, "
            f"{shown['false_regions_per_pair']:.2f} false regions a pair "
            f"at {shown['threshold']} ({shown['pairs']} pairs)",
            flush=True,
        )
    write_result(arguments.json, {"backbones": results})
    for backbone in arguments.backbone:
        arguments.json.with_suffix(f".{backbone}.jsonl").unlink()


if __name__ == "__main__":
    main()
