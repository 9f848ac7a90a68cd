"""Image AUROC where parts lie shifted or turned: not aligned, with each motion, and with auto.

    BLEMISH_WEIGHTS=... python benchmarks/alignment.py --root MVTEC_DIR \
        [--category bottle transistor] [--set backbone=resnet18.tv_in1k preset=paper] [--again]

HETMM with its default configuration, but for what --set says. Images are moved by the same seeded
motions in every row, their borders mirrored so that a border is not itself the anomaly. `moved` is
by up to 10 px and 5 degrees, `turned` by any angle. Rows also count the parts that the residual
sends to review.
Finished rows stay; writes benchmarks/results/alignment.json and prints docs/view.md's table.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from _record import write_result
from blemish.detectors import HETMM, parse_settings
from blemish.evaluation.datasets import Category, load
from blemish.evaluation.metrics import auroc
from blemish.imaging import ImageSequence, View, read_image
from blemish.imaging.geometry import between_indices, inverse, shift, turn
from blemish.imaging.learning import learn_view

RESULT = Path(__file__).parent / "results" / "alignment.json"
SEED = 0
MOVED = 10.0, 5.0  # px, degrees
Image = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Scene:
    """How parts lie: the good images to learn from, and the test images."""

    name: str
    train: tuple[float, float]  # px, degrees
    test: tuple[float, float]
    modes: tuple[str, ...]


STILL, TURNED = (0.0, 0.0), (0.0, 180.0)
SCENES = {
    "transistor": (
        Scene("all turned", TURNED, TURNED, ("none", "rigid", "auto", "similarity")),
        Scene("test moved", STILL, MOVED, ("none", "rigid", "translation", "auto", "homography")),
        Scene("as they are", STILL, STILL, ("none", "rigid", "translation", "auto")),
        Scene("all moved", MOVED, MOVED, ("none", "rigid", "auto")),
        Scene("test turned", STILL, TURNED, ("none", "rigid")),
    ),
    "bottle": (
        Scene("test moved", STILL, MOVED, ("none", "rigid", "auto")),
        Scene("as they are", STILL, STILL, ("none", "rigid", "auto")),
        Scene("all moved", MOVED, MOVED, ("none", "translation", "auto")),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", required=True, help="a folder in MVTec AD's layout")
    parser.add_argument("--category", nargs="+", default=list(SCENES), choices=list(SCENES))
    parser.add_argument("--scene", nargs="+", help="only these")
    parser.add_argument("--mode", nargs="+", help="only these")
    parser.add_argument("--set", nargs="*", default=[], help="HETMM's settings, KEY=VALUE")
    parser.add_argument("--limit", type=int, help="try it on so many images of each kind")
    parser.add_argument("--again", action="store_true", help="measure finished rows again")
    parser.add_argument("--output", type=Path, default=RESULT)
    asked = parser.parse_args()
    rows: list[dict[str, Any]] = []
    if asked.output.exists() and not asked.again:
        kept = json.loads(asked.output.read_text())
        if kept.get("set") == asked.set:
            rows = kept["rows"]
    categories = {category.name: category for category in load("mvtec", asked.root)}
    for name in asked.category:
        part = Part(categories[name], asked.limit)
        for scene in SCENES[name]:
            for mode in scene.modes:
                if asked.scene and scene.name not in asked.scene:
                    continue
                if asked.mode and mode not in asked.mode:
                    continue
                if any(is_row(row, name, scene.name, mode) for row in rows):
                    continue
                rows.append(measured(part, scene, mode, rows, asked))
                body = {"set": asked.set, "rows": rows}
                write_result(asked.output, body, seed=SEED)
    print(as_markdown(rows))


def is_row(row: dict[str, Any], category: str, scene: str, mode: str) -> bool:
    return (row["category"], row["scene"], row["align"]) == (category, scene, mode)


class Part:
    """A category's images as read, and the same ones moved."""

    def __init__(self, category: Category, limit: int | None) -> None:
        self.name = category.name
        test = category.test[:: max(1, len(category.test) // limit)] if limit else category.test
        self.labels = np.array([sample.label for sample in test])
        self._train = [read_image(path) for path in category.train[:limit]]
        self._test = [read_image(sample.image) for sample in test]

    def lying(self, scene: Scene) -> tuple[list[Image], list[Image]]:
        generator = np.random.default_rng(SEED)
        train = [moved(image, generator, *scene.train) for image in self._train]
        return train, [moved(image, generator, *scene.test) for image in self._test]


def moved(image: Image, generator: np.random.Generator, px: float, degrees: float) -> Image:
    """The image turned about its middle and shifted at random, its borders mirrored."""
    if not px and not degrees:
        return image
    height, width = image.shape[:2]
    about = shift(width / 2, height / 2)
    angle = math.radians(generator.uniform(-degrees, degrees))
    motion = shift(*generator.uniform(-px, px, 2)) @ about @ turn(angle) @ inverse(about)
    found = cv2.warpPerspective(
        image,
        between_indices(inverse(motion)),
        (width, height),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT,
    )
    return np.clip(found, 0, 1)


def measured(
    part: Part, scene: Scene, mode: str, rows: list[dict[str, Any]], asked: argparse.Namespace
) -> dict[str, Any]:
    """One row, printed; what auto chooses is not measured twice."""
    train, test = part.lying(scene)
    started = time.perf_counter()
    view, choice = learn_view(View(align=mode), train)
    learning = time.perf_counter() - started
    row: dict[str, Any] = {"category": part.name, "scene": scene.name, "align": mode}
    if choice is not None:
        row |= {"chosen": choice.taken, "choice": choice.to_dict()}
        same = [r for r in rows if is_row(r, part.name, scene.name, choice.taken)]
        if same:
            row = {**same[0], **row, "learn_seconds": learning}
            print(json.dumps(row), flush=True)
            return row
    row |= figures(view, train, test, part.labels, asked) | {"learn_seconds": learning}
    print(json.dumps(row), flush=True)
    return row


def figures(
    view: View,
    train: list[Image],
    test: list[Image],
    labels: npt.NDArray[np.int_],
    asked: argparse.Namespace,
) -> dict[str, Any]:
    detector = HETMM(**parse_settings(HETMM, asked.set))
    detector.fit(ImageSequence(train, view))
    scores, problems, residuals, spent = [], [], [], []
    for image in test:
        started = time.process_time()
        seen = view.see(image)
        spent.append(time.process_time() - started)
        scores.append(detector.score(detector.maps([seen.pixels])[0], seen.inside))
        problems.append(seen.problem is not None)
        residuals.append(seen.residual)
    sent, good = np.array(problems), labels == 0
    return {
        "image_auroc": auroc(labels, np.array(scores)),
        "good_sent_to_review": float(sent[good].mean()),
        "bad_sent_to_review": float(sent[~good].mean()),
        "residual_limit": view.golden.limit if view.golden is not None else None,
        "largest_good_residual": (
            None if residuals[0] is None else float(np.array(residuals)[good].max())
        ),
        "view_cpu_ms": 1e3 * float(np.median(spent)),
    }


def as_markdown(rows: list[dict[str, Any]]) -> str:
    """A table: one line a scene, one column a motion."""
    modes = ("none", "translation", "rigid", "similarity", "homography")
    lines = [
        f"| parts | lying | {' | '.join(modes)} | auto takes |",
        "|---" * (len(modes) + 3) + "|",
    ]
    for category, scene in dict.fromkeys((row["category"], row["scene"]) for row in rows):
        found = {r["align"]: r for r in rows if (r["category"], r["scene"]) == (category, scene)}
        cells = [
            f"{100 * found[mode]['image_auroc']:.1f}" if mode in found else "-" for mode in modes
        ]
        auto = found["auto"]["chosen"] if "auto" in found else "-"
        lines.append(f"| {category} | {scene} | {' | '.join(cells)} | {auto} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
