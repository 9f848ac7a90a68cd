"""Few good images: HETMM's image AUROC with 1 to 16 sheets, with and without augmented copies.

    BLEMISH_WEIGHTS=... python benchmarks/few_shot.py --root ../shared/data/mvtec_256 \
        [--backbone resnet50.caffe_in1k] [--category bottle transistor] [--shots 1 2 4 8 16] \
        [--seeds 0 1 2] [--augment none rotate shift rotate,shift] [--test-limit N]

A seed draws the good images, the same for every way of augmenting; nested, so that four shots hold
the two. Features of test images are computed once. Finished rows are kept in the JSON file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from _record import write_result
from blemish.detector import to_batch
from blemish.errors import ParameterError
from blemish.evaluation import datasets
from blemish.evaluation.metrics import auroc
from blemish.features import create_backbone
from blemish.hetmm import HETMM
from blemish.imaging import ImageSequence, View


class Remembering(HETMM):
    """HETMM that knows the features of images it was shown before; frozen networks only."""

    known: dict[str, list[Tensor]]

    def features(self, images: Tensor) -> list[Tensor]:
        found = [self.known.get(digest(image)) for image in images]
        if any(levels is None for levels in found):
            return super().features(images)
        return [torch.cat(level) for level in zip(*(each for each in found if each), strict=True)]


def digest(image: Tensor) -> str:
    return hashlib.sha256(image.contiguous().numpy().tobytes()).hexdigest()


def remember(backbone: str, images: ImageSequence) -> dict[str, list[Tensor]]:
    """The features of all images by their digest."""
    if create_backbone(backbone, levels=(1, 2, 3)).needs_fit:
        raise ParameterError(
            f"{backbone} learns from the good images: its features change with them"
        )
    detector = HETMM(backbone=backbone).fit([images[0]])
    known = {}
    for index in range(len(images)):
        batch = to_batch([images[index]], "cpu")
        known[digest(batch[0])] = detector.features(batch)
    return known


def run(arguments: argparse.Namespace, rows: dict[str, Any], save: Any) -> None:
    view = View(size=256)
    for name in arguments.category:
        (category,) = datasets.load("mvtec", arguments.root, [name])
        step = max(1, len(category.test) // (arguments.test_limit or len(category.test)))
        samples = category.test[::step]
        train = ImageSequence(list(category.train), view)
        test = ImageSequence([sample.image for sample in samples], view)
        labels = [sample.label for sample in samples]
        known: dict[str, list[Tensor]] | None = None
        for augment in arguments.augment:
            for shots in arguments.shots:
                for seed in arguments.seeds:
                    key = f"{name} {arguments.backbone} {augment} {shots} seed {seed}"
                    key += f" test {len(samples)}"
                    if key in rows:
                        continue
                    known = known or remember(arguments.backbone, test)
                    drawn = np.random.default_rng(seed).permutation(len(train))[:shots]
                    rows[key] = {
                        "category": name,
                        "augment": augment,
                        "shots": shots,
                        "seed": seed,
                        **score(arguments.backbone, augment, train, drawn, test, labels, known),
                    }
                    save()
                    print(key, rows[key]["image_auroc"], flush=True)


def score(
    backbone: str,
    augment: str,
    train: ImageSequence,
    drawn: np.ndarray,
    test: ImageSequence,
    labels: list[int],
    known: dict[str, list[Tensor]],
) -> dict[str, Any]:
    """Image AUROC of one draw, and its time."""
    names = () if augment == "none" else tuple(augment.split(","))
    detector = Remembering(sheets=None, backbone=backbone, augment=names)
    detector.known = known
    started = time.perf_counter()
    detector.fit([train[int(index)] for index in drawn])
    fitted = time.perf_counter()
    scores = []
    for start in range(0, len(test), 8):
        batch = [test[index] for index in range(start, min(start + 8, len(test)))]
        maps = detector.anomaly_maps(to_batch(batch, "cpu"))
        scores += detector.scores(maps).tolist()
    return {
        "image_auroc": auroc(labels, scores),
        "sheets": detector.banks_[0].sheets,
        "fit_seconds": fitted - started,
        "match_seconds": time.perf_counter() - fitted,
    }


def summary(rows: dict[str, Any]) -> list[dict[str, Any]]:
    """Mean and standard deviation over seeds."""
    groups: dict[tuple[Any, ...], list[float]] = {}
    for key, row in rows.items():
        backbone, tested = key.split()[1], int(key.split()[-1])
        group = (row["category"], backbone, tested, row["augment"], row["shots"])
        groups.setdefault(group, []).append(row["image_auroc"])
    names = ("category", "backbone", "test_images", "augment", "shots")
    return [
        {
            **dict(zip(names, group, strict=True)),
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
    parser.add_argument("--augment", nargs="*", default=["none", "rotate", "shift", "rotate,shift"])
    parser.add_argument("--test-limit", type=int, help="About so many test images, evenly spaced.")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/few_shot.json"))
    arguments = parser.parse_args()
    rows: dict[str, Any] = {}
    if arguments.json.is_file():
        rows = json.loads(arguments.json.read_text())["rows"]

    def save() -> None:
        write_result(arguments.json, {"summary": summary(rows), "rows": rows})

    run(arguments, rows, save)
    for each in summary(rows):
        spread = each["image_auroc_std"]
        print(
            f"{each['category']:<12} {each['augment']:<13} {each['shots']:>3} shots  "
            f"{100 * each['image_auroc_mean']:.2f}"
            + ("" if spread is None else f" +- {100 * spread:.2f}")
        )


if __name__ == "__main__":
    main()
