"""Few good images: HETMM's image AUROC with 1 to 16 of them, with and without augmented copies.

    BLEMISH_WEIGHTS=... python benchmarks/few_shot.py --root MVTEC_DIR \
        [--backbone resnet50.caffe_in1k] [--category bottle transistor] [--shots 1 2 4 8 16] \
        [--preset paper] [--seeds 0 1 2] [--augment none rotate,shift] [--copies 64]
        [--test-limit N] [--again]

A seed draws the good images, the same for every way of augmenting; nested, so that four shots hold
the two. `--copies` leaves out rows of more sheets than that. Finished rows are kept in the JSON
file.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from _record import write_result
from blemish.detectors import HETMM
from blemish.evaluation import datasets
from blemish.imaging.augmentation import copies
from hetmm_tables import Part


def names(augment: str) -> tuple[str, ...]:
    return () if augment == "none" else tuple(augment.split(","))


def draw(
    part: Part, settings: dict[str, Any], augment: str, seed: int, count: int
) -> dict[str, Any]:
    """Figures of `count` good images that a seed draws."""
    drawn = np.random.default_rng(seed).permutation(len(part.train))[:count]
    started = time.perf_counter()
    detector = HETMM(**settings, sheets=None, augment=names(augment))
    detector.fit([part.train[int(index)] for index in drawn])
    return {
        "image_auroc": part.figures(detector)["image_auroc"],
        "sheets": count * len(copies(names(augment))),
        "seconds": round(time.perf_counter() - started, 2),
    }


def run(given: argparse.Namespace, rows: dict[str, Any], save: Callable[[], None]) -> None:
    settings = {"backbone": given.backbone, "preset": given.preset}
    for category in datasets.load("mvtec", given.root, given.category):
        part = Part.read(category, None, given.test_limit)
        for augment, seed, shots in product(given.augment, given.seeds, given.shots):
            if shots * len(copies(names(augment))) > given.copies:
                continue
            key = (
                f"{part.name} {given.backbone} {given.preset} {augment} {shots} "
                f"seed {seed} test {len(part.test)}"
            )
            if key in rows and not given.again:
                continue
            found = draw(part, settings, augment, seed, shots)
            made = {"category": category.name, "augment": augment, "shots": shots, "seed": seed}
            rows[key] = {**made, **settings, "test_images": len(part.test), **found}
            save()
            print(key, found["image_auroc"], flush=True)


def summary(rows: dict[str, Any]) -> list[dict[str, Any]]:
    """Mean and standard deviation over seeds."""
    groups: dict[tuple[Any, ...], list[float]] = {}
    heads = ("category", "backbone", "preset", "test_images", "augment", "shots")
    for row in rows.values():
        groups.setdefault(tuple(row[head] for head in heads), []).append(row["image_auroc"])
    return [
        {
            **dict(zip(heads, group, strict=True)),
            "seeds": len(found),
            "image_auroc_mean": float(np.mean(found)),
            "image_auroc_std": float(np.std(found, ddof=1)) if len(found) > 1 else None,
        }
        for group, found in sorted(groups.items())
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--backbone", default="resnet50.caffe_in1k")
    parser.add_argument("--preset", default="paper", choices=["default", "paper"])
    parser.add_argument("--category", nargs="*", default=["bottle", "transistor"])
    parser.add_argument("--shots", type=int, nargs="*", default=[1, 2, 4, 8, 16])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--augment", nargs="*", default=["none", "rotate,shift"])
    parser.add_argument("--copies", type=int, default=64, help="most sheets of a row, with copies")
    parser.add_argument("--test-limit", type=int, help="about so many test images, evenly spaced")
    parser.add_argument("--again", action="store_true", help="also rows that are there already")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/few_shot.json"))
    given = parser.parse_args()
    rows: dict[str, Any] = {}
    if given.json.is_file():
        rows = json.loads(given.json.read_text())["rows"]

    def save() -> None:
        write_result(given.json, {"summary": summary(rows), "rows": rows})

    run(given, rows, save)
    print("| category | copies | shots | image AUROC |\n|---|---|---|---|")
    for each in summary(rows):
        spread = each["image_auroc_std"]
        print(
            f"| {each['category']} | {each['augment']} | {each['shots']} "
            f"| {100 * each['image_auroc_mean']:.2f}"
            + ("" if spread is None else f" ± {100 * spread:.2f}")
            + " |"
        )


if __name__ == "__main__":
    main()
