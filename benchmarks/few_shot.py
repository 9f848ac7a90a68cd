"""Few good images: HETMM's image AUROC with 1 to 16 of them, with and without augmented copies.

    BLEMISH_WEIGHTS=... python benchmarks/few_shot.py --root ../shared/data/mvtec_256 \
        [--backbone resnet50.caffe_in1k] [--category bottle transistor] [--shots 1 2 4 8 16] \
        [--seeds 0 1 2] [--augment none rotate,shift] [--copies 64] [--test-limit N] [--again]

A seed draws the good images, the same for every way of augmenting; nested, so that four shots hold
the two: test images are matched only with the sheets that are new, and the nearest counts. Their
features are computed once. `--copies` leaves out rows of more sheets than that. Finished rows are
kept in the JSON file.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from blemish.features import create_backbone

from _record import write_result
from blemish.errors import ParameterError
from blemish.evaluation import datasets
from blemish.evaluation.metrics import auroc
from blemish.imaging.augmentation import copies
from hetmm_tables import Distances, Part, Remembering, check_first, distances, maps_from, nearest

CHECKED = 2  # shots up to which a map made of parts is compared with the detector's own


class Drawing(Remembering):
    """Uses what is known of test images; of good ones, seen once or twice, it keeps nothing."""

    learns = False


def names(augment: str) -> tuple[str, ...]:
    return () if augment == "none" else tuple(augment.split(","))


def draw(
    part: Part, backbone: str, augment: str, seed: int, shots: Sequence[int]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Shots and their figures for one seed, few shots first."""
    drawn = np.random.default_rng(seed).permutation(len(part.train))
    size = (part.test[0].shape[0], part.test[0].shape[1])
    labels = [sample.label for sample in part.samples]
    found: list[Distances] = []
    before, started = 0, time.perf_counter()
    for count in sorted(shots):
        new = [part.train[int(index)] for index in drawn[before:count]]
        detector = Drawing(backbone=backbone, sheets=None, augment=names(augment))
        found = [nearest([*found, distances(detector.fit(new), part.test)])]
        before = count
        maps = maps_from(detector, found[0], size)
        if count <= CHECKED:
            detector.fit([part.train[int(index)] for index in drawn[:count]])
            check_first(detector, maps, part.test[0], f"{augment} {count} shots")
        figures = {
            "image_auroc": auroc(labels, detector.scores(maps).tolist()),
            "sheets": count * len(copies(names(augment))),
            "seconds": round(time.perf_counter() - started, 2),  # of all shots up to these
        }
        yield count, figures


def run(given: argparse.Namespace, rows: dict[str, Any], save: Callable[[], None]) -> None:
    if create_backbone(given.backbone, levels=(1, 2, 3)).needs_fit:
        raise ParameterError(
            f"{given.backbone} learns from the good images: its features change with them"
        )
    for category in datasets.load("mvtec", given.root, given.category):
        part = Part.read(category, None, given.test_limit)
        known = False
        for augment in given.augment:
            fits = [n for n in given.shots if n * len(copies(names(augment))) <= given.copies]
            for seed in given.seeds:
                keys = {
                    shots: f"{part.name} {given.backbone} {augment} {shots} "
                    f"seed {seed} test {len(part.test)}"
                    for shots in fits
                }
                if not given.again and all(key in rows for key in keys.values()):
                    continue
                if not known:
                    Remembering(backbone=given.backbone, sheets=None).fit(part.test)
                    known = True
                for shots, figures in draw(part, given.backbone, augment, seed, fits):
                    made = {"category": category.name, "augment": augment, "shots": shots}
                    rows[keys[shots]] = {**made, "seed": seed, **figures}
                    save()
                    print(keys[shots], figures["image_auroc"], flush=True)
        Remembering.known.clear()


def summary(rows: dict[str, Any]) -> list[dict[str, Any]]:
    """Mean and standard deviation over seeds."""
    groups: dict[tuple[Any, ...], list[float]] = {}
    for key, row in rows.items():
        backbone, tested = key.split()[1], int(key.split()[-1])
        group = (row["category"], backbone, tested, row["augment"], row["shots"])
        groups.setdefault(group, []).append(row["image_auroc"])
    heads = ("category", "backbone", "test_images", "augment", "shots")
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
    parser.add_argument("--category", nargs="*", default=["bottle", "transistor"])
    parser.add_argument("--shots", type=int, nargs="*", default=[1, 2, 4, 8, 16])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--augment", nargs="*", default=["none", "rotate,shift"])
    parser.add_argument("--copies", type=int, default=64, help="most sheets of a row, with copies")
    parser.add_argument("--test-limit", type=int, help="about so many test images, evenly spaced")
    parser.add_argument("--again", action="store_true", help="also rows that are there already")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/few_shot.json"))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
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
