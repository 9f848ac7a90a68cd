"""The main job's figures: HETMM's one fixed configuration on MVTec AD's bottle and transistor.

    python benchmarks/main_job.py --root MVTEC_DIR [--only filterbank]

writes benchmarks/results/main_job.json and prints the README's table. Weights come from the local
store (see `blemish weights --help`).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from _record import write_result
from blemish import HETMM, Inspector
from blemish.evaluation.datasets import load
from blemish.evaluation.protocol import evaluate_category

RESULT = Path(__file__).parent / "results" / "main_job.json"
RATE = 0.05
# (backbone, sheets): the same windows, weights and smoothing for every part.
CONFIGURATIONS = (
    ("resnet50.caffe_in1k", 60),
    ("resnet18.tv_in1k", 60),
    ("filterbank", 60),
    ("filterbank", 20),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", required=True, help="a folder with bottle and transistor")
    parser.add_argument("--only", help="one backbone; the others' results are kept")
    arguments = parser.parse_args()

    rows: list[dict[str, Any]] = json.loads(RESULT.read_text())["rows"] if RESULT.exists() else []
    for backbone, sheets in CONFIGURATIONS:
        if arguments.only not in (None, backbone):
            continue
        for category in load("mvtec", arguments.root):
            result = evaluate_category(
                category,
                lambda b=backbone, n=sheets: Inspector(HETMM(backbone=b, sheets=n)),
                false_alarm_rate=RATE,
            )
            row = {"backbone": backbone, "sheets": sheets, **result.to_dict()}
            key = ("backbone", "sheets", "category")
            rows = [r for r in rows if any(r[k] != row[k] for k in key)] + [row]
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
        f"| {row['category']} | {row['backbone']} | {row['sheets']} | {' | '.join(figures)} "
        f"| {alarms['rejected']}/{alarms['good']} | {alarms['escaped']}/{alarms['defective']} "
        f"| {row['fit_seconds']:.0f} s | {row['latency_ms']['p50']:.0f} ms |"
    )


if __name__ == "__main__":
    main()
