"""Continual learning: start from ten good parts, add the rest in five steps, test after each.

    python benchmarks/continual.py --root MVTEC_DIR [--backbone NAME] [--category bottle]

writes benchmarks/results/continual.json and prints docs/updating.md's table. The time a sample is
that of the update beside feature extraction and calibration, which have columns of their own.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from _record import write_result
from blemish import HETMM, Inspector
from blemish.evaluation.datasets import Category, load, load_mask
from blemish.evaluation.metrics import PixelMetrics, auroc
from blemish.verdict import smallest_rate

RESULT = Path(__file__).parent / "results" / "continual.json"
START, STEPS = 10, 5
RATE = 0.05  # or the smallest that the good parts so far can promise
HEAD = (
    "| good parts | image AUROC | pixel AUROC | threshold | rate | ms a sample "
    "| features, ms | calibration, s |\n|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Figures:
    """What the test images say of one version."""

    image_auroc: float | None
    pixel_auroc: float | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", required=True, help="a folder in MVTec AD's layout")
    parser.add_argument("--category", default="bottle")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--limit", type=int, help="try it on so many images, and write nothing")
    arguments = parser.parse_args()
    (category,) = [c for c in load("mvtec", arguments.root) if c.name == arguments.category]
    train = list(category.train)[: arguments.limit]
    rows: list[dict[str, Any]] = []
    print(HEAD)

    inspector = Inspector(HETMM(backbone=arguments.backbone, sheets=None))
    inspector.fit(train[:START]).calibrate(false_alarm_rate=smallest_rate(START))
    rows.append(row(inspector, category, {}, 0, arguments.limit))
    for part in np.array_split(np.array(train[START:], dtype=object), STEPS):
        rate = max(RATE, smallest_rate(len(inspector.templates) + len(part)))
        report = inspector.update(add=list(part), false_alarm_rate=rate)
        rows.append(row(inspector, category, report.seconds, len(part), arguments.limit))
    result = {
        "backbone": arguments.backbone,
        "category": arguments.category,
        "limit": arguments.limit,
        "rows": rows,
    }
    if arguments.limit is None:
        write_result(RESULT, result, seed=0)


def row(
    inspector: Inspector, category: Category, seconds: dict[str, float], added: int, limit: Any
) -> dict[str, Any]:
    """One version's figures, printed and returned."""
    found = figures(inspector, category, limit)
    calibration = inspector.calibration
    each = 1e3 / added if added else None
    made = {
        "version": inspector.version,
        "templates": len(inspector.templates),
        "added": added,
        **vars(found),
        "threshold": None if calibration is None else calibration.threshold,
        "false_alarm_rate": None if calibration is None else calibration.false_alarm_rate,
        "update_ms_per_sample": None if each is None else each * seconds["templates"],
        "features_ms_per_sample": None if each is None else each * seconds["features"],
        "calibration_seconds": seconds.get("calibration"),
    }
    print(as_markdown(made), flush=True)
    return made


def figures(inspector: Inspector, category: Category, limit: int | None) -> Figures:
    """Image and pixel AUROC over the test images, one at a time."""
    test = list(category.test)
    test = test if limit is None else test[:: max(1, len(test) // limit)]
    pixels, scores = PixelMetrics(), []
    for sample in test:
        result = inspector.inspect(sample.image)
        mask = load_mask(sample)
        pixels.add(result.anomaly_map, mask, size=result.image_size, label=sample.label)
        scores.append(result.score)
    return Figures(
        auroc(np.array([s.label for s in test]), np.array(scores)), pixels.compute().auroc
    )


def as_markdown(made: dict[str, Any]) -> str:
    """One line of the table."""

    def number(name: str, factor: float = 1, digits: int = 2) -> str:
        return "-" if made[name] is None else f"{factor * made[name]:.{digits}f}"

    return (
        f"| {made['templates']} | {number('image_auroc', 100)} | {number('pixel_auroc', 100)} "
        f"| {number('threshold', digits=4)} | {number('false_alarm_rate')} "
        f"| {number('update_ms_per_sample', digits=1)} "
        f"| {number('features_ms_per_sample', digits=0)} "
        f"| {number('calibration_seconds', digits=1)} |"
    )


if __name__ == "__main__":
    main()
