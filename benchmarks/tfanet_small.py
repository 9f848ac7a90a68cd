"""TFA-Net's preset `small` on two CPU cores: bottle twice with one seed, transistor, and no TFAM.

    BLEMISH_WEIGHTS=... python benchmarks/tfanet_small.py MVTEC_DIR \
        [--run NAME...] [--json benchmarks/results/tfanet_small.json]

Figures are of the last weights; no test image is seen before. Finished runs are kept in the JSON
file and not run again. Without TFAM means the variant `plain`: no template, the same blocks.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from _record import write_result
from blemish import Inspector, TFANet
from blemish.evaluation import datasets
from blemish.evaluation.protocol import evaluate_category

BACKBONE = "resnet18.tv_in1k"
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "bottle": ("bottle", {}),
    "transistor": ("transistor", {}),
    "transistor_no_tfam": ("transistor", {"variant": "plain"}),
    "bottle_again": ("bottle", {}),
    "bottle_no_tfam": ("bottle", {"variant": "plain"}),
}


class Stopwatch:
    """A progress callback that notes wall and processor seconds when stages begin and end."""

    def __init__(self) -> None:
        self.marks: dict[str, tuple[float, float]] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = (time.perf_counter(), time.process_time())
        name = stage.split(",")[0]
        if done == 0:
            self.marks[f"{name} began"] = now
        self.marks[f"{name} ended"] = now

    def between(self, first: str, last: str) -> tuple[float, float]:
        """Wall and processor seconds from one mark to another."""
        (a, b), (c, d) = self.marks[first], self.marks[last]
        return round(c - a, 1), round(d - b, 1)


def run(root: Path, name: str, seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    category, options = RUNS[name]
    (loaded,) = datasets.load("mvtec", root, [category])
    watch = Stopwatch()
    made: list[Inspector] = []

    def make() -> Inspector:
        detector = TFANet(
            preset="small", backbone=BACKBONE, calibration_share=0, **{**options, **settings}
        )
        made.append(Inspector(detector, seed=seed, device="cpu"))
        return made[0]

    result = evaluate_category(loaded, make, progress=watch)
    wall, processor = watch.between("features began", "training ended")
    return {
        "seed": seed,
        "options": options,
        **result.to_dict(),
        "training_seconds": wall,
        "training_processor_seconds": processor,
        "threads": torch.get_num_threads(),
        "parameters": made[0].detector.parameters(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--run", nargs="*", choices=RUNS, default=list(RUNS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/tfanet_small.json"))
    arguments = parser.parse_args()
    settings = dict(text.split("=", 1) for text in arguments.set)
    for name in arguments.run:
        key = f"{name} seed {arguments.seed}"
        if key in finished(arguments.json):
            continue
        row = run(arguments.root, name, arguments.seed, settings)
        # Read again: another process may have added its own run meanwhile.
        runs = {**finished(arguments.json), key: row}
        write_result(arguments.json, {"runs": runs}, seed=arguments.seed)
        shown = ("image_auroc", "pixel_auroc", "training_seconds", "training_processor_seconds")
        print(key, {name: row[name] for name in shown}, flush=True)


def finished(path: Path) -> dict[str, Any]:
    """The runs that are in the results already."""
    if not path.is_file():
        return {}
    runs: dict[str, Any] = json.loads(path.read_text())["runs"]
    return runs


if __name__ == "__main__":
    main()
