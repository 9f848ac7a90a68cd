"""HETMM's tables: ways to select sheets, and what each direction, level and setting brings.

    BLEMISH_WEIGHTS=... python benchmarks/hetmm_tables.py --root MVTEC_DIR \
        [--category bottle transistor] [--backbone resnet50.caffe_in1k] [--preset paper] [--again]

One configuration, 60 spaced sheets; each row changes what its name says. Finished rows stay.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from _record import write_result
from blemish.detectors import HETMM
from blemish.detectors.hetmm.selection import whole_sheets
from blemish.evaluation import datasets
from blemish.evaluation.metrics import PixelMetrics, auroc
from blemish.imaging import View, read_image

FIXED = {"sheets": 60, "selection": "spaced"}
Images = list[npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Row:
    """One line of a table: the detector's settings that differ from the fixed configuration."""

    table: str
    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    seed: int = 0

    @property
    def line(self) -> str:
        """Its line of the table; seeds share one."""
        return self.name.split(" seed ")[0]


OFF = (0, 0, 0)
SELECTION, ABLATION = "selection", "ablation"
ROWS = (
    Row(SELECTION, "all", {"sheets": None}),
    *(Row(SELECTION, f"random-60 seed {s}", {"selection": "random"}, s) for s in range(3)),
    Row(SELECTION, "spaced-60"),
    Row(ABLATION, "spaced-60: both, levels 1-3, taps before the ReLU, float32"),
    Row(ABLATION, "forward only", {"backward": OFF}),
    Row(ABLATION, "backward only", {"alpha": (0.0, 0.0, 0.0)}),
    Row(ABLATION, "level 1 only", {"level_weights": (1.0, 0.0, 0.0)}),
    Row(ABLATION, "level 2 only", {"level_weights": (0.0, 1.0, 0.0)}),
    Row(ABLATION, "level 3 only", {"level_weights": (0.0, 0.0, 1.0)}),
    Row(ABLATION, "float16", {"precision": "float16"}),
    Row(
        ABLATION,
        "location-free, last level",
        {"windows": "global", "free_weights": (0.0, 0.0, 1.0), "free_average": 1},
    ),
    Row(SELECTION, "kcenter-60", {"selection": "kcenter"}),
    Row(SELECTION, "pts-60", {"selection": "pts"}),
    Row(ABLATION, "taps after the ReLU", {"taps": "post"}),
)


@dataclass(frozen=True)
class Part:
    """A category's good images and its test images with their truth, as the detector sees them."""

    name: str
    train: Images
    test: Images
    samples: Sequence[datasets.Sample]
    sizes: list[tuple[int, int]]

    @classmethod
    def read(
        cls, category: datasets.Category, train_limit: int | None, test_limit: int | None
    ) -> Part:
        view = View(size=256)
        samples = spread(category.test, test_limit)
        sources = [read_image(sample.image) for sample in samples]
        return cls(
            category.name,
            [view.apply(read_image(path)) for path in spread(category.train, train_limit)],
            [view.apply(image) for image in sources],
            samples,
            [(image.shape[0], image.shape[1]) for image in sources],
        )

    def figures(self, detector: HETMM) -> dict[str, float | None]:
        """Image and pixel AUROC of the test images."""
        maps = detector.maps(self.test)
        labels = np.array([sample.label for sample in self.samples])
        pixels = PixelMetrics()
        for found, sample, size in zip(maps, self.samples, self.sizes, strict=True):
            mask = datasets.load_mask(sample)
            pixels.add(found, mask, size=size, label=sample.label, kind=sample.defect)
        scores = detector.scores(maps).astype(np.float64)
        return {"image_auroc": auroc(labels, scores), "pixel_auroc": pixels.compute().auroc}


def spread(items: Sequence[Any], limit: int | None) -> list[Any]:
    """At most `limit` of the items, evenly spaced."""
    return [items[index] for index in whole_sheets(len(items), limit)]


def measure(part: Part, row: Row, configuration: dict[str, Any]) -> dict[str, Any]:
    """A row, with what fitting (selection) and matching took."""
    detector = HETMM(**{**configuration, **row.settings})
    started = time.perf_counter()
    detector.fit(part.train, seed=row.seed)
    fitted = time.perf_counter()
    found = part.figures(detector)
    return {
        "fit_seconds": round(fitted - started, 2),
        "match_seconds": round(time.perf_counter() - fitted, 2),
        **detector.learned(),
        **found,
    }


def tables(rows: dict[str, dict[str, Any]], heads: dict[str, str]) -> str:
    """Both tables in Markdown; seeds are gathered as mean and standard deviation.

    `heads`: each category with what its rows' keys end in.
    """
    titles = " | ".join(f"{name} image | {name} pixel" for name in heads)
    lines: list[str] = []
    for table in (SELECTION, ABLATION):
        lines += [f"| {table} | {titles} |", "|---" * (1 + 2 * len(heads)) + "|"]
        for line in dict.fromkeys(row.line for row in ROWS if row.table == table):
            cells = []
            for category, ending in heads.items():
                keys = [key(category, row, ending) for row in ROWS if row.line == line]
                own = [rows[each] for each in keys if each in rows]
                cells += [_cell([r[f] for r in own]) for f in ("image_auroc", "pixel_auroc")]
            lines.append(f"| {line} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _cell(values: list[float | None]) -> str:
    known = [100 * value for value in values if value is not None]
    if not known:
        return "-"
    spread = f" ± {np.std(known, ddof=1):.2f}" if len(known) > 1 else ""
    return f"{np.mean(known):.2f}{spread}"


def key(category: str, row: Row, ending: str) -> str:
    return f"{category} {row.name} {ending}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True, help="a folder in MVTec AD's layout")
    parser.add_argument("--category", nargs="*", default=["bottle", "transistor"])
    parser.add_argument("--backbone", default="resnet50.caffe_in1k")
    parser.add_argument("--preset", default="paper", choices=["default", "paper"])
    parser.add_argument("--row", nargs="*", help="only these, by their names")
    parser.add_argument("--again", action="store_true", help="also rows that are there already")
    parser.add_argument("--train-limit", type=int, help="try it on so many good images")
    parser.add_argument("--test-limit", type=int, help="and on so many test images")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/hetmm_tables.json"))
    given = parser.parse_args()
    rows: dict[str, dict[str, Any]] = {}
    if given.json.is_file():
        rows = json.loads(given.json.read_text())["rows"]
    configuration = {**FIXED, "preset": given.preset, "backbone": given.backbone}
    heads = {}
    for category in datasets.load("mvtec", given.root, given.category):
        part = Part.read(category, given.train_limit, given.test_limit)
        ending = f"{given.preset} {given.backbone} of {len(part.train)}+{len(part.test)}"
        heads[part.name] = ending
        for row in ROWS:
            named = key(part.name, row, ending)
            if (named in rows and not given.again) or row.name not in (given.row or [row.name]):
                continue
            made = {"category": part.name, "row": row.name, **configuration}
            rows[named] = {**made, **measure(part, row, configuration)}
            write_result(given.json, {"rows": rows}, seed=0)
            print(f"{part.name}: {row.name}: {_cell([rows[named]['image_auroc']])}", flush=True)
    print(tables(rows, heads))


if __name__ == "__main__":
    main()
