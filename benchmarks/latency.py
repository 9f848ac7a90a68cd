"""From file to verdict: the time of one inspection, and where it goes.

    BLEMISH_WEIGHTS=... python benchmarks/latency.py --root ../shared/data/mvtec_256 \
        --originals ../shared/data/mvtec_original/bottle [--backbone resnet18.tv_in1k] \
        [--precision float32 bfloat16] [--sheets 60] [--repeats 60] [--threads 2]

HETMM learned from a category's good images at 256 px, calibrated; the files inspected are the
originals of 900 x 900 px, each read many times. Stages are timed by wrapping the functions that
`Inspector.inspect` calls: `reading` is file to pixels, `view` the resize, `features` backbone and
normalisation, `matching` the distances of all levels, `scoring` all the rest (enlarging and
smoothing, score, p-value, regions).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from blemish.hetmm import detector as hetmm_detector
from blemish.hetmm.bank import TileBank
from blemish.hetmm.free import FreeBank

from _record import write_result
from blemish import HETMM, Inspector
from blemish.evaluation import datasets
from blemish.imaging import View

STAGES = ("reading", "view", "features", "matching", "scoring")
WARM_UP = 5
RATE = 0.05


class Stopwatch:
    """Milliseconds spent in wrapped functions since `reset`, by stage."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}

    def reset(self) -> None:
        self.spent = dict.fromkeys(STAGES[:-1], 0.0)

    def around(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            started = time.perf_counter()
            found = function(*arguments, **options)
            self.spent[stage] += 1e3 * (time.perf_counter() - started)
            return found

        return timed


@contextmanager
def watched(watch: Stopwatch) -> Iterator[None]:
    """The product's functions with a stopwatch around them."""
    with ExitStack() as stack:
        for stage, owner, name in (
            ("reading", Inspector, "raster"),
            ("view", View, "see"),
            ("features", HETMM, "features"),
            ("matching", hetmm_detector, "mutual_match"),
            ("matching", FreeBank, "distances"),
        ):
            timed = watch.around(stage, getattr(owner, name))
            stack.enter_context(patch.object(owner, name, timed))
        yield


def measure(inspector: Inspector, files: Sequence[Path], repeats: int) -> dict[str, Any]:
    """Percentiles of whole inspections as users have them, then the stages of as many more."""
    for index in range(WARM_UP):
        inspector.inspect(files[index % len(files)])
    turns = [files[index % len(files)] for index in range(repeats)]
    whole = []
    for file in turns:
        started = time.perf_counter()
        inspector.inspect(file)
        whole.append(1e3 * (time.perf_counter() - started))
    watch = Stopwatch()
    stages: dict[str, list[float]] = {stage: [] for stage in STAGES}
    with watched(watch):
        for file in turns:
            watch.reset()
            started = time.perf_counter()
            inspector.inspect(file)
            rest = 1e3 * (time.perf_counter() - started) - sum(watch.spent.values())
            for stage, spent in {**watch.spent, "scoring": rest}.items():
                stages[stage].append(spent)
    medians = {stage: float(np.median(spent)) for stage, spent in stages.items()}
    return {
        "p50_ms": round(float(np.percentile(whole, 50)), 2),
        "p95_ms": round(float(np.percentile(whole, 95)), 2),
        "stages_p50_ms": {stage: round(value, 2) for stage, value in medians.items()},
        "share": {
            stage: round(value / sum(medians.values()), 3) for stage, value in medians.items()
        },
    }


def learned(
    train: Sequence[Path], backbone: str, precision: str, sheets: int, size: int
) -> tuple[Inspector, dict[str, Any]]:
    """A calibrated inspector, and what it took."""
    detector = HETMM(backbone=backbone, precision=precision, sheets=sheets)
    inspector = Inspector(detector, size=size, device="cpu")
    started = time.perf_counter()
    inspector.fit(list(train))
    fitted = time.perf_counter()
    inspector.calibrate(false_alarm_rate=max(RATE, 1 / len(train)))
    return inspector, {
        "sheets": sheets,
        "channels": [bank.channels for bank in detector.banks_ if isinstance(bank, TileBank)],
        "fit_seconds": round(fitted - started, 2),
        "calibrate_seconds": round(time.perf_counter() - fitted, 2),
    }


def as_markdown(row: dict[str, Any]) -> str:
    stages = " | ".join(f"{row['stages_p50_ms'][stage]:.1f}" for stage in STAGES)
    return (
        f"| {row['backbone']} | {row['precision']} | {row['p50_ms']:.0f} | {row['p95_ms']:.0f} "
        f"| {stages} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True, help="a folder in MVTec AD's layout")
    parser.add_argument("--originals", type=Path, required=True, help="image files to inspect")
    parser.add_argument("--category", default="bottle")
    parser.add_argument("--backbone", nargs="*", default=["resnet18.tv_in1k"])
    parser.add_argument("--precision", nargs="*", default=["float32", "bfloat16"])
    parser.add_argument("--sheets", type=int, default=60)
    parser.add_argument("--size", type=int, default=256, help="side of the view, pixels")
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--train-limit", type=int, help="try it on so many good images")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/latency.json"))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    (category,) = datasets.load("mvtec", given.root, [given.category])
    train = list(category.train)[: given.train_limit]
    masks = given.originals / "ground_truth"
    files = sorted(path for path in given.originals.rglob("*.png") if masks not in path.parents)
    if not files:
        parser.error(f"there is no PNG file in {given.originals}")
    rows = []
    print(f"| backbone | precision | p50, ms | p95, ms | {' | '.join(STAGES)} |")
    print("|---" * (4 + len(STAGES)) + "|")
    for backbone in given.backbone:
        for precision in given.precision:
            inspector, settings = learned(train, backbone, precision, given.sheets, given.size)
            found = measure(inspector, files, given.repeats)
            rows.append({"backbone": backbone, "precision": precision, **settings, **found})
            print(as_markdown(rows[-1]), flush=True)
            result = {"threads": given.threads, "size": given.size, "files": len(files)}
            write_result(given.json, {**result, "repeats": given.repeats, "rows": rows}, seed=0)


if __name__ == "__main__":
    main()
