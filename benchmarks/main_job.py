"""The main job's figures: HETMM's fixed configurations on MVTec AD's bottle and transistor.

    python benchmarks/main_job.py --root MVTEC_DIR [--only efficientnet_lite0]

writes benchmarks/results/main_job.json and prints the README's table. Weights come from the local
store (see `blemish weights --help`).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from _record import write_result
from blemish import HETMM, Inspector
from blemish.evaluation.datasets import load
from blemish.evaluation.protocol import evaluate_category

RESULT = Path(__file__).parent / "results" / "main_job.json"
RATE = 0.05
PAPER = {"preset": "paper", "sheets": 60, "selection": "spaced"}
# (backbone, the rest): the same windows, weights and smoothing for every part.
CONFIGURATIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("efficientnet_lite0", {}),
    ("resnet50.caffe_in1k", PAPER),
    ("resnet18.tv_in1k", PAPER),
    ("filterbank", {}),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", required=True, help="a folder with bottle and transistor")
    parser.add_argument("--only", help="one backbone; the others' results are kept")
    parser.add_argument("--limit", type=int, help="try it on so many images; nothing is kept")
    arguments = parser.parse_args()

    rows: list[dict[str, Any]] = []
    if RESULT.exists() and arguments.only:
        rows = json.loads(RESULT.read_text())["rows"]
    for backbone, settings in CONFIGURATIONS:
        if arguments.only not in (None, backbone):
            continue
        for category in load("mvtec", arguments.root):
            if arguments.limit:
                step = len(category.test) // arguments.limit
                category = replace(
                    category,
                    train=category.train[: arguments.limit],
                    test=category.test[:: max(1, step)],
                )
            detector = HETMM(backbone=backbone, **settings)
            result = evaluate_category(
                category,
                lambda made=detector: Inspector(made),
                false_alarm_rate=RATE if arguments.limit is None else 0.5,
            )
            key = ("backbone", "preset", "sheets", "category")
            used = {name: getattr(detector.config, name) for name in key[:3]}
            row = {**used, **result.to_dict()}
            rows = [r for r in rows if any(r.get(k) != row[k] for k in key)] + [row]
            if arguments.limit is None:
                write_result(RESULT, {"rows": rows}, seed=0)
            print(as_markdown(row), flush=True)


def as_markdown(row: dict[str, Any]) -> str:
    """One row of the README's table."""
    figures = [
        "-" if row[name] is None else f"{100 * row[name]:.2f}"
        for name in ("image_auroc", "pixel_auroc", "aupro")
    ]
    alarms = row["false_alarms"]
    return (
        f"| {row['category']} | {row['backbone']} | {row['preset']} | {row['sheets']} "
        f"| {' | '.join(figures)} "
        f"| {alarms['rejected']}/{alarms['good']} | {alarms['escaped']}/{alarms['defective']} "
        f"| {row['fit_seconds']:.0f} s | {row['latency_ms']['p50']:.0f} ms |"
    )


if __name__ == "__main__":
    main()
